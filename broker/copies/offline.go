package copies

import (
	"fmt"

	ssv1alpha1 "github.com/bitnami-labs/sealed-secrets/pkg/apis/sealedsecrets/v1alpha1"

	"github.com/privyseal/privyseal/broker/manifest"
	"github.com/privyseal/privyseal/broker/seal"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// IsCopy says whether a SealedSecret is the sealed copy of a claim's target.
func IsCopy(sealed *ssv1alpha1.SealedSecret) bool {
	return sealed.Annotations[v1alpha1.AnnotationStandby] == "true"
}

// Opens shows, without a cluster, that a copy opens with these keys alone, and
// forgets what comes out. It gives the number of items. Errors are as
// manifest.Open's.
func Opens(sealed *ssv1alpha1.SealedSecret, keys *seal.Keys) (items int, err error) {
	environment, told := sealed.Annotations[annotationEnvironment]
	if !told {
		return 0, fmt.Errorf("%w: the annotation %s is missing, and the items are bound to what it says", errForeign, annotationEnvironment)
	}
	opened, err := manifest.Open(sealed, environment, keys)
	if err != nil {
		return 0, err
	}
	opened.Clear()
	return len(opened.Data), nil
}
