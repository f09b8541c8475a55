package annotation_test

import (
	"strings"
	"testing"

	"github.com/privyseal/privyseal/broker/annotation"
)

func TestAReasonToRestartNow(t *testing.T) {
	for given, want := range map[string]string{
		"leaked":                  "leaked",
		"  leaked: see #12 \n":    "leaked: see #12",
		"   ":                     "",
		strings.Repeat("ä", 300):  strings.Repeat("ä", 256),
		strings.Repeat(" x", 128): strings.TrimSpace(strings.Repeat(" x", 128)),
	} {
		reason, asked := annotation.Reason(map[string]string{annotation.RestartNow: given})
		if reason != want || !asked {
			t.Errorf("%q gives %q, %t", given, reason, asked)
		}
	}
	if reason, asked := annotation.Reason(map[string]string{annotation.Restart: "never"}); reason != "" || asked {
		t.Errorf("without it there is %q, %t", reason, asked)
	}
}

// On a pod template it would be a rollout by itself.
func TestAReasonToRestartNowIsNotAPodsAnnotation(t *testing.T) {
	_, err := annotation.Parse(map[string]string{annotation.SecretPrefix + "db": "db", annotation.RestartNow: "leaked"})
	if err == nil || !strings.Contains(err.Error(), "privyseal.io/restart-now") || !strings.Contains(err.Error(), "on the workload itself or on a claim") {
		t.Errorf("it says %v", err)
	}
}
