package restart

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/privyseal/privyseal/broker/annotation"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// lag is how far behind the API server's clock a target's sequence may have
// been read by a pod that was created at a given second: the daemon's clock,
// which sequences come from, and the API server's, which pods' creation times
// come from, may differ by that much, kubelet's view included.
const lag = 30 * time.Second

// Evidence says up to which sequence of each target a pod was started for
// certain. It is a lower bound: a pod may hold something newer, and is then
// restarted once more than it needed, but never less.
type Evidence struct {
	// Created is the sequence that the pod's age proves, for any target.
	Created int64
	// Seen holds what the pod's template was restarted for and what the
	// webhook saw at admission.
	Seen map[string]int64
}

// EvidenceOf reads a pod's evidence off its metadata. An annotation that
// somebody garbled proves nothing.
func EvidenceOf(pod metav1.Object) Evidence {
	evidence := Evidence{Seen: map[string]int64{}}
	if created := pod.GetCreationTimestamp(); !created.IsZero() {
		evidence.Created = max(0, created.Add(-lag).Unix())
	}
	for _, name := range []string{v1alpha1.AnnotationRestartedFor, v1alpha1.AnnotationStartedWith} {
		for target, sequence := range counters(pod.GetAnnotations()[name]) {
			evidence.Seen[target] = max(evidence.Seen[target], sequence)
		}
	}
	return evidence
}

// Of is the sequence up to which the pod was started for certain with the
// target of that name.
func (e Evidence) Of(target string) int64 { return max(e.Created, e.Seen[target]) }

// counters reads "db=1763800000,tls=0", the form that package annotation
// defines; none where it is malformed.
func counters(text string) map[string]int64 {
	sequences, err := annotation.ParseSequences(text)
	if err != nil {
		return nil
	}
	return sequences
}
