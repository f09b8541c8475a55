package rotate

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/privyseal/privyseal/broker/statuses"
	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/rotation"
)

// Reconcile takes one step of a rotation: it writes the next state down, or does one
// action.
func (r *Reconciler) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	if rest, rests, err := r.rests(ctx, request.NamespacedName); rests || err != nil {
		return rest, err
	}
	of := &v1alpha1.SecretRotation{}
	err := r.config.Live.Get(ctx, request.NamespacedName, of)
	if apierrors.IsNotFound(err) || err == nil && !of.DeletionTimestamp.IsZero() {
		r.forget(request.NamespacedName)
		return reconcile.Result{}, nil
	}
	if err != nil {
		return reconcile.Result{}, fmt.Errorf("reading rotation %s: %w", request, err)
	}
	l, err := r.gather(ctx, of)
	defer l.clear()
	if err != nil {
		return reconcile.Result{}, errors.Join(err, r.tellProblem(ctx, of, err))
	}
	if l.hook.spent() {
		return again(true), r.empty(ctx, l.hook)
	}
	next, action := l.decides()
	if next != l.state {
		return r.goOn(ctx, l, next)
	}
	kept := r.remembered(of, func(*memory) {})
	if moved, err := r.writeStatus(ctx, of, l.waiting(action, cmp.Or(kept.problem, l.hook.waits()))); moved || err != nil {
		return again(moved), err
	}
	r.announceMissed(l)
	err = r.act(ctx, l, action)
	r.remembered(of, func(m *memory) {
		m.problem, m.clean = textOf(err), l.record == nil && l.state.Phase.Ended()
	})
	if err != nil {
		return reconcile.Result{}, fmt.Errorf("attempt %d, %s: %w", action.Attempt, action.Do, err)
	}
	return reconcile.Result{RequeueAfter: l.next(action)}, nil
}

// rests says that nothing is under way or due, and nothing is to be told, as far as
// the cache knows: what is due is so whatever else it does not show yet. So a rotation
// that waits for its time costs no request. Whether it left a record is looked at
// once by each daemon, and after each end.
func (r *Reconciler) rests(ctx context.Context, name types.NamespacedName) (rest reconcile.Result, rests bool, _ error) {
	of := &v1alpha1.SecretRotation{}
	if err := r.config.Client.Get(ctx, name, of); err != nil {
		return reconcile.Result{}, false, nil //nolint:nilerr // the API server knows better
	}
	if !stateOf(of.Status).Phase.Ended() || !of.DeletionTimestamp.IsZero() || !r.remembered(of, func(*memory) {}).clean {
		return reconcile.Result{}, false, nil
	}
	l, err := r.glance(ctx, of)
	if err != nil || l.facts.Run != "" || l.drops() || !equality.Semantic.DeepEqual(of.Status, l.waiting(rotation.Action{}, "")) {
		return reconcile.Result{}, false, err
	}
	return reconcile.Result{RequeueAfter: l.next(rotation.Action{})}, true, nil
}

// goOn writes the next state down, and tells of it.
func (r *Reconciler) goOn(ctx context.Context, l *look, next rotation.State) (reconcile.Result, error) {
	moved, err := r.writeStatus(ctx, l.of, l.after(next))
	if moved || err != nil {
		return again(moved), err
	}
	log.FromContext(ctx).Info("Rotating", "phase", next.Phase, "attempt", next.Attempt, "run", next.Run, "why", next.Why)
	r.announceMissed(l)
	r.announce(l, next)
	return again(true), nil
}

// again looks again as soon as may be.
func again(at bool) reconcile.Result {
	if !at {
		return reconcile.Result{}
	}
	return reconcile.Result{RequeueAfter: statuses.AtOnce}
}

// writeStatus writes a status over the one that it follows, if it is another. moved:
// somebody else wrote it meanwhile, and nothing was written.
func (r *Reconciler) writeStatus(ctx context.Context, of *v1alpha1.SecretRotation, status v1alpha1.SecretRotationStatus) (moved bool, _ error) {
	if equality.Semantic.DeepEqual(of.Status, status) {
		return false, nil
	}
	before := of.DeepCopy()
	of.Status = status
	over := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	err := r.config.Client.Status().Patch(ctx, of, over)
	if apierrors.IsConflict(err) {
		return true, nil
	}
	if err != nil {
		return false, client.IgnoreNotFound(fmt.Errorf("writing the status of rotation %s/%s: %w", of.Namespace, of.Name, err))
	}
	return false, nil
}

// tellProblem tells that a record cannot be opened: nothing goes on before it can.
func (r *Reconciler) tellProblem(ctx context.Context, of *v1alpha1.SecretRotation, problem error) error {
	if !errors.Is(problem, errRecord) {
		return nil
	}
	status := *of.Status.DeepCopy()
	setCondition(&status, of.Generation, metav1.NewTime(r.config.Clock.Now()), v1alpha1.ConditionRotated,
		metav1.ConditionUnknown, v1alpha1.ReasonRotating, problem.Error())
	_, err := r.writeStatus(ctx, of, status)
	return err
}

func textOf(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
