package vault

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/privyseal/privyseal/providers"
)

var _ providers.Prober = (*Session)(nil)

// Probe implements providers.Prober: it asks for the capabilities that Write
// needs, which every token may that has the default policy.
//
// See https://developer.hashicorp.com/vault/api-docs/system/capabilities-self.
func (s *Session) Probe(ctx context.Context, ref providers.Ref) error {
	if ref.IsZero() {
		return fault(providers.ErrInvalid, 0, "there is no path")
	}
	_, err := withToken(ctx, s, func(held token) (struct{}, error) { return struct{}{}, s.probe(ctx, held, ref) })
	if err != nil {
		return fmt.Errorf("asking whether %s may be written: %w", ref, err)
	}
	return nil
}

func (s *Session) probe(ctx context.Context, held token, ref providers.Ref) error {
	path, err := s.writable(ctx, held, ref)
	if err != nil {
		return err
	}
	began := s.vault.now()
	has, err := s.vault.capabilities(ctx, held, path)
	s.vault.observe("probe", began, err)
	if err != nil {
		return err
	}
	var lacks []string
	for _, needed := range []string{"create", "update", "read"} {
		if !slices.Contains(has, needed) && !slices.Contains(has, "root") {
			lacks = append(lacks, needed)
		}
	}
	if len(lacks) > 0 {
		return fault(providers.ErrDenied, 0, fmt.Sprintf("the login's policies lack %s on %s", strings.Join(lacks, ", "), path))
	}
	return nil
}

// writable is where a document is written, if its engine can check that nobody
// writes at the same time.
func (s *Session) writable(ctx context.Context, held token, ref providers.Ref) (path string, err error) {
	at, err := s.find(ctx, held, ref, s.known)
	if err != nil {
		return "", err
	}
	rest, ok := at.rest(ref)
	if !ok {
		return "", fault(providers.ErrInvalid, 0, "the path lies in no mount") // unreachable
	}
	if at.engine != keyValue {
		return "", fault(providers.ErrInvalid, 0, "its mount is no key-value engine, and nothing else is written")
	}
	if at.version != 2 {
		return "", fault(providers.ErrInvalid, 0, "its mount is a key-value engine of version 1, which cannot check that nobody writes at the same time: upgrade it to version 2")
	}
	return at.path + "data/" + rest, nil
}

// capabilities of a token on a path, in the namespace that the path lies in.
func (v *Vault) capabilities(ctx context.Context, held token, path string) ([]string, error) {
	body, err := json.Marshal(map[string][]string{"paths": {path}})
	if err != nil {
		return nil, fault(providers.ErrInvalid, 0, "the path cannot be written as JSON") // unreachable: it is text
	}
	got, err := v.call(ctx, request{
		method: http.MethodPost, path: "sys/capabilities-self", namespace: v.namespace, token: held.value, body: body,
	})
	if err != nil {
		return nil, err
	}
	switch got.code {
	case http.StatusOK:
	case http.StatusForbidden:
		return nil, fault(providers.ErrDenied, got.code, "the login may not ask for its own capabilities, as the default policy allows")
	default:
		return nil, refused(got.code)
	}
	var answered struct {
		Data map[string][]string `json:"data"`
	}
	if err := json.Unmarshal(got.body, &answered); err != nil || answered.Data[path] == nil {
		return nil, errShape
	}
	return answered.Data[path], nil
}
