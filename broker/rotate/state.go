package rotate

import (
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/rotation"
)

// stateOf is what a status has written down.
func stateOf(status v1alpha1.SecretRotationStatus) rotation.State {
	state := rotation.State{
		Phase: rotation.Phase(status.Phase), Run: status.Run, Attempt: int(status.Attempt), Record: status.Record,
		Round: int(status.Round), From: status.FromVersion, To: status.ToVersion,
		HaltedIn: rotation.Phase(status.HaltedIn), Why: status.Why, Obeyed: status.Obeyed, Engine: status.Engine,
	}
	if status.Since != nil {
		state.Since = status.Since.Time
	}
	return state
}

// Longest texts that a status takes.
const (
	maxWhy     = 1024
	maxOutcome = 256
)

// put writes a state into a status.
func put(state rotation.State, status *v1alpha1.SecretRotationStatus) {
	status.Phase, status.Run, status.Attempt = string(state.Phase), state.Run, int64(state.Attempt)
	status.Record, status.Round = state.Record, int64(state.Round)
	status.FromVersion, status.ToVersion, status.Engine = state.From, state.To, state.Engine
	status.HaltedIn, status.Why, status.Obeyed = string(state.HaltedIn), cut(state.Why, maxWhy), state.Obeyed
	status.Since = nil
	if !state.Since.IsZero() {
		status.Since = &metav1.MicroTime{Time: state.Since}
	}
}

// cut a text to so many bytes, between two characters.
func cut(text string, most int) string { return strings.ToValidUTF8(text[:min(len(text), most)], "") }

// Limits of the lists in a status.
const (
	keptRuns    = 2
	keptHistory = 10
)

// ended adds a rotation that ended to the history.
func ended(state rotation.State, now metav1.Time, status *v1alpha1.SecretRotationStatus) {
	entry := v1alpha1.RotationHistory{
		Run: state.Run, Attempt: int64(state.Attempt), Phase: string(state.Phase), Ended: now,
		FromVersion: state.From, ToVersion: state.To, Why: cut(state.Why, maxOutcome),
	}
	remember(entry, status)
	if state.Phase == rotation.Done {
		status.LastRotation = &now
	}
}

func remember(entry v1alpha1.RotationHistory, status *v1alpha1.SecretRotationStatus) {
	history := append([]v1alpha1.RotationHistory{entry}, status.History...)
	status.History = history[:min(len(history), keptHistory)]
}

// phaseMissed in a history is a run that did not begin before its deadline.
const phaseMissed = "Missed"

// missed adds a run to the history that did not begin in time, once.
func missed(id string, now metav1.Time, status *v1alpha1.SecretRotationStatus) (news bool) {
	known := slices.ContainsFunc(status.History, func(h v1alpha1.RotationHistory) bool { return h.Run == id })
	if id == "" || known {
		return false
	}
	remember(v1alpha1.RotationHistory{Run: id, Phase: phaseMissed, Ended: now, Why: "it could not begin before its startingDeadline"}, status)
	return true
}

// nowPrefix begins the ids of runs that somebody had begin at once.
const nowPrefix = "now:"

// begun notes which run an attempt is for.
func begun(is run, status *v1alpha1.SecretRotationStatus) {
	if word, asked := strings.CutPrefix(is.id, nowPrefix); asked {
		status.RotatedNow = word
		return
	}
	runs := append(status.Runs, v1alpha1.RotationRun{ID: is.id, At: metav1.NewTime(is.at)})
	status.Runs = runs[max(0, len(runs)-keptRuns):]
}
