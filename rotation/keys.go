package rotation

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/privyseal/privyseal/providers"
)

// previous is what a key's name ends with that holds the value before, with
// strategy Overlap.
const previous = "_previous"

// PreviousKey is the key under which the value before of another is kept.
func PreviousKey(key string) string { return key + previous }

// IsPreviousKey says whether a key's name is one under which the value before of
// another is kept. That it changes, comes or goes concerns nobody who has the value
// itself.
func IsPreviousKey(key string) bool { return strings.HasSuffix(key, previous) }

// Users of strategy AlternateUsers.
type Users struct {
	// Key that has the name of the user who is in use.
	Key string
	// Names of the two.
	Names [2]string
}

// Change is what a rotation makes of the keys that it owns. A key that is not
// there has no entry.
type Change struct {
	// Keys that it owns, sorted.
	Keys []string
	// Before and After are their values.
	Before, After map[string]providers.Value
	// JSONBefore and JSONAfter are those of the keys whose values are no text in the
	// store, but what their JSON says: the old ones alone, since new ones are text.
	JSONBefore, JSONAfter map[string]bool
}

// Change says what becomes of a document's keys when they get new values. Users
// are for strategy AlternateUsers alone. The result shares its values with what
// it was made from. Errors wrap ErrPlan, and name keys only.
func (p Plan) Change(document providers.Document, values map[string]providers.Value, users Users) (Change, error) {
	if len(values) == 0 {
		return Change{}, fmt.Errorf("generate: %w: it makes no key", ErrPlan)
	}
	c := Change{Before: map[string]providers.Value{}, After: maps.Clone(values),
		JSONBefore: map[string]bool{}, JSONAfter: map[string]bool{}}
	switch p.Strategy {
	case Overlap:
		for key := range values {
			kept := PreviousKey(key)
			if _, taken := values[kept]; taken {
				return Change{}, fmt.Errorf("generate: %w: key %q is where the value before of %q is kept", ErrPlan, kept, key)
			}
			if old, there := document.Values[key]; there {
				c.After[kept] = old
				mark(c.JSONAfter, kept, document.JSON[key])
			}
		}
	case AlternateUsers:
		other, err := users.other(document.Values)
		if err != nil {
			return Change{}, err
		}
		if _, taken := values[users.Key]; taken {
			return Change{}, fmt.Errorf("generate: %w: key %q is the user's name", ErrPlan, users.Key)
		}
		c.After[users.Key] = providers.NewValue([]byte(other))
	}
	c.Keys = slices.Sorted(maps.Keys(c.After))
	for _, key := range c.Keys {
		if old, there := document.Values[key]; there {
			c.Before[key] = old
			mark(c.JSONBefore, key, document.JSON[key])
		}
	}
	return c, nil
}

func mark(keys map[string]bool, key string, is bool) {
	if is {
		keys[key] = true
	}
}

// Previous are the keys that have values before, sorted.
func (c Change) Previous() []string {
	var kept []string
	for _, key := range c.Keys {
		if of, is := strings.CutSuffix(key, previous); is {
			if _, there := c.After[of]; there {
				kept = append(kept, key)
			}
		}
	}
	return kept
}

// other is the user who is not in use.
func (u Users) other(document map[string]providers.Value) (string, error) {
	if u.Names[0] == "" || u.Names[1] == "" || u.Names[0] == u.Names[1] {
		return "", fmt.Errorf("users.names: %w: want two names", ErrPlan)
	}
	switch current := document[u.Key]; {
	case current.Equal(providers.NewValue([]byte(u.Names[0]))):
		return u.Names[1], nil
	case current.Equal(providers.NewValue([]byte(u.Names[1]))):
		return u.Names[0], nil
	}
	return "", fmt.Errorf("users.key %q: %w: the document has neither of the two names there", u.Key, ErrPlan)
}

// Held is what the keys of the change have in a document.
func (c Change) Held(document map[string]providers.Value) Holds {
	switch {
	case c.has(document, c.After):
		return New
	case c.has(document, c.Before):
		return Old
	}
	return Other
}

func (c Change) has(document, values map[string]providers.Value) bool {
	for _, key := range c.Keys {
		is, there := document[key]
		want, wanted := values[key]
		if there != wanted || !is.Equal(want) {
			return false
		}
	}
	return true
}

// Forward is a document with the new values of the change's keys, and Back one
// with the old ones. All other keys stay.
func (c Change) Forward(document map[string]providers.Value) map[string]providers.Value {
	return c.with(document, c.After)
}

// Back is a document with the old values of the change's keys.
func (c Change) Back(document map[string]providers.Value) map[string]providers.Value {
	return c.with(document, c.Before)
}

func (c Change) with(document, values map[string]providers.Value) map[string]providers.Value {
	changed := maps.Clone(document)
	if changed == nil {
		changed = map[string]providers.Value{}
	}
	for _, key := range c.Keys {
		delete(changed, key)
		if value, there := values[key]; there {
			changed[key] = value
		}
	}
	return changed
}
