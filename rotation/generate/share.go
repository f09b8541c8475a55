package generate

import "strings"

// maxStates bounds what share keeps: enough for a minimum of seven in each of
// four rules.
const maxStates = 4096

// states are the ways in which the minimums can be met so far.
func states(rules []rule) int {
	product := 1
	for _, r := range rules {
		if r.minimum > maxStates || product > maxStates {
			return maxStates + 1
		}
		product *= r.minimum + 1
	}
	return product
}

// share of all texts of the length that meet every minimum: how likely it is
// that a text which is drawn character by character does. Rules may share
// characters, so it is not enough to count each by itself. The caller has bounded
// the states.
func (r requirement) share() float64 {
	kinds, likely := r.kinds()
	last := states(r.rules) - 1
	next := make([][]int, len(kinds))
	for k, counts := range kinds {
		for state := range last + 1 {
			next[k] = append(next[k], r.after(state, counts))
		}
	}
	now := make([]float64, last+1)
	now[0] = 1
	for range r.length {
		then := make([]float64, last+1)
		for state, p := range now {
			if p == 0 {
				continue
			}
			for k := range kinds {
				then[next[k][state]] += p * likely[k]
			}
		}
		now = then
	}
	return min(now[last], 1)
}

// kinds of characters: those of one kind count for the same rules. likely is how
// likely a character is of that kind.
func (r requirement) kinds() (kinds [][]bool, likely []float64) {
	at := map[string]int{}
	for _, character := range []byte(r.alphabet) {
		counts, name := make([]bool, len(r.rules)), make([]byte, len(r.rules))
		for i, rule := range r.rules {
			if strings.IndexByte(rule.characters, character) >= 0 {
				counts[i], name[i] = true, 1
			}
		}
		k, known := at[string(name)]
		if !known {
			k = len(kinds)
			at[string(name)] = k
			kinds, likely = append(kinds, counts), append(likely, 0)
		}
		likely[k] += 1 / float64(len(r.alphabet))
	}
	return kinds, likely
}

// after is the state that a character leads to. A state is a number whose digits
// are how many characters each rule has, up to its minimum.
func (r requirement) after(state int, counts []bool) int {
	after, unit := state, 1
	for i, rule := range r.rules {
		if counts[i] && state/unit%(rule.minimum+1) < rule.minimum {
			after += unit
		}
		unit *= rule.minimum + 1
	}
	return after
}
