package template_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/broker/template"
	"github.com/privyseal/privyseal/providers"
)

const marker = "s3cr3t-marker"

func keys() map[string]providers.Value {
	return map[string]providers.Value{
		"username": providers.NewValue([]byte("pay")),
		"password": providers.NewValue([]byte(marker + "/&")),
	}
}

func TestATemplateRendersOverTheKeys(t *testing.T) {
	for text, want := range map[string]string{
		"postgres://{{ .username }}:{{ .password | urlquery }}@db/pay": "postgres://pay:s3cr3t-marker%2F%26@db/pay",
		"{{ .username | upper | quote }}":                              `"PAY"`,
		"{{ range splitList \"a\" .username }}[{{ . }}]{{ end }}":      "[p][y]",
		`{"u":{{ .username | toJson }}}`:                               `{"u":"pay"}`,
		"{{ splitList \"a\" .username | join \"+\" }}":                 "p+y",
		"{{ printf \"%s!\" .username | indent 2 }}":                    "  pay!",
	} {
		got, err := template.Render("DSN", text, keys())
		if err != nil || string(got.Bytes()) != want {
			t.Errorf("%s: got %s, %v; want %s", text, got.Bytes(), err, want)
		}
	}
}

func TestATemplateSeesNothingButTheKeys(t *testing.T) {
	for _, call := range []string{
		`env "HOME"`, `expandenv "$HOME"`, `getHostByName "localhost"`, `now`, `randAlphaNum 5`,
		`uuidv4`, `genPrivateKey "rsa"`, `bcrypt "x"`, `htpasswd "a" "b"`, `encryptAES "a" "b"`,
		`genCA "x" 1`, `until 5`, `repeat 5 "x"`, `atoi "5"`, `derivePassword 1 "long" "a" "b" "c"`,
	} {
		if _, err := template.Render("x", "{{ "+call+" }}", keys()); !errors.Is(err, template.ErrSyntax) {
			t.Errorf("%s: got %v, want ErrSyntax", call, err)
		}
	}
}

func TestATemplateCannotSpinOrGrow(t *testing.T) {
	double := strings.Repeat("{{ $x = cat $x $x }}", 40)
	for text, want := range map[string]error{
		"{{ range 9223372036854775807 }}{{ end }}":                                     template.ErrRender,
		"{{ $n := 1000000000 }}{{ range $n }}{{ end }}":                                template.ErrRender,
		"{{ range 5000 }}{{ range 5000 }}{{ end }}{{ end }}":                           template.ErrRender,
		"{{ if true }}{{ range $i := 1000000000 }}{{ end }}{{ end }}":                  template.ErrRender,
		"{{ define \"a\" }}{{ end }}{{ template \"a\" . }}":                            template.ErrSyntax,
		strings.Repeat("{{ .password }}", (1<<20)/len(marker)+1):                       template.ErrRender,
		"{{ $x := .password }}" + double:                                               template.ErrRender,
		"{{ indent 1000000000 .password }}":                                            template.ErrRender,
		"{{ printf \"" + strings.Repeat("%[1]s", 30000) + "\" .password }}":            template.ErrRender,
		"{{ $x := .password }}" + strings.Repeat("{{ $x = replace \"s\" $x $x }}", 30): template.ErrRender,
	} {
		if _, err := template.Render("x", text, keys()); !errors.Is(err, want) {
			t.Errorf("%.60s: got %v, want %v", text, err, want)
		}
	}
}

func TestNoErrorHoldsAValue(t *testing.T) {
	for _, text := range []string{
		`{{ .missing }}`, `{{ .password.x }}`, `{{ index .password 100 }}`, `{{ .password | fromJson | first }}`,
		`{{ regexFind .password .password }}`, `{{ regexMatch "(" .password }}`, `{{ urlParse .password }}`,
		`{{ slice .password 5 1 }}`, `{{ call .password }}`, `{{ get .password "x" }}`,
		`{{ printf "%d" .password | b64dec | fromJson }}`, `{{ template "x" . }}`, `{{ .password`,
	} {
		_, err := template.Render("DSN", text, keys())
		if err != nil && strings.Contains(err.Error(), marker) {
			t.Errorf("%s: the error holds the value", text)
		}
	}
	_, err := template.Render("DSN", "{{ .passwrd }}", keys())
	if !errors.Is(err, template.ErrRender) || !strings.Contains(err.Error(), "<.passwrd>") {
		t.Errorf("a missing key: got %v, want ErrRender naming the key", err)
	}
}

func FuzzRender(f *testing.F) {
	f.Add("{{ .username | upper }}")
	f.Add("{{ range splitList \",\" .password }}{{ . }}{{ end }}")
	f.Add("{{ regexFind .password \"x\" }}")
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, marker) {
			return
		}
		if _, err := template.Render("x", text, keys()); err != nil && strings.Contains(err.Error(), marker) {
			t.Fatalf("%q: the error holds the value: %v", text, err)
		}
	})
}
