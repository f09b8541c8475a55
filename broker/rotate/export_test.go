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

// HookName is what a hook's Job is called.
func HookName(of *v1alpha1.SecretRotation, kind string, attempt, round int) string {
	return hook{of: of, kind: kind, attempt: attempt, round: round}.name()
}

// Redacted is a text without the values of a change.
func Redacted(change rotation.Change, text string) string { return newRedaction(change).of(text) }
