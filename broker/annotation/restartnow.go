package annotation

import (
	"strings"
)

// RestartNow on a claim, or on a workload itself, is the reason why restarts
// that wait for a window are to happen now. It is not one of a pod template's:
// there it would be a change of the template, and so a rollout by itself.
const RestartNow = Prefix + "restart-now"

// maxReason is what a claim's status takes.
const maxReason = 256

// Reason that RestartNow gives, cut to 256 characters. asked is true also where
// the annotation is there and gives none.
func Reason(annotations map[string]string) (reason string, asked bool) {
	text, asked := annotations[RestartNow]
	runes := []rune(strings.TrimSpace(text))
	return string(runes[:min(len(runes), maxReason)]), asked
}
