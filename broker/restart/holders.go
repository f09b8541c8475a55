package restart

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// StillHeld says whether a pod that has not ended, of whatever kind or none, was
// started before the target had its content of a sequence, and reads of it what
// changed until then. A pod that is being deleted counts: it may need what it holds
// until it is gone. known is false while the caches do not show that content.
func (c *Controller) StillHeld(ctx context.Context, target types.NamespacedName, sequence int64) (held, known bool, err error) {
	shown, ours, err := c.gather.target(ctx, target)
	if err != nil || !ours || shown.Revisions.Sequence() < sequence {
		return false, false, err
	}
	held, err = c.gather.anyReader(ctx, target, func(pod *corev1.Pod) bool {
		counts := counting(target.Name, ReadsOf(&pod.Spec)[target.Name])
		return shown.Revisions.ChangedSince(EvidenceOf(pod).Of(target.Name), sequence, counts)
	})
	return held, true, err
}

// ReadBefore says whether a pod that has not ended reads a Secret and was made
// before a time; zero: whenever it was made.
func (c *Controller) ReadBefore(ctx context.Context, secret types.NamespacedName, before time.Time) (bool, error) {
	return c.gather.anyReader(ctx, secret, func(pod *corev1.Pod) bool {
		return before.IsZero() || EvidenceOf(pod).Created < before.Unix()
	})
}

// anyReader says whether one of the pods that read a Secret, and have not ended, is
// meant.
func (g gatherer) anyReader(ctx context.Context, secret types.NamespacedName, meant func(*corev1.Pod) bool) (bool, error) {
	pods := &corev1.PodList{}
	err := g.cache.List(ctx, pods, client.InNamespace(secret.Namespace),
		client.MatchingFields{indexReads: secret.Name}, client.UnsafeDisableDeepCopy)
	if err != nil {
		return false, fmt.Errorf("listing the pods that read Secret %s: %w", secret, err)
	}
	for i := range pods.Items {
		pod := &pods.Items[i]
		ended := pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
		if !ended && meant(pod) {
			return true, nil
		}
	}
	return false, nil
}
