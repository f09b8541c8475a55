package broker

import (
	"context"
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/privyseal/privyseal/broker/claim"
	"github.com/privyseal/privyseal/broker/restart"
	"github.com/privyseal/privyseal/broker/rotate"
	"github.com/privyseal/privyseal/broker/seal"
	"github.com/privyseal/privyseal/broker/sealingkey"
	"github.com/privyseal/privyseal/broker/store"
)

// rotating is what rotations are carried out with.
type rotating struct {
	stores   *store.Connections
	claims   *claim.Reconciler
	gatherer claim.Gatherer
	restarts *restart.Controller
	keys     *sealingkey.Keeper
}

// wireRotations has SecretRotations carried out.
func wireRotations(mgr manager.Manager, config Config, with rotating) error {
	rotations := rotate.New(rotate.Config{
		Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Namespace: config.Namespace, Clock: config.Clock,
		Places: places{with.gatherer}, Store: with.stores, Engines: with.stores, Claims: readers{with.claims},
		Workloads: followers{with.restarts}, Keys: recordKeys{with.keys},
		Events: mgr.GetEventRecorder("privyseal"), Registerer: metrics.Registry,
	})
	if err := rotations.SetupWithManager(mgr); err != nil {
		return fmt.Errorf("setting up rotations: %w", err)
	}
	return nil
}

// places are found as claims find them.
type places struct{ claim.Gatherer }

// Place implements rotate.Places.
func (p places) Place(ctx context.Context, namespace, field, path string) (rotate.Place, error) {
	found, err := p.Gatherer.Place(ctx, namespace, field, path)
	var refusal *claim.Refusal
	if errors.As(err, &refusal) {
		return rotate.Place{}, &rotate.Refusal{Reason: refusal.Reason, Message: refusal.Message}
	}
	if err != nil {
		return rotate.Place{}, err
	}
	return rotate.Place{
		Store: found.Store, Identity: found.Identity, Ref: found.Ref, Windows: restart.WindowsOf(found.Home),
	}, nil
}

// readers are the claims that read a place.
type readers struct{ *claim.Reconciler }

// ReadingOf implements rotate.Claims.
func (r readers) ReadingOf(ctx context.Context, place rotate.Place) ([]rotate.Reading, error) {
	found, err := r.Reconciler.ReadingOf(ctx, claim.Place{Store: place.Store, Ref: place.Ref})
	readings := make([]rotate.Reading, 0, len(found))
	for _, reading := range found {
		readings = append(readings, rotate.Reading(reading))
	}
	return readings, err
}

// followers are the workloads that read a target.
type followers struct{ *restart.Controller }

// Followers implements rotate.Workloads.
func (f followers) Followers(ctx context.Context, target types.NamespacedName, sequence int64) ([]rotate.Follower, bool, error) {
	found, known, err := f.Controller.Followers(ctx, target, sequence)
	all := make([]rotate.Follower, 0, len(found))
	for _, one := range found {
		all = append(all, rotate.Follower{Workload: one.Workload.String(), Behind: one.Behind, Fails: one.Fails, Held: one.Held})
	}
	return all, known, err
}

// recordKeys are the keys of version 2.
type recordKeys struct{ *sealingkey.Keeper }

// SealingKeys implements rotate.Keys.
func (k recordKeys) SealingKeys(ctx context.Context) (*seal.PublicKey, *seal.Keys, error) {
	now, err := k.Snapshot(ctx)
	if err != nil {
		return nil, nil, err
	}
	if now.Hybrid == nil {
		return nil, nil, fmt.Errorf("%w: there is no key of version 2", seal.ErrKey)
	}
	return now.Hybrid.Public(), now.Open, nil
}
