package copies

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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

	"github.com/privyseal/privyseal/broker/home"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// maxRetry is the longest that a run waits which did not work.
const maxRetry = 5 * time.Minute

// workers is how many environments are seen to at once: a repository that does
// not answer must not hold up the others.
const workers = 4

// homeless is the environment that is asked for where a namespace is in none.
const homeless = ""

// Reconcile sees to one environment.
func (k *Keeper) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	if err := k.sync(ctx, request.Name); err != nil {
		return reconcile.Result{}, err
	}
	return reconcile.Result{RequeueAfter: k.config.Look}, nil
}

// SetupWithManager has the keeper woken by environments, claims and namespaces,
// and by Keep.
func (k *Keeper) SetupWithManager(mgr manager.Manager) error {
	namespaces := &metav1.PartialObjectMetadata{}
	namespaces.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	wakes := make(chan event.TypedGenericEvent[types.NamespacedName])
	if err := mgr.Add(manager.RunnableFunc(func(ctx context.Context) error { return k.forward(ctx, wakes) })); err != nil {
		return fmt.Errorf("having claims wake their copies: %w", err)
	}
	err := builder.ControllerManagedBy(mgr).
		Named("copies").
		Watches(&v1alpha1.Environment{}, collecting(k, func(_ context.Context, environment client.Object) string {
			return environment.GetName()
		}), builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&v1alpha1.SecretClaim{}, collecting(k, func(ctx context.Context, claim client.Object) string {
			return k.homeOf(ctx, claim.GetNamespace())
		}), builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		WatchesMetadata(namespaces, collecting(k, func(ctx context.Context, namespace client.Object) string {
			return k.homeOf(ctx, namespace.GetName())
		}), builder.WithPredicates(predicate.LabelChangedPredicate{})).
		WatchesRawSource(source.TypedChannel(wakes, collecting(k, func(ctx context.Context, claim types.NamespacedName) string {
			return k.homeOf(ctx, claim.Namespace)
		}))).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: workers,
			RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](k.config.Retry, max(maxRetry, k.config.Retry)),
		}).
		Complete(k)
	if err != nil {
		return fmt.Errorf("watching what sealed copies are made of: %w", err)
	}
	return nil
}

// forward hands on what Keep was told.
func (k *Keeper) forward(ctx context.Context, to chan<- event.TypedGenericEvent[types.NamespacedName]) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case claim := <-k.wakes:
			select {
			case to <- event.TypedGenericEvent[types.NamespacedName]{Object: claim}:
			case <-ctx.Done():
				return nil
			}
		}
	}
}

// homeOf is the environment of a namespace.
func (k *Keeper) homeOf(ctx context.Context, namespace string) string {
	home, err := home.Of(ctx, k.config.Cache, namespace)
	if err != nil || home == nil {
		return homeless
	}
	return home.Name
}

// collecting has the environment looked at that an object is of, a little
// later: what comes until then goes into the same commit. Both the object
// before and after a change count, since a label may move a namespace.
func collecting[object any](k *Keeper, environmentOf func(context.Context, object) string) handler.TypedEventHandler[object, reconcile.Request] {
	type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]
	add := func(ctx context.Context, it object, queue queue) {
		name := environmentOf(ctx, it)
		queue.AddAfter(reconcile.Request{NamespacedName: types.NamespacedName{Name: name}}, k.config.Collect)
	}
	return handler.TypedFuncs[object, reconcile.Request]{
		CreateFunc:  func(ctx context.Context, e event.TypedCreateEvent[object], queue queue) { add(ctx, e.Object, queue) },
		DeleteFunc:  func(ctx context.Context, e event.TypedDeleteEvent[object], queue queue) { add(ctx, e.Object, queue) },
		GenericFunc: func(ctx context.Context, e event.TypedGenericEvent[object], queue queue) { add(ctx, e.Object, queue) },
		UpdateFunc: func(ctx context.Context, e event.TypedUpdateEvent[object], queue queue) {
			add(ctx, e.ObjectOld, queue)
			add(ctx, e.ObjectNew, queue)
		},
	}
}
