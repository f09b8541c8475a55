package claim

import (
	"cmp"
	"time"

	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// Defaults are applied where a claim is read, never written into it: a field
// that the API server filled in shows as drift in GitOps tools.

// DefaultInterval is how often a claim is read where neither it nor the
// daemon's configuration says.
const DefaultInterval = 5 * time.Minute

func merges(claim *v1alpha1.SecretClaim) bool {
	return claim.Spec.Target != nil && claim.Spec.Target.Mode == v1alpha1.MergeTarget
}

func onClaimDeleted(claim *v1alpha1.SecretClaim) v1alpha1.OnClaimDeleted {
	if target := claim.Spec.Target; target != nil && target.OnClaimDeleted != "" {
		return target.OnClaimDeleted
	}
	if claim.Labels[v1alpha1.LabelMadeFrom] == v1alpha1.MadeFromAnnotation {
		return v1alpha1.DeleteTarget
	}
	return v1alpha1.RetainTarget
}

// interval of a claim's reads.
func (r *Reconciler) interval(claim *v1alpha1.SecretClaim) time.Duration {
	if refresh := claim.Spec.Refresh; refresh != nil && refresh.Interval != nil {
		return refresh.Interval.Duration
	}
	return cmp.Or(r.config.Interval, DefaultInterval)
}

func once(claim *v1alpha1.SecretClaim) bool {
	return claim.Spec.Refresh != nil && claim.Spec.Refresh.Policy == v1alpha1.RefreshOnce
}
