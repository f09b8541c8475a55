package rotate

import (
	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/rotation"
)

// Check is how a spec is checked that got past the rules of the CRD.
func Check(spec v1alpha1.SecretRotationSpec) error {
	_, err := parse(spec)
	return err
}

// Redacted is a text without the values of a change.
func Redacted(change rotation.Change, text string) string { return newRedaction(change).of(text) }
