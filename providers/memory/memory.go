// Package memory is a store in memory, for tests and first steps. It tells the
// same facts as a real one, on demand: a document that is not there, that was
// deleted, that may not be read, and a store that does not answer.
//
// It keeps values unguarded and clears nothing: it is no place for a secret.
package memory

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"sync"
	"unicode/utf8"

	"github.com/privyseal/privyseal/providers"
)

// Store holds documents. Its zero value is empty and ready. It is safe for
// concurrent use.
type Store struct {
	mu        sync.Mutex
	documents map[providers.Ref]*history
	fail      error
	reads     int

	terms  map[providers.Ref]Terms
	issued map[providers.Ref]int
	lent   []lent
	tokens int
}

// history is the versions of a document, of which the first is 1.
type history struct {
	versions []version
	denied   bool
	readOnly bool
}

type version struct {
	values  map[string][]byte
	json    map[string]bool
	deleted bool
}

var (
	_ providers.Reader = (*Store)(nil)
	_ providers.Writer = (*Store)(nil)
	_ providers.Prober = (*Store)(nil)
)

// Set writes the next version of a document and returns its number. A string
// or []byte is kept as it is, anything else as its JSON; what has none panics.
func (s *Store) Set(ref providers.Ref, values map[string]any) int64 {
	next := version{values: make(map[string][]byte, len(values)), json: map[string]bool{}}
	for key, value := range values {
		next.values[key] = encode(value)
		if !isText(value) {
			next.json[key] = true
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.history(ref)
	h.versions = append(h.versions, next)
	return int64(len(h.versions))
}

// Delete removes a document with all its versions.
func (s *Store) Delete(ref providers.Ref) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.documents, ref)
}

// SoftDelete deletes the newest version of a document, which stays known.
func (s *Store) SoftDelete(ref providers.Ref) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h := s.history(ref); len(h.versions) > 0 {
		h.versions[len(h.versions)-1].deleted = true
	}
}

// Deny refuses every read of a path, whether there is a document or not.
func (s *Store) Deny(ref providers.Ref) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.history(ref).denied = true
}

// DenyWrites refuses every write to a path, which may still be read.
func (s *Store) DenyWrites(ref providers.Ref) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.history(ref).readOnly = true
}

// Fail makes every read and write fail with err, which should wrap one of the facts of
// package providers. Nil ends it.
func (s *Store) Fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = err
}

// Reads is the number of reads so far.
func (s *Store) Reads() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reads
}

// Read implements providers.Reader.
func (s *Store) Read(ctx context.Context, request providers.Request) (providers.Document, error) {
	document, err := s.read(ctx, request)
	if err != nil {
		return providers.Document{}, fmt.Errorf("reading %s: %w", request.Ref, err)
	}
	return document, nil
}

func (s *Store) read(ctx context.Context, request providers.Request) (providers.Document, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	h, ok := s.documents[request.Ref]
	switch {
	case ctx.Err() != nil:
		return providers.Document{}, ctx.Err()
	case s.fail != nil:
		return providers.Document{}, s.fail
	case request.Ref.IsZero() || request.Version < 0:
		return providers.Document{}, providers.ErrInvalid
	case s.terms[request.Ref].Make != nil:
		return providers.Document{}, providers.ErrLeased
	case ok && h.denied:
		return providers.Document{}, providers.ErrDenied
	case !ok || len(h.versions) == 0 || request.Version > int64(len(h.versions)):
		return providers.Document{}, providers.ErrNotFound
	}
	number := request.Version
	if number == 0 {
		number = int64(len(h.versions))
	}
	wanted := h.versions[number-1]
	if wanted.deleted {
		return providers.Document{}, providers.ErrDeleted
	}
	document := providers.Document{Values: make(map[string]providers.Value, len(wanted.values)), JSON: maps.Clone(wanted.json), Version: number}
	for key, value := range wanted.values {
		document.Values[key] = providers.NewValue(bytes.Clone(value))
	}
	return document, nil
}

// Write implements providers.Writer.
func (s *Store) Write(ctx context.Context, change providers.Change) (int64, error) {
	version, err := s.write(ctx, change)
	if err != nil {
		return 0, fmt.Errorf("writing %s: %w", change.Ref, err)
	}
	return version, nil
}

func (s *Store) write(ctx context.Context, change providers.Change) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := &history{}
	switch known, ok := s.documents[change.Ref]; {
	case ctx.Err() != nil:
		return 0, ctx.Err()
	case s.fail != nil:
		return 0, s.fail
	case change.Ref.IsZero() || change.From < 0:
		return 0, providers.ErrInvalid
	case ok:
		h = known
	}
	for key, value := range change.Values {
		if !utf8.Valid(value.Bytes()) || change.JSON[key] && !json.Valid(value.Bytes()) {
			return 0, providers.ErrInvalid
		}
	}
	switch {
	case h.denied, h.readOnly:
		return 0, providers.ErrDenied
	case int64(len(h.versions)) != change.From:
		return 0, providers.ErrConflict
	}
	next := version{values: map[string][]byte{}, json: map[string]bool{}}
	if last := len(h.versions) - 1; last >= 0 && !h.versions[last].deleted {
		maps.Copy(next.values, h.versions[last].values)
		maps.Copy(next.json, h.versions[last].json)
	}
	for _, key := range change.Remove {
		delete(next.values, key)
		delete(next.json, key)
	}
	for key, value := range change.Values {
		next.values[key] = bytes.Clone(value.Bytes())
		if delete(next.json, key); change.JSON[key] {
			next.json[key] = true
		}
	}
	h = s.history(change.Ref)
	h.versions = append(h.versions, next)
	return int64(len(h.versions)), nil
}

// Probe implements providers.Prober.
func (s *Store) Probe(ctx context.Context, ref providers.Ref) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	h, ok := s.documents[ref]
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case s.fail != nil:
		return s.fail
	case ok && (h.denied || h.readOnly):
		return fmt.Errorf("probing %s: %w", ref, providers.ErrDenied)
	}
	return nil
}

// history of a path, made if there is none. The lock is held.
func (s *Store) history(ref providers.Ref) *history {
	h, ok := s.documents[ref]
	if !ok {
		if s.documents == nil {
			s.documents = make(map[providers.Ref]*history)
		}
		h = &history{}
		s.documents[ref] = h
	}
	return h
}

func isText(value any) bool {
	switch value.(type) {
	case string, []byte:
		return true
	}
	return false
}

func encode(value any) []byte {
	switch value := value.(type) {
	case string:
		return []byte(value)
	case []byte:
		return bytes.Clone(value)
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		panic(fmt.Sprintf("memory: a %T has no JSON: %v", value, err))
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n"))
}
