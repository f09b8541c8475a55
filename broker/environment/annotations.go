package environment

import (
	"errors"
	"fmt"
	"slices"

	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// ErrAnnotation: the environment does not take what an annotation asks for.
var ErrAnnotation = errors.New("annotation not allowed")

// Ask is what the annotation privyseal.io/secret.NAME names.
type Ask bool

// What the annotation privyseal.io/secret.NAME names.
const (
	AsksForPath  Ask = false
	AsksForClaim Ask = true
)

// CheckAnnotation says whether the environment takes such an annotation; home
// is nil outside environments, where annotations are taken and their claims
// refused. The error wraps ErrAnnotation and says what would be taken.
func CheckAnnotation(home *v1alpha1.Environment, asks Ask) error {
	if home == nil {
		return nil
	}
	switch home.Spec.Annotations {
	case v1alpha1.AnnotationsDeny:
		return fmt.Errorf("%w: environment %s takes no annotations (its spec.annotations is Deny); make a SecretClaim, and name its Secret in the pod's own env, envFrom or volumes",
			ErrAnnotation, home.Name)
	case v1alpha1.AnnotationsExistingClaimsOnly:
		if asks == AsksForPath {
			return fmt.Errorf("%w: environment %s takes only claims that are there (its spec.annotations is ExistingClaimsOnly); make a SecretClaim for this path, and write \"claim:NAME\"",
				ErrAnnotation, home.Name)
		}
	case v1alpha1.AnnotationsAllow, "":
	}
	return nil
}

// Delivers says whether annotations may give secrets to the environment's pods
// in this way; outside environments they may in any.
func Delivers(home *v1alpha1.Environment, way v1alpha1.Delivery) bool {
	return home == nil || len(home.Spec.Delivery) == 0 || slices.Contains(home.Spec.Delivery, way)
}
