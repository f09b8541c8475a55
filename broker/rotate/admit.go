package rotate

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/providers"
	"github.com/privyseal/privyseal/rotation"
)

// admitted is what a spec asks for, as far as it can be carried out.
type admitted struct {
	setup
	place Place
	// credentials that its set needs, in the same store; zero: none.
	credentials providers.Ref
	// refusal is why it cannot; nil: it can, or that could not be asked.
	refusal *Refusal
	// unasked is why the store could not be asked; nil: it was, or need not be.
	unasked error
}

// admit a spec: everything that would stop a run is said when it is written, and
// not at three in the morning.
func (r *Reconciler) admit(ctx context.Context, of *v1alpha1.SecretRotation) (admitted, error) {
	if slices.Contains([]string{r.config.Namespace, metav1.NamespaceSystem, "kube-node-lease"}, of.Namespace) {
		return admitted{refusal: refuse(v1alpha1.ReasonRotationInvalid, "metadata.namespace: nothing is rotated in namespace %s", of.Namespace)}, nil
	}
	asked, err := parse(of.Spec)
	if err == nil {
		err = asked.checkValidity(r.config.Clock.Now())
	}
	if err != nil {
		return admitted{refusal: refuse(v1alpha1.ReasonRotationInvalid, "%s", err)}, nil
	}
	a := admitted{setup: asked}
	if jobs := jobsOf(of.Spec); len(jobs) > 0 && !r.config.Jobs {
		a.refusal = refuse(v1alpha1.ReasonRotationInvalid, "spec.%s.job: this installation runs no Jobs; whoever installed it can allow them with the chart's value rotation.jobs", slices.Sorted(maps.Keys(jobs))[0])
		return a, nil
	}
	field, path := Document(of.Spec)
	a.place, err = r.config.Places.Place(ctx, of.Namespace, of.Spec.StoreRef, field, path)
	if errors.As(err, &a.refusal) {
		return a, nil
	}
	if err != nil {
		return admitted{}, err
	}
	if err := r.admitCredentials(ctx, of, &a); err != nil || a.refusal != nil {
		return a, err
	}
	other, err := r.elder(ctx, of, a.place)
	if err != nil {
		return admitted{}, err
	}
	if other != "" {
		a.refusal = refuse(v1alpha1.ReasonRotatedByAnother, "%s: SecretRotation %s, made before, rotates %s too; delete one of them, or give it another path", field, other, a.place.Ref)
		return a, nil
	}
	switch {
	case !needsProbe(of, a.place):
	case a.engine.Kind != "":
		a.refusal, a.unasked = r.probeEngine(ctx, a.place, a.engine)
	default:
		a.refusal, a.unasked = r.probe(ctx, a.place)
	}
	if a.refusal == nil && a.unasked == nil && needsProbe(of, a.place) {
		a.refusal, a.unasked = r.tryCredentials(ctx, a)
	}
	if a.refusal == nil && needsProbe(of, a.place) {
		a.refusal, err = r.tryHooks(ctx, of)
	}
	return a, err
}

// elder is another rotation of the place that was made before; empty: none was.
func (r *Reconciler) elder(ctx context.Context, of *v1alpha1.SecretRotation, place Place) (string, error) {
	var all v1alpha1.SecretRotationList
	if err := r.config.Client.List(ctx, &all, client.UnsafeDisableDeepCopy); err != nil {
		return "", fmt.Errorf("listing rotations: %w", err)
	}
	for i := range all.Items {
		other := &all.Items[i]
		known := other.Status.ObservedGeneration == other.Generation
		if !before(other, of) || known && other.Status.Path != place.Ref.String() {
			continue
		}
		field, path := Document(other.Spec)
		at, err := r.config.Places.Place(ctx, other.Namespace, other.Spec.StoreRef, field, path)
		var refusal *Refusal
		switch {
		case errors.As(err, &refusal):
			continue
		case err != nil:
			return "", err
		case at.Ref == place.Ref && at.Store.Same(place.Store):
			return other.Namespace + "/" + other.Name, nil
		}
	}
	return "", nil
}

// before says which of two rotations was made first.
func before(a, b *v1alpha1.SecretRotation) bool {
	if !a.DeletionTimestamp.IsZero() {
		return false
	}
	if a.CreationTimestamp.Equal(&b.CreationTimestamp) {
		return a.UID < b.UID
	}
	return a.CreationTimestamp.Before(&b.CreationTimestamp)
}

// needsProbe says whether the store has to be asked: until it said yes for this
// spec and this place, and before each attempt writes anything down.
func needsProbe(of *v1alpha1.SecretRotation, place Place) bool {
	if stateOf(of.Status).Phase == rotation.Due {
		return true
	}
	ready := meta.FindStatusCondition(of.Status.Conditions, v1alpha1.ConditionReady)
	return ready == nil || ready.Status != metav1.ConditionTrue ||
		ready.ObservedGeneration != of.Generation || of.Status.Path != place.Ref.String()
}

// probe asks the store whether the place may be written.
func (r *Reconciler) probe(ctx context.Context, place Place) (refusal *Refusal, unasked error) {
	err := r.config.Store.Probe(ctx, place.Store, place.Identity, place.Ref)
	switch {
	case err == nil:
		return nil, nil
	case errors.Is(err, providers.ErrDenied):
		return refuse(v1alpha1.ReasonPathNotWritable, "spec.path: %s; a rotation needs create, update and read on the document's data", err), nil
	case errors.Is(err, providers.ErrInvalid):
		return refuse(v1alpha1.ReasonPathNotWritable, "spec.path: %s", err), nil
	case errors.Is(err, providers.ErrNotFound):
		return refuse(v1alpha1.ReasonPathNotWritable, "spec.path: %s", err), nil
	}
	return nil, err
}
