package rotate

import (
	"context"
	"fmt"
	"slices"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/rotation"
)

// maxReason bounds what somebody else says in a status.
const maxReason = 512

// explain says why a hook fails, or waits. What it said itself, in its termination
// message, is told without the values that it had; its log is never read.
func (r *Reconciler) explain(ctx context.Context, l *look) error {
	s := l.hook
	if s.job == nil || s.is != rotation.Running && s.is != rotation.Failed {
		return nil
	}
	if said := s.said(); said != "" {
		s.why = said
		return nil
	}
	var pods corev1.PodList
	if err := r.config.Live.List(ctx, &pods, client.InNamespace(s.job.Namespace), client.MatchingLabels{batchv1.JobNameLabel: s.job.Name}); err != nil {
		return fmt.Errorf("listing the pods of Job %s/%s: %w", s.job.Namespace, s.job.Name, err)
	}
	pods.Items = slices.DeleteFunc(pods.Items, func(pod corev1.Pod) bool { return !metav1.IsControlledBy(&pod, s.job) })
	var why string
	if s.is == rotation.Running {
		var err error
		if why, err = r.waitsFor(ctx, s.job, pods.Items); err != nil {
			return err
		}
	} else {
		why = failed(s.job, pods.Items, s.redaction(l.record.change))
	}
	why = cut(why, maxReason)
	// The pods of a Job that took too long are gone, and what they waited for with
	// them: what was seen last says more.
	kept := r.remembered(l.of, func(m *memory) {
		if s.is == rotation.Running && why != "" {
			m.waits = waits{s.job.Name, why}
		}
	})
	if s.is == rotation.Failed && len(pods.Items) == 0 && kept.waits.job == s.job.Name {
		why += "; before that: " + kept.waits.why
	}
	if why != "" {
		s.why = "Job " + s.job.Namespace + "/" + s.job.Name + ": " + why
	}
	return nil
}

// said is why a hook failed, as it was noted when its values went; empty: it was not.
func (s *seen) said() string {
	if s.is != rotation.Failed || s.values == nil {
		return ""
	}
	return s.values.Annotations[v1alpha1.AnnotationSaid]
}

// waits is what a Job waited for when it was last seen.
type waits struct{ job, why string }

// waitsFor is what keeps a Job's pod from running; empty: nothing does.
func (r *Reconciler) waitsFor(ctx context.Context, job *batchv1.Job, pods []corev1.Pod) (string, error) {
	if !job.DeletionTimestamp.IsZero() {
		return "it is being deleted", nil
	}
	if ptr.Deref(job.Spec.Suspend, false) {
		return "somebody suspended it", nil
	}
	for _, pod := range pods {
		if why := podWaits(pod); why != "" {
			return why, nil
		}
	}
	if len(pods) > 0 {
		return "", nil
	}
	if there, err := r.accountIsThere(ctx, job.Namespace); err != nil || !there {
		return "its pod runs as " + createAccount(job.Namespace), err
	}
	return r.refusedPod(ctx, job)
}

// podWaits is what keeps a pod from running.
func podWaits(pod corev1.Pod) string {
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodScheduled && condition.Status == corev1.ConditionFalse {
			return "no node takes its pod: " + condition.Message
		}
	}
	for _, container := range pod.Status.ContainerStatuses {
		waiting := container.State.Waiting
		if waiting != nil && waiting.Reason != "ContainerCreating" && waiting.Reason != "PodInitializing" {
			return strings.TrimSuffix("its pod waits: "+waiting.Reason+": "+waiting.Message, ": ")
		}
	}
	return ""
}

// refusedPod is why no pod can be made, by the newest event of it.
func (r *Reconciler) refusedPod(ctx context.Context, job *batchv1.Job) (string, error) {
	var events corev1.EventList
	about := client.MatchingFields{"involvedObject.uid": string(job.UID), "reason": "FailedCreate"}
	if err := r.config.Live.List(ctx, &events, client.InNamespace(job.Namespace), about); err != nil {
		return "", fmt.Errorf("listing the events of Job %s/%s: %w", job.Namespace, job.Name, err)
	}
	if len(events.Items) == 0 {
		return "", nil
	}
	newest := slices.MaxFunc(events.Items, func(a, b corev1.Event) int { return a.LastTimestamp.Compare(b.LastTimestamp.Time) })
	return "its pod cannot be made: " + newest.Message, nil
}

// failed says why a Job did.
func failed(job *batchv1.Job, pods []corev1.Pod, r redaction) string {
	for _, condition := range job.Status.Conditions {
		if condition.Type == batchv1.JobFailed && condition.Reason == batchv1.JobReasonDeadlineExceeded {
			return "it did not end in time, and was stopped"
		}
	}
	slices.SortFunc(pods, func(a, b corev1.Pod) int { return b.CreationTimestamp.Compare(a.CreationTimestamp.Time) })
	for _, pod := range pods {
		for _, container := range pod.Status.ContainerStatuses {
			if end := container.State.Terminated; end != nil && end.ExitCode != 0 {
				return exited(end, r)
			}
		}
		if pod.Status.Phase == corev1.PodFailed {
			return strings.Trim(pod.Status.Reason+": "+pod.Status.Message, ": ")
		}
	}
	for _, condition := range job.Status.Conditions {
		if condition.Type == batchv1.JobFailed {
			return strings.Trim(condition.Reason+": "+condition.Message, ": ")
		}
	}
	return ""
}

// exited is how a container ended. Its message is what the hook wrote to
// /dev/termination-log, and the one text here that could have a value in it.
func exited(end *corev1.ContainerStateTerminated, r redaction) string {
	how := fmt.Sprintf("exit code %d", end.ExitCode)
	if end.Reason != "" && end.Reason != "Error" {
		how += " (" + end.Reason + ")"
	}
	if said := strings.TrimSpace(r.of(end.Message)); said != "" {
		how += ": " + said
	}
	return how
}
