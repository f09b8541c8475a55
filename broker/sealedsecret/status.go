package sealedsecret

import (
	"time"

	ssv1alpha1 "github.com/bitnami-labs/sealed-secrets/pkg/apis/sealedsecrets/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Reasons of the condition and of events. The latter two are upstream's.
const (
	ReasonUnsealed     = "Unsealed"
	ReasonUnsealFailed = "ErrUnsealFailed"
	ReasonUpdateFailed = "ErrUpdateFailed"
)

// outcome is how a pass over a SealedSecret ended.
type outcome struct {
	reason  string // one of the Reasons
	message string // "" where it went well
	wrote   bool   // the Secret was written
}

func (o outcome) synced() corev1.ConditionStatus {
	if o.reason == ReasonUnsealed {
		return corev1.ConditionTrue
	}
	return corev1.ConditionFalse
}

// statusOf is the status that says how a pass over this generation ended, and
// whether it says anything new.
func statusOf(before *ssv1alpha1.SealedSecretStatus, generation int64, ended outcome, now time.Time) (*ssv1alpha1.SealedSecretStatus, bool) {
	next := &ssv1alpha1.SealedSecretStatus{ObservedGeneration: generation}
	at := metav1.NewTime(now).Rfc3339Copy()
	synced := ssv1alpha1.SealedSecretCondition{
		Type: ssv1alpha1.SealedSecretSynced, Status: ended.synced(), Reason: ended.reason, Message: ended.message,
		LastUpdateTime: at, LastTransitionTime: at,
	}
	if before != nil {
		for _, condition := range before.Conditions {
			if condition.Type != synced.Type {
				next.Conditions = append(next.Conditions, condition)
				continue
			}
			if condition.Status == synced.Status {
				synced.LastTransitionTime = condition.LastTransitionTime
			}
			// What upstream left says the same without a reason.
			sameReason := condition.Reason == synced.Reason || condition.Reason == "" && synced.Status == corev1.ConditionTrue
			if before.ObservedGeneration == generation && condition.Status == synced.Status && sameReason && condition.Message == synced.Message {
				return before, false
			}
		}
	}
	// The columns of kubectl get show the first.
	next.Conditions = append([]ssv1alpha1.SealedSecretCondition{synced}, next.Conditions...)
	return next, true
}
