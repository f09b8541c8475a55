package restart

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/broker/waits"
)

// windowsStatus says on an Environment that its windows let nothing restart.
// While they do, there is nothing to say, and nothing is written.
type windowsStatus struct {
	client    client.Client
	calendars *calendars
	clock     clock.PassiveClock
}

func (s *windowsStatus) setup(mgr manager.Manager) error {
	err := builder.ControllerManagedBy(mgr).Named("privyseal-windows").
		For(&v1alpha1.Environment{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Complete(s)
	if err != nil {
		return fmt.Errorf("setting up the status of windows: %w", err)
	}
	return nil
}

// Reconcile sees to one Environment.
func (s *windowsStatus) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	environment := &v1alpha1.Environment{}
	if err := s.client.Get(ctx, request.NamespacedName, environment); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	before, now := environment.DeepCopy(), s.clock.Now()
	held := s.calendars.unusable(environment, now)
	tellUnusable(environment, held, metav1.NewTime(now))
	if !equality.Semantic.DeepEqual(before.Status, environment.Status) {
		err := s.client.Status().Patch(ctx, environment, client.MergeFrom(before))
		if client.IgnoreNotFound(err) != nil {
			return reconcile.Result{}, fmt.Errorf("writing the status of environment %s: %w", environment.Name, err)
		}
	}
	if len(environment.Spec.Windows) == 0 {
		return reconcile.Result{}, nil
	}
	return reconcile.Result{RequeueAfter: neverAgain}, nil
}

// tellUnusable sets the condition where there is something to tell, and takes
// it away where there is not.
func tellUnusable(environment *v1alpha1.Environment, held waits.Hold, now metav1.Time) {
	if !held.Holds() {
		meta.RemoveStatusCondition(&environment.Status.Conditions, v1alpha1.ConditionWindowsUnusable)
		return
	}
	reason := v1alpha1.ReasonWindowsMalformed
	if held.Cause == waits.NeverOpen {
		reason = v1alpha1.ReasonWindowsNeverOpen
	}
	meta.SetStatusCondition(&environment.Status.Conditions, metav1.Condition{
		Type: v1alpha1.ConditionWindowsUnusable, Status: metav1.ConditionTrue, Reason: reason,
		Message:            "no workload is restarted for a changed secret: " + held.Why,
		ObservedGeneration: environment.Generation, LastTransitionTime: now,
	})
}
