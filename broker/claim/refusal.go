package claim

import (
	"errors"
	"fmt"

	"github.com/privyseal/privyseal/broker/target"
	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/providers"
)

// Refusal is a reason why a claim cannot be met until somebody changes
// something: the claim, its environment, its store, or what stands in its way.
type Refusal struct {
	// Reason is one of v1alpha1's Reason constants.
	Reason string
	// Message names the field and says what to do. It holds no value.
	Message string
	// Cause is the error behind it, or nil.
	Cause error
}

// Error implements error.
func (r *Refusal) Error() string { return r.Message }

// Unwrap gives the error behind the refusal.
func (r *Refusal) Unwrap() error { return r.Cause }

func refuse(reason, format string, arguments ...any) *Refusal {
	return &Refusal{Reason: reason, Message: fmt.Sprintf(format, arguments...)}
}

// because makes a refusal of an error that speaks for itself.
func because(reason, field string, err error) *Refusal {
	return &Refusal{Reason: reason, Message: field + ": " + err.Error(), Cause: err}
}

// refuseSource turns a store's answer about one source into a refusal. A store
// that did not answer is no refusal: it says nothing about the claim. An error
// that states no fact counts as no answer.
func refuseSource(index int, ref providers.Ref, err error) error {
	field := fmt.Sprintf("spec.sources[%d]", index)
	var refusal *Refusal
	if errors.As(err, &refusal) {
		return refusal
	}
	for _, known := range []struct {
		fact         error
		reason, hint string
	}{
		{providers.ErrNotFound, v1alpha1.ReasonSourceNotFound, "write the secret, or correct the path; the last good value stays"},
		{providers.ErrDeleted, v1alpha1.ReasonSourceDeleted, "undelete it or write a new version; the last good value stays"},
		{providers.ErrDenied, v1alpha1.ReasonSourceDenied, "check the role, its policy and its bound service account; the last good value stays"},
		{providers.ErrInvalid, v1alpha1.ReasonStoreInvalid, "correct the store"},
		{providers.ErrLeased, v1alpha1.ReasonLeaseInvalid, "nobody keeps leases here"},
	} {
		if errors.Is(err, known.fact) {
			return &Refusal{
				Reason:  known.reason,
				Message: fmt.Sprintf("%s %s: %s; %s", field, ref, err, known.hint),
				Cause:   err,
			}
		}
	}
	if errors.Is(err, providers.ErrUnavailable) {
		return fmt.Errorf("%s %s: %w", field, ref, err)
	}
	return fmt.Errorf("%s %s: %w: %w", field, ref, providers.ErrUnavailable, err)
}

// refuseTarget turns a terminal error of Apply into a refusal.
func refuseTarget(err error) error {
	for _, known := range []struct {
		fact          error
		reason, field string
	}{
		{target.ErrNotOurs, v1alpha1.ReasonTargetNotOurs, "spec.target.name"},
		{target.ErrTooLarge, v1alpha1.ReasonTooLarge, "spec.sources"},
		{target.ErrKeyInvalid, v1alpha1.ReasonKeyInvalid, "spec.sources"},
		{target.ErrMissing, v1alpha1.ReasonTargetNotFound, "spec.target.name"},
		{target.ErrConflict, v1alpha1.ReasonTargetConflict, "spec.target"},
		{target.ErrRefused, v1alpha1.ReasonTargetRefused, "spec.target"},
	} {
		if errors.Is(err, known.fact) {
			return because(known.reason, known.field, err)
		}
	}
	return err
}
