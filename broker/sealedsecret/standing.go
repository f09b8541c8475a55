package sealedsecret

import (
	"context"
	"errors"
	"fmt"
	"time"

	ssv1alpha1 "github.com/bitnami-labs/sealed-secrets/pkg/apis/sealedsecrets/v1alpha1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/privyseal/privyseal/broker/target"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// reasonStandby is that of a sealed copy that must not stand in.
const reasonStandby = "ErrStandbyRefused"

// standBy sees to a sealed copy of a claim. It says whether the line is to run,
// which makes the Secret.
func (r *Reconciler) standBy(ctx context.Context, sealed *ssv1alpha1.SealedSecret, home *v1alpha1.Environment) (stands bool, result reconcile.Result, err error) {
	facts, err := r.standbyFacts(ctx, sealed, home)
	if err != nil {
		return false, reconcile.Result{}, err
	}
	decision := DecideStandby(facts)
	switch decision.Verdict {
	case StandbyCreate:
		return true, reconcile.Result{}, nil
	case StandbyRefuse:
		// It is the claim that has to change, and that wakes it.
		return false, reconcile.Result{}, r.tell(ctx, sealed, target.Applied{}, refuse(reasonStandby, countUpdate, errors.New(decision.Why)))
	default:
		return false, reconcile.Result{RequeueAfter: decision.Again}, r.tell(ctx, sealed, target.Applied{Outcome: target.Unchanged}, nil)
	}
}

func (r *Reconciler) standbyFacts(ctx context.Context, sealed *ssv1alpha1.SealedSecret, home *v1alpha1.Environment) (StandbyFacts, error) {
	var facts StandbyFacts
	err := r.config.Metadata.Get(ctx, client.ObjectKeyFromObject(sealed), secretMeta(), client.UnsafeDisableDeepCopy)
	if err != nil && !apierrors.IsNotFound(err) {
		return facts, fmt.Errorf("looking for Secret %s/%s: %w", sealed.Namespace, sealed.Name, err)
	}
	facts.Exists = err == nil
	var claims v1alpha1.SecretClaimList
	if err := r.config.Client.List(ctx, &claims, client.InNamespace(sealed.Namespace), client.UnsafeDisableDeepCopy); err != nil {
		return facts, fmt.Errorf("listing claims: %w", err)
	}
	for i := range claims.Items {
		if claims.Items[i].TargetName().Name == sealed.Name {
			facts.Claim = &claims.Items[i]
		}
	}
	if facts.Claim != nil && !facts.Exists {
		facts.Unavailable, err = r.unavailable(ctx, facts.Claim, home)
		return facts, err
	}
	return facts, nil
}

// unavailable is for how long a claim's store has not answered, by its status.
func (r *Reconciler) unavailable(ctx context.Context, claim *v1alpha1.SecretClaim, home *v1alpha1.Environment) (time.Duration, error) {
	conditions, err := r.storeConditions(ctx, claim, home)
	if client.IgnoreNotFound(err) != nil {
		return 0, fmt.Errorf("looking up the store of claim %s/%s: %w", claim.Namespace, claim.Name, err)
	}
	ready := meta.FindStatusCondition(conditions, v1alpha1.ConditionReady)
	if ready == nil || ready.Status != metav1.ConditionFalse || ready.Reason != v1alpha1.ReasonStoreUnavailable {
		return 0, nil
	}
	return r.config.Clock.Since(ready.LastTransitionTime.Time), nil
}

func (r *Reconciler) storeConditions(ctx context.Context, claim *v1alpha1.SecretClaim, home *v1alpha1.Environment) ([]metav1.Condition, error) {
	name, own := "", false
	if ref := claim.Spec.StoreRef; ref != nil {
		name, own = ref.Name, ref.Kind == v1alpha1.KindSecretStore
	} else if home != nil && len(home.Spec.Stores) > 0 {
		name = home.Spec.Stores[0]
	}
	if own {
		store := &v1alpha1.SecretStore{}
		err := r.config.Client.Get(ctx, client.ObjectKey{Namespace: claim.Namespace, Name: name}, store, client.UnsafeDisableDeepCopy)
		return store.Status.Conditions, err
	}
	store := &v1alpha1.ClusterSecretStore{}
	err := r.config.Client.Get(ctx, client.ObjectKey{Name: name}, store, client.UnsafeDisableDeepCopy)
	return store.Status.Conditions, err
}

// copyOf is the sealed copy of a claim, if there is one.
func (r *Reconciler) copyOf(ctx context.Context, object client.Object) []reconcile.Request {
	claim, is := object.(*v1alpha1.SecretClaim)
	if !is {
		return nil
	}
	name := claim.TargetName()
	sealed := &ssv1alpha1.SealedSecret{}
	if err := r.config.Client.Get(ctx, name, sealed, client.UnsafeDisableDeepCopy); err != nil || !standby(sealed) {
		return nil
	}
	return []reconcile.Request{{NamespacedName: name}}
}
