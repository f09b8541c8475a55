package claim

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// Defaults are applied where a claim is read, never written into it: a field
// that the API server filled in shows as drift in GitOps tools.

// defaultInterval is how often a claim is read where it does not say.
const defaultInterval = 5 * time.Minute

func targetName(claim *v1alpha1.SecretClaim) types.NamespacedName {
	name := types.NamespacedName{Namespace: claim.Namespace, Name: claim.Name}
	if target := claim.Spec.Target; target != nil && target.Name != "" {
		name.Name = target.Name
	}
	return name
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

func interval(claim *v1alpha1.SecretClaim) time.Duration {
	if refresh := claim.Spec.Refresh; refresh != nil && refresh.Interval != nil {
		return refresh.Interval.Duration
	}
	return defaultInterval
}

func once(claim *v1alpha1.SecretClaim) bool {
	return claim.Spec.Refresh != nil && claim.Spec.Refresh.Policy == v1alpha1.RefreshOnce
}

func secretType(name string) corev1.SecretType { return corev1.SecretType(name) }
