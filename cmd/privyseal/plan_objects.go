package main

import (
	"encoding/json"
	"fmt"

	ssv1alpha1 "github.com/bitnami-labs/sealed-secrets/pkg/apis/sealedsecrets/v1alpha1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/restart"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// plannedKinds are the kinds that a plan looks at in files.
func plannedKinds() []string {
	return []string{"Deployment", "StatefulSet", "DaemonSet", "Rollout", "SecretClaim", "SealedSecret", "SecretRotation", "ClusterSecretStore", "Environment", "Namespace"}
}

// plannedObject reads an object of a file, with its namespace; nil for one that
// no plan looks at, or that is in another namespace than the one asked for.
func plannedObject(one placed, namespace string) (client.Object, error) {
	var object client.Object
	switch one.APIVersion + " " + one.Kind {
	case "apps/v1 Deployment":
		object = &appsv1.Deployment{}
	case "apps/v1 StatefulSet":
		object = &appsv1.StatefulSet{}
	case "apps/v1 DaemonSet":
		object = &appsv1.DaemonSet{}
	case restart.ArgoRollout().GroupVersion().String() + " Rollout":
		object = restart.NewArgoRollout()
	case v1alpha1.GroupVersion.String() + " SecretClaim":
		object = &v1alpha1.SecretClaim{}
	case v1alpha1.GroupVersion.String() + " SecretRotation":
		object = &v1alpha1.SecretRotation{}
	case v1alpha1.GroupVersion.String() + " ClusterSecretStore":
		object = &v1alpha1.ClusterSecretStore{}
	case "bitnami.com/v1alpha1 SealedSecret":
		object = &ssv1alpha1.SealedSecret{}
	case "v1 Namespace":
		object = &corev1.Namespace{}
	default:
		if isEnvironment(one) {
			return environmentIn(one)
		}
		return nil, nil
	}
	if err := readPlanned(one, object); err != nil {
		return nil, err
	}
	if object.GetName() == "" {
		return nil, fmt.Errorf("%s: metadata.name is missing", one)
	}
	switch object.(type) {
	case *corev1.Namespace, *v1alpha1.ClusterSecretStore:
		return object, nil
	}
	if object.GetNamespace() == "" {
		object.SetNamespace(namespace)
	}
	if object.GetNamespace() == "" {
		object.SetNamespace("default")
	}
	if namespace != "" && object.GetNamespace() != namespace {
		return nil, nil
	}
	return object, nil
}

// readPlanned is strict with kinds of ours. Of others, this version of the
// program need not know every field.
func readPlanned(one placed, object client.Object) error {
	if one.APIVersion == v1alpha1.GroupVersion.String() {
		return one.into(object)
	}
	if rollout, is := object.(*unstructured.Unstructured); is {
		return readTree(one, rollout)
	}
	if _, err := one.Into(object); err != nil {
		return fmt.Errorf("%s: %w", one.file, err)
	}
	return nil
}

// readTree takes an object of a kind whose Go type is not here as it is written.
func readTree(one placed, object *unstructured.Unstructured) error {
	text, err := json.Marshal(one.Tree)
	if err == nil {
		err = object.UnmarshalJSON(text)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", one, err)
	}
	return nil
}
