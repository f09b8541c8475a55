package foreign

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"sync"

	"k8s.io/apimachinery/pkg/types"

	"github.com/privyseal/privyseal/broker/reloader"
	"github.com/privyseal/privyseal/broker/target"
)

// maxPage is what a ConfigMap takes (1 MiB), less some room for its metadata.
const maxPage = 960 << 10

// ErrFull: a namespace's record cannot hold the histories of all that is watched.
var ErrFull = errors.New("more is watched in the namespace than its record can hold")

// record is what is remembered of one object.
type record struct {
	// seen says of which version: its UID and resourceVersion.
	seen      string
	revisions target.Revisions
}

// page is what is remembered of one namespace.
type page struct {
	// writing is held by whoever writes the page.
	writing sync.Mutex

	mu      sync.Mutex
	loaded  bool
	version string // the ConfigMap's resourceVersion; "": there is none
	records map[Object]record
	next    *batch // nil: nobody waits
}

// batch of changes that are written together. A nil record is to be forgotten.
type batch struct {
	changes map[Object]*record
	done    bool
	err     error
}

type recordJSON struct {
	Seen      string          `json:"seen"`
	Revisions json.RawMessage `json:"revisions"`
}

// with are the page's records after some changes.
func (p *page) with(changes map[Object]*record) map[Object]record {
	p.mu.Lock()
	defer p.mu.Unlock()
	after := maps.Clone(p.records)
	if after == nil {
		after = map[Object]record{}
	}
	for object, change := range changes {
		if change == nil {
			delete(after, object)
		} else {
			after[object] = *change
		}
	}
	return after
}

// format writes records as the data of a ConfigMap. Where there are too many,
// histories are cut to what is in force; if that is too much still, the error
// wraps ErrFull.
func format(records map[Object]record) (map[string]string, error) {
	whole := func(r target.Revisions) target.Revisions { return r }
	for _, depth := range []func(target.Revisions) target.Revisions{whole, target.Revisions.Shortened} {
		data := formatted(records, depth)
		size := 0
		for _, text := range data {
			size += len(text)
		}
		if size <= maxPage {
			return data, nil
		}
	}
	return nil, fmt.Errorf("%w: %d Secrets and ConfigMaps; name fewer in annotation %s or %s, or exclude some", ErrFull,
		len(records), reloader.Secret.Reload(), reloader.ConfigMap.Reload())
}

func formatted(records map[Object]record, depth func(target.Revisions) target.Revisions) map[string]string {
	kinds := map[reloader.Kind]map[string]recordJSON{}
	for object, known := range records {
		if kinds[object.Kind] == nil {
			kinds[object.Kind] = map[string]recordJSON{}
		}
		kinds[object.Kind][object.Name] = recordJSON{known.seen, json.RawMessage(depth(known.revisions).String())}
	}
	data := map[string]string{}
	for kind, of := range kinds {
		text, err := json.Marshal(of)
		if err != nil {
			panic(err) // unreachable: strings, and JSON that was just made
		}
		data[string(kind)] = string(text)
	}
	return data
}

// parse reads what format writes. What somebody spoilt is not known any more;
// the error says what, and the rest is there without it.
func parse(namespace string, data map[string]string) (map[Object]record, error) {
	records := map[Object]record{}
	var problems []error
	for _, kind := range reloader.Kinds() {
		text, there := data[string(kind)]
		if !there {
			continue
		}
		var named map[string]recordJSON
		if err := json.Unmarshal([]byte(text), &named); err != nil {
			problems = append(problems, fmt.Errorf("reading %s: %w", kind, err))
			continue
		}
		for name, raw := range named {
			revisions, err := target.ParseRevisions(string(raw.Revisions))
			if err != nil {
				problems = append(problems, fmt.Errorf("reading %s: %w", Target(kind, name), err))
				continue
			}
			records[Object{kind, types.NamespacedName{Namespace: namespace, Name: name}}] = record{raw.Seen, revisions}
		}
	}
	return records, errors.Join(problems...)
}
