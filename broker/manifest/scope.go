package manifest

import (
	ssv1alpha1 "github.com/bitnami-labs/sealed-secrets/pkg/apis/sealedsecrets/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/privyseal/privyseal/broker/seal"
)

// Scope is that of the object's own annotations. Those of the template beside
// them say nothing: who could widen a scope there would need no key to do it.
func Scope(object metav1.Object) seal.Scope {
	annotations := object.GetAnnotations()
	return seal.ScopeOf(annotations[ssv1alpha1.SealedSecretClusterWideAnnotation],
		annotations[ssv1alpha1.SealedSecretNamespaceWideAnnotation])
}

// SetScope writes the annotation of the scope, and removes those of others.
func SetScope(object metav1.Object, scope seal.Scope) {
	annotations := map[string]string{}
	for name, value := range object.GetAnnotations() {
		annotations[name] = value
	}
	delete(annotations, ssv1alpha1.SealedSecretClusterWideAnnotation)
	delete(annotations, ssv1alpha1.SealedSecretNamespaceWideAnnotation)
	switch scope {
	case seal.ClusterWide:
		annotations[ssv1alpha1.SealedSecretClusterWideAnnotation] = "true"
	case seal.NamespaceWide:
		annotations[ssv1alpha1.SealedSecretNamespaceWideAnnotation] = "true"
	}
	if len(annotations) == 0 {
		annotations = nil
	}
	object.SetAnnotations(annotations)
}
