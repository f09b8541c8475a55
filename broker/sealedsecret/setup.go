package sealedsecret

import (
	"context"
	"time"

	ssv1alpha1 "github.com/bitnami-labs/sealed-secrets/pkg/apis/sealedsecrets/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// workers is how many SealedSecrets are seen to at once. Opening takes the cores,
// and they share these; the rest is waiting for the API server.
const workers = 32

// Between two tries of what failed, where nothing else wakes it.
const (
	firstRetry = time.Second
	lastRetry  = 5 * time.Minute
)

// whatIsOwed is the priority of statuses and of our own writes seen again: after
// what was there at the start.
const whatIsOwed = 2 * handler.LowPriority

// SetupWithManager has the reconciler woken by what a SealedSecret depends on:
// itself, its Secret, its namespace and environment, and (through keys) the
// sealing keys.
func (r *Reconciler) SetupWithManager(mgr manager.Manager, keys <-chan event.GenericEvent) error {
	secrets := &metav1.PartialObjectMetadata{}
	secrets.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Secret"))
	namespaces := &metav1.PartialObjectMetadata{}
	namespaces.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	all := handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, _ client.Object) []reconcile.Request { return r.requests(ctx) })
	ofNamespace := handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, namespace client.Object) []reconcile.Request {
		return r.requests(ctx, client.InNamespace(namespace.GetName()))
	})
	if err := mgr.Add(r.records); err != nil {
		return err
	}
	return builder.ControllerManagedBy(mgr).
		Named("sealedsecret").
		For(&ssv1alpha1.SealedSecret{}, builder.WithPredicates(r.forgetting(),
			predicate.Or[client.Object](predicate.GenerationChangedPredicate{}, predicate.AnnotationChangedPredicate{}, predicate.LabelChangedPredicate{}))).
		WatchesMetadata(secrets, sameName()).
		WatchesMetadata(namespaces, ofNamespace, builder.WithPredicates(laterOnly(predicate.LabelChangedPredicate{}))).
		Watches(&v1alpha1.Environment{}, all, builder.WithPredicates(laterOnly(predicate.GenerationChangedPredicate{}))).
		WatchesRawSource(source.Channel(keys, all)).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: workers,
			RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](firstRetry, lastRetry),
		}).
		Complete(r)
}

// forgetting drops the record of a SealedSecret that is gone.
func (r *Reconciler) forgetting() predicate.Predicate {
	return predicate.Funcs{
		DeleteFunc: func(e event.DeleteEvent) bool {
			r.records.forget(e.Object.GetNamespace(), e.Object.GetUID())
			return true
		},
	}
}

func (r *Reconciler) requests(ctx context.Context, options ...client.ListOption) []reconcile.Request {
	var all ssv1alpha1.SealedSecretList
	if err := r.config.Client.List(ctx, &all, append(options, client.UnsafeDisableDeepCopy)...); err != nil {
		return nil // unreachable: the list is the cache's own
	}
	requests := make([]reconcile.Request, 0, len(all.Items))
	for i := range all.Items {
		requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&all.Items[i])})
	}
	return requests
}

// sameName wakes the SealedSecret of a Secret's name at the priority of what is
// owed: most of what is seen are our own writes. There may be no such
// SealedSecret, which costs a look into the cache.
func sameName() handler.EventHandler {
	type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]
	wake := func(object client.Object, q queue) {
		request := reconcile.Request{NamespacedName: types.NamespacedName{Namespace: object.GetNamespace(), Name: object.GetName()}}
		if ordered, ok := q.(priorityqueue.PriorityQueue[reconcile.Request]); ok {
			ordered.AddWithOpts(priorityqueue.AddOpts{Priority: new(whatIsOwed)}, request)
			return
		}
		q.Add(request)
	}
	return handler.Funcs{
		CreateFunc: func(_ context.Context, e event.CreateEvent, q queue) {
			if !e.IsInInitialList { // the SealedSecret itself is
				wake(e.Object, q)
			}
		},
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, q queue) {
			if e.ObjectOld.GetResourceVersion() != e.ObjectNew.GetResourceVersion() {
				wake(e.ObjectNew, q)
			}
		},
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, q queue) { wake(e.Object, q) },
	}
}

// laterOnly passes over what was there when the daemon started.
func laterOnly(updates predicate.Predicate) predicate.Predicate {
	return predicate.Funcs{
		CreateFunc: func(e event.CreateEvent) bool { return !e.IsInInitialList },
		UpdateFunc: updates.Update,
		DeleteFunc: func(event.DeleteEvent) bool { return true },
	}
}
