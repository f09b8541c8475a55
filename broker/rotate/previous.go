package rotate

import (
	"context"
	"errors"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/providers"
	"github.com/privyseal/privyseal/rotation"
)

// A rotation with strategy Overlap leaves values before in the store. Its record goes
// with its end, so what they were is kept nowhere but in the store's own history, and
// that is what they are held against when they are to be dropped.

// drops says that values before are being dropped, or are to be by now.
func (l *look) drops() bool {
	at, ever := l.plan.Drops(l.state)
	return l.state.Dropping || ever && !l.facts.Now.Before(at)
}

// putPrevious writes down what a rotation left, while its record still tells.
func (l *look) putPrevious(next rotation.State, status *v1alpha1.SecretRotationStatus) {
	switch {
	case next.Kept == 0:
		status.Previous = nil
	case next.Kept == l.state.Kept && next.KeptSince.Equal(l.state.KeptSince):
		status.Previous.Dropping = next.Dropping
	default:
		status.Previous = nil
		if keys := l.record.change.Previous(); len(keys) > 0 {
			status.Previous = &v1alpha1.RotationPrevious{
				Path: l.place.Ref.String(), Version: next.Kept, Since: metav1.MicroTime{Time: next.KeptSince}, Keys: keys,
			}
		}
	}
}

// readPrevious looks which values before are still those that the rotation left.
func (r *Reconciler) readPrevious(ctx context.Context, l *look) {
	kept := l.of.Status.Previous
	l.left = slices.DeleteFunc(slices.Clone(kept.Keys), func(key string) bool {
		_, there := l.document.Values[key]
		return !there
	})
	if len(l.left) == 0 || kept.Path != l.place.Ref.String() {
		return
	}
	then, err := r.config.Store.Read(ctx, l.place.Store, l.place.Identity, providers.Request{Ref: l.place.Ref, Version: kept.Version})
	defer then.Clear()
	switch {
	case errors.Is(err, providers.ErrNotFound), errors.Is(err, providers.ErrDeleted):
		return // nobody can say any more
	case err != nil:
		l.unread, l.facts.Store = err, rotation.Store{}
		return
	}
	for _, key := range l.left {
		if left, there := then.Values[key]; there && left.Equal(l.document.Values[key]) {
			l.ours = append(l.ours, key)
		}
	}
	l.facts.Store.Previous = len(l.ours) > 0
}

// dropPrevious takes values before out of the store. A conflict is no error: what is
// there now is looked at next.
func (r *Reconciler) dropPrevious(ctx context.Context, l *look, action rotation.Action) error {
	change := providers.Change{Ref: l.place.Ref, From: action.Version, Remove: l.ours}
	_, err := r.config.Store.Write(ctx, l.place.Store, l.place.Identity, change)
	if errors.Is(err, providers.ErrConflict) {
		return nil
	}
	if err != nil {
		return err
	}
	r.config.Events.Eventf(l.of, nil, corev1.EventTypeNormal, "PreviousDropped", "Rotate", "%s went out of the store", few(l.ours))
	if l.readings, err = r.config.Claims.ReadingOf(ctx, l.place); err != nil {
		return err
	}
	r.rereadAll(ctx, l)
	return nil
}
