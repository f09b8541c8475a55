package vault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/privyseal/privyseal/providers"
)

var _ providers.Leaser = (*Session)(nil)

// forever is more life, in seconds, than anything has: Vault gives what is left
// of the greatest age, and that is the one way to learn it that needs no right
// to read a role.
const forever = 10 * 365 * 24 * 60 * 60

// Issue implements providers.Leaser, for the database engine. The new token needs
// what the default policy allows: to look up, renew and revoke itself, and to
// renew and look up a lease.
//
// See https://developer.hashicorp.com/vault/docs/concepts/lease.
func (s *Session) Issue(ctx context.Context, ref providers.Ref, keep func(context.Context, providers.Value) error) (providers.Lease, error) {
	lease, err := s.issue(ctx, ref, keep)
	if err != nil {
		return providers.Lease{}, fmt.Errorf("issuing %s: %w", ref, err)
	}
	return lease, nil
}

func (s *Session) issue(ctx context.Context, ref providers.Ref, keep func(context.Context, providers.Value) error) (providers.Lease, error) {
	if ref.IsZero() {
		return providers.Lease{}, fault(providers.ErrInvalid, 0, "there is no path")
	}
	if _, shared := s.login.(Token); shared {
		return providers.Lease{}, fault(providers.ErrInvalid, 0,
			"a lease needs a token of its own, and spec.vault.auth.token has one for all: use another login")
	}
	owner, err := s.vault.logIn(ctx, s.login)
	if err != nil {
		return providers.Lease{}, err
	}
	lease, err := s.issueTo(ctx, owner, ref, keep)
	if err != nil {
		lease.Document.Clear()
		// Nobody may wait any longer, and the token is to end all the same.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.vault.timeout)
		defer cancel()
		_ = s.Revoke(ctx, owner.value) // it ends by itself where this does not end it
		owner.value.Clear()
		return providers.Lease{}, err
	}
	return lease, nil
}

// issueTo has a document made for a token. What speaks against it is looked for
// before, since the one who is to take it back has to be able to.
func (s *Session) issueTo(ctx context.Context, owner token, ref providers.Ref, keep func(context.Context, providers.Value) error) (lease providers.Lease, err error) {
	path, err := s.leased(ctx, owner, ref)
	if err != nil {
		return lease, err
	}
	most, err := s.vault.greatestAge(ctx, owner)
	if err != nil {
		return lease, err
	}
	if err := keep(ctx, owner.value); err != nil {
		return lease, fmt.Errorf("keeping its token: %w", err)
	}
	began := s.vault.now()
	lease, err = s.vault.make(ctx, request{method: http.MethodGet, path: path, namespace: s.vault.namespace, token: owner.value})
	s.vault.observe("issue", began, err)
	if err != nil {
		return lease, err
	}
	lease.Token, lease.Max = owner.value, lease.Life
	if lease.Renewable {
		if lease.Max, err = s.vault.prolong(ctx, owner.value, lease.ID, forever); err != nil {
			return lease, fmt.Errorf("asking for its greatest age: %w", err)
		}
		if lease.Life, err = s.vault.prolong(ctx, owner.value, lease.ID, 0); err != nil {
			return lease, fmt.Errorf("renewing it: %w", err)
		}
	}
	if most > 0 {
		lease.Max = min(lease.Max, most)
	}
	if owner.life > 0 {
		lease.Life = min(lease.Life, owner.life)
		lease.Renewable = lease.Renewable && owner.renewable
	}
	return lease, nil
}

// leased is where a document is made.
func (s *Session) leased(ctx context.Context, held token, ref providers.Ref) (path string, err error) {
	at, err := s.find(ctx, held, ref, s.known)
	if err != nil {
		return "", err
	}
	rest, _ := at.rest(ref)
	if at.engine == database {
		switch err = readDatabase(rest); {
		case errors.Is(err, providers.ErrLeased):
			return at.path + rest, nil
		case err != nil:
			return "", err
		}
		return "", fault(providers.ErrInvalid, 0, "a static role is read, and not leased")
	}
	return "", fault(providers.ErrInvalid, 0, "its mount leases nothing")
}

// Renew implements providers.Leaser.
func (s *Session) Renew(ctx context.Context, held providers.Value, id string) (time.Duration, error) {
	began := s.vault.now()
	life, err := s.vault.renewBoth(ctx, held, id)
	s.vault.observe("renew", began, err)
	if err != nil {
		return 0, fmt.Errorf("renewing a lease: %w", err)
	}
	return life, nil
}

// renewBoth: a token without an end needs no renewal, and says so.
func (v *Vault) renewBoth(ctx context.Context, held providers.Value, id string) (time.Duration, error) {
	own, err := v.itself(ctx, held)
	if err != nil {
		return 0, err
	}
	token := own.left()
	if own.Renewable && token > 0 {
		if token, err = v.prolongToken(ctx, held, 0); err != nil {
			return 0, err
		}
	}
	lease, err := v.prolong(ctx, held, id, 0)
	switch {
	case err != nil:
		return 0, err
	case token == 0:
		return lease, nil
	}
	return min(token, lease), nil
}

// Revoke implements providers.Leaser.
func (s *Session) Revoke(ctx context.Context, held providers.Value) error {
	began := s.vault.now()
	err := s.vault.revoke(ctx, held)
	s.vault.observe("revoke", began, err)
	if err != nil {
		return fmt.Errorf("revoking a lease's token: %w", err)
	}
	return nil
}

func (v *Vault) revoke(ctx context.Context, held providers.Value) error {
	got, err := v.call(ctx, request{method: http.MethodPost, path: "auth/token/revoke-self", namespace: v.authNamespace, token: held})
	switch {
	case err != nil:
		return err
	case got.code == http.StatusOK, got.code == http.StatusNoContent:
		return nil
	case got.code == http.StatusForbidden:
		if _, err := v.itself(ctx, held); errors.Is(err, providers.ErrNotFound) {
			return nil
		}
		return fault(providers.ErrDenied, got.code, "the token may not revoke itself, as the default policy allows")
	}
	return busy(got.code)
}

// self is what a token says of itself.
type self struct {
	Type        string `json:"type"`
	Renewable   bool   `json:"renewable"`
	TTL         int64  `json:"ttl"`              // 0: it has no end
	Period      int64  `json:"period"`           // > 0: each renewal gives that much
	ExplicitMax int64  `json:"explicit_max_ttl"` // > 0: its greatest age
	Created     int64  `json:"creation_time"`
}

func (s self) left() time.Duration { return time.Duration(s.TTL) * time.Second }

// itself looks a token up. ErrNotFound: it is no more, or was never allowed to
// ask, as the default policy allows.
func (v *Vault) itself(ctx context.Context, held providers.Value) (self, error) {
	got, err := v.call(ctx, request{method: http.MethodGet, path: "auth/token/lookup-self", namespace: v.authNamespace, token: held})
	if err != nil {
		return self{}, err
	}
	switch got.code {
	case http.StatusOK:
	case http.StatusForbidden:
		return self{}, fault(providers.ErrNotFound, got.code, "its token is no more")
	default:
		return self{}, busy(got.code)
	}
	var looked struct {
		Data self `json:"data"`
	}
	if err := json.Unmarshal(got.body, &looked); err != nil || looked.Data.Type == "" {
		return self{}, fault(providers.ErrUnavailable, got.code, notVault)
	}
	return looked.Data, nil
}

// greatestAge of a new token from now on; 0: it has none. It proves that the token
// may do what the owner of a lease has to.
func (v *Vault) greatestAge(ctx context.Context, owner token) (time.Duration, error) {
	own, err := v.itself(ctx, owner.value)
	switch {
	case errors.Is(err, providers.ErrNotFound):
		return 0, fault(providers.ErrDenied, 0, "the login's token may not look itself up: give its role the default policy")
	case err != nil:
		return 0, err
	case own.Type == "batch":
		return 0, fault(providers.ErrInvalid, 0,
			"the login gives batch tokens, which can neither be renewed nor revoked: set token_type of its role to service")
	}
	var explicit time.Duration
	if own.ExplicitMax > 0 {
		explicit = time.Duration(own.ExplicitMax) * time.Second
	}
	switch {
	case own.TTL == 0, own.Period > 0:
		return explicit, nil
	case !own.Renewable:
		return own.left(), nil
	}
	most, err := v.prolongToken(ctx, owner.value, forever)
	if err == nil {
		_, err = v.prolongToken(ctx, owner.value, 0)
	}
	if errors.Is(err, providers.ErrNotFound) {
		err = fault(providers.ErrDenied, 0, "the login's token may not renew itself: give its role the default policy")
	}
	return most, err
}

// prolongToken gives a token an increment of life, in seconds; 0: what its role
// says.
func (v *Vault) prolongToken(ctx context.Context, held providers.Value, increment int64) (time.Duration, error) {
	got, err := v.call(ctx, request{
		method: http.MethodPost, path: "auth/token/renew-self", namespace: v.authNamespace, token: held,
		body: fmt.Appendf(nil, `{"increment":%d}`, increment),
	})
	if err != nil {
		return 0, err
	}
	defer clear(got.body)
	switch got.code {
	case http.StatusOK:
	case http.StatusForbidden, http.StatusBadRequest, http.StatusNotFound:
		return 0, fault(providers.ErrNotFound, got.code, "its token is no more")
	default:
		return 0, busy(got.code)
	}
	var renewal struct {
		Auth struct {
			LeaseDuration int64 `json:"lease_duration"`
		} `json:"auth"`
	}
	if err := json.Unmarshal(got.body, &renewal); err != nil || renewal.Auth.LeaseDuration < 0 {
		return 0, fault(providers.ErrUnavailable, got.code, notVault)
	}
	return time.Duration(renewal.Auth.LeaseDuration) * time.Second, nil
}

// prolong gives a lease an increment of life, in seconds; 0: what its role says.
// Vault answers 400 for a lease that is no more and for a database that is away,
// so then the lease is looked up.
//
// See https://developer.hashicorp.com/vault/api-docs/system/leases.
func (v *Vault) prolong(ctx context.Context, held providers.Value, id string, increment int64) (time.Duration, error) {
	got, err := v.onLease(ctx, held, "sys/leases/renew", map[string]any{"lease_id": id, "increment": increment})
	if err != nil {
		return 0, err
	}
	switch got.code {
	case http.StatusOK:
	case http.StatusBadRequest, http.StatusNotFound:
		return 0, v.whyNot(ctx, held, id, got.code)
	case http.StatusForbidden:
		return 0, fault(providers.ErrDenied, got.code, "the token may not renew a lease, as the default policy allows")
	default:
		return 0, busy(got.code)
	}
	var renewal struct {
		LeaseDuration int64 `json:"lease_duration"`
	}
	if err := json.Unmarshal(got.body, &renewal); err != nil || renewal.LeaseDuration <= 0 {
		return 0, fault(providers.ErrUnavailable, got.code, notVault)
	}
	return time.Duration(renewal.LeaseDuration) * time.Second, nil
}

// whyNot says why a lease was not renewed.
func (v *Vault) whyNot(ctx context.Context, held providers.Value, id string, code int) error {
	got, err := v.onLease(ctx, held, "sys/leases/lookup", map[string]any{"lease_id": id})
	switch {
	case err != nil:
		return err
	case got.code == http.StatusBadRequest, got.code == http.StatusNotFound:
		return fault(providers.ErrNotFound, got.code, "the lease is no more")
	}
	return fault(providers.ErrUnavailable, code, "the lease is there and was not renewed: is the database up? See Vault's log")
}

// onLease asks something about a lease, in the namespace of its engine.
func (v *Vault) onLease(ctx context.Context, held providers.Value, path string, body map[string]any) (answer, error) {
	encoded, err := json.Marshal(body)
	if err != nil {
		return answer{}, fault(providers.ErrInvalid, 0, "the lease's id cannot be written as JSON") // unreachable: it is text
	}
	return v.call(ctx, request{method: http.MethodPut, path: path, namespace: v.namespace, token: held, body: encoded})
}

// make has an engine make a document.
func (v *Vault) make(ctx context.Context, asked request) (providers.Lease, error) {
	got, err := v.call(ctx, asked)
	if err != nil {
		return providers.Lease{}, err
	}
	defer clear(got.body)
	return parseLease(got)
}

// parseLease is the answer of an engine that made something.
func parseLease(got answer) (providers.Lease, error) {
	switch got.code {
	case http.StatusOK:
	case http.StatusBadRequest, http.StatusNotFound:
		return providers.Lease{}, fault(providers.ErrNotFound, got.code, "the engine has no such role: check the path")
	default:
		return providers.Lease{}, refused(got.code)
	}
	var envelope struct {
		LeaseID       string                     `json:"lease_id"`
		LeaseDuration int64                      `json:"lease_duration"`
		Renewable     bool                       `json:"renewable"`
		Data          map[string]json.RawMessage `json:"data"`
	}
	defer func() { wipe(envelope.Data) }()
	err := json.Unmarshal(got.body, &envelope)
	if err != nil || envelope.Data == nil || strings.TrimSpace(envelope.LeaseID) == "" || envelope.LeaseDuration <= 0 {
		return providers.Lease{}, errShape
	}
	document, err := newDocument(envelope.Data, 0)
	if err != nil {
		return providers.Lease{}, err
	}
	return providers.Lease{
		Document: document, ID: envelope.LeaseID, Renewable: envelope.Renewable,
		Life: time.Duration(envelope.LeaseDuration) * time.Second,
	}, nil
}
