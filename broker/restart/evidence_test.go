package restart_test

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/privyseal/privyseal/broker/restart"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

const noon = 1763800000 // Unix seconds of the tests' now

func podMeta(created int64, restartedFor, startedWith string) *metav1.ObjectMeta {
	return &metav1.ObjectMeta{
		CreationTimestamp: metav1.Unix(created, 0),
		Annotations: map[string]string{
			v1alpha1.AnnotationRestartedFor: restartedFor,
			v1alpha1.AnnotationStartedWith:  startedWith,
		},
	}
}

func TestAPodProves(t *testing.T) {
	for name, test := range map[string]struct {
		pod  *metav1.ObjectMeta
		want int64
	}{
		"its age, less half a minute":           {podMeta(noon, "", ""), noon - 30},
		"what its template was restarted for":   {podMeta(noon, "db=1763800007", ""), noon + 7},
		"what the webhook saw":                  {podMeta(noon, "", "db=1763800007"), noon + 7},
		"the newest of the three":               {podMeta(noon, "db=1763800005", "db=1763800009,tls=1"), noon + 9},
		"its age, when the rest is older":       {podMeta(noon, "db=5", "db=9"), noon - 30},
		"nothing by counters of other targets":  {podMeta(noon, "tls=1763800005", ""), noon - 30},
		"nothing by a garbled line":             {podMeta(noon, "db=1763800005,", "db=+1763800009"), noon - 30},
		"nothing before the first second":       {podMeta(10, "", ""), 0},
		"nothing, before the API server saw it": {&metav1.ObjectMeta{}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			if got := restart.EvidenceOf(test.pod).Of("db"); got != test.want {
				t.Errorf("it proves %d, not %d", got, test.want)
			}
		})
	}
}

// However annotations are written, evidence never falls below what the pod's
// age proves, and a restart line never goes below what it was.
func FuzzEvidence(f *testing.F) {
	f.Add("db=1763800000,tls=0", "db=1", int64(noon))
	f.Add("db=9223372036854775807", "", int64(0))
	f.Add(",", "=", int64(-1))
	f.Fuzz(func(t *testing.T, restartedFor, startedWith string, created int64) {
		created = max(0, min(created, int64(10*365*24*time.Hour/time.Second)*10))
		evidence := restart.EvidenceOf(podMeta(created, restartedFor, startedWith))
		for target, seen := range evidence.Seen {
			if got := evidence.Of(target); got < seen || got < created-30 {
				t.Errorf("%s proves %d, of %d seen and %d created", target, got, seen, created)
			}
		}
		if evidence.Of("unnamed") != max(0, created-30) {
			t.Errorf("created %d proves %d", created, evidence.Of("unnamed"))
		}
	})
}
