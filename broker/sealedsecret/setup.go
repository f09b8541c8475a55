package sealedsecret

import (
	"context"
	"fmt"
	"runtime"

	ssv1alpha1 "github.com/bitnami-labs/sealed-secrets/pkg/apis/sealedsecrets/v1alpha1"
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
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/privyseal/privyseal/broker/statuses"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// workers is how many SealedSecrets are seen to at once, most of which wait for
// the API server; line.opening bounds those that decrypt.
func workers() int { return max(16, 4*runtime.GOMAXPROCS(0)) }

// SetupWithManager has the reconciler woken by what a SealedSecret depends on:
// itself, its Secret, its namespace, environments, and (through turned) the
// sealing keys.
func (r *Reconciler) SetupWithManager(mgr manager.Manager, turned <-chan event.GenericEvent) error {
	namespaces := &metav1.PartialObjectMetadata{}
	namespaces.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	ofNamespace := handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, namespace client.Object) []reconcile.Request {
		return r.requests(ctx, everyOne, client.InNamespace(namespace.GetName()))
	})
	all := handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, _ client.Object) []reconcile.Request {
		return r.requests(ctx, everyOne)
	})
	waiting := handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, _ client.Object) []reconcile.Request {
		return r.requests(ctx, func(sealed *ssv1alpha1.SealedSecret) bool { return !inOrder(sealed) })
	})
	// A status of ours is none of what the line looks at.
	said := predicate.Or(predicate.GenerationChangedPredicate{}, predicate.AnnotationChangedPredicate{}, predicate.LabelChangedPredicate{})
	err := builder.ControllerManagedBy(mgr).
		Named("sealedsecret").
		For(&ssv1alpha1.SealedSecret{}, builder.WithPredicates(said)).
		WatchesMetadata(secretMeta(), statuses.Waking(r.ofSecret)).
		WatchesMetadata(namespaces, ofNamespace, builder.WithPredicates(later(predicate.LabelChangedPredicate{}))).
		Watches(&v1alpha1.Environment{}, all, builder.WithPredicates(later(predicate.GenerationChangedPredicate{}))).
		Watches(&v1alpha1.SecretClaim{}, handler.EnqueueRequestsFromMapFunc(r.copyOf), builder.WithPredicates(later(predicate.ResourceVersionChangedPredicate{}))).
		WatchesRawSource(source.Channel(turned, waiting)).
		WithOptions(controller.Options{MaxConcurrentReconciles: workers()}).
		Complete(r)
	if err != nil {
		return fmt.Errorf("watching SealedSecrets: %w", err)
	}
	return nil
}

func everyOne(*ssv1alpha1.SealedSecret) bool { return true }

// requests are for the SealedSecrets that are wanted.
func (r *Reconciler) requests(ctx context.Context, wanted func(*ssv1alpha1.SealedSecret) bool, options ...client.ListOption) []reconcile.Request {
	var list ssv1alpha1.SealedSecretList
	if err := r.config.Client.List(ctx, &list, append(options, client.UnsafeDisableDeepCopy)...); err != nil {
		r.config.Log.Error(err, "Listing SealedSecrets")
		return nil
	}
	var requests []reconcile.Request
	for i := range list.Items {
		if wanted(&list.Items[i]) {
			requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
		}
	}
	return requests
}

// ofSecret is the SealedSecret of a Secret's name. Most Secrets have none.
func (r *Reconciler) ofSecret(ctx context.Context, secret client.Object) []reconcile.Request {
	name := client.ObjectKeyFromObject(secret)
	if err := r.config.Client.Get(ctx, name, &ssv1alpha1.SealedSecret{}, client.UnsafeDisableDeepCopy); err != nil {
		return nil
	}
	return []reconcile.Request{{NamespacedName: name}}
}

// later passes over what is there when the daemon starts: every SealedSecret is
// looked at then anyway.
func later(updates predicate.Predicate) predicate.Predicate {
	return predicate.Funcs{
		CreateFunc: func(e event.CreateEvent) bool { return !e.IsInInitialList },
		UpdateFunc: updates.Update,
		DeleteFunc: func(event.DeleteEvent) bool { return true },
	}
}

// Keep is a cache.TransformFunc for SealedSecrets: who wrote them is not looked
// at, and kubectl's copy of them would take as much memory again.
func Keep(object any) (any, error) {
	if sealed, is := object.(*ssv1alpha1.SealedSecret); is {
		sealed.ManagedFields = nil
		delete(sealed.Annotations, corev1.LastAppliedConfigAnnotation)
	}
	return object, nil
}
