package copies

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"unicode"

	"github.com/privyseal/privyseal/broker/template"
	"github.com/privyseal/privyseal/providers"
)

// defaultPath is where a copy lies where spec.sealing.git.path does not say.
const defaultPath = "{{ .Environment }}/{{ .Namespace }}/{{ .Name }}.yaml"

// maxPath bounds a copy's path, in bytes.
const maxPath = 1024

// errPath: spec.sealing.git.path gives no usable path.
var errPath = errors.New("spec.sealing.git.path")

// pathOf renders where the copy of a Secret lies. Errors wrap errPath.
func pathOf(text, environment, namespace, name string) (string, error) {
	if text == "" {
		text = defaultPath
	}
	rendered, err := template.Render("path", text, map[string]providers.Value{
		"Environment": providers.NewValue([]byte(environment)),
		"Namespace":   providers.NewValue([]byte(namespace)),
		"Name":        providers.NewValue([]byte(name)),
	})
	if err != nil {
		return "", fmt.Errorf("%w: %w", errPath, err)
	}
	given := string(rendered.Bytes())
	if problem := wrongWith(given); problem != "" {
		return "", fmt.Errorf("%w: %.200q %s", errPath, given, problem)
	}
	return given, nil
}

// wrongWith says why a path is none that a copy may have; "" if it is.
func wrongWith(given string) string {
	switch {
	case len(given) > maxPath:
		return fmt.Sprintf("is longer than %d bytes", maxPath)
	case given == "", path.IsAbs(given), path.Clean(given) != given:
		return "is not a plain path inside of the repository: write folders and a file, without . and .. and without a slash at an end"
	case !strings.HasSuffix(given, ".yaml") && !strings.HasSuffix(given, ".yml"):
		return "does not end with .yaml"
	case strings.ContainsFunc(given, func(r rune) bool { return r == '\\' || r == unicode.ReplacementChar || !unicode.IsPrint(r) }):
		return "has characters that a path should not have"
	}
	for segment := range strings.SplitSeq(given, "/") {
		// Other systems read .GIT, .git. and git~1 as .git itself.
		plain := strings.TrimRight(strings.ToLower(segment), ". ")
		if segment == ".." || plain == ".git" || strings.HasPrefix(plain, "git~") || strings.HasPrefix(plain, ".git:") {
			return "goes where a copy must not lie"
		}
	}
	return ""
}

// checkPath refuses a template that gives two Secrets one path, for an
// environment. Errors wrap errPath.
func checkPath(text, environment string) error {
	seen := map[string]bool{}
	for _, secret := range [][2]string{{"a", "a"}, {"a", "b"}, {"b", "a"}, {"a", "a-a"}, {"a-a", "a"}} {
		given, err := pathOf(text, environment, secret[0], secret[1])
		if err != nil {
			return err
		}
		if seen[given] {
			return fmt.Errorf("%w: it gives two Secrets one path: name {{ .Namespace }} and {{ .Name }}, and part them by a slash", errPath)
		}
		seen[given] = true
	}
	return nil
}
