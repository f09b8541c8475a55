package store

import (
	"context"

	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/providers"
	"github.com/privyseal/privyseal/providers/vault"
)

// Turn says how often an engine was rotated, or when, as a tenant. Errors are those of
// a providers.Rotator.
func (c *Connections) Turn(ctx context.Context, store v1alpha1.Store, as providers.Identity, engine providers.Engine) (int64, error) {
	return within(ctx, c, store, as, func(session *vault.Session) (int64, error) {
		return session.Turn(ctx, engine)
	})
}

// Rotate has an engine make a new value, as a tenant. Errors are those of a
// providers.Rotator.
func (c *Connections) Rotate(ctx context.Context, store v1alpha1.Store, as providers.Identity, engine providers.Engine) error {
	_, err := within(ctx, c, store, as, func(session *vault.Session) (struct{}, error) {
		return struct{}{}, session.Rotate(ctx, engine)
	})
	return err
}

// Rotatable says whether a tenant may do both. Errors are those of a
// providers.Rotator.
func (c *Connections) Rotatable(ctx context.Context, store v1alpha1.Store, as providers.Identity, engine providers.Engine) error {
	_, err := within(ctx, c, store, as, func(session *vault.Session) (struct{}, error) {
		return struct{}{}, session.Rotatable(ctx, engine)
	})
	return err
}
