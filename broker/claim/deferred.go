package claim

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/privyseal/privyseal/broker/annotation"
	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/broker/waits"
)

// maxNoted is how many reasons to restart now a claim's status holds.
const maxNoted = 16

// tellDeferred puts into the claim's status that restarts wait for a window, and
// notes the reasons that people give for not waiting: package restart goes by
// what is noted. The condition names no workloads and no numbers, so that it
// stays the same while they come and go.
func tellDeferred(claim *v1alpha1.SecretClaim, deferral waits.Deferral, now metav1.Time) {
	if !deferral.Waits() {
		meta.RemoveStatusCondition(&claim.Status.Conditions, v1alpha1.ConditionRestartDeferred)
		return
	}
	asked := askedNow(claim, deferral)
	claim.Status.RestartNow = noteReasons(claim.Status.RestartNow, asked, deferral.Sequence)
	tellWhile(claim, now, v1alpha1.ConditionRestartDeferred, reasonOf(deferral.Hold.Cause), []string{
		fmt.Sprintf("restarts of workloads that read Secret %s wait %s", claim.TargetName().Name, deferral.Hold.Says()),
	}, adviceFor(claim, deferral))
}

func reasonOf(cause waits.Cause) string {
	switch cause {
	case waits.Unknown:
		return v1alpha1.ReasonWindowsMalformed
	case waits.NeverOpen:
		return v1alpha1.ReasonWindowsNeverOpen
	case waits.Turn:
		return v1alpha1.ReasonTurn
	case waits.Stopped:
		return v1alpha1.ReasonRolloutFailing
	case waits.Disrupted:
		return v1alpha1.ReasonDisruptionBudget
	case waits.Closed, waits.Nothing:
	}
	return v1alpha1.ReasonWindowClosed
}

// askedNow are the reasons that are given for restarting now, by workload; by
// "" that of the claim.
func askedNow(claim *v1alpha1.SecretClaim, deferral waits.Deferral) map[string]string {
	asked := map[string]string{}
	maps.Copy(asked, deferral.Asked)
	if reason, _ := annotation.Reason(claim.Annotations); reason != "" {
		asked[""] = reason
	}
	return asked
}

// noteReasons adds the reasons that were not noted yet, good for what waits now.
// One that was is good for what waited then. Where there is no room, the oldest
// goes that nobody gives any more; one that somebody gives would come back as
// new, and so stays.
func noteReasons(noted []v1alpha1.RestartNow, asked map[string]string, sequence int64) []v1alpha1.RestartNow {
	noted = slices.Clone(noted)
	for _, workload := range slices.Sorted(maps.Keys(asked)) {
		if slices.ContainsFunc(noted, func(n v1alpha1.RestartNow) bool { return n.Workload == workload && n.Reason == asked[workload] }) {
			continue
		}
		if len(noted) >= maxNoted {
			given := func(n v1alpha1.RestartNow) bool { return asked[n.Workload] == n.Reason }
			oldest := slices.IndexFunc(noted, func(n v1alpha1.RestartNow) bool { return !given(n) })
			if oldest < 0 {
				return noted
			}
			noted = slices.Delete(noted, oldest, oldest+1)
		}
		noted = append(noted, v1alpha1.RestartNow{Workload: workload, Reason: asked[workload], Sequence: sequence})
	}
	return noted
}

// adviceFor says how to restart now, and what is wrong with a reason that was
// given for it.
func adviceFor(claim *v1alpha1.SecretClaim, deferral waits.Deferral) string {
	reason, there := annotation.Reason(claim.Annotations)
	if there && reason == "" {
		return fmt.Sprintf("; annotation %s of the claim gives no reason, and so does nothing: say why", annotation.RestartNow)
	}
	spent := deferral.Spent
	if slices.ContainsFunc(claim.Status.RestartNow, func(n v1alpha1.RestartNow) bool {
		return n.Workload == "" && n.Reason == reason && n.Sequence < deferral.Sequence
	}) {
		spent = reason
	}
	if spent != "" {
		return fmt.Sprintf("; annotation %s says %q, which was good for an earlier change: give another reason", annotation.RestartNow, spent)
	}
	if len(claim.Status.RestartNow) == maxNoted {
		return fmt.Sprintf("; annotation %s of the claim, with a reason, restarts all of them now", annotation.RestartNow)
	}
	return fmt.Sprintf("; annotation %s of the claim or of a workload, with a reason, restarts them now", annotation.RestartNow)
}

// announceDeferred tells of a deferral once: when the status that tells of it
// was written, which the next daemon sees.
func (r *Reconciler) announceDeferred(before, claim *v1alpha1.SecretClaim) {
	was := meta.FindStatusCondition(before.Status.Conditions, v1alpha1.ConditionRestartDeferred)
	is := meta.FindStatusCondition(claim.Status.Conditions, v1alpha1.ConditionRestartDeferred)
	if is == nil || was != nil && was.Reason == is.Reason {
		return
	}
	kind := corev1.EventTypeNormal
	if is.Reason != v1alpha1.ReasonWindowClosed && is.Reason != v1alpha1.ReasonTurn {
		kind = corev1.EventTypeWarning
	}
	const maxNote = 1000 // what the events API takes, less some room
	r.config.Events.Eventf(claim, nil, kind, v1alpha1.ConditionRestartDeferred, "Restart", "%s",
		strings.ToValidUTF8(is.Message[:min(len(is.Message), maxNote)], ""))
}
