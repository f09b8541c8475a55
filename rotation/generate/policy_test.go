package generate_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/rotation/generate"
)

// The policy that Vault's documentation begins with.
const documented = `
length=20

rule "charset" {
  charset = "abcdefghijklmnopqrstuvwxyz"
  min-chars = 1
}
rule "charset" {
  charset = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
  min-chars = 1
}
rule "charset" {
  charset = "0123456789"
  min-chars = 1
}
rule "charset" {
  charset = "!@#$%^&*"
  min-chars = 1
}
`

func TestVaultsPoliciesAreUnderstood(t *testing.T) {
	for name, policy := range map[string]string{
		"the documented one":    documented,
		"on one line":           `length = 20 rule "charset" { charset = "abcdefghij", min-chars = 2 }`,
		"the other way round":   "rule \"charset\" {\n min-chars = 0\n charset = \"abcdefghijk\" }\nlength = 20",
		"with comments":         "# one\nlength = 20 // two\n/* three\n\"four\" */ rule \"charset\" { charset = \"abcdefghijk\" }",
		"with quotes and more":  `length = 20 rule "charset" { charset = "abcdefghijk\"\\\u0021 $" }`,
		"with Windows' endings": strings.ReplaceAll(documented, "\n", "\r\n"),
	} {
		t.Run(name, func(t *testing.T) {
			password := generate.Password{Policy: policy}
			if err := (generate.Spec{Password: &password}).Check("generate"); err != nil {
				t.Error(err)
			}
			if text := made(t, generate.Spec{Password: &password}, stream(6)); len(text) != 20 {
				t.Errorf("it made %q", text)
			}
		})
	}
}

func TestWhatAPolicySaysBeyondThatIsRefusedByName(t *testing.T) {
	for policy, says := range map[string]string{
		`rule "charset" { charset = "abc" }`:                             `it has no "length"`,
		`length = 20`:                                                    `it has no rule "charset"`,
		`length = 20 length = 30`:                                        `line 1: "length" is given twice`,
		"length = 20\nentropy = 4":                                       `line 2: "entropy" is not understood`,
		`length = 20 rule "pattern" { expr = "a" }`:                      `rule "pattern" is not understood`,
		`length = 20 rule "charset" { charset = "abc" max-chars = 2 }`:   `"max-chars" is not understood`,
		`length = 20 rule "charset" { charset = "abc" charset = "def" }`: `"charset" is given twice`,
		`length = 20 rule "charset" { min-chars = 2 }`:                   `the rule has no "charset"`,
		`length = 20 rule "charset" { charset = "" }`:                    `"charset" is empty`,
		`length = 20 rule "charset" { charset = "äöü" }`:                 `"charset" has 'ä'`,
		`length = 20 rule "charset" { charset = "a\tb" }`:                `"charset" has '\t'`,
		`length = 20 rule "charset" { charset = "a${b}" }`:               `"${" is not understood`,
		`length = 20 rule "charset" { charset = "a\x" }`:                 `"\" that is not understood`,
		`length = 20 rule "charset" { charset = <<EOF`:                   `'<' is not understood`,
		`length = 20 rule "charset" { charset = "abc`:                    `does not end on its line`,
		`length = 20 rule "charset" { charset = "abc"`:                   `want a name, and there is the end`,
		`length = 20 rule charset { charset = "abc" }`:                   `want a text in quotes, and there is "charset"`,
		`length = "20"`:                 `want a number, and there is a text in quotes`,
		`length = 0`:                    `"length" is 0; want 1 to 256`,
		`length = 99999999999999999999`: `want 1 to 256`,
		`length = -4`:                   `'-' is not understood`,
		`length = 20 rule "charset" { charset = "abc" min-chars = 9999 }`: `"min-chars" is 9999; want 0 to 256`,
		`{length = 20}`:           `want a name, and there is "{"`,
		`/* length = 20`:          `the comment does not end`,
		strings.Repeat("#", 5000): `more than 4096 bytes`,
		"length = 20 " + strings.Repeat(`rule "charset" {charset="a"}`, 17): `more than 16 rules`,
	} {
		err := generate.Spec{Password: &generate.Password{Policy: policy}}.Check("generate")
		if !errors.Is(err, generate.ErrSpec) || !strings.HasPrefix(fmt.Sprint(err), "generate.password.policy: ") || !strings.Contains(err.Error(), says) {
			t.Errorf("of %.60s it says %v", policy, err)
		}
	}
}

func FuzzPolicy(f *testing.F) {
	f.Add(documented)
	f.Add(`length = 20 rule "charset" { charset = "a\"\\b", min-chars = 3 } /* */ # x`)
	f.Add("length\n=\n20\"")
	f.Fuzz(func(t *testing.T, policy string) {
		if policy == "" {
			return
		}
		password := generate.Password{Policy: policy}
		if err := (generate.Spec{Password: &password}).Check("generate"); err != nil {
			if !errors.Is(err, generate.ErrSpec) {
				t.Fatal(err)
			}
			return
		}
		if text := made(t, generate.Spec{Password: &password}, stream(7)); len(text) == 0 {
			t.Fatal("it made nothing")
		}
	})
}
