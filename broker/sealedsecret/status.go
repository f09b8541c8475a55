package sealedsecret

import (
	"errors"
	"strings"

	ssv1alpha1 "github.com/bitnami-labs/sealed-secrets/pkg/apis/sealedsecrets/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// maxMessage bounds what a status tells.
const maxMessage = 4096

// statusAfter is a SealedSecret's status after a run of the line: pure, and the
// same as before whenever nothing changed. In order it is as upstream writes it,
// without reason and message, so that neither has to write over the other's.
//
// A fault of the API server says nothing about the SealedSecret and leaves the
// status as it is: the line runs again, and the log has it.
func statusAfter(sealed *ssv1alpha1.SealedSecret, err error, now metav1.Time) *ssv1alpha1.SealedSecretStatus {
	wanted := ssv1alpha1.SealedSecretCondition{Type: ssv1alpha1.SealedSecretSynced, Status: corev1.ConditionTrue}
	var refusal *Refusal
	if errors.As(err, &refusal) {
		message := refusal.Error()
		wanted.Status, wanted.Reason, wanted.Message = corev1.ConditionFalse, refusal.Reason, strings.ToValidUTF8(message[:min(len(message), maxMessage)], "")
	} else if err != nil {
		return sealed.Status
	}
	status := &ssv1alpha1.SealedSecretStatus{}
	if sealed.Status != nil {
		status = sealed.Status.DeepCopy()
	}
	is := conditionOf(status)
	if is == nil {
		status.Conditions = append(status.Conditions, ssv1alpha1.SealedSecretCondition{Type: wanted.Type})
		is = &status.Conditions[len(status.Conditions)-1]
	}
	if same(*is, wanted) && status.ObservedGeneration == sealed.Generation {
		return sealed.Status
	}
	wanted.LastUpdateTime, wanted.LastTransitionTime = now, is.LastTransitionTime
	if is.Status != wanted.Status {
		wanted.LastTransitionTime = now
	}
	*is = wanted
	status.ObservedGeneration = sealed.Generation
	return status
}

func same(a, b ssv1alpha1.SealedSecretCondition) bool {
	return a.Status == b.Status && a.Reason == b.Reason && a.Message == b.Message
}

// conditionOf is the Synced condition, or nil.
func conditionOf(status *ssv1alpha1.SealedSecretStatus) *ssv1alpha1.SealedSecretCondition {
	if status == nil {
		return nil
	}
	for i := range status.Conditions {
		if status.Conditions[i].Type == ssv1alpha1.SealedSecretSynced {
			return &status.Conditions[i]
		}
	}
	return nil
}

// inOrder says that the last run succeeded for the spec as it is.
func inOrder(sealed *ssv1alpha1.SealedSecret) bool {
	is := conditionOf(sealed.Status)
	return is != nil && is.Status == corev1.ConditionTrue && sealed.Status.ObservedGeneration == sealed.Generation
}
