package target

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// historyDepth is how many contents of a key are remembered. A pod that has
// outlived more changes than that is stale whatever the oldest was.
const historyDepth = 4

// Revision is one content that a key of a target had.
type Revision struct {
	// Digest is the keyed digest of the value; "" says that the key was gone.
	Digest string
	// Sequence at which it came into force.
	Sequence int64
}

// Revisions is the history of a target's content, key by key, newest first.
// It is stored on the target itself, in annotation privyseal.io/revisions, in
// the same request that writes the data, so the two cannot disagree:
//
//	{"kid":"k1-d0c4b1e7","keys":{"password":[["9f3c…",1763800000],["77ab…",0]]}}
type Revisions struct {
	// KID names the install key of the newest digests.
	KID string
	// Keys holds each key's contents, newest first, at most historyDepth.
	Keys map[string][]Revision
}

// ErrRevisions: the annotation is not in the format that Privyseal writes.
var ErrRevisions = errors.New("malformed revisions annotation")

type revisionsJSON struct {
	KID  string              `json:"kid"`
	Keys map[string][][2]any `json:"keys"`
}

// ParseRevisions reads the annotation. Errors wrap ErrRevisions.
func ParseRevisions(annotation string) (Revisions, error) {
	var raw struct {
		KID  string                          `json:"kid"`
		Keys map[string][][2]json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal([]byte(annotation), &raw); err != nil {
		return Revisions{}, fmt.Errorf("%w: %w", ErrRevisions, err)
	}
	revisions := Revisions{KID: raw.KID, Keys: make(map[string][]Revision, len(raw.Keys))}
	for key, entries := range raw.Keys {
		if len(entries) == 0 || len(entries) > historyDepth {
			return Revisions{}, fmt.Errorf("%w: key %q has %d entries", ErrRevisions, key, len(entries))
		}
		for _, entry := range entries {
			var revision Revision
			err := errors.Join(
				json.Unmarshal(entry[0], &revision.Digest),
				json.Unmarshal(entry[1], &revision.Sequence))
			if err != nil {
				return Revisions{}, fmt.Errorf("%w: key %q: %w", ErrRevisions, key, err)
			}
			revisions.Keys[key] = append(revisions.Keys[key], revision)
		}
	}
	return revisions, nil
}

// String is the annotation's text.
func (r Revisions) String() string {
	raw := revisionsJSON{KID: r.KID, Keys: make(map[string][][2]any, len(r.Keys))}
	for key, entries := range r.Keys {
		for _, entry := range entries {
			raw.Keys[key] = append(raw.Keys[key], [2]any{entry.Digest, entry.Sequence})
		}
	}
	text, err := json.Marshal(raw)
	if err != nil {
		panic(err) // unreachable: strings and integers always marshal
	}
	return string(text)
}

// Sequence is that of the last content change; 0 for a target that still has
// its first content.
func (r Revisions) Sequence() int64 {
	var latest int64
	for _, entries := range r.Keys {
		latest = max(latest, entries[0].Sequence)
	}
	return latest
}

// StaleKeys are the keys, among those that reads accepts, whose content now is
// not the one in force at the sequence evidence, sorted. A → B → A leaves
// nothing stale that was started under A.
func (r Revisions) StaleKeys(evidence int64, reads func(key string) bool) []string {
	var stale []string
	for key, entries := range r.Keys {
		if reads(key) && digestAt(entries, evidence) != entries[0].Digest {
			stale = append(stale, key)
		}
	}
	slices.Sort(stale)
	return stale
}

// ChangedSince says whether one of the keys that reads accepts came to have another
// content after the sequence evidence, and up to another sequence. Where the history
// does not reach back so far, it did.
func (r Revisions) ChangedSince(evidence, until int64, reads func(key string) bool) bool {
	for key, entries := range r.Keys {
		if !reads(key) {
			continue
		}
		oldest := entries[len(entries)-1].Sequence
		if len(entries) == historyDepth && oldest > evidence && oldest > until {
			return true
		}
		for _, entry := range entries {
			if entry.Sequence > evidence && entry.Sequence <= until {
				return true
			}
		}
	}
	return false
}

// digestAt is the digest in force at a sequence, or "" where the key was not
// there yet or the history does not reach back so far. Both differ from any
// content the key has now.
func digestAt(entries []Revision, sequence int64) string {
	for _, entry := range entries {
		if entry.Sequence <= sequence {
			return entry.Digest
		}
	}
	return ""
}

// digests of a target's keys under one install key.
type digests map[string]string

// holds says whether the newest contents are exactly these digests.
func (r Revisions) holds(wanted digests) bool {
	for key, entries := range r.Keys {
		if entries[0].Digest != wanted[key] {
			return false
		}
	}
	for key := range wanted {
		if _, known := r.Keys[key]; !known {
			return false
		}
	}
	return true
}

// first is the history of a target that is created now, with every key in
// force since the sequence given.
func first(kid string, content digests, sequence int64) Revisions {
	revisions := Revisions{KID: kid, Keys: make(map[string][]Revision, len(content))}
	for key, digest := range content {
		revisions.Keys[key] = []Revision{{Digest: digest, Sequence: sequence}}
	}
	return revisions
}

// advance is the history after the content becomes wanted. Keys whose digest
// is the newest already keep their entries; if none differs, no sequence is
// used up. now is in Unix seconds.
func (r Revisions) advance(wanted digests, now int64) Revisions {
	sequence := max(r.Sequence()+1, now)
	next := Revisions{KID: r.KID, Keys: maps.Clone(r.Keys)}
	if next.Keys == nil {
		next.Keys = map[string][]Revision{}
	}
	keys := slices.Concat(slices.Collect(maps.Keys(r.Keys)), slices.Collect(maps.Keys(wanted)))
	slices.Sort(keys)
	for _, key := range slices.Compact(keys) {
		entries := r.Keys[key]
		if len(entries) > 0 && entries[0].Digest == wanted[key] {
			continue
		}
		entries = slices.Insert(slices.Clone(entries), 0, Revision{Digest: wanted[key], Sequence: sequence})
		next.Keys[key] = entries[:min(len(entries), historyDepth)]
	}
	return next
}

// rekeyed is the same history under another install key: each key's newest
// digest is renewed wherever it stands, and digests of older values stay as
// marks that differ from it. Nothing changed, so no sequence moves and nobody
// is restarted.
func (r Revisions) rekeyed(kid string, renew func(key, newest string) string) Revisions {
	next := Revisions{KID: kid, Keys: make(map[string][]Revision, len(r.Keys))}
	for key, entries := range r.Keys {
		newest := entries[0].Digest
		renewed := slices.Clone(entries)
		for i, entry := range renewed {
			if entry.Digest == newest && newest != "" {
				renewed[i].Digest = renew(key, newest)
			}
		}
		next.Keys[key] = renewed
	}
	return next
}
