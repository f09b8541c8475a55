package main

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/environment"
	"github.com/privyseal/privyseal/broker/restart"
	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/broker/window"
)

// rotationKinds are what rotations, and the windows that hold for them, are read from.
func rotationKinds() []string { return []string{"SecretRotation", "Environment", "Namespace"} }

// rotationAt is a SecretRotation, and where it was found.
type rotationAt struct {
	*v1alpha1.SecretRotation
	place string
}

// rotationSet are SecretRotations, and what says whose windows hold for them.
type rotationSet struct {
	rotations    []rotationAt
	environments []v1alpha1.Environment
	// namespaces of which the labels are known.
	namespaces map[string]labels.Set
	// in is the environment that the others are taken to be in; "" is none.
	in string
}

// takeRotation adds an object of a file that is one, in the namespace that it names,
// or in that one.
func (s *rotationSet) takeRotation(object placed, namespace string) error {
	if object.Kind != "SecretRotation" || object.APIVersion != v1alpha1.GroupVersion.String() {
		return nil
	}
	read := &v1alpha1.SecretRotation{}
	if err := object.into(read); err != nil {
		return err
	}
	if read.Name == "" {
		return fmt.Errorf("%s: metadata.name is missing", object)
	}
	if read.Namespace == "" {
		read.Namespace = namespace
	}
	if read.Namespace == "" {
		read.Namespace = "default"
	}
	same := func(other rotationAt) bool {
		return client.ObjectKeyFromObject(other) == client.ObjectKeyFromObject(read)
	}
	if at := slices.IndexFunc(s.rotations, same); at >= 0 {
		return fmt.Errorf("SecretRotation %s/%s is there twice: %s, and %s; leave one", read.Namespace, read.Name, s.rotations[at].place, object)
	}
	s.rotations = append(s.rotations, rotationAt{read, object.String()})
	return nil
}

// takeNamespace adds an object of a file that is one.
func (s *rotationSet) takeNamespace(object placed) error {
	if object.Kind != "Namespace" || object.APIVersion != "v1" {
		return nil
	}
	read := &corev1.Namespace{}
	if _, err := object.Into(read); err != nil {
		return fmt.Errorf("%s: %w", object.file, err)
	}
	if s.namespaces == nil {
		s.namespaces = map[string]labels.Set{}
	}
	s.namespaces[read.Name] = labels.Merge(read.Labels, labels.Set{corev1.LabelMetadataName: read.Name})
	return nil
}

// listRotations of a namespace, or of all. A cluster without their kind has none.
func listRotations(ctx context.Context, cluster client.Reader, namespace string) ([]rotationAt, error) {
	var list v1alpha1.SecretRotationList
	err := cluster.List(ctx, &list, client.InNamespace(namespace))
	if meta.IsNoMatchError(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing SecretRotations: %w", err)
	}
	found := make([]rotationAt, 0, len(list.Items))
	for i := range list.Items {
		of := &list.Items[i]
		found = append(found, rotationAt{of, "SecretRotation " + of.Namespace + "/" + of.Name})
	}
	return found, nil
}

// lookUpNamespaces of the rotations.
func (s *rotationSet) lookUpNamespaces(ctx context.Context, cluster client.Reader) error {
	s.namespaces = map[string]labels.Set{}
	for _, of := range s.rotations {
		if _, known := s.namespaces[of.Namespace]; known {
			continue
		}
		in := &metav1.PartialObjectMetadata{}
		in.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
		if err := cluster.Get(ctx, client.ObjectKey{Name: of.Namespace}, in); err != nil {
			return fmt.Errorf("looking up namespace %s: %w", of.Namespace, err)
		}
		s.namespaces[of.Namespace] = in.Labels
	}
	return nil
}

// homeOf a namespace: its environment; nil where it is in none. Errors say why it is
// not known in which.
func (s *rotationSet) homeOf(namespace string) (*v1alpha1.Environment, error) {
	has, described := s.namespaces[namespace]
	if !described && s.in != "" {
		at := slices.IndexFunc(s.environments, func(e v1alpha1.Environment) bool { return e.Name == s.in })
		if at < 0 {
			return nil, fmt.Errorf("there is no Environment %s", s.in)
		}
		return &s.environments[at], nil
	}
	if !described {
		has = labels.Set{corev1.LabelMetadataName: namespace}
	}
	home, err := environment.Home(s.environments, namespace, has)
	if home == nil && err == nil && !described && len(s.environments) > 0 {
		return nil, fmt.Errorf("the files do not say in which environment namespace %s is: its windows are not known; add the Namespace with its labels, or say --environment", namespace)
	}
	return home, err
}

// windowsOf an environment; none where there is none.
func windowsOf(home *v1alpha1.Environment) []window.Window {
	if home == nil {
		return nil
	}
	return restart.WindowsOf(home)
}
