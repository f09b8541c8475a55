package vault

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"unicode/utf8"

	"github.com/privyseal/privyseal/providers"
)

var _ providers.Writer = (*Session)(nil)

// Write implements providers.Writer, for the key-value engine of version 2: with
// version 1 nothing tells that somebody else writes at the same time. It needs
// the capabilities read and create, update on the document's data.
//
// See https://developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2#create-update-secret.
func (s *Session) Write(ctx context.Context, change providers.Change) (version int64, err error) {
	if err := checkChange(change); err != nil {
		return 0, fmt.Errorf("writing %s: %w", change.Ref, err)
	}
	version, err = withToken(ctx, s, func(held token) (int64, error) { return s.write(ctx, held, change) })
	if err != nil {
		return 0, fmt.Errorf("writing %s: %w", change.Ref, err)
	}
	return version, nil
}

func checkChange(change providers.Change) error {
	switch {
	case change.Ref.IsZero():
		return fault(providers.ErrInvalid, 0, "there is no path")
	case change.From < 0:
		return fault(providers.ErrInvalid, 0, "a version is never negative")
	}
	for key, value := range change.Values {
		if change.JSON[key] && !json.Valid(value.Bytes()) {
			return fault(providers.ErrInvalid, 0, fmt.Sprintf("the value of %q is no JSON", key))
		}
		if !utf8.Valid(value.Bytes()) {
			return fault(providers.ErrInvalid, 0, fmt.Sprintf("the value of %q is no text in UTF-8, and the engine keeps nothing else: encode it", key))
		}
	}
	return nil
}

func (s *Session) write(ctx context.Context, held token, change providers.Change) (int64, error) {
	path, err := s.writable(ctx, held, change.Ref)
	if err != nil {
		return 0, err
	}
	at := request{path: path, namespace: s.vault.namespace, token: held.value}
	body, err := s.vault.changed(ctx, at, change)
	if err != nil {
		return 0, err
	}
	at.method, at.body = http.MethodPut, body
	began := s.vault.now()
	version, err := s.vault.put(ctx, at)
	s.vault.observe("write", began, err)
	return version, err
}

// changed is the body that writes the whole document, with the change in it. The
// engine checks the version again when it takes it.
func (v *Vault) changed(ctx context.Context, at request, change providers.Change) ([]byte, error) {
	at.method = http.MethodGet
	got, err := v.call(ctx, at)
	if err != nil {
		return nil, err
	}
	defer clear(got.body)
	raw, version, err := rawV2(got)
	defer wipe(raw)
	if err != nil && !errors.Is(err, providers.ErrNotFound) && !errors.Is(err, providers.ErrDeleted) {
		return nil, err
	}
	if raw == nil || err != nil { // there is none, or it was deleted
		raw = map[string]json.RawMessage{}
	}
	if version != change.From {
		return nil, fault(providers.ErrConflict, 0, fmt.Sprintf("it has version %d, and the change is one of version %d", version, change.From))
	}
	for _, key := range change.Remove {
		delete(raw, key)
	}
	for key, value := range change.Values {
		if change.JSON[key] {
			raw[key] = bytes.Clone(value.Bytes())
			continue
		}
		encoded, err := json.Marshal(text(value.Bytes()))
		if err != nil {
			return nil, fault(providers.ErrInvalid, 0, "a value cannot be written as JSON") // unreachable: it is text
		}
		raw[key] = encoded
	}
	return envelope(raw, change.From), nil
}

// MarshalText implements encoding.TextMarshaler.
func (t text) MarshalText() ([]byte, error) { return t, nil }

// envelope puts a document into the engine's own. It is put together by hand
// into one buffer, so that there is one copy to clear.
func envelope(raw map[string]json.RawMessage, from int64) []byte {
	size := 64
	for key, value := range raw {
		size += 6*len(key) + len(value) + 4
	}
	body := bytes.NewBuffer(make([]byte, 0, size))
	fmt.Fprintf(body, `{"options":{"cas":%d},"data":{`, from)
	first := true
	for key, value := range raw {
		if !first {
			body.WriteByte(',')
		}
		first = false
		name, _ := json.Marshal(key) // unreachable: a string always marshals
		body.Write(name)
		body.WriteByte(':')
		body.Write(value)
	}
	body.WriteString("}}")
	return body.Bytes()
}

// put sends a document, and reads which version it has become.
func (v *Vault) put(ctx context.Context, asked request) (int64, error) {
	got, err := v.call(ctx, asked)
	if err != nil {
		return 0, err
	}
	defer clear(got.body)
	switch {
	case got.code == http.StatusBadRequest && bytes.Contains(got.body, []byte("check-and-set")):
		return 0, fault(providers.ErrConflict, got.code, "somebody wrote it at the same time")
	case got.code == http.StatusForbidden:
		return 0, fault(providers.ErrDenied, got.code, "the login's policies do not let it write there: they need create, update and read on the document's data")
	case got.code != http.StatusOK:
		return 0, refused(got.code)
	}
	var written struct {
		Data struct {
			Version int64 `json:"version"`
		} `json:"data"`
	}
	if err := json.Unmarshal(got.body, &written); err != nil || written.Data.Version < 1 {
		return 0, errShape
	}
	return written.Data.Version, nil
}
