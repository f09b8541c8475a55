package memory

import (
	"context"
	"fmt"
	"time"

	"github.com/privyseal/privyseal/providers"
)

var _ providers.Leaser = (*Store)(nil)

// Terms of the leases at a path.
type Terms struct {
	// Make gives the values of a lease, of which number is the first 1. Required.
	Make func(number int) map[string]any
	// Life and Max of a lease, in the sense of providers.Lease.
	Life, Max time.Duration
}

// lent is a lease that somebody has.
type lent struct {
	ref   providers.Ref
	id    string
	token string
	life  time.Duration
}

// Lend has documents of a path made for whoever asks. The store has no clock: a
// lease lives until it is revoked or ended.
func (s *Store) Lend(ref providers.Ref, terms Terms) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.terms == nil {
		s.terms = map[providers.Ref]Terms{}
	}
	s.terms[ref] = terms
}

// Issued is the number of leases that were made at a path so far.
func (s *Store) Issued(ref providers.Ref) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.issued[ref]
}

// Lent are the ids of a path's leases that live, in the order in which they were
// made.
func (s *Store) Lent(ref providers.Ref) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids []string
	for _, one := range s.lent {
		if one.ref == ref {
			ids = append(ids, one.id)
		}
	}
	return ids
}

// EndLease ends a lease, as a store does whose administrator revokes it.
func (s *Store) EndLease(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end(func(one lent) bool { return one.id == id })
}

// end leases. The lock is held.
func (s *Store) end(which func(lent) bool) {
	var left []lent
	for _, one := range s.lent {
		if !which(one) {
			left = append(left, one)
		}
	}
	s.lent = left
}

// Issue implements providers.Leaser.
func (s *Store) Issue(ctx context.Context, ref providers.Ref, keep func(context.Context, providers.Value) error) (providers.Lease, error) {
	lease, err := s.issue(ctx, ref, keep)
	if err != nil {
		return providers.Lease{}, fmt.Errorf("issuing %s: %w", ref, err)
	}
	return lease, nil
}

func (s *Store) issue(ctx context.Context, ref providers.Ref, keep func(context.Context, providers.Value) error) (providers.Lease, error) {
	if err := s.mayLend(ctx, ref); err != nil {
		return providers.Lease{}, err
	}
	token := s.newToken()
	if err := keep(ctx, providers.NewValue([]byte(token))); err != nil {
		return providers.Lease{}, err
	}
	if err := s.mayLend(ctx, ref); err != nil {
		return providers.Lease{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.issued == nil {
		s.issued = map[providers.Ref]int{}
	}
	s.issued[ref]++
	terms, number := s.terms[ref], s.issued[ref]
	one := lent{ref: ref, id: fmt.Sprintf("%s/%d", ref, number), token: token, life: terms.Life}
	s.lent = append(s.lent, one)
	document := providers.Document{Values: map[string]providers.Value{}}
	for key, value := range terms.Make(number) {
		document.Values[key] = providers.NewValue(encode(value))
	}
	return providers.Lease{
		Document: document, ID: one.id, Token: providers.NewValue([]byte(token)),
		Life: terms.Life, Max: terms.Max, Renewable: true,
	}, nil
}

func (s *Store) newToken() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens++
	return fmt.Sprintf("token-%d", s.tokens)
}

func (s *Store) mayLend(ctx context.Context, ref providers.Ref) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, lends := s.terms[ref]
	_, keeps := s.documents[ref]
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case s.fail != nil:
		return s.fail
	case ref.IsZero() || keeps:
		return providers.ErrInvalid
	case !lends:
		return providers.ErrNotFound
	}
	return nil
}

// Renew implements providers.Leaser.
func (s *Store) Renew(_ context.Context, token providers.Value, id string) (time.Duration, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return 0, fmt.Errorf("renewing: %w", s.fail)
	}
	for _, one := range s.lent {
		if one.id == id && one.token == string(token.Bytes()) {
			return one.life, nil
		}
	}
	return 0, fmt.Errorf("renewing: %w", providers.ErrNotFound)
}

// Revoke implements providers.Leaser.
func (s *Store) Revoke(_ context.Context, token providers.Value) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return fmt.Errorf("revoking: %w", s.fail)
	}
	s.end(func(one lent) bool { return one.token == string(token.Bytes()) })
	return nil
}
