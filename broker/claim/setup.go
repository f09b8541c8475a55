package claim

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/privyseal/privyseal/broker/annotation"
	"github.com/privyseal/privyseal/broker/statuses"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// workers is how many claims are seen to at once. Each spends its time waiting
// for the store or the API server.
const workers = 32

// byTarget indexes claims by the Secret that they produce.
const byTarget = "target"

// SetupWithManager has the reconciler woken by what a claim depends on: its
// spec, its Secret, its namespace, environments, stores, and (through settled)
// its consumers.
func (r *Reconciler) SetupWithManager(ctx context.Context, mgr manager.Manager, settled <-chan event.TypedGenericEvent[types.NamespacedName]) error {
	err := mgr.GetFieldIndexer().IndexField(ctx, &v1alpha1.SecretClaim{}, byTarget, func(object client.Object) []string {
		claim, ok := object.(*v1alpha1.SecretClaim)
		if !ok {
			return nil
		}
		return []string{claim.TargetName().Name}
	})
	if err != nil {
		return fmt.Errorf("indexing claims by target: %w", err)
	}
	secrets := &metav1.PartialObjectMetadata{}
	secrets.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Secret"))

	ofSecret := statuses.Waking(func(ctx context.Context, secret client.Object) []reconcile.Request {
		return r.requests(ctx, wakeNobody, client.InNamespace(secret.GetNamespace()), client.MatchingFields{byTarget: secret.GetName()})
	})
	ofOwnStore := handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, store client.Object) []reconcile.Request {
		return r.requests(ctx, r.schedule.wake, client.InNamespace(store.GetNamespace()))
	})
	ofNamespace := handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, namespace client.Object) []reconcile.Request {
		return r.requests(ctx, r.schedule.wake, client.InNamespace(namespace.GetName()))
	})
	all := handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, _ client.Object) []reconcile.Request {
		return r.requests(ctx, r.schedule.wake)
	})
	return builder.ControllerManagedBy(mgr).
		Named("claim").
		For(&v1alpha1.SecretClaim{}, builder.WithPredicates(r.noticing(predicate.Or(predicate.GenerationChangedPredicate{}, askedAnew())))).
		WatchesMetadata(secrets, ofSecret).
		WatchesMetadata(namespaceMeta(), ofNamespace, builder.WithPredicates(changesOnly(predicate.LabelChangedPredicate{}))).
		Watches(&v1alpha1.Environment{}, all, builder.WithPredicates(changesOnly(predicate.GenerationChangedPredicate{}))).
		Watches(&v1alpha1.ClusterSecretStore{}, all, builder.WithPredicates(changesOnly(predicate.GenerationChangedPredicate{}))).
		Watches(&v1alpha1.SecretStore{}, ofOwnStore, builder.WithPredicates(changesOnly(predicate.GenerationChangedPredicate{}))).
		WatchesRawSource(source.TypedChannel(settled, handler.TypedEnqueueRequestsFromMapFunc(
			func(ctx context.Context, target types.NamespacedName) []reconcile.Request {
				return r.requests(ctx, wakeNobody, client.InNamespace(target.Namespace), client.MatchingFields{byTarget: target.Name})
			}))).
		WatchesRawSource(source.TypedChannel(r.reread, handler.TypedEnqueueRequestsFromMapFunc(
			func(_ context.Context, claim types.NamespacedName) []reconcile.Request {
				return []reconcile.Request{{NamespacedName: claim}}
			}))).
		WithOptions(controller.Options{MaxConcurrentReconciles: workers}).
		Complete(r)
}

// askedAnew: restarts of the claim's consumers are to happen now, or no more.
func askedAnew() predicate.Predicate {
	return predicate.Funcs{
		UpdateFunc: func(e event.UpdateEvent) bool {
			return e.ObjectOld.GetAnnotations()[annotation.RestartNow] != e.ObjectNew.GetAnnotations()[annotation.RestartNow]
		},
	}
}

// noticing has the schedule know since when a claim waits that is new or was
// changed: a predicate is the first to see it.
func (r *Reconciler) noticing(updates predicate.Predicate) predicate.Predicate {
	return predicate.Funcs{
		CreateFunc: func(e event.CreateEvent) bool {
			r.schedule.notice(client.ObjectKeyFromObject(e.Object))
			return true
		},
		UpdateFunc: func(e event.UpdateEvent) bool {
			if !updates.Update(e) {
				return false
			}
			r.schedule.notice(client.ObjectKeyFromObject(e.ObjectNew))
			return true
		},
	}
}

func wakeNobody(types.NamespacedName) {}

// requests lists claims and has each of them woken.
func (r *Reconciler) requests(ctx context.Context, wake func(types.NamespacedName), options ...client.ListOption) []reconcile.Request {
	var claims v1alpha1.SecretClaimList
	if err := r.config.Client.List(ctx, &claims, options...); err != nil {
		return nil // unreachable: the list is the cache's own
	}
	requests := make([]reconcile.Request, 0, len(claims.Items))
	for _, claim := range claims.Items {
		name := client.ObjectKeyFromObject(&claim)
		wake(name)
		requests = append(requests, reconcile.Request{NamespacedName: name})
	}
	return requests
}

// changesOnly lets an object's first appearance in the cache pass for none of
// its business when the daemon starts: only what is created, changed or
// deleted later wakes claims. Claims that are not in order are seen to anyway.
func changesOnly(updates predicate.Predicate) predicate.Predicate {
	return predicate.Funcs{
		CreateFunc: func(e event.CreateEvent) bool { return !e.IsInInitialList },
		UpdateFunc: updates.Update,
		DeleteFunc: func(event.DeleteEvent) bool { return true },
	}
}

// ownersOf gives the workloads of a kind that own a claim. Through them a claim
// that somebody deleted is made again, and one is let go whose workload stopped
// asking while no daemon ran.
func ownersOf(kind schema.GroupVersionKind) handler.MapFunc {
	return func(_ context.Context, claim client.Object) []reconcile.Request {
		var owners []reconcile.Request
		for _, owner := range claim.GetOwnerReferences() {
			if owner.Kind == kind.Kind && owner.APIVersion == kind.GroupVersion().String() {
				owners = append(owners, reconcile.Request{NamespacedName: client.ObjectKey{Namespace: claim.GetNamespace(), Name: owner.Name}})
			}
		}
		return owners
	}
}

// asking lists the workloads of the kind whose annotations ask for a secret.
func (a *Annotated) asking(ctx context.Context, options ...client.ListOption) []reconcile.Request {
	list, err := a.Client.Scheme().New(a.Kind.GroupVersion().WithKind(a.Kind.Kind + "List"))
	if err != nil {
		return nil // unreachable: the scheme has a list of every kind that is watched
	}
	// Only looked at, and there may be all pods of the cluster.
	options = append(options, client.UnsafeDisableDeepCopy)
	if err := a.Client.List(ctx, list.(client.ObjectList), options...); err != nil {
		return nil // unreachable: the list is the cache's own
	}
	var requests []reconcile.Request
	err = meta.EachListItem(list, func(item runtime.Object) error {
		workload, is := item.(client.Object)
		if is && annotation.Asks(TemplateAnnotations(workload)) && !isAnnotatedKind(metav1.GetControllerOf(workload)) {
			requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(workload)})
		}
		return nil
	})
	if err != nil {
		return nil // unreachable: it is a list
	}
	return requests
}

// SetupAnnotated has the claims of annotated workloads made, for every kind.
func SetupAnnotated(mgr manager.Manager, recorder events.EventRecorder) error {
	asks := predicate.NewPredicateFuncs(func(object client.Object) bool {
		return annotation.Asks(TemplateAnnotations(object))
	})
	for kind, empty := range AnnotatedKinds() {
		annotated := &Annotated{Kind: kind, Client: mgr.GetClient(), Events: recorder}
		// A workload that stops asking has to be seen once more.
		relevant := predicate.Funcs{
			CreateFunc: asks.Create,
			UpdateFunc: func(e event.UpdateEvent) bool {
				return annotation.Asks(TemplateAnnotations(e.ObjectOld)) || annotation.Asks(TemplateAnnotations(e.ObjectNew))
			},
			DeleteFunc: func(event.DeleteEvent) bool { return false },
		}
		// What an environment takes decides which claims are made, and so does
		// a label that puts a namespace into another one.
		everywhere := handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, _ client.Object) []reconcile.Request {
			return annotated.asking(ctx)
		})
		inNamespace := handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, namespace client.Object) []reconcile.Request {
			return annotated.asking(ctx, client.InNamespace(namespace.GetName()))
		})
		err := builder.ControllerManagedBy(mgr).
			Named("annotated-"+kind.Kind).
			For(empty, builder.WithPredicates(relevant)).
			Watches(&v1alpha1.Environment{}, everywhere, builder.WithPredicates(changesOnly(predicate.GenerationChangedPredicate{}))).
			WatchesMetadata(namespaceMeta(), inNamespace, builder.WithPredicates(changesOnly(predicate.LabelChangedPredicate{}))).
			Watches(&v1alpha1.SecretClaim{}, handler.EnqueueRequestsFromMapFunc(ownersOf(kind)),
				builder.WithPredicates(predicate.GenerationChangedPredicate{})).
			WithOptions(controller.Options{MaxConcurrentReconciles: 4}).
			Complete(annotated)
		if err != nil {
			return fmt.Errorf("watching %s: %w", kind.Kind, err)
		}
	}
	return nil
}
