// Package variables finds the variables that a container gets from two sources.
//
// Who takes a whole Secret as variables names none of them, so nobody sees at
// admission that two Secrets have a key of one name, or that the container sets
// that variable itself. Of two sources of one variable the last counts, and
// kubelet does not say so.
//
// There is no rule here for keys that cannot be variables, since no key of a
// Secret is left out for its name: kubelet of Kubernetes 1.34 makes a variable
// of each, and its API server takes any printable ASCII but "=" in a variable's
// name and a prefix (RelaxedEnvironmentVariableValidation, which cannot be
// switched off any more), which is more than a key can have.
package variables

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Container is one container of a live pod that takes a whole Secret.
type Container struct {
	// Of says whose it is: "Deployment web", or "Pod web" for one that belongs
	// to no workload.
	Of string
	// Name of the container.
	Name string
	// Whole are the Secrets that it takes as a whole.
	Whole []Whole
	// Own are the variables that it names one by one.
	Own []Own
}

// Whole is a Secret whose every key is a variable.
type Whole struct {
	Secret string
	// Prefix is put before the keys; may be empty.
	Prefix string
	// Annotation that asked for it; empty where somebody wrote the envFrom.
	Annotation string
}

// Own is a variable that a container names itself.
type Own struct {
	Name string
	// Secret and Key that it holds; empty where it holds something else.
	Secret, Key string
}

// Conflict is some variables of one container that come from a Secret and from
// somewhere else too.
type Conflict struct {
	Of, Container string
	// From says where the Secret's variables come from, Other where else.
	From, Other string
	// Names of the variables, sorted.
	Names []string
}

// content is what a variable holds, as far as it is known.
type content struct{ secret, key string }

// Conflicts are those of one Secret in some containers, sorted, each once
// however many pods of a workload have it. Keys are the keys of each Secret
// that is known; a Secret that is not among them has none. What is the same key
// of the same Secret twice is no conflict.
func Conflicts(secret string, containers []Container, keys map[string][]string) []Conflict {
	found := map[string]Conflict{}
	for _, container := range containers {
		for i, whole := range container.Whole {
			if whole.Secret != secret {
				continue
			}
			for other, names := range container.others(i, whole.gives(keys), keys) {
				slices.Sort(names)
				conflict := Conflict{Of: container.Of, Container: container.Name, From: whole.String(), Other: other, Names: slices.Compact(names)}
				found[conflict.String()] = conflict
			}
		}
	}
	return slices.SortedFunc(maps.Values(found), func(a, b Conflict) int { return cmp.Compare(a.String(), b.String()) })
}

// gives are the variables that a whole Secret gives.
func (w Whole) gives(keys map[string][]string) map[string]content {
	gives := map[string]content{}
	for _, key := range keys[w.Secret] {
		gives[w.Prefix+key] = content{w.Secret, key}
	}
	return gives
}

// others are the names among those given by the container's i-th whole Secret
// that come from elsewhere too, by where.
func (c Container) others(i int, given map[string]content, keys map[string][]string) map[string][]string {
	others := map[string][]string{}
	for j, other := range c.Whole {
		if i == j {
			continue
		}
		for name, holds := range other.gives(keys) {
			if known, both := given[name]; both && known != holds {
				others[other.String()] = append(others[other.String()], name)
			}
		}
	}
	for _, own := range c.Own {
		if known, both := given[own.Name]; both && known != (content{own.Secret, own.Key}) {
			others[own.String()] = append(others[own.String()], own.Name)
		}
	}
	return others
}

// String says where the variables come from.
func (w Whole) String() string {
	if w.Annotation != "" {
		return "annotation " + w.Annotation
	}
	return "envFrom of Secret " + w.Secret
}

// String says where the variable comes from.
func (o Own) String() string {
	if o.Secret != "" {
		return "env of the container, from Secret " + o.Secret
	}
	return "env of the container"
}

// String tells the conflict. It holds names only.
func (c Conflict) String() string {
	return fmt.Sprintf("%s, container %s: %s of %s also in %s", c.Of, c.Container, few(c.Names), c.From, c.Other)
}

// few lists the first of some names, and how many there are more.
func few(names []string) string {
	const shown = 5
	if more := len(names) - shown; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:shown], ", "), more)
	}
	return strings.Join(names, ", ")
}
