package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Group is the API group of every kind here, and the prefix of every
// annotation and label that Privyseal reads or writes.
const Group = "privyseal.io"

// GroupVersion is the group and version that these kinds are served under.
//
//nolint:gochecknoglobals // a constant in all but syntax
var GroupVersion = schema.GroupVersion{Group: Group, Version: "v1alpha1"}

// AddToScheme registers the kinds with a scheme, so that clients can encode
// and decode them.
func AddToScheme(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(GroupVersion,
		&SecretClaim{}, &SecretClaimList{},
		&ClusterSecretStore{}, &ClusterSecretStoreList{},
		&SecretStore{}, &SecretStoreList{},
		&Environment{}, &EnvironmentList{},
		&SecretRotation{}, &SecretRotationList{},
	)
	metav1.AddToGroupVersion(scheme, GroupVersion)
	return nil
}
