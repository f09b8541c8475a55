package claim

import "github.com/privyseal/privyseal/broker/v1alpha1"

// CheckTarget is for the test that compares it with the CRD's rules: that needs
// an API server, which this package's own tests cannot start.
func CheckTarget(spec v1alpha1.SecretClaimSpec, home *v1alpha1.Environment) *Refusal {
	return checkTarget(spec, home)
}
