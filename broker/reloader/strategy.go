package reloader

import "fmt"

// CheckStrategy says what is wrong with a Rollout's Strategy; nil: nothing, or there
// is none. A Rollout is restarted by its template, which is Reloader's default too.
// The other way, spec.restartAt, leaves nothing on pods that would say which change
// they were restarted for.
func CheckStrategy(annotations map[string]string) error {
	value, said := annotations[Strategy]
	if !said || value == "rollout" {
		return nil
	}
	return fmt.Errorf("annotation %s: %q has no effect, and the Rollout is restarted by its template; take the annotation out, or say \"rollout\"", Strategy, value)
}
