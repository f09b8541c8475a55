package broker

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/privyseal/privyseal/broker/lease"
	"github.com/privyseal/privyseal/broker/restart"
	"github.com/privyseal/privyseal/broker/sealingkey"
	"github.com/privyseal/privyseal/broker/store"
)

// leasing is what leases are kept with.
type leasing struct {
	stores   *store.Connections
	restarts *restart.Controller
	keys     *sealingkey.Keeper
	settled  func(target types.NamespacedName)
	reread   func(ctx context.Context, claim types.NamespacedName)
}

// wireLeases has what stores lend kept.
func wireLeases(mgr manager.Manager, config Config, with leasing) (*lease.Keeper, error) {
	leases := lease.New(lease.Config{
		Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Namespace: config.Namespace, Clock: config.Clock,
		Store: with.stores, Pods: with.restarts, Keys: recordKeys{with.keys}, Reread: with.reread, Settled: with.settled,
		Events: mgr.GetEventRecorder("privyseal"), Registerer: metrics.Registry,
	})
	if err := leases.SetupWithManager(mgr); err != nil {
		return nil, fmt.Errorf("setting up leases: %w", err)
	}
	return leases, nil
}
