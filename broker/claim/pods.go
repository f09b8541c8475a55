package claim

import (
	"context"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/broker/variables"
	"github.com/privyseal/privyseal/broker/waits"
)

// Pods knows how live pods take a claim's target, and which go without. It
// asks nobody.
type Pods interface {
	// EnvConflicts are the variables that containers get from a target and
	// from elsewhere too, sorted.
	EnvConflicts(ctx context.Context, target types.NamespacedName) ([]variables.Conflict, error)
	// Uninjected says of each workload, sorted, whose pods ask for a claim and
	// run without it, what becomes of them.
	Uninjected(ctx context.Context, claim types.NamespacedName) ([]string, error)
	// Deferred is what waits for a window among the workloads that read a
	// target.
	Deferred(ctx context.Context, target types.NamespacedName) (waits.Deferral, error)
}

// shownPods bounds the workloads and containers that a condition names.
const shownPods = 5

// tellPods puts into the claim's status what its pods have to complain of. A
// condition is there for as long as there is something to tell.
//
// A conflict leaves Ready as it is: the Secret is what the claim asks for, and
// the pod had these variables before we saw it.
func (r *Reconciler) tellPods(ctx context.Context, claim *v1alpha1.SecretClaim, now metav1.Time) error {
	if r.config.Pods == nil {
		return nil
	}
	conflicts, err := r.config.Pods.EnvConflicts(ctx, claim.TargetName())
	if err != nil {
		return fmt.Errorf("looking for variables that collide: %w", err)
	}
	without, err := r.config.Pods.Uninjected(ctx, client.ObjectKeyFromObject(claim))
	if err != nil {
		return fmt.Errorf("looking for pods without their secret: %w", err)
	}
	deferral, err := r.config.Pods.Deferred(ctx, claim.TargetName())
	if err != nil {
		return fmt.Errorf("looking for restarts that wait: %w", err)
	}
	tellDeferred(claim, deferral, now)
	told := make([]string, 0, len(conflicts))
	for _, conflict := range conflicts {
		told = append(told, conflict.String())
	}
	tellWhile(claim, now, v1alpha1.ConditionEnvConflict, v1alpha1.ReasonVariablesCollide, told,
		"; only the last of them counts: give one a prefix or other names, or take fewer keys")
	tellWhile(claim, now, v1alpha1.ConditionUninjected, v1alpha1.ReasonPodsWithout, without, "")
	return nil
}

// tellWhile sets a condition while there is something to tell, and takes it
// away when there is not. What is told already is left as it is.
func tellWhile(claim *v1alpha1.SecretClaim, now metav1.Time, kind, reason string, told []string, advice string) {
	if len(told) == 0 {
		meta.RemoveStatusCondition(&claim.Status.Conditions, kind)
		return
	}
	if more := len(told) - shownPods; more > 0 {
		told = append(told[:shownPods:shownPods], fmt.Sprintf("and %d more", more))
	}
	message := strings.Join(told, "; ") + advice
	was := meta.FindStatusCondition(claim.Status.Conditions, kind)
	if was != nil && was.Message == message && was.Reason == reason {
		return
	}
	meta.SetStatusCondition(&claim.Status.Conditions, metav1.Condition{
		Type: kind, Status: metav1.ConditionTrue, Reason: reason, Message: message,
		ObservedGeneration: claim.Generation, LastTransitionTime: now,
	})
}
