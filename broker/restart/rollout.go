package restart

import (
	"cmp"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Rollout is how far a workload's last rollout is, whoever began it.
type Rollout struct {
	// UnderWay: pods of the present template are not all there, or not all
	// available. One that is held (paused, OnDelete, a partition) is not under
	// way, nor is one that waits at a step of its own for long.
	UnderWay bool
	// Fails says why it does not get on; empty where it does.
	Fails string
	// Began is when the template was last patched for a changed secret; zero:
	// never, as far as is known.
	Began time.Time
	// Ready is since when all live pods are ready; zero where one is not, or
	// there are none.
	Ready time.Time
	// Live pods.
	Live int
}

// occupies says that it takes one of the places of a budget. A rollout that
// fails takes none: it may do so for days.
func (r Rollout) occupies() bool { return r.UnderWay && r.Fails == "" }

// rollout of a workload with these live pods. One that makes no new pod for as
// long as a Deployment may by default counts as failing, whatever its kind.
func (s shape) rollout(pods []Pod, now time.Time) Rollout {
	r := Rollout{UnderWay: s.underWay && s.held == Rolling, Began: beganAt(s.Object), Live: len(pods)}
	latest := r.Began
	for i, pod := range pods {
		if i == 0 || pod.Ready.IsZero() || !r.Ready.IsZero() && pod.Ready.After(r.Ready) {
			r.Ready = pod.Ready
		}
		if created := time.Unix(pod.Created, 0); created.After(latest) {
			latest = created
		}
		if s.madeFor(pod) {
			r.Fails = cmp.Or(r.Fails, pod.Trouble)
		}
	}
	if slices.ContainsFunc(pods, func(p Pod) bool { return p.Ready.IsZero() }) {
		r.Ready = time.Time{}
	}
	if r.UnderWay && s.overdue {
		r.Fails = cmp.Or(r.Fails, s.whyOverdue())
	}
	if r.UnderWay && !latest.IsZero() && now.Sub(latest) > patience {
		if s.atStep { // it is well, and may wait for days: nobody waits with it
			r.UnderWay = false
			return r
		}
		r.Fails = cmp.Or(r.Fails, "it gets no further")
	}
	return r
}

func (s shape) whyOverdue() string {
	if s.GetObjectKind().GroupVersionKind().Kind == kindRollout {
		return "it is degraded" // of which the deadline is one of several reasons
	}
	return "its progress deadline is exceeded"
}

// beganAt is when our field of the template was last written. The API server
// notes it, so it is known to every daemon, and the template needs no time in
// it.
func beganAt(object metav1.Object) time.Time {
	for _, entry := range object.GetManagedFields() {
		if entry.Manager == fieldManager && entry.Time != nil {
			return entry.Time.Time
		}
	}
	return time.Time{}
}

// keepBegan leaves of managedFields what beganAt reads.
func keepBegan(all []metav1.ManagedFieldsEntry) []metav1.ManagedFieldsEntry {
	for _, entry := range all {
		if entry.Manager == fieldManager {
			return []metav1.ManagedFieldsEntry{{Manager: entry.Manager, Operation: entry.Operation, Time: entry.Time}}
		}
	}
	return nil
}

// available is the reason of a Deployment's condition Progressing once a rollout
// is through; it stays when pods fail later
// (https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#complete-deployment).
const available = "NewReplicaSetAvailable"

// rolls says how far a Deployment's rollout is, as kubectl rollout status does.
func rolls(d *appsv1.Deployment) (underWay, overdue bool) {
	status := d.Status
	through := false
	for _, condition := range status.Conditions {
		if condition.Type == appsv1.DeploymentProgressing {
			overdue = condition.Status == corev1.ConditionFalse
			through = condition.Reason == available
		}
	}
	switch {
	case status.ObservedGeneration < d.Generation:
		return true, false // what it says is of the template before
	case status.UpdatedReplicas < wanted(d.Spec.Replicas), status.Replicas > status.UpdatedReplicas:
		return true, overdue
	default:
		return status.AvailableReplicas < status.UpdatedReplicas && !through, overdue
	}
}

func wanted(replicas *int32) int32 {
	if replicas == nil {
		return 1
	}
	return *replicas
}

// rollsOn says so of a StatefulSet: its revision becomes the current one when
// all pods are there and ready.
func rollsOn(s *appsv1.StatefulSet) bool {
	return s.Status.ObservedGeneration < s.Generation || s.Status.CurrentRevision != s.Status.UpdateRevision
}

// rollsOver says so of a DaemonSet. A node that is away has no pod of it
// available for as long as it is, so only pods that were made for the present
// template are waited for.
func rollsOver(d *appsv1.DaemonSet) bool {
	return d.Status.ObservedGeneration < d.Generation || d.Status.UpdatedNumberScheduled < d.Status.DesiredNumberScheduled
}

// keepProgress leaves of a Deployment's conditions the one that says whether it
// gets on.
func keepProgress(all []appsv1.DeploymentCondition) []appsv1.DeploymentCondition {
	for _, condition := range all {
		if condition.Type == appsv1.DeploymentProgressing {
			return []appsv1.DeploymentCondition{{Type: condition.Type, Status: condition.Status, Reason: condition.Reason}}
		}
	}
	return nil
}

// troubleOf says why a pod does not get ready; empty where it may yet. A pod
// that keepPod left has it in place of its containers' statuses.
func troubleOf(pod *corev1.Pod) string {
	if readySince(pod) != (time.Time{}) {
		return ""
	}
	statuses := slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses)
	if len(statuses) == 0 {
		return pod.Status.Reason
	}
	for _, status := range statuses {
		if waiting := status.State.Waiting; waiting != nil && isTrouble(waiting.Reason) {
			return waiting.Reason
		}
		if ended := status.LastTerminationState.Terminated; ended != nil && ended.ExitCode != 0 && !status.Ready {
			return "its containers end with errors"
		}
	}
	return ""
}

// isTrouble: kubelet's reasons that a container waits for something other than
// time.
func isTrouble(reason string) bool {
	switch reason {
	case "", "PodInitializing", "ContainerCreating":
		return false
	}
	return true
}

// readySince is since when a pod is ready; zero where it is not.
func readySince(pod *corev1.Pod) time.Time {
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodReady && condition.Status == corev1.ConditionTrue {
			return condition.LastTransitionTime.Time
		}
	}
	return time.Time{}
}

// keepReady leaves of a pod's status the phase, since when it is ready, and why
// it is not.
func keepReady(pod *corev1.Pod) corev1.PodStatus {
	kept := corev1.PodStatus{Phase: pod.Status.Phase, Reason: troubleOf(pod)}
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodReady && condition.Status == corev1.ConditionTrue {
			kept.Conditions = []corev1.PodCondition{{Type: condition.Type, Status: condition.Status, LastTransitionTime: condition.LastTransitionTime}}
		}
	}
	return kept
}
