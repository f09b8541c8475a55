package rotate

import "github.com/privyseal/privyseal/broker/v1alpha1"

// Check is how a spec is checked that got past the rules of the CRD.
func Check(spec v1alpha1.SecretRotationSpec) error {
	_, err := parse(spec)
	return err
}
