package rotate

import (
	"cmp"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/privyseal/privyseal/broker/annotation"
	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/rotation"
)

const (
	// maxMessage of a condition that the API server takes.
	maxMessage = 32768
	// maxNote is what the events API takes, less some room.
	maxNote = 1000
)

// common is the status as far as it does not depend on what comes next.
func (l *look) common() v1alpha1.SecretRotationStatus {
	status, now := *l.of.Status.DeepCopy(), metav1.NewTime(l.facts.Now)
	status.ObservedGeneration = l.of.Generation
	status.Path, status.NextRotation = l.asked.place.Ref.String(), nil
	switch refusal := l.asked.refusal; {
	case refusal != nil:
		setCondition(&status, l.of.Generation, now, v1alpha1.ConditionReady, metav1.ConditionFalse, refusal.Reason, refusal.Message)
		return status
	case l.asked.unasked == nil:
		setCondition(&status, l.of.Generation, now, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonCanRotate, "it can be carried out as it is written")
	case meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionReady) == nil:
		setCondition(&status, l.of.Generation, now, v1alpha1.ConditionReady, metav1.ConditionUnknown, v1alpha1.ReasonStoreUnavailable, "the store could not be asked yet whether the path may be written")
	}
	if since := l.scheduledSince(); since.Equal(l.facts.Now) {
		status.Schedule = &v1alpha1.RotationSchedule{Cron: l.of.Spec.Schedule, TimeZone: l.of.Spec.TimeZone, Since: now}
	}
	l.missed = missed(l.verdict.Missed.ID, now, &status)
	status.NextRotation = timeOf(l.verdict.Begins)
	return status
}

func timeOf(at time.Time) *metav1.Time {
	if at.IsZero() {
		return nil
	}
	return &metav1.Time{Time: at}
}

// after is the status with the next state in it.
func (l *look) after(next rotation.State) v1alpha1.SecretRotationStatus {
	status, now := l.common(), metav1.NewTime(l.facts.Now)
	if next.Phase == rotation.Due && next.Run != l.state.Run && next.Run == l.due.id {
		begun(l.due, &status)
		coming := l.scheduled(opening(l.asked.place.Windows), status)
		status.NextRotation = timeOf(coming.Begins)
	}
	put(next, &status)
	l.putPrevious(next, &status)
	l.putEngineStore(next, &status)
	if next.Phase.Ended() && !l.state.Phase.Ended() {
		ended(next, now, &status)
	}
	is, reason, message := outcome(next)
	setCondition(&status, l.of.Generation, now, v1alpha1.ConditionRotated, is, reason, message)
	return status
}

// waiting is the status of a state in which something is waited for.
func (l *look) waiting(action rotation.Action, problem string) v1alpha1.SecretRotationStatus {
	status := l.common()
	problem = cmp.Or(problem, textOf(l.unread))
	is, reason, message := outcome(l.state)
	switch {
	case l.state.Phase.Ended() && (!l.state.Dropping || problem == ""):
		return status
	case l.state.Dropping:
		message += "; nothing begins before the values before are dropped"
	}
	if is == metav1.ConditionUnknown && action.Do == rotation.Wait && action.Why != "" {
		message += ": " + action.Why
	}
	if problem != "" {
		message += "; " + problem
	}
	if l.state.Phase == rotation.Halted {
		message += orders(l)
	}
	setCondition(&status, l.of.Generation, metav1.NewTime(l.facts.Now), v1alpha1.ConditionRotated, is, reason, message)
	return status
}

// outcome is what Rotated says of a state.
func outcome(state rotation.State) (is metav1.ConditionStatus, reason, message string) {
	switch state.Phase {
	case rotation.Idle, rotation.Done:
		return metav1.ConditionTrue, v1alpha1.ReasonRotationDone, "run " + state.Run + " went well"
	case rotation.RolledBack:
		return metav1.ConditionFalse, v1alpha1.ReasonRolledBack, "run " + state.Run + " was taken back, and the old values are in the store again: " + state.Why
	case rotation.Halted:
		if state.Engine != "" {
			return metav1.ConditionFalse, v1alpha1.ReasonHalted, "run " + state.Run + " halted: " + state.Why
		}
		return metav1.ConditionFalse, v1alpha1.ReasonHalted, "run " + state.Run + " halted, and both values are kept: " + state.Why
	case rotation.Accepted:
		return metav1.ConditionTrue, v1alpha1.ReasonAccepted, "somebody ended run " + state.Run + " by " + annotation.RotationOrder
	}
	message = "run " + state.Run + " is in phase " + string(state.Phase)
	if state.Why != "" {
		message += " since " + state.Why
	}
	return metav1.ConditionUnknown, v1alpha1.ReasonRotating, message
}

// orders says how a rotation that halted goes on.
func orders(l *look) string {
	known := "; annotation " + annotation.RotationOrder + " says how it goes on: Retry, RollBack, or Accept if the store is as it should be"
	if l.state.Engine != "" {
		known = "; annotation " + annotation.RotationOrder + " says how it goes on: Retry, or Accept if all is as it should be"
	}
	word := annotation.Word(l.of.Annotations, annotation.RotationOrder)
	switch {
	case word == "":
		return known
	case word == l.state.Obeyed:
		return known + `; "` + word + `" was obeyed already: put another word behind it`
	case order(l.of, l.state).ID == "":
		return known + `; "` + word + `" is none of them`
	}
	return known
}

func setCondition(status *v1alpha1.SecretRotationStatus, generation int64, now metav1.Time, condition string, is metav1.ConditionStatus, reason, message string) {
	meta.SetStatusCondition(&status.Conditions, metav1.Condition{
		Type: condition, Status: is, Reason: reason, Message: cut(message, maxMessage),
		ObservedGeneration: generation, LastTransitionTime: now,
	})
}

// announceMissed tells of a run that did not begin in time.
func (r *Reconciler) announceMissed(l *look) {
	if l.missed {
		r.metrics.ended.WithLabelValues("missed").Inc()
		r.config.Events.Eventf(l.of, nil, corev1.EventTypeWarning, "RotationMissed", "Rotate",
			"run %s did not begin before its startingDeadline, and is left out", l.verdict.Missed.ID)
	}
}

// announce tells people of a new state, and counts how rotations end.
func (r *Reconciler) announce(l *look, next rotation.State) {
	if l.state.Dropping && !next.Dropping && len(l.left) > 0 {
		r.config.Events.Eventf(l.of, nil, corev1.EventTypeWarning, "PreviousLeft", "Rotate",
			"%s stay in the store: somebody wrote to them, or version %d, which would tell, is there no more", few(l.left), l.state.Kept)
	}
	if next.Phase == l.state.Phase {
		return
	}
	kind, reason := corev1.EventTypeNormal, ""
	_, is, message := outcome(next)
	switch next.Phase {
	case rotation.Due:
		reason, message = "RotationBegan", "run "+next.Run+" begins"
		if l.state.Phase == rotation.Prepared || l.state.Phase == rotation.Set {
			return // another attempt at the same
		}
	case rotation.Done, rotation.Accepted:
		reason = is
	case rotation.RollingBack:
		kind, reason, message = corev1.EventTypeWarning, "RollingBack", "run "+next.Run+" is taken back: "+next.Why
	case rotation.RolledBack, rotation.Halted:
		kind, reason = corev1.EventTypeWarning, is
	default:
		return
	}
	r.metrics.count(next.Phase)
	r.config.Events.Eventf(l.of, nil, kind, reason, "Rotate", "%s", cut(strings.TrimSpace(cmp.Or(message, reason)), maxNote))
}
