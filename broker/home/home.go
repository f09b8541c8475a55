// Package home says which environment a namespace is in, by what a cluster holds.
// The decision is package environment's; this gathers what it goes by.
package home

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/environment"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// Of is the environment of a namespace; nil is none. It must not be modified: it
// may be a cache's own. Errors wrap environment.ErrTwo or environment.ErrSelector
// where the namespace cannot be in one, and others are the reader's, as for a
// namespace that is not there.
func Of(ctx context.Context, reader client.Reader, namespace string) (*v1alpha1.Environment, error) {
	meta := &metav1.PartialObjectMetadata{}
	meta.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	if err := reader.Get(ctx, client.ObjectKey{Name: namespace}, meta, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("looking up namespace %s: %w", namespace, err)
	}
	var environments v1alpha1.EnvironmentList
	if err := reader.List(ctx, &environments, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing environments: %w", err)
	}
	return environment.Home(environments.Items, namespace, meta.Labels)
}

// NameOf is the name of a namespace's environment; "" is none, also of a
// namespace that is not there. Errors are those of Of.
func NameOf(ctx context.Context, reader client.Reader, namespace string) (string, error) {
	home, err := Of(ctx, reader, namespace)
	if home == nil {
		return "", client.IgnoreNotFound(err)
	}
	return home.Name, err
}
