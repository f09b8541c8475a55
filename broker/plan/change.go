package plan

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/privyseal/privyseal/broker/restart"
	"github.com/privyseal/privyseal/broker/target"
)

// anyKey stands for the keys of a Secret that are not known.
const anyKey = "*"

// ErrAsked: what is said to change is malformed, or is not there.
var ErrAsked = errors.New("no such change")

// Asked is a change as people write it: [secret/|claim/]NAME[:KEY].
type Asked struct {
	// Kind is secret or claim; empty: whichever has the name.
	Kind string
	Name string
	// Key that changes; empty: every key.
	Key string
}

// ParseAsked reads one. Errors wrap ErrAsked.
func ParseAsked(text string) (Asked, error) {
	name, key, hasKey := strings.Cut(text, ":")
	kind, bare, hasKind := strings.Cut(name, "/")
	if !hasKind {
		kind, bare = "", name
	}
	switch {
	case bare == "" || hasKey && key == "" || strings.ContainsAny(bare+key, "/: \t\n"):
		return Asked{}, fmt.Errorf("%.64q: %w: want the name of a Secret or a claim, and a key if only that changes, such as db or db:password", text, ErrAsked)
	case hasKind && kind != "secret" && kind != "claim":
		return Asked{}, fmt.Errorf("%.64q: %w: want secret/%s or claim/%s; the namespace has its own flag", text, ErrAsked, bare, bare)
	}
	return Asked{Kind: kind, Name: bare, Key: key}, nil
}

// Change of a Secret's content that is only thought of.
type Change struct {
	Secret types.NamespacedName
	// Key that changes; empty: every key.
	Key string
}

// String is namespace/name:key.
func (c Change) String() string {
	if c.Key == "" {
		return c.Secret.String()
	}
	return c.Secret.String() + ":" + c.Key
}

// Everything is a change of every Secret of ours.
func (w *World) Everything() []Change {
	var all []Change
	for _, name := range w.ours() {
		all = append(all, Change{Secret: name})
	}
	return all
}

// ours are the Secrets that somebody of ours makes, sorted.
func (w *World) ours() []types.NamespacedName {
	var names []types.NamespacedName
	for name, state := range w.secrets {
		if state == made {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, func(a, b types.NamespacedName) int { return strings.Compare(a.String(), b.String()) })
	return names
}

// Changes that are asked for, in each namespace that has what they name. Errors
// wrap ErrAsked and say what is there.
func (w *World) Changes(asked Asked) ([]Change, error) {
	found := map[types.NamespacedName]bool{}
	var foreign *types.NamespacedName
	for _, name := range w.namesOf(asked.Name) {
		claimed, isClaim := w.claimed[name]
		isClaim = isClaim && asked.Kind != "secret"
		state, isSecret := w.secrets[name]
		isSecret = isSecret && asked.Kind != "claim"
		switch {
		case isClaim && isSecret && claimed != name && state != theirs:
			return nil, fmt.Errorf("%s: %w: in namespace %s that is a Secret, and a claim that makes Secret %s; say secret/%s or claim/%s",
				asked.Name, ErrAsked, name.Namespace, claimed.Name, asked.Name, asked.Name)
		case isClaim:
			found[claimed] = true
		case isSecret && state == theirs:
			foreign = &name
		case isSecret:
			found[name] = true
		}
	}
	if len(found) == 0 {
		return nil, w.notThere(asked, foreign)
	}
	var changes []Change
	for name := range found {
		if known := w.keys[name]; asked.Key != "" && len(known) > 0 && !slices.Contains(known, asked.Key) {
			return nil, fmt.Errorf("%s:%s: %w: Secret %s has the keys %s alone", asked.Name, asked.Key, ErrAsked, name, strings.Join(known, ", "))
		}
		changes = append(changes, Change{Secret: name, Key: asked.Key})
	}
	slices.SortFunc(changes, func(a, b Change) int { return strings.Compare(a.String(), b.String()) })
	return changes, nil
}

// namesOf are the places at which something of that name could be, sorted.
func (w *World) namesOf(name string) []types.NamespacedName {
	places := map[types.NamespacedName]bool{}
	for place := range w.secrets {
		places[place] = places[place] || place.Name == name
	}
	for place := range w.claimed {
		places[place] = places[place] || place.Name == name
	}
	maps.DeleteFunc(places, func(_ types.NamespacedName, is bool) bool { return !is })
	return slices.SortedFunc(maps.Keys(places), func(a, b types.NamespacedName) int { return strings.Compare(a.String(), b.String()) })
}

func (w *World) notThere(asked Asked, foreign *types.NamespacedName) error {
	if foreign != nil {
		return fmt.Errorf("%s: %w: Secret %s is made by no claim and no SealedSecret, so nobody is restarted for it", asked.Name, ErrAsked, foreign)
	}
	const shown = 8
	var names []string
	for _, name := range w.ours() {
		names = append(names, name.String())
	}
	if len(names) == 0 {
		return fmt.Errorf("%s: %w: there is no claim and no SealedSecret %s", asked.Name, ErrAsked, w.where)
	}
	more := ""
	if len(names) > shown {
		more = fmt.Sprintf(" and %d more", len(names)-shown)
		names = names[:shown]
	}
	return fmt.Errorf("%s: %w: there is none of that name %s, but %s%s", asked.Name, ErrAsked, w.where, strings.Join(names, ", "), more)
}

// assume puts changes into facts: one more revision of each key, later than
// anything that a pod was started with.
func assume(facts *restart.Facts, namespace string, at time.Time, changes []Change) {
	for _, change := range changes {
		of, reads := facts.Targets[change.Secret.Name]
		if !reads || change.Secret.Namespace != namespace {
			continue
		}
		sequence := max(at.Unix(), of.Revisions.Sequence()+1)
		for _, pod := range facts.Pods {
			sequence = max(sequence, pod.Evidence.Of(change.Secret.Name)+1)
		}
		of.Revisions.Keys = maps.Clone(of.Revisions.Keys)
		if of.Revisions.Keys == nil {
			of.Revisions.Keys = map[string][]target.Revision{}
		}
		for _, key := range keysOf(*facts, change, of) {
			// No digest of a value looks like this, so it differs from each.
			of.Revisions.Keys[key] = slices.Insert(slices.Clone(of.Revisions.Keys[key]), 0, target.Revision{Digest: "changed", Sequence: sequence})
		}
		facts.Targets[change.Secret.Name] = of
	}
}

// keysOf a change: the one, or all that the Secret has now and that pods name.
func keysOf(facts restart.Facts, change Change, of restart.Target) []string {
	if change.Key != "" {
		return []string{change.Key}
	}
	keys := map[string]bool{}
	for key, revisions := range of.Revisions.Keys {
		if revisions[0].Digest != "" {
			keys[key] = true
		}
	}
	for _, pod := range facts.Pods {
		for key := range pod.Reads[change.Secret.Name].Names {
			keys[key] = true
		}
	}
	if len(keys) == 0 {
		keys[anyKey] = true
	}
	return slices.Sorted(maps.Keys(keys))
}

// readsOf are the Secrets among the changed ones that a workload's template
// reads.
func (w *World) readsOf(workload restart.Workload, changes []Change) []Touched {
	touched := []Touched{}
	for _, change := range changes {
		keys, reads := w.reads[workload][change.Secret.Name]
		if !reads || change.Secret.Namespace != workload.Namespace || change.Key != "" && !keys.Has(change.Key) {
			continue
		}
		one := Touched{Secret: change.Secret.Name, Claim: w.claimOf[change.Secret], Keys: slices.Sorted(maps.Keys(keys.Names))}
		switch {
		case change.Key != "":
			one.Keys = []string{change.Key}
		case keys.All:
			one.Keys = []string{anyKey}
		}
		touched = append(touched, one)
	}
	return touched
}
