package vault

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/privyseal/privyseal/providers"
)

var _ providers.Rotator = (*Session)(nil)

// told is where an engine is told to rotate.
func told(engine providers.Engine) string {
	if engine.Kind == providers.RotateKey {
		return engine.String() + "/rotate"
	}
	return engine.String()
}

// Turn implements providers.Rotator: a static role says when it was rotated, in
// microseconds of Unix time, and a key of transit how many versions it has. Of a
// database's own user nothing is said.
//
// See https://developer.hashicorp.com/vault/api-docs/secret/databases#get-static-credentials
// and https://developer.hashicorp.com/vault/api-docs/secret/transit#read-key.
func (s *Session) Turn(ctx context.Context, engine providers.Engine) (int64, error) {
	if engine.Kind == providers.RotateRoot {
		return 0, nil
	}
	turn, err := withToken(ctx, s, func(held token) (int64, error) { return s.turn(ctx, held, engine) })
	if err != nil {
		return 0, fmt.Errorf("asking when %s was rotated: %w", engine, err)
	}
	return turn, nil
}

func (s *Session) turn(ctx context.Context, held token, engine providers.Engine) (int64, error) {
	parse := parseStatic
	if engine.Kind == providers.RotateKey {
		parse = parseKey
	}
	began := s.vault.now()
	document, err := s.vault.fetch(ctx, request{
		method: http.MethodGet, path: engine.Shows(), namespace: s.vault.namespace, token: held.value,
	}, parse)
	s.vault.observe("read", began, err)
	defer document.Clear()
	return document.Version, err
}

// Rotate implements providers.Rotator.
func (s *Session) Rotate(ctx context.Context, engine providers.Engine) error {
	_, err := withToken(ctx, s, func(held token) (struct{}, error) { return struct{}{}, s.rotate(ctx, held, engine) })
	if err != nil {
		return fmt.Errorf("rotating %s: %w", engine, err)
	}
	return nil
}

func (s *Session) rotate(ctx context.Context, held token, engine providers.Engine) error {
	began := s.vault.now()
	got, err := s.vault.call(ctx, request{
		method: http.MethodPost, path: told(engine), namespace: s.vault.namespace, token: held.value, body: []byte("{}"),
	})
	if err == nil {
		defer clear(got.body)
		err = rotated(got)
	}
	s.vault.observe("rotate", began, err)
	return err
}

func rotated(got answer) error {
	switch got.code {
	case http.StatusOK, http.StatusNoContent:
		return nil
	case http.StatusBadRequest:
		return fault(providers.ErrNotFound, got.code, "there is no such role, connection or key, or it cannot be rotated: see the engine's configuration")
	case http.StatusForbidden:
		return fault(providers.ErrDenied, got.code, "the login's policies lack update on it")
	}
	return refused(got.code)
}

// Rotatable implements providers.Rotator.
func (s *Session) Rotatable(ctx context.Context, engine providers.Engine) error {
	needs := map[string]string{told(engine): "update"}
	if engine.Kind != providers.RotateRoot {
		needs[engine.Shows()] = "read"
	}
	_, err := withToken(ctx, s, func(held token) (struct{}, error) { return struct{}{}, s.rotatable(ctx, held, needs) })
	if err != nil {
		return fmt.Errorf("asking whether %s may be rotated: %w", engine, err)
	}
	return nil
}

func (s *Session) rotatable(ctx context.Context, held token, needs map[string]string) error {
	var lacks []string
	for path, needed := range needs {
		began := s.vault.now()
		has, err := s.vault.capabilities(ctx, held, path)
		s.vault.observe("probe", began, err)
		if err != nil {
			return err
		}
		if !slices.Contains(has, needed) && !slices.Contains(has, "root") {
			lacks = append(lacks, needed+" on "+path)
		}
	}
	if len(lacks) == 0 {
		return nil
	}
	slices.Sort(lacks)
	return fault(providers.ErrDenied, 0, "the login's policies lack "+strings.Join(lacks, ", and "))
}

// aboutStatic is what is said of a static role beside its credentials: it changes
// with each look, or says how Vault rotates it by itself.
var aboutStatic = []string{"ttl", "last_vault_rotation", "rotation_period", "rotation_schedule", "rotation_window"}

// parseStatic is the answer of the database engine at static-creds/<role>. Its
// version is when the role was rotated.
func parseStatic(got answer) (providers.Document, error) {
	switch {
	case got.code == http.StatusBadRequest && bytes.Contains(got.body, []byte("unknown role")):
		return providers.Document{}, fault(providers.ErrNotFound, got.code, "there is no such static role: check the path")
	case got.code != http.StatusOK:
		return providers.Document{}, refused(got.code)
	}
	var envelope struct {
		Data map[string]json.RawMessage `json:"data"`
	}
	defer func() { wipe(envelope.Data) }()
	var last time.Time
	if err := json.Unmarshal(got.body, &envelope); err != nil || json.Unmarshal(envelope.Data["last_vault_rotation"], &last) != nil {
		return providers.Document{}, errShape
	}
	for _, key := range aboutStatic {
		delete(envelope.Data, key)
	}
	return newDocument(envelope.Data, last.UnixMicro())
}

// parseKey is the answer of the transit engine at keys/<name>, of which the number of
// the latest version is all that is wanted.
func parseKey(got answer) (providers.Document, error) {
	if got.code != http.StatusOK {
		return providers.Document{}, refused(got.code)
	}
	var envelope struct {
		Data struct {
			Latest int64 `json:"latest_version"`
		} `json:"data"`
	}
	if err := json.Unmarshal(got.body, &envelope); err != nil || envelope.Data.Latest < 1 {
		return providers.Document{}, errShape
	}
	return providers.Document{Version: envelope.Data.Latest}, nil
}
