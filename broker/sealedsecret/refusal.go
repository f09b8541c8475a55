package sealedsecret

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/privyseal/privyseal/broker/environment"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// Reasons of events and conditions, which are upstream's.
const (
	reasonUnsealed = "Unsealed"
	reasonUnseal   = "ErrUnsealFailed"
	reasonUpdate   = "ErrUpdateFailed"
)

// What upstream's metric calls what went wrong.
const (
	countFetch     = "fetch"
	countStatus    = "status"
	countUnseal    = "unseal"
	countUpdate    = "update"
	countUnmanaged = "unmanaged"
)

// Refusal is why a SealedSecret has no Secret as it should be, until somebody
// changes something. Its message holds no value.
type Refusal struct {
	// Reason is told in the status and in an event.
	Reason string
	cause  error
	count  string
}

// Error implements error.
func (r *Refusal) Error() string { return r.cause.Error() }

// Unwrap gives the error behind it.
func (r *Refusal) Unwrap() error { return r.cause }

func refuse(reason, count string, cause error) *Refusal {
	return &Refusal{Reason: reason, count: count, cause: cause}
}

// upstreamDomain is that of the annotations by which templates say what the
// controller may do with their Secret.
const upstreamDomain = "sealedsecrets.bitnami.com/"

// checkMetadata refuses labels and annotations that other controllers trust,
// where neither the environment nor the installation lists them: whoever may
// write a SealedSecret could plant a sealing key, or a cluster for Argo CD.
func (l *line) checkMetadata(secret *corev1.Secret, home *v1alpha1.Environment) error {
	for _, kind := range []struct {
		field string
		pairs map[string]string
	}{
		{"labels", secret.Labels}, {"annotations", secret.Annotations},
	} {
		for _, key := range slices.Sorted(maps.Keys(kind.pairs)) {
			if kind.field == "annotations" && strings.HasPrefix(key, upstreamDomain) ||
				environment.MayLabel(key, home) || environment.MayLabel(key, l.allowed) {
				continue
			}
			return fmt.Errorf("spec.template.metadata.%s[%s]: other controllers trust this key; remove it, have the environment list it in spec.targetMetadata, or the installation in --sealed-secrets-metadata (keys of privyseal.io never)",
				kind.field, key)
		}
	}
	return nil
}
