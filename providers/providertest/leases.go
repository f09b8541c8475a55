package providertest

import (
	"context"
	"errors"
	"testing"

	"github.com/privyseal/privyseal/providers"
)

func mayLease(t *testing.T, h Harness) providers.Ref {
	t.Helper()
	if h.Leaser == nil {
		t.Skip("this store leases nothing")
	}
	return h.Leased(t)
}

// mustIssue issues, and wants the token to have been kept before.
func mustIssue(t *testing.T, h Harness, ref providers.Ref) providers.Lease {
	t.Helper()
	before := h.Lives(t, ref)
	var kept providers.Value
	lease, err := h.Leaser.Issue(t.Context(), ref, func(_ context.Context, token providers.Value) error {
		if lives := h.Lives(t, ref); lives != before {
			t.Errorf("%d were made before the token was kept", lives-before)
		}
		kept = token.Clone()
		return nil
	})
	switch {
	case err != nil:
		t.Fatal(err)
	case !kept.Equal(lease.Token):
		t.Error("another token was kept than owns the lease")
	case lease.ID == "" || len(lease.Document.Values) == 0 || lease.Life <= 0 || lease.Max < lease.Life && lease.Max > 0:
		t.Errorf("lease %q has %d values, life %s, max %s", lease.ID, len(lease.Document.Values), lease.Life, lease.Max)
	case h.Lives(t, ref) != before+1:
		t.Errorf("%d live, and there were %d before", h.Lives(t, ref), before)
	}
	return lease
}

func issues(t *testing.T, h Harness) {
	ref := mayLease(t, h)
	mustFail(t, h.Reader, providers.Request{Ref: ref}, providers.ErrLeased)
	if lives := h.Lives(t, ref); lives != 0 {
		t.Errorf("a read made %d", lives)
	}
	one, other := mustIssue(t, h, ref), mustIssue(t, h, ref)
	for key, value := range one.Document.Values {
		if value.Equal(other.Document.Values[key]) {
			t.Errorf("two leases have the same %s", key)
		}
	}
	if one.ID == other.ID || one.Token.Equal(other.Token) {
		t.Error("two leases hang on one")
	}
}

func renewsAndRevokes(t *testing.T, h Harness) {
	ref := mayLease(t, h)
	one, other := mustIssue(t, h, ref), mustIssue(t, h, ref)
	life, err := h.Leaser.Renew(t.Context(), one.Token, one.ID)
	if err != nil || life <= 0 || life > one.Life {
		t.Errorf("renewed for %s, %v; it had %s", life, err, one.Life)
	}
	for range 2 { // the second finds it gone
		if err := h.Leaser.Revoke(t.Context(), one.Token); err != nil {
			t.Fatal(err)
		}
	}
	mustLive(t, h, ref, 1)
	if _, err := h.Leaser.Renew(t.Context(), one.Token, one.ID); !errors.Is(err, providers.ErrNotFound) {
		t.Errorf("renewing what was revoked: %v", err)
	}
	if _, err := h.Leaser.Renew(t.Context(), other.Token, other.ID); err != nil {
		t.Errorf("renewing the other: %v", err)
	}
}

// mustLive waits for this many: a store may end what hangs on a token after it
// has answered that the token is revoked.
func mustLive(t *testing.T, h Harness, ref providers.Ref, want int) {
	t.Helper()
	deadline, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	for lives := h.Lives(t, ref); lives != want; lives = h.Lives(t, ref) {
		if deadline.Err() != nil {
			t.Errorf("%d live, want %d", lives, want)
			return
		}
	}
}

func keepsFirst(t *testing.T, h Harness) {
	ref := mayLease(t, h)
	full := errors.New("there is no room")
	_, err := h.Leaser.Issue(t.Context(), ref, func(context.Context, providers.Value) error { return full })
	if !errors.Is(err, full) {
		t.Errorf("it ended with %v", err)
	}
	if lives := h.Lives(t, ref); lives != 0 {
		t.Errorf("%d were made", lives)
	}
}

func refusesIssues(t *testing.T, h Harness) {
	mayLease(t, h)
	plain := h.Ref("plain")
	h.Set(t, plain, map[string]any{"password": secret("plain")})
	mustNotIssue(t, h.Leaser, plain, providers.ErrInvalid)
	mustNotIssue(t, h.Leaser, providers.Ref{}, providers.ErrInvalid)
	if away, leases := h.Unavailable(t).(providers.Leaser); leases {
		mustNotIssue(t, away, h.Leased(t), providers.ErrUnavailable)
	}
}

func mustNotIssue(t *testing.T, leaser providers.Leaser, ref providers.Ref, fact error) {
	t.Helper()
	_, err := leaser.Issue(t.Context(), ref, func(context.Context, providers.Value) error { return nil })
	if !errors.Is(err, fact) {
		t.Errorf("issuing %s: %v, want %v", ref, err, fact)
	}
}
