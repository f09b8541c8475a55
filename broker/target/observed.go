package target

import (
	"cmp"
	"maps"
	"slices"

	"github.com/privyseal/privyseal/broker/installkey"
)

// maxGone is how many keys are remembered that a content of others had once.
// Nobody bounds how often they take other names.
const maxGone = 32

// Observed is a content that others write, and that is watched for changes.
type Observed struct {
	// Namespace and Name of what holds it. Digests are bound to them, and no two
	// things in a namespace may have one name.
	Namespace, Name string
	// Data is the content, which is digested and not kept.
	Data map[string][]byte
}

// Observe is the history of a content of others after another look at it; the
// zero value before the first. What was there at the first look is no change:
// it has sequence 0. A history under a key that is lost is made anew from the
// content, since nobody knows whether it changed; keys that come or go are seen
// even then. now is in Unix seconds.
//
// If nothing changed, the history is the same, under whichever known key.
func (r Revisions) Observe(ring *installkey.Keyring, content Observed, now int64) Revisions {
	digest := digester{ring: ring, namespace: content.Namespace, name: content.Name}
	current := ring.Current()
	if r.Keys == nil {
		return first(current, digest.live(current, content.Data), 0)
	}
	if ring.Knows(r.KID) && r.holds(digest.live(r.KID, content.Data)) {
		return r
	}
	if old := r.KID; old != current {
		r = r.rekeyed(current, func(key, newest string) string {
			value, there := content.Data[key]
			if !there || ring.Knows(old) && digest.one(old, key, value) != newest {
				return newest // differs from what is there now, which is all it has to do
			}
			return digest.one(current, key, value)
		})
	}
	return r.advance(digest.live(current, content.Data), now).withoutLongGone()
}

// withoutLongGone forgets keys that are gone, those first that went first.
func (r Revisions) withoutLongGone() Revisions {
	var gone []string
	for key, entries := range r.Keys {
		if entries[0].Digest == "" {
			gone = append(gone, key)
		}
	}
	if len(gone) <= maxGone {
		return r
	}
	slices.SortFunc(gone, func(a, b string) int {
		return cmp.Or(cmp.Compare(r.Keys[b][0].Sequence, r.Keys[a][0].Sequence), cmp.Compare(a, b))
	})
	kept := Revisions{KID: r.KID, Keys: maps.Clone(r.Keys)}
	for _, key := range gone[maxGone:] {
		delete(kept.Keys, key)
	}
	return kept
}

// Shortened is the history without what was before: no pod that was started
// before a key's last change is known to hold what it has now.
func (r Revisions) Shortened() Revisions {
	short := Revisions{KID: r.KID, Keys: make(map[string][]Revision, len(r.Keys))}
	for key, entries := range r.Keys {
		short.Keys[key] = entries[:1]
	}
	return short
}
