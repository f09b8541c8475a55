package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/privyseal/privyseal/broker/address"
	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/providers"
)

// probeInterval is how often a store is asked for its health.
const probeInterval = 20 * time.Second

// Prober asks whether a store can serve reads, and closes what belongs to one
// that is gone. Its errors wrap those of package providers.
type Prober interface {
	Health(ctx context.Context, store v1alpha1.Store) error
	Forget(store types.NamespacedName)
}

// Status keeps the Ready condition of the stores of one kind. An outage is told
// here, once, and not on each of the thousands of claims that wait it out.
type Status struct {
	// Kind of the stores.
	Kind v1alpha1.StoreKind
	// Prober asks the stores.
	Prober Prober
	// Client reads stores from the cache and writes their status.
	Client client.Client
	// Clock is the time.
	Clock clock.PassiveClock
}

// Reconcile sees to one store.
func (s *Status) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	store := empty(s.Kind)
	err := s.Client.Get(ctx, request.NamespacedName, store)
	if apierrors.IsNotFound(err) {
		s.Prober.Forget(request.NamespacedName)
		return reconcile.Result{}, nil
	}
	if err != nil {
		return reconcile.Result{}, fmt.Errorf("looking up %s %s: %w", s.Kind, request.NamespacedName, err)
	}
	before := store.DeepCopyObject().(v1alpha1.StoreObject)
	status := store.StoreStatus()
	status.ObservedGeneration = store.GetGeneration()
	condition := readyOf(s.Prober.Health(ctx, store.Store()))
	condition.ObservedGeneration = store.GetGeneration()
	condition.LastTransitionTime = metav1.NewTime(s.Clock.Now())
	meta.SetStatusCondition(&status.Conditions, condition)
	if !equality.Semantic.DeepEqual(before.StoreStatus(), status) {
		if err := s.Client.Status().Patch(ctx, store, client.MergeFrom(before)); err != nil {
			return reconcile.Result{}, client.IgnoreNotFound(fmt.Errorf("writing the status of %s: %w", store.Store(), err))
		}
	}
	return reconcile.Result{RequeueAfter: probeInterval}, nil
}

// empty is an empty store of a kind.
func empty(kind v1alpha1.StoreKind) v1alpha1.StoreObject {
	if kind == v1alpha1.KindSecretStore {
		return &v1alpha1.SecretStore{}
	}
	return &v1alpha1.ClusterSecretStore{}
}

// readyOf is the Ready condition that an answer stands for.
func readyOf(err error) metav1.Condition {
	condition := metav1.Condition{Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse}
	switch {
	case err == nil:
		condition.Status = metav1.ConditionTrue
		condition.Reason = v1alpha1.ReasonReachable
		condition.Message = "the store answers"
	case errors.Is(err, address.ErrNotAllowed):
		condition.Reason = v1alpha1.ReasonStoreNotAllowed
		condition.Message = err.Error()
	case errors.Is(err, providers.ErrInvalid):
		condition.Reason = v1alpha1.ReasonStoreInvalid
		condition.Message = err.Error()
	default:
		condition.Reason = v1alpha1.ReasonStoreUnavailable
		condition.Message = err.Error()
	}
	return condition
}

// SetupWithManager has stores probed when they change, and from time to time.
func (s *Status) SetupWithManager(mgr manager.Manager) error {
	return builder.ControllerManagedBy(mgr).
		Named(strings.ToLower(string(s.Kind))).
		For(empty(s.Kind), builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Complete(s)
}
