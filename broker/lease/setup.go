package lease

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// workers is how many claims' leases are seen to at once. Each spends its time
// waiting for a store.
const workers = 8

// SetupWithManager has the keeper look after what is lent: by its own clock, and
// when a claim's status says something else of it, or a claim goes. Once it leads,
// it looks for the records that there are.
func (k *Keeper) SetupWithManager(mgr manager.Manager) error {
	if err := k.metrics.register(k.config.Registerer); err != nil {
		return fmt.Errorf("registering the metrics of leases: %w", err)
	}
	begin := source.TypedFunc[reconcile.Request](func(_ context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
		queue.Add(reconcile.Request{NamespacedName: everything})
		return nil
	})
	return builder.ControllerManagedBy(mgr).
		Named("lease").
		For(&v1alpha1.SecretClaim{}, builder.WithPredicates(leasesTurned())).
		WatchesRawSource(begin).
		WatchesRawSource(source.TypedChannel(k.wakes, handler.TypedEnqueueRequestsFromMapFunc(
			func(_ context.Context, claim types.NamespacedName) []reconcile.Request {
				return []reconcile.Request{{NamespacedName: claim}}
			}))).
		WithOptions(controller.Options{MaxConcurrentReconciles: workers}).
		Complete(k)
}

// leasesTurned: something is lent to a claim, or was.
func leasesTurned() predicate.Predicate {
	leases := func(object client.Object) []v1alpha1.Lease {
		claim, is := object.(*v1alpha1.SecretClaim)
		if !is {
			return nil
		}
		return claim.Status.Leases
	}
	return predicate.Funcs{
		CreateFunc: func(e event.CreateEvent) bool { return len(leases(e.Object)) > 0 },
		UpdateFunc: func(e event.UpdateEvent) bool {
			return !equality.Semantic.DeepEqual(leases(e.ObjectOld), leases(e.ObjectNew))
		},
		DeleteFunc: func(event.DeleteEvent) bool { return true },
	}
}
