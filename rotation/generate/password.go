package generate

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/privyseal/privyseal/providers"
)

const (
	lower  = "abcdefghijklmnopqrstuvwxyz"
	upper  = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	digits = "0123456789"
	// punctuation is the rest of ASCII that is printed and not a space.
	punctuation = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"

	defaultLength = 32
	maxLength     = 256

	// rarest is the least share of all texts that may meet the minimums, since
	// the others are thrown away.
	rarest = 1.0 / 1000
)

// errNotRandom: what should be random bytes repeats itself so much that no
// password comes out of it.
var errNotRandom = errors.New("the random bytes are not random")

// Password is a text of single characters. By default it has 32 letters and
// digits, with at least one of each of the classes that it may have.
type Password struct {
	// Length in characters, at most 256; 0 is 32, or the policy's.
	Length int

	// Symbols that it may have beside letters and digits; "" is none. Some
	// systems break on some of them, so there is no other default.
	Symbols string

	// Exclude are characters that it must not have, such as those that look
	// alike: 0O1lI.
	Exclude string

	// Without leaves classes out: lower, upper, digits.
	Without []string

	// Minimum of each class: lower, upper, digits, symbols. A class that is not
	// named has 1, and 0 takes even that away.
	Minimum map[string]int

	// Policy in the words of Vault's password policies, in place of Symbols,
	// Without and Minimum; "" is none. What is understood: length, and rules
	// "charset" with charset and min-chars.
	Policy string
}

// rule is a set of characters of which a password has at least some.
type rule struct {
	name       string
	characters string
	minimum    int
}

// requirement is what a password has to be, whoever worded it.
type requirement struct {
	length   int
	rules    []rule
	alphabet string // what the rules have together
}

func require(length int, rules []rule) requirement {
	r := requirement{length: length, rules: rules}
	for _, rule := range rules {
		for _, character := range []byte(rule.characters) {
			if strings.IndexByte(r.alphabet, character) < 0 {
				r.alphabet += string(rune(character))
			}
		}
	}
	return r
}

// requirement of the password. Errors wrap ErrSpec.
func (p *Password) requirement(field string) (requirement, error) {
	if p.Length < 0 || p.Length > maxLength {
		return requirement{}, fmt.Errorf("%s.length %d: %w: want 1 to %d characters", field, p.Length, ErrSpec, maxLength)
	}
	length, rules, err := p.worded(field)
	if err != nil {
		return requirement{}, err
	}
	var left []rule
	for _, r := range rules {
		r.characters = strings.Map(func(character rune) rune {
			if strings.ContainsRune(p.Exclude, character) {
				return -1
			}
			return character
		}, r.characters)
		if r.characters != "" {
			left = append(left, r)
		} else if r.minimum > 0 && p.Policy != "" {
			return requirement{}, fmt.Errorf("%s.exclude %q: %w: it leaves nothing of %s, of which the policy wants %d", field, p.Exclude, ErrSpec, r.name, r.minimum)
		}
	}
	return require(length, left), p.named(field, left)
}

// worded are length and rules as one of the two ways says them.
func (p *Password) worded(field string) (length int, rules []rule, err error) {
	if p.Policy == "" {
		rules, err = p.classes(field)
		return cmp.Or(p.Length, defaultLength), rules, err
	}
	if p.Symbols != "" || len(p.Without) > 0 || len(p.Minimum) > 0 {
		return 0, nil, fmt.Errorf("%s.policy: %w: it stands in place of symbols, without and minimum; keep it or them", field, ErrSpec)
	}
	length, rules, err = parsePolicy(p.Policy)
	if err != nil {
		return 0, nil, fmt.Errorf("%s.policy: %w: %w", field, ErrSpec, err)
	}
	if p.Length != 0 && p.Length != length {
		return 0, nil, fmt.Errorf("%s.length %d: %w: the policy wants %d characters", field, p.Length, ErrSpec, length)
	}
	return length, rules, nil
}

// classes that the password may have.
func (p *Password) classes(field string) ([]rule, error) {
	for _, character := range p.Symbols {
		if !strings.ContainsRune(punctuation, character) || strings.Count(p.Symbols, string(character)) > 1 {
			return nil, fmt.Errorf("%s.symbols: %w: it has %q; it takes each of %s once", field, ErrSpec, character, punctuation)
		}
	}
	for _, name := range p.Without {
		if name != "lower" && name != "upper" && name != "digits" {
			return nil, fmt.Errorf("%s.without: %w: it has %q; it takes lower, upper and digits", field, ErrSpec, name)
		}
	}
	var classes []rule
	for _, class := range []rule{{"lower", lower, 1}, {"upper", upper, 1}, {"digits", digits, 1}, {"symbols", p.Symbols, 1}} {
		if slices.Contains(p.Without, class.name) {
			continue
		}
		if minimum, given := p.Minimum[class.name]; given {
			class.minimum = minimum
		}
		if class.minimum < 0 {
			return nil, fmt.Errorf("%s.minimum.%s %d: %w: want 0 or more", field, class.name, class.minimum, ErrSpec)
		}
		classes = append(classes, class)
	}
	return classes, nil
}

// named says whether each class that Minimum asks for is one that is left.
func (p *Password) named(field string, left []rule) error {
	for name, minimum := range p.Minimum {
		if !slices.Contains([]string{"lower", "upper", "digits", "symbols"}, name) {
			return fmt.Errorf("%s.minimum: %w: it has %.64q; it takes lower, upper, digits and symbols", field, ErrSpec, name)
		}
		there := slices.ContainsFunc(left, func(r rule) bool { return r.name == name })
		if minimum != 0 && !there {
			return fmt.Errorf("%s.minimum.%s %d: %w: the password may have none of them", field, name, minimum, ErrSpec)
		}
	}
	return nil
}

func (p *Password) check(field string) error {
	wanted, err := p.requirement(field)
	if err != nil {
		return err
	}
	if states(wanted.rules) > maxStates {
		return fmt.Errorf("%s: %w: the minimums are too many to reckon with; ask for less", field, ErrSpec)
	}
	switch share := wanted.share(); {
	case len(wanted.alphabet) == 0:
		return fmt.Errorf("%s: %w: no character is left that it may have", field, ErrSpec)
	case share == 0:
		return fmt.Errorf("%s: %w: %d characters have no room for the minimums", field, ErrSpec, wanted.length)
	case share < rarest:
		return fmt.Errorf("%s: %w: less than one text in %.0f meets the minimums; ask for less", field, ErrSpec, 1/rarest)
	}
	if bits := wanted.entropy(); bits < MinEntropy {
		return fmt.Errorf("%s: %w: passwords of %.0f bits can be guessed, and %d are the least; give it a greater length or more characters", field, ErrSpec, bits, MinEntropy)
	}
	return nil
}

// entropy in bits: the logarithm of how many passwords there are.
func (p *Password) entropy() float64 {
	wanted, err := p.requirement("")
	if err != nil {
		return 0
	}
	return wanted.entropy()
}

func (r requirement) entropy() float64 {
	return float64(r.length)*math.Log2(float64(len(r.alphabet))) + math.Log2(r.share())
}

// Meets says whether a text is one that the generator could have made. It is
// what a new password is held against, whoever made it.
func (p *Password) Meets(text providers.Value) bool {
	wanted, err := p.requirement("")
	return err == nil && wanted.met(text.Bytes())
}

func (r requirement) met(text []byte) bool {
	if len(text) != r.length {
		return false
	}
	for _, character := range text {
		if strings.IndexByte(r.alphabet, character) < 0 {
			return false
		}
	}
	for _, rule := range r.rules {
		have := 0
		for _, character := range text {
			if strings.IndexByte(rule.characters, character) >= 0 {
				have++
			}
		}
		if have < rule.minimum {
			return false
		}
	}
	return true
}

// generate draws texts until one meets the minimums, so that all that do are
// equally likely. One in a thousand does, or more: who draws thirty times as
// many in vain has no random bytes.
func (p *Password) generate(from source) (Made, error) {
	wanted, err := p.requirement("password")
	if err != nil {
		return Made{}, err
	}
	text := make([]byte, wanted.length)
	for range int(30 / rarest) {
		for i := range text {
			at, err := below(from.random, len(wanted.alphabet))
			if err != nil {
				clear(text)
				return Made{}, err
			}
			text[i] = wanted.alphabet[at]
		}
		if wanted.met(text) {
			return Made{Secret: providers.NewValue(text)}, nil
		}
	}
	clear(text)
	return Made{}, errNotRandom
}

// below is a random number from 0 to n-1, where n is at most 256. Bytes past the
// last whole multiple of n are thrown away, since their remainders would come up
// more often. That is less than half of all bytes.
func below(random io.Reader, n int) (int, error) {
	var one [1]byte
	for range 1000 {
		if _, err := io.ReadFull(random, one[:]); err != nil {
			return 0, fmt.Errorf("reading random bytes: %w", err)
		}
		if drawn := int(one[0]); drawn < 256-256%n {
			return drawn % n, nil
		}
	}
	return 0, errNotRandom
}
