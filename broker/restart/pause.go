package restart

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/privyseal/privyseal/broker/reloader"
	"github.com/privyseal/privyseal/broker/waits"
)

// A Deployment with annotation reloader.PausePeriod is paused by the patch that
// restarts it, so that what changes until the period is over is in one rollout,
// at its end. When that is stands on the Deployment, beside the pause, and so any
// daemon ends it. A pause of somebody else's has no such time, and stays.

// ReasonResumed is that of the event on a Deployment whose pause is over.
const ReasonResumed = "Resumed"

// pauses says since when a Deployment is paused by the patch that is to be made;
// "": it is not.
func (c *Controller) pauses(w Workload, s shape, decision Decision) string {
	if c.config.Foreign == nil || w.Kind != "Deployment" || s.held == HeldByPause || decision.RestartNow != "" {
		return ""
	}
	period, err := reloader.PauseOf(s.GetAnnotations())
	if err != nil || period == 0 { // the error was told of
		return ""
	}
	return c.config.Clock.Now().UTC().Format(time.RFC3339)
}

// resume ends a pause of ours that is over, unless windows forbid what would
// begin then, or it is not its turn, and says when to look again; 0: when something
// happens.
func (c *Controller) resume(ctx context.Context, w Workload, s shape, facts Facts, decision Decision) (time.Duration, error) {
	until, paused := reloader.PausedUntil(s.GetAnnotations())
	if c.config.Foreign == nil || w.Kind != "Deployment" || s.held != HeldByPause || !paused {
		return 0, nil
	}
	now := c.config.Clock.Now()
	if wait := until.Sub(now); wait > 0 {
		return min(wait, lookAtWindows), nil // as with windows, the clock may be put right
	}
	hold, err := c.hold(ctx, w.Namespace)
	if err != nil {
		return 0, err
	}
	if hold.Holds() {
		if hold.Cause != waits.Closed {
			return lookAtWindows, nil
		}
		return min(lookAtWindows, max(time.Millisecond, hold.Until.Sub(now))), nil
	}
	if hold, err = c.turnToResume(ctx, w, s, facts, decision); err != nil {
		return 0, err
	}
	if hold.Holds() {
		return lookAtTurns, nil // whoever ends before has it looked at sooner
	}
	object := &metav1.PartialObjectMetadata{}
	object.SetGroupVersionKind(w.gvk())
	object.SetNamespace(w.Namespace)
	object.SetName(w.Name)
	err = c.client.Patch(ctx, object, resumption(s), client.FieldOwner(fieldManager))
	if err != nil {
		c.turns.giveBack(w)
	}
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) || apierrors.IsInvalid(err) {
		return lookAgain, nil // it is another, or somebody was faster
	}
	if err != nil {
		return 0, fmt.Errorf("resuming %s: %w", w, err)
	}
	log.FromContext(ctx).Info("Resumed", "pausedAt", s.GetAnnotations()[reloader.PausedAt])
	c.events.Eventf(s.Object, nil, corev1.EventTypeNormal, ReasonResumed, "Restart", "going on, since the pause is over that %s asks for", reloader.PausePeriod)
	return 0, nil
}

// turnToResume says what keeps the rollout from beginning that a pause has held back,
// and takes a place for it if nothing does. What the template was patched for is what
// it begins for.
func (c *Controller) turnToResume(ctx context.Context, w Workload, s shape, facts Facts, decision Decision) (waits.Hold, error) {
	due := Decision{Stale: slices.Clone(decision.Stale)}
	for i := range due.Stale {
		due.Stale[i].Cause = due.Stale[i].Standing == HeldByPause
	}
	return c.turnFor(ctx, w, s, facts, due, beginning{
		at: c.config.Clock.Now(), line: facts.RestartedFor, pausedAt: s.GetAnnotations()[reloader.PausedAt],
	})
}

// resumption is the patch that ends the pause that was read, and no other.
func resumption(s shape) client.Patch {
	at := annotationPath("/metadata/annotations/", reloader.PausedAt)
	return client.RawPatch(types.JSONPatchType, encode([]operation{
		{"test", "/metadata/uid", string(s.GetUID())},
		{"test", at, s.GetAnnotations()[reloader.PausedAt]},
		{"remove", at, nil},
		{"add", "/spec/paused", false},
	}))
}
