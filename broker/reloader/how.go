package reloader

import (
	"fmt"
	"time"
)

// Strategy by which an Argo Rollout is restarted.
type Strategy string

// The strategies.
const (
	// ByTemplate gives it another template, whose steps it then goes through.
	ByTemplate Strategy = "rollout"
	// ByRestartAt has it replace its pods.
	ByRestartAt Strategy = "restart"
)

// StrategyOf reads RolloutStrategy off an Argo Rollout. The error says what is
// wrong with it; then the default holds, which is ByTemplate.
func StrategyOf(annotations map[string]string) (Strategy, error) {
	switch value := Strategy(annotations[RolloutStrategy]); value {
	case "", ByTemplate:
		return ByTemplate, nil
	case ByRestartAt:
		return ByRestartAt, nil
	default:
		return ByTemplate, fmt.Errorf("annotation %s: %q is taken for %q; write %q or %q", RolloutStrategy, value, ByTemplate, ByTemplate, ByRestartAt)
	}
}

// PauseOf reads PausePeriod off a Deployment: how long it is paused once a
// change has given it another template, so that later changes are in the same
// rollout; 0: it is not. The error says what is wrong with it; then it is not
// paused.
func PauseOf(annotations map[string]string) (time.Duration, error) {
	value, said := annotations[PausePeriod]
	if !said {
		return 0, nil
	}
	period, err := time.ParseDuration(value)
	if err != nil || period < 0 {
		return 0, fmt.Errorf("annotation %s: %q is no duration, and the Deployment is not paused; write one as \"5m\" or \"1h30m\"", PausePeriod, value)
	}
	return period, nil
}

// PausedUntil says when a Deployment that was paused by PauseOf's rule goes on;
// paused: it was. A time or period that cannot be read is over: a Deployment
// that stays paused keeps its pods from every change.
func PausedUntil(annotations map[string]string) (until time.Time, paused bool) {
	value, paused := annotations[PausedAt]
	if !paused {
		return time.Time{}, false
	}
	since, err := time.Parse(time.RFC3339, value)
	period, errPeriod := PauseOf(annotations)
	if err != nil || errPeriod != nil {
		return time.Time{}, true
	}
	return since.Add(period), true
}
