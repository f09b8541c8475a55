package claim

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// Stance is how a claim stands to a document, for people who ask before it changes.
type Stance struct {
	// Reads: one of its sources is the document.
	Reads bool
	// Stays says why its Secret stays as it is though the document changes; empty:
	// it follows.
	Stays string
	// Keys of the Secret that change with it, sorted; none where that is not known.
	Keys []string
}

// Stance of a claim to a document of which these keys get new values. A claim that is
// refused reads nothing.
func (g Gatherer) Stance(ctx context.Context, claim *v1alpha1.SecretClaim, place Place, keys []string) (Stance, error) {
	gathered, err := g.gather(ctx, claim)
	if err != nil {
		return Stance{}, err
	}
	planned, err := resolve(gathered)
	var refusal *Refusal
	switch {
	case errors.As(err, &refusal):
		return Stance{}, nil
	case err != nil:
		return Stance{}, err
	case !planned.store.Same(place.Store):
		return Stance{}, nil
	}
	found := Stance{}
	changed := map[string]bool{}
	pinned := int64(0)
	for i, request := range planned.requests {
		switch {
		case request.Ref != place.Ref:
		case request.Version != 0:
			found.Reads, pinned = true, request.Version
		default:
			found.Reads = true
			for key := range targetKeys(claim.Spec.Sources[i], keys) {
				changed[key] = true
			}
		}
	}
	found.Stays = stays(claim, pinned, len(changed) > 0)
	if template := claim.Spec.Template; template != nil && len(template.Data) > 0 && len(changed) > 0 {
		changed = map[string]bool{}
		for key := range template.Data { // what each is made of is not looked at
			changed[key] = true
		}
	}
	if found.Stays == "" {
		found.Keys = slices.Sorted(maps.Keys(changed))
	}
	return found, nil
}

// stays says why a claim that reads a document does not follow it.
func stays(claim *v1alpha1.SecretClaim, pinned int64, changes bool) string {
	switch {
	case once(claim):
		return "spec.refresh.policy Once: it is read but once"
	case !changes && pinned != 0:
		return fmt.Sprintf("it pins version %d", pinned)
	case !changes:
		return "it takes none of the keys"
	}
	return ""
}

// targetKeys are the keys of a Secret that a source makes of these keys of its
// document.
func targetKeys(source v1alpha1.Source, keys []string) map[string]bool {
	made := map[string]bool{}
	for _, key := range keys {
		if len(source.Keys) == 0 {
			made[source.Prefix+key] = true
		}
		for _, taken := range source.Keys {
			switch {
			case taken.Pointer != "" && pointsInto(taken.Pointer, key):
				made[source.Prefix+taken.To] = true
			case taken.Pointer == "" && taken.From == key && taken.To != "":
				made[source.Prefix+taken.To] = true
			case taken.Pointer == "" && taken.From == key:
				made[source.Prefix+taken.From] = true
			}
		}
	}
	return made
}

// pointsInto says whether a JSON pointer begins with a key of the document.
func pointsInto(pointer, key string) bool {
	first, _, _ := strings.Cut(strings.TrimPrefix(pointer, "/"), "/")
	return strings.NewReplacer("~1", "/", "~0", "~").Replace(first) == key
}
