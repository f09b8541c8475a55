package generate

// Rule of a password, for the oracle.
type Rule struct {
	Characters string
	Minimum    int
}

// Share of all texts of a length that meet the rules.
func Share(length int, rules []Rule) float64 {
	var inner []rule
	for _, r := range rules {
		inner = append(inner, rule{characters: r.Characters, minimum: r.Minimum})
	}
	return require(length, inner).share()
}
