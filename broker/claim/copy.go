package claim

import (
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// Copies keeps sealed copies of targets. It asks nobody, and does not wait.
type Copies interface {
	// Keep has the copy of a claim's target brought up to date, in its own time.
	Keep(claim types.NamespacedName, sequence int64)
	// Sealed is what is to be told of the copy, without a type and a time: its
	// zero value says that there is none. Known is false until that is judged.
	Sealed(claim types.NamespacedName) (is metav1.Condition, known bool)
}

// tellCopy puts into the claim's status what became of the sealed copy of its
// target. Until that is judged, what was told before holds.
func (r *Reconciler) tellCopy(claim *v1alpha1.SecretClaim, now metav1.Time) {
	if r.config.Line.Copies == nil {
		return
	}
	is, known := r.config.Line.Copies.Sealed(client.ObjectKeyFromObject(claim))
	switch {
	case !known:
	case is.Status == "":
		meta.RemoveStatusCondition(&claim.Status.Conditions, v1alpha1.ConditionSealed)
	default:
		was := meta.FindStatusCondition(claim.Status.Conditions, v1alpha1.ConditionSealed)
		if was != nil && was.Status == is.Status && was.Reason == is.Reason && was.Message == is.Message {
			return
		}
		is.Type, is.ObservedGeneration, is.LastTransitionTime = v1alpha1.ConditionSealed, claim.Generation, now
		is.Message = is.Message[:min(len(is.Message), maxMessage)]
		meta.SetStatusCondition(&claim.Status.Conditions, is)
	}
}
