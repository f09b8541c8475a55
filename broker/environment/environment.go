// Package environment decides which documents a namespace may read.
//
// An Environment gives its namespaces a root, from which a claim's relative
// path starts, and a list of path patterns, outside which nothing may be read.
// Both may hold {{ .Environment }} and {{ .Namespace }}. The patterns are a
// guard rail against mistakes and confused deputies; the boundary is the
// store's own policy on the identity that logs in.
//
// Everything here is pure. A path is made canonical once (providers.ParseRef)
// and matched segment by segment, so that there is no second spelling for the
// store to see; and a variable fills a whole segment, because a namespace
// "pay" would else match the paths of "pay-ments".
package environment

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/providers"
)

var (
	// ErrPattern: spec.root or an entry of spec.paths is malformed.
	ErrPattern = errors.New("malformed pattern")

	// ErrOutside: the path is none that the environment allows.
	ErrOutside = errors.New("outside the environment's paths")
)

const (
	variableEnvironment = "{{ .Environment }}"
	variableNamespace   = "{{ .Namespace }}"
)

// Rules are an Environment's root and patterns, checked.
type Rules struct {
	name  string
	root  []string
	paths []pattern
}

// pattern is a path's segments, which may be variables or "*"; subtree says
// that it ended in "**".
type pattern struct {
	segments []string
	subtree  bool
}

// Compile checks an Environment's root and paths. Errors wrap ErrPattern and
// name the field.
func Compile(environment *v1alpha1.Environment) (Rules, error) {
	rules := Rules{name: environment.Name}
	root, err := parsePattern(environment.Spec.Root)
	if err == nil && (root.subtree || slices.Contains(root.segments, "*")) {
		err = fmt.Errorf("%w: a root has no wildcard", ErrPattern)
	}
	if err != nil {
		return Rules{}, fmt.Errorf("spec.root %q: %w", environment.Spec.Root, err)
	}
	rules.root = root.segments
	for i, text := range environment.Spec.Paths {
		parsed, err := parsePattern(text)
		if err != nil {
			return Rules{}, fmt.Errorf("spec.paths[%d] %q: %w", i, text, err)
		}
		rules.paths = append(rules.paths, parsed)
	}
	return rules, nil
}

func parsePattern(text string) (pattern, error) {
	text, subtree := strings.CutSuffix(strings.TrimPrefix(text, "/"), "/**")
	parsed := pattern{subtree: subtree}
	for _, segment := range strings.Split(text, "/") {
		canonical, err := parseSegment(segment)
		if err != nil {
			return pattern{}, err
		}
		parsed.segments = append(parsed.segments, canonical)
	}
	if parsed.segments[0] == "*" {
		return pattern{}, fmt.Errorf("%w: the first segment, a mount, must be named", ErrPattern)
	}
	return parsed, nil
}

func parseSegment(segment string) (string, error) {
	if segment == "*" {
		return segment, nil
	}
	if strings.Contains(segment, "{{") || strings.Contains(segment, "}}") {
		inner, opened := strings.CutPrefix(segment, "{{")
		inner, closed := strings.CutSuffix(inner, "}}")
		switch variable := "{{ " + strings.TrimSpace(inner) + " }}"; {
		case opened && closed && (variable == variableEnvironment || variable == variableNamespace):
			return variable, nil
		default:
			return "", fmt.Errorf("%w: segment %q: a variable fills a whole segment, and is %s or %s",
				ErrPattern, segment, variableEnvironment, variableNamespace)
		}
	}
	if _, err := providers.ParseRef(segment); err != nil {
		return "", fmt.Errorf("%w: segment %q: %w (\"*\" stands for one whole segment, a trailing \"/**\" for a subtree)",
			ErrPattern, segment, err)
	}
	return segment, nil
}

// Resolve makes the document that a claim's path names for a namespace:
// relative to the root, or absolute with a leading slash. Errors wrap
// providers.ErrPath or ErrOutside and name what would be allowed.
func (r Rules) Resolve(namespace, path string) (providers.Ref, error) {
	full := path
	if !strings.HasPrefix(path, "/") {
		full = strings.Join(r.expand(r.root, namespace), "/") + "/" + path
	}
	ref, err := providers.ParseRef(full)
	if err != nil {
		return providers.Ref{}, err
	}
	segments := ref.Segments()
	for _, allowed := range r.paths {
		if allowed.matches(segments, r.expand(allowed.segments, namespace)) {
			return ref, nil
		}
	}
	return providers.Ref{}, fmt.Errorf("%q: %w %s, which are %s",
		ref, ErrOutside, r.name, r.describe(namespace))
}

func (p pattern) matches(segments, wanted []string) bool {
	if len(segments) < len(wanted) ||
		p.subtree == (len(segments) == len(wanted)) {
		return false
	}
	for i, want := range wanted {
		// A variable's value is a DNS name, so it is never the wildcard.
		if want != "*" && want != segments[i] {
			return false
		}
	}
	return true
}

func (r Rules) expand(segments []string, namespace string) []string {
	expanded := slices.Clone(segments)
	for i, segment := range expanded {
		switch segment {
		case variableEnvironment:
			expanded[i] = r.name
		case variableNamespace:
			expanded[i] = namespace
		}
	}
	return expanded
}

func (r Rules) describe(namespace string) string {
	var described []string
	for _, allowed := range r.paths {
		text := strings.Join(r.expand(allowed.segments, namespace), "/")
		if allowed.subtree {
			text += "/**"
		}
		described = append(described, text)
	}
	return strings.Join(described, ", ")
}

// Expand fills {{ .Environment }} and {{ .Namespace }} into a text that is no
// path, such as a login role. Anything else in braces is an error, and so is
// .Environment where there is none; both wrap ErrPattern.
func Expand(text, environment, namespace string) (string, error) {
	var expanded strings.Builder
	for rest := text; ; {
		before, after, found := strings.Cut(rest, "{{")
		expanded.WriteString(before)
		if !found {
			return expanded.String(), nil
		}
		inner, tail, closed := strings.Cut(after, "}}")
		switch variable := strings.TrimSpace(inner); {
		case closed && variable == ".Environment" && environment == "":
			// With nothing in its place it could be the name of another role.
			return "", fmt.Errorf("%w: %q: namespace %s is in no environment, so there is no %s", ErrPattern, text, namespace, variableEnvironment)
		case closed && variable == ".Environment":
			expanded.WriteString(environment)
		case closed && variable == ".Namespace":
			expanded.WriteString(namespace)
		default:
			return "", fmt.Errorf("%w: %q: a variable is %s or %s", ErrPattern, text, variableEnvironment, variableNamespace)
		}
		rest = tail
	}
}
