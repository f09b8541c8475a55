package generate_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"math"
	mathrand "math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/rotation/generate"
)

// stream is the same bytes in every run, so that a test of chance has no chance
// of its own.
func stream(seed byte) io.Reader { return mathrand.NewChaCha8([32]byte{seed}) }

func made(t *testing.T, spec generate.Spec, random io.Reader) string {
	t.Helper()
	value, err := spec.Generate(random, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	return string(value.Secret.Bytes())
}

func TestAPasswordHasWhatItIsAskedFor(t *testing.T) {
	const all = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	for name, row := range map[string]struct {
		password   generate.Password
		length     int
		characters string
		least      map[string]int
	}{
		"by default":    {generate.Password{}, 32, all, map[string]int{"abcdefghijklmnopqrstuvwxyz": 1, "ABCDEFGHIJKLMNOPQRSTUVWXYZ": 1, "0123456789": 1}},
		"with symbols":  {generate.Password{Length: 14, Symbols: "-_."}, 14, all + "-_.", map[string]int{"-_.": 1}},
		"digits alone":  {generate.Password{Length: 40, Without: []string{"lower", "upper"}}, 40, "0123456789", nil},
		"many digits":   {generate.Password{Length: 20, Minimum: map[string]int{"digits": 9}}, 20, all, map[string]int{"0123456789": 9}},
		"nothing alike": {generate.Password{Exclude: "0O1lI"}, 32, "abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789", nil},
		"by a policy": {generate.Password{Policy: `length = 24
rule "charset" { charset = "abcdef0123456789" }
rule "charset" { charset = "012345" min-chars = 8 }`}, 24, "abcdef0123456789", map[string]int{"012345": 8}},
		"by a policy less some": {generate.Password{Exclude: "0", Policy: `length = 24 rule "charset" { charset = "abcdef0123456789" }`}, 24, "abcdef123456789", nil},
	} {
		t.Run(name, func(t *testing.T) {
			random := stream(1)
			for range 100 {
				value, err := generate.Spec{Password: &row.password}.Generate(random, time.Time{})
				if err != nil {
					t.Fatal(err)
				}
				text := string(value.Secret.Bytes())
				if len(text) != row.length || strings.Trim(text, row.characters) != "" || !row.password.Meets(value.Secret) {
					t.Fatalf("it made %q", text)
				}
				for class, least := range row.least {
					if len(text)-len(strings.Map(outside(class), text)) < least {
						t.Fatalf("%q has less than %d of %s", text, least, class)
					}
				}
			}
		})
	}
}

// outside leaves what is not of the class.
func outside(class string) func(rune) rune {
	return func(r rune) rune {
		if strings.ContainsRune(class, r) {
			return -1
		}
		return r
	}
}

// The 62 letters and digits do not divide 256. Who takes the remainder of a byte
// has the first eight come up a quarter more often, which the test would see.
func TestNoCharacterIsLikelierThanAnother(t *testing.T) {
	const limit = 120 // of 61 degrees of freedom: exceeded by chance once in 100,000
	password := generate.Password{Length: 250, Minimum: map[string]int{"lower": 0, "upper": 0, "digits": 0}}
	var text strings.Builder
	for random := stream(2); text.Len() < 100_000; {
		text.WriteString(made(t, generate.Spec{Password: &password}, random))
	}
	fair := chiSquare(text.String(), 62)
	t.Logf("chi-square of %d characters: %.1f", text.Len(), fair)
	if fair > limit {
		t.Errorf("chi-square is %.1f, and more than %d is no chance", fair, limit)
	}

	biased := make([]byte, 100_000)
	if _, err := io.ReadFull(stream(2), biased); err != nil {
		t.Fatal(err)
	}
	for i := range biased {
		biased[i] %= 62
	}
	if got := chiSquare(string(biased), 62); got < limit {
		t.Errorf("chi-square of remainders is %.1f: the test sees nothing", got)
	}
}

func chiSquare(text string, kinds int) (sum float64) {
	counts := map[rune]int{}
	for _, character := range text {
		counts[character]++
	}
	expected := float64(len(text)) / float64(kinds)
	for _, count := range counts {
		sum += (float64(count) - expected) * (float64(count) - expected) / expected
	}
	return sum + float64(kinds-len(counts))*expected
}

// A password that must have a digit has it anywhere, as often.
func TestWhatIsAskedForHasNoPlaceOfItsOwn(t *testing.T) {
	password := generate.Password{Length: 13, Without: []string{"upper"}, Minimum: map[string]int{"digits": 3}}
	random, places := stream(3), strings.Builder{}
	for range 4_000 {
		for i, character := range made(t, generate.Spec{Password: &password}, random) {
			if character >= '0' && character <= '9' {
				places.WriteByte(byte('a' + i))
			}
		}
	}
	if got := chiSquare(places.String(), 13); got > 40 { // of 12 degrees of freedom
		t.Errorf("chi-square of the places is %.1f", got)
	}
}

// The oracle makes all texts of a small alphabet, and counts.
func TestTheEntropyIsTheNumberOfPasswords(t *testing.T) {
	for _, password := range []generate.Password{
		{Length: 65, Policy: policyOf(65, "ab", 0)},
		{Length: 16, Symbols: "-_."},
		{},
	} {
		bits := generate.Spec{Password: &password}.Entropy()
		if bits < generate.MinEntropy || bits > 200 {
			t.Errorf("%+v has %.1f bits", password, bits)
		}
	}
	if bits := (generate.Spec{Password: &generate.Password{}}).Entropy(); math.Floor(bits) != 190 {
		t.Errorf("by default a password has %.1f bits, and the package says 190", bits)
	}
	for name, rules := range map[string][]generate.Rule{
		"one each":              {{Characters: "ab", Minimum: 1}, {Characters: "12", Minimum: 1}},
		"rules that overlap":    {{Characters: "abc", Minimum: 2}, {Characters: "bcd", Minimum: 3}},
		"one inside of another": {{Characters: "abcd", Minimum: 4}, {Characters: "d", Minimum: 1}},
		"no room":               {{Characters: "ab", Minimum: 4}, {Characters: "12", Minimum: 4}},
		"nothing asked":         {{Characters: "abcde"}},
	} {
		t.Run(name, func(t *testing.T) {
			if got, want := generate.Share(6, rules), countedShare(6, rules); math.Abs(got-want) > 1e-9 {
				t.Errorf("the share is %g, and by counting %g", got, want)
			}
		})
	}
}

func countedShare(length int, rules []generate.Rule) float64 {
	alphabet := map[rune]bool{}
	for _, rule := range rules {
		for _, character := range rule.Characters {
			alphabet[character] = true
		}
	}
	texts := []string{""}
	for range length {
		var longer []string
		for _, text := range texts {
			for character := range alphabet {
				longer = append(longer, text+string(character))
			}
		}
		texts = longer
	}
	met := 0
	for _, text := range texts {
		good := true
		for _, rule := range rules {
			good = good && len(text)-len(strings.Map(outside(rule.Characters), text)) >= rule.Minimum
		}
		if good {
			met++
		}
	}
	return float64(met) / float64(len(texts))
}

func policyOf(length int, charset string, minimum int) string {
	return fmt.Sprintf("length = %d\nrule \"charset\" {\n  charset = %q\n  min-chars = %d\n}\n", length, charset, minimum)
}

func TestPasswordsThatCannotBeMadeAreRefusedByTheirField(t *testing.T) {
	for name, row := range map[string]struct {
		password generate.Password
		says     string
	}{
		"a negative length":        {generate.Password{Length: -1}, "generate.password.length -1"},
		"a long one":               {generate.Password{Length: 257}, "generate.password.length 257"},
		"one to guess":             {generate.Password{Length: 8}, "generate.password: unusable generator: passwords of 47 bits"},
		"a symbol that is none":    {generate.Password{Symbols: "é"}, "generate.password.symbols"},
		"a symbol that is given":   {generate.Password{Symbols: "--"}, "generate.password.symbols"},
		"a class of another name":  {generate.Password{Without: []string{"capitals"}}, "generate.password.without"},
		"without anything":         {generate.Password{Without: []string{"lower", "upper", "digits"}}, "no character is left"},
		"less than none":           {generate.Password{Minimum: map[string]int{"digits": -1}}, "generate.password.minimum.digits -1"},
		"some of what it has not":  {generate.Password{Minimum: map[string]int{"symbols": 2}}, "generate.password.minimum.symbols 2"},
		"some of what nobody has":  {generate.Password{Minimum: map[string]int{"emoji": 0}}, "generate.password.minimum"},
		"some of what is excluded": {generate.Password{Exclude: "0123456789", Minimum: map[string]int{"digits": 1}}, "generate.password.minimum.digits 1"},
		"more than there is room":  {generate.Password{Length: 16, Minimum: map[string]int{"digits": 10, "lower": 10}}, "16 characters have no room"},
		"what hardly ever comes":   {generate.Password{Length: 32, Minimum: map[string]int{"digits": 30}}, "less than one text in 1000"},
		"more than can be counted": {generate.Password{Length: 256, Minimum: map[string]int{"digits": 70, "lower": 70}}, "too many to reckon"},
		"two lengths":              {generate.Password{Length: 20, Policy: policyOf(30, "abcdef0123456789", 0)}, "generate.password.length 20"},
		"a policy and classes":     {generate.Password{Symbols: "-", Policy: policyOf(30, "abcdef0123456789", 0)}, "generate.password.policy"},
		"a policy to guess":        {generate.Password{Policy: policyOf(10, "0123456789", 0)}, "passwords of 33 bits"},
		"a policy of what is not":  {generate.Password{Exclude: "xyz", Policy: policyOf(30, "xyz", 1) + `rule "charset" { charset = "abcdefgh" }`}, "generate.password.exclude"},
	} {
		t.Run(name, func(t *testing.T) {
			spec := generate.Spec{Password: &row.password}
			err := spec.Check("generate")
			if !errors.Is(err, generate.ErrSpec) || !strings.Contains(fmt.Sprint(err), row.says) {
				t.Errorf("it says %v", err)
			}
			if _, err := spec.Generate(stream(4), time.Time{}); !errors.Is(err, generate.ErrSpec) || spec.Entropy() != 0 {
				t.Errorf("and yet it makes one: %v", err)
			}
		})
	}
}

func TestWhatIsNotRandomMakesNoPassword(t *testing.T) {
	zeros, ends := bytes.NewReader(make([]byte, 1<<25)), bytes.NewReader(make([]byte, 40))
	for name, random := range map[string]io.Reader{"zeros": zeros, "an end": ends, "what cannot be used": onlyBytes(0xff)} {
		if _, err := (generate.Spec{Password: &generate.Password{}}).Generate(random, time.Time{}); err == nil || errors.Is(err, generate.ErrSpec) {
			t.Errorf("%s: %v", name, err)
		}
	}
	first, second := made(t, generate.Spec{Password: &generate.Password{}}, nil), made(t, generate.Spec{Password: &generate.Password{}}, rand.Reader)
	if first == second {
		t.Errorf("two passwords are one")
	}
}

type onlyBytes byte

func (b onlyBytes) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(b)
	}
	return len(p), nil
}

func FuzzPassword(f *testing.F) {
	f.Add(0, "-_.", "0O", 3, 2, "")
	f.Add(12, "", "", 0, 0, policyOf(20, "abcdefgh", 2))
	f.Add(256, "!", "abc", 60, 60, "")
	f.Fuzz(func(t *testing.T, length int, symbols, exclude string, digits, lowers int, policy string) {
		password := generate.Password{Length: length, Symbols: symbols, Exclude: exclude, Policy: policy}
		if policy == "" {
			password.Minimum = map[string]int{"digits": digits, "lower": lowers}
		}
		spec := generate.Spec{Password: &password}
		if err := spec.Check("generate"); err != nil {
			if !errors.Is(err, generate.ErrSpec) || !strings.HasPrefix(err.Error(), "generate.password") || spec.Entropy() != 0 {
				t.Fatalf("%q", err)
			}
			return
		}
		value, err := spec.Generate(stream(5), time.Time{})
		if err != nil || !password.Meets(value.Secret) || strings.ContainsAny(string(value.Secret.Bytes()), exclude) {
			t.Fatalf("it made %q, %v", value.Secret.Bytes(), err)
		}
		if bits := spec.Entropy(); bits < generate.MinEntropy || math.IsInf(bits, 0) {
			t.Fatalf("it has %g bits", bits)
		}
	})
}
