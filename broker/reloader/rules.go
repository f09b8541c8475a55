package reloader

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Options of an installation, which Reloader has as flags.
type Options struct {
	// AutoAll: a workload that says nothing of Auto is restarted for all that it
	// refers to. Reloader's auto-reload-all.
	AutoAll bool
}

// Rules are what one workload's annotations say. The zero value restarts for
// nothing.
type Rules struct {
	kinds map[Kind]rules
}

// rules for one kind.
type rules struct {
	exclude []string
	names   []*regexp.Regexp
	search  bool
	auto    bool
	// because is the annotation, or the option, that auto stands for.
	because string
}

// Resource is a Secret or ConfigMap in the workload's namespace.
type Resource struct {
	Kind        Kind
	Name        string
	Annotations map[string]string
	// Referenced: a container of the workload, or a volume, refers to it.
	Referenced bool
}

// Verdict on whether a resource's change restarts a workload.
type Verdict struct {
	Restarts bool
	// ByName: the workload names the resource, and so is restarted for all of
	// it, whether or not it refers to it.
	ByName bool
	// Rule is the annotation or option that decided; empty where none did.
	Rule string
}

// AutoReloadAll is the rule behind a verdict of Options.AutoAll.
const AutoReloadAll = "auto-reload-all"

// Parse reads the annotations of a workload and of its template. Those of the
// template count where the workload has none for the kind in question; what is
// excluded is read off the workload alone.
//
// The error joins what cannot be used, each with its annotation and what to do.
// The rules hold without it.
func Parse(workload, template map[string]string, options Options) (Rules, error) {
	parsed := Rules{kinds: map[Kind]rules{}}
	var problems []error
	for _, kind := range Kinds() {
		from := workload
		if !saysAny(workload, kind) {
			from = template
		}
		read, err := parse(kind, from, options)
		read.exclude = list(workload[kind.Exclude()])
		parsed.kinds[kind] = read
		problems = append(problems, err)
	}
	for _, name := range withoutEffect() {
		if workload[name] != "" || template[name] != "" {
			problems = append(problems, fmt.Errorf("annotation %s has no effect: secrets of CSI drivers are not watched; take it away, or keep Reloader for this workload", name))
		}
	}
	return parsed, once(problems)
}

func saysAny(annotations map[string]string, kind Kind) bool {
	return slices.ContainsFunc([]string{kind.Reload(), Auto, kind.Auto(), Search}, func(name string) bool {
		_, said := annotations[name]
		return said
	})
}

func parse(kind Kind, from map[string]string, options Options) (rules, error) {
	read := rules{search: from[Search] == "true"}
	names, err := patterns(kind.Reload(), from[kind.Reload()])
	read.names = names
	all, errAll := truth(Auto, from[Auto])
	typed, errTyped := truth(kind.Auto(), from[kind.Auto()])
	switch {
	case all:
		read.auto, read.because = true, Auto
	case typed:
		read.auto, read.because = true, kind.Auto()
	case from[Auto] == "" && from[kind.Auto()] == "" && options.AutoAll:
		read.auto, read.because = true, AutoReloadAll
	}
	return read, errors.Join(err, errAll, errTyped)
}

// patterns are names, each of which is a regular expression. It is put between
// ^ and $ as it is, as Reloader does it: an alternative belongs in parentheses.
func patterns(annotation, value string) ([]*regexp.Regexp, error) {
	var compiled []*regexp.Regexp
	var problems []error
	for _, name := range list(value) {
		pattern, err := regexp.Compile("^" + name + "$")
		if err != nil {
			problems = append(problems, fmt.Errorf("annotation %s: %q is no regular expression, and nothing is restarted for it (%w); write a name, or an expression of Go's package regexp", annotation, name, err))
			continue
		}
		compiled = append(compiled, pattern)
	}
	return compiled, errors.Join(problems...)
}

// truth of a value. What is no truth value is none, as with Reloader, and not
// passed over in silence.
func truth(annotation, value string) (bool, error) {
	if value == "" {
		return false, nil
	}
	says, err := strconv.ParseBool(value)
	if err != nil {
		return false, fmt.Errorf("annotation %s: %q is taken for \"false\"; write \"true\" or \"false\"", annotation, value)
	}
	return says, nil
}

// list is what stands between commas.
func list(value string) []string {
	var items []string
	for item := range strings.SplitSeq(value, ",") {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	return items
}

// once drops what was found for one kind and then for the other.
func once(problems []error) error {
	var told []error
	seen := map[string]bool{}
	for _, problem := range problems {
		if problem == nil {
			continue
		}
		for line := range strings.SplitSeq(problem.Error(), "\n") {
			if !seen[line] {
				seen[line] = true
				told = append(told, errors.New(line))
			}
		}
	}
	return errors.Join(told...)
}

// Any says whether there is a resource that the rules could restart for.
func (r Rules) Any() bool {
	for _, read := range r.kinds {
		if len(read.names) > 0 || read.search || read.auto {
			return true
		}
	}
	return false
}

// Judge says whether a resource's change restarts the workload. The first rule
// that says anything decides, in Reloader's order: what the resource ignores,
// what is excluded, names, marks, and then what is referred to.
func (r Rules) Judge(of Resource) Verdict {
	rules := r.kinds[of.Kind]
	switch {
	case of.Annotations[Ignore] == "true":
		return Verdict{Rule: Ignore}
	case slices.Contains(rules.exclude, of.Name):
		return Verdict{Rule: of.Kind.Exclude()}
	case slices.ContainsFunc(rules.names, func(name *regexp.Regexp) bool { return name.MatchString(of.Name) }):
		return Verdict{Restarts: true, ByName: true, Rule: of.Kind.Reload()}
	case rules.search && of.Annotations[Match] == "true":
		return Verdict{Restarts: of.Referenced, Rule: Search}
	case rules.auto:
		return Verdict{Restarts: of.Referenced, Rule: rules.because}
	}
	return Verdict{}
}

// ByName says whether the rules may restart for a resource of the kind that the
// workload does not refer to.
func (r Rules) ByName(kind Kind) bool { return len(r.kinds[kind].names) > 0 }
