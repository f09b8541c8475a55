package store

import (
	"context"
	"time"

	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/providers"
	"github.com/privyseal/privyseal/providers/vault"
)

// Issue has a document made for a tenant, by a login of its own. Errors are those of
// a providers.Leaser.
func (c *Connections) Issue(ctx context.Context, store v1alpha1.Store, as providers.Identity, ref providers.Ref, keep func(context.Context, providers.Value) error) (providers.Lease, error) {
	return within(ctx, c, store, as, func(session *vault.Session) (providers.Lease, error) {
		return session.Issue(ctx, ref, keep)
	})
}

// Renew gives a lease more life, as whoever has its token. Errors are those of a
// providers.Leaser.
func (c *Connections) Renew(ctx context.Context, store v1alpha1.Store, as providers.Identity, token providers.Value, id string) (time.Duration, error) {
	return within(ctx, c, store, as, func(session *vault.Session) (time.Duration, error) {
		return session.Renew(ctx, token, id)
	})
}

// Revoke ends a lease by its token. Errors are those of a providers.Leaser.
func (c *Connections) Revoke(ctx context.Context, store v1alpha1.Store, as providers.Identity, token providers.Value) error {
	_, err := within(ctx, c, store, as, func(session *vault.Session) (struct{}, error) {
		return struct{}{}, session.Revoke(ctx, token)
	})
	return err
}
