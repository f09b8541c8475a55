package rotate

import (
	"errors"
	"time"

	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/providers"
	"github.com/privyseal/privyseal/rotation"
)

// Check is how a spec is checked that got past the rules of the CRD.
func Check(spec v1alpha1.SecretRotationSpec) error {
	_, err := parse(spec)
	return err
}

// ChangeOf is what a run would make of a document if somebody set the system.
func ChangeOf(spec v1alpha1.SecretRotationSpec, document providers.Document, now time.Time) (rotation.Change, error) {
	users, err := usersOf(spec)
	if err != nil {
		return rotation.Change{}, err
	}
	asked := setup{plan: rotation.Plan{Strategy: rotation.Strategy(spec.Strategy), Set: true}, users: users}
	if asked.generators, err = generatorsOf(spec.Generate); err != nil {
		return rotation.Change{}, err
	}
	if err := errors.Join(asked.plan.Check(), asked.checkKeys()); err != nil {
		return rotation.Change{}, err
	}
	fresh, err := asked.fresh(now)
	if err != nil {
		return rotation.Change{}, err
	}
	return asked.plan.Change(document, fresh, asked.users)
}

// HookName is what a hook's Job is called.
func HookName(of *v1alpha1.SecretRotation, kind string, attempt, round int) string {
	return hook{of: of, kind: kind, attempt: attempt, round: round}.name()
}

// Redacted is a text without the values of a change.
func Redacted(change rotation.Change, text string) string { return newRedaction(change).of(text) }
