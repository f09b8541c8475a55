package v1alpha1

import "k8s.io/apimachinery/pkg/types"

// TargetName is the Secret that a claim is for: spec.target.name, or the claim's
// own name.
func (c *SecretClaim) TargetName() types.NamespacedName {
	name := types.NamespacedName{Namespace: c.Namespace, Name: c.Name}
	if target := c.Spec.Target; target != nil && target.Name != "" {
		name.Name = target.Name
	}
	return name
}
