package copies

import (
	"errors"
	"path"
	"strings"
	"testing"
)

func TestAPathIsRenderedAndStaysInTheRepository(t *testing.T) {
	for _, row := range []struct{ text, becomes string }{
		{"", "prod/pay/db.yaml"},
		{"clusters/one/{{ .Namespace }}/{{ .Name }}.yml", "clusters/one/pay/db.yml"},
		{"{{ .Namespace }}/sealed-{{ .Name | upper }}.yaml", "pay/sealed-DB.yaml"},
		{"../{{ .Namespace }}/{{ .Name }}.yaml", ""},
		{"/{{ .Namespace }}/{{ .Name }}.yaml", ""},
		{"a/../../{{ .Namespace }}/{{ .Name }}.yaml", ""},
		{"a//{{ .Namespace }}/{{ .Name }}.yaml", ""},
		{"./{{ .Namespace }}/{{ .Name }}.yaml", ""},
		{"{{ .Namespace }}/.git/{{ .Name }}.yaml", ""},
		{"{{ .Namespace }}/.GIT/{{ .Name }}.yaml", ""},
		{"{{ .Namespace }}/git~1/{{ .Name }}.yaml", ""},
		{"{{ .Namespace }}\\{{ .Name }}.yaml", ""},
		{"{{ .Namespace }}/{{ .Name }}", ""},
		{"{{ .Namespace }}/{{ .Name }}.yaml\n", ""},
		{"{{ .Namespace }}/{{ .Nome }}.yaml", ""},
		{"{{ .Namespace", ""},
		{strings.Repeat("x", maxPath) + "{{ .Name }}.yaml", ""},
	} {
		given, err := pathOf(row.text, "prod", "pay", "db")
		if given != row.becomes || (row.becomes == "") != errors.Is(err, errPath) {
			t.Errorf("%q becomes %q: %v", row.text, given, err)
		}
	}
}

func TestATemplateThatGivesTwoSecretsOnePathIsRefused(t *testing.T) {
	for text, fails := range map[string]bool{
		"": false, "{{ .Name }}/{{ .Namespace }}.yaml": false,
		"{{ .Name }}.yaml": true, "{{ .Namespace }}.yaml": true, "all.yaml": true,
		"{{ .Namespace }}-{{ .Name }}.yaml": true, "{{ .Namespace }}/{{ .Name | trunc 1 }}.yaml": true,
	} {
		if err := checkPath(text, "prod"); errors.Is(err, errPath) != fails {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzAPathNeverLeavesTheRepository(f *testing.F) {
	for _, text := range []string{"", "../x.yaml", "{{ .Name }}/..{{ \"/\" }}..//x.yaml", ".git/hooks/{{ .Name }}.yaml", "a\x00b.yaml"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		given, err := pathOf(text, "prod", "pay", "db")
		if err != nil {
			if !errors.Is(err, errPath) || given != "" {
				t.Fatalf("%q: %q, %v", text, given, err)
			}
			return
		}
		inside := path.Clean("/repository/" + given)
		if inside != "/repository/"+given || strings.ContainsAny(given, "\\\x00\n") || strings.Contains(strings.ToLower("/"+given+"/"), "/.git/") {
			t.Fatalf("%q leaves the repository: %q", text, given)
		}
	})
}
