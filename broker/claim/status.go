package claim

import (
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/providers"
)

// statusAfter is a claim's status after a run of the line: pure, and the same
// as before whenever nothing changed.
//
// A store that could not be asked says nothing about the claim, so it leaves
// the status as it is: Ready speaks of the last successful read. Only a claim
// that never had a target says that it still waits for one. Neither does a
// fault of the API server: the line runs again, and the log has it.
func statusAfter(claim *v1alpha1.SecretClaim, synced Synced, err error, now metav1.Time) v1alpha1.SecretClaimStatus {
	status := *claim.Status.DeepCopy()
	var refusal *Refusal
	switch {
	case err == nil:
		status.ObservedGeneration = claim.Generation
		status.Target = &synced.Applied.Status
		status.Sequence = synced.Applied.Sequence
		status.SourceVersions = synced.SourceVersions
		status.Leases = synced.Leases
		status.Consumers = &synced.Consumers
		setReady(&status, claim.Generation, now, metav1.ConditionTrue, v1alpha1.ReasonSynced,
			fmt.Sprintf("Secret %s holds what the store holds", synced.Applied.Status.Name))
	case errors.As(err, &refusal):
		status.ObservedGeneration = claim.Generation
		setReady(&status, claim.Generation, now, metav1.ConditionFalse, refusal.Reason, refusal.Message)
	case status.Target == nil && errors.Is(err, providers.ErrUnavailable):
		setReady(&status, claim.Generation, now, metav1.ConditionFalse, v1alpha1.ReasonStoreUnavailable,
			"waiting for the first answer of the store; pods that need the Secret wait with it")
	}
	return status
}

// maxMessage is the longest message of a condition that the API server takes. It
// refuses the whole status with a longer one.
const maxMessage = 32768

func setReady(status *v1alpha1.SecretClaimStatus, generation int64, now metav1.Time, is metav1.ConditionStatus, reason, message string) {
	meta.SetStatusCondition(&status.Conditions, metav1.Condition{
		Type: v1alpha1.ConditionReady, Status: is, Reason: reason,
		Message: message[:min(len(message), maxMessage)], ObservedGeneration: generation, LastTransitionTime: now,
	})
}

// inOrder says that a claim's last run succeeded for the spec it has now.
func inOrder(claim *v1alpha1.SecretClaim) bool {
	return claim.Status.Target != nil &&
		claim.Status.ObservedGeneration == claim.Generation &&
		meta.IsStatusConditionTrue(claim.Status.Conditions, v1alpha1.ConditionReady)
}
