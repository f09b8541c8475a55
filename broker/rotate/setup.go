package rotate

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// workers is how many rotations are seen to at once.
const workers = 4

// SetupWithManager has the reconciler woken by what may let a rotation begin or go
// on: what people write, environments and stores, and the claims that follow. All
// else it looks at by itself, while something is under way.
func (r *Reconciler) SetupWithManager(mgr manager.Manager) error {
	if with := r.config.Registerer; with != nil {
		if err := errors.Join(with.Register(r.metrics.ended), with.Register(r.metrics.halted)); err != nil {
			return fmt.Errorf("registering the metrics of rotations: %w", err)
		}
	}
	namespaces := &metav1.PartialObjectMetadata{}
	namespaces.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	all := handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, _ client.Object) []reconcile.Request {
		return r.requests(ctx, func(*v1alpha1.SecretRotation) bool { return true })
	})
	inNamespace := handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, namespace client.Object) []reconcile.Request {
		return r.requests(ctx, func(of *v1alpha1.SecretRotation) bool { return of.Namespace == namespace.GetName() })
	})
	// One that was refused for another may begin when that is gone or moves away.
	others := handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, _ client.Object) []reconcile.Request {
		return r.requests(ctx, refused)
	})
	underWay := handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, _ client.Object) []reconcile.Request {
		return r.requests(ctx, func(of *v1alpha1.SecretRotation) bool { return !stateOf(of.Status).Phase.Ended() })
	})
	written := predicate.Or(predicate.GenerationChangedPredicate{}, predicate.AnnotationChangedPredicate{})
	return builder.ControllerManagedBy(mgr).
		Named("rotation").
		For(&v1alpha1.SecretRotation{}, builder.WithPredicates(written)).
		Watches(&v1alpha1.SecretRotation{}, others, builder.WithPredicates(laterOnly(predicate.GenerationChangedPredicate{}))).
		Watches(&v1alpha1.SecretClaim{}, underWay, builder.WithPredicates(laterOnly(predicate.ResourceVersionChangedPredicate{}))).
		Watches(&v1alpha1.Environment{}, all, builder.WithPredicates(laterOnly(predicate.GenerationChangedPredicate{}))).
		Watches(&v1alpha1.ClusterSecretStore{}, all, builder.WithPredicates(laterOnly(predicate.GenerationChangedPredicate{}))).
		WatchesMetadata(namespaces, inNamespace, builder.WithPredicates(laterOnly(predicate.LabelChangedPredicate{}))).
		WithOptions(controller.Options{MaxConcurrentReconciles: workers}).
		Complete(r)
}

func refused(of *v1alpha1.SecretRotation) bool {
	for _, condition := range of.Status.Conditions {
		if condition.Type == v1alpha1.ConditionReady {
			return condition.Reason == v1alpha1.ReasonRotatedByAnother
		}
	}
	return false
}

// requests are the rotations that are meant.
func (r *Reconciler) requests(ctx context.Context, meant func(*v1alpha1.SecretRotation) bool) []reconcile.Request {
	var all v1alpha1.SecretRotationList
	if err := r.config.Client.List(ctx, &all, client.UnsafeDisableDeepCopy); err != nil {
		return nil // unreachable: the list is the cache's own
	}
	var requests []reconcile.Request
	for i := range all.Items {
		if meant(&all.Items[i]) {
			requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&all.Items[i])})
		}
	}
	return requests
}

// laterOnly lets what is there when the daemon starts pass for none of its business.
func laterOnly(updates predicate.Predicate) predicate.Predicate {
	return predicate.Funcs{
		CreateFunc: func(e event.CreateEvent) bool { return !e.IsInInitialList },
		UpdateFunc: updates.Update,
		DeleteFunc: func(event.DeleteEvent) bool { return true },
	}
}
