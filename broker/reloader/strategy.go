package reloader

import "fmt"

// The choices of a Rollout's Strategy.
const (
	// StrategyRollout: it gets a new template. It is the default, as Reloader's is.
	StrategyRollout = "rollout"
	// StrategyRestart: its pods are replaced by spec.restartAt, under the same template.
	StrategyRestart = "restart"
)

// CheckStrategy says what is wrong with a Rollout's Strategy; nil: nothing, or there
// is none.
func CheckStrategy(annotations map[string]string) error {
	value, said := annotations[Strategy]
	if !said || value == StrategyRollout || value == StrategyRestart {
		return nil
	}
	return fmt.Errorf("annotation %s: %q has no effect, and the Rollout is restarted by its template; say %q or %q", Strategy, value, StrategyRollout, StrategyRestart)
}
