package inject

import (
	"context"
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/annotation"
	"github.com/privyseal/privyseal/broker/environment"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// checkEnvironment reports what a pod asks for and its environment does not
// take, or does not give in that way. Outside environments, where home is nil,
// anything may be asked for: the claim will be refused.
func checkEnvironment(home *v1alpha1.Environment, annotations map[string]string, requests []annotation.Request) error {
	var problems []error
	problem := func(prefix, name string, err error) {
		problems = append(problems, fmt.Errorf("annotation %s%s: %w", prefix, name, err))
	}
	for _, request := range requests {
		name := request.Name
		if err := environment.CheckAnnotation(home, environment.Ask(request.Claim != "")); err != nil {
			problem(annotation.SecretPrefix, name, err)
			continue
		}
		if request.Env != nil && !environment.Delivers(home, v1alpha1.DeliverEnv) {
			problem(annotation.EnvPrefix, name, fmt.Errorf(
				"environment %s gives secrets as %s only (its spec.delivery); remove it, and the keys are files in /etc/secrets/%s, or where %s%s says",
				home.Name, ways(home), name, annotation.VolumePrefix, name))
		}
		if request.Volume == nil || environment.Delivers(home, v1alpha1.DeliverVolume) {
			continue
		}
		if _, given := annotations[annotation.VolumePrefix+name]; given {
			problem(annotation.VolumePrefix, name, fmt.Errorf(
				"environment %s gives secrets as %s only (its spec.delivery); write %s%s in its place",
				home.Name, ways(home), annotation.EnvPrefix, name))
		} else {
			problem(annotation.SecretPrefix, name, fmt.Errorf(
				"environment %s gives secrets as %s only (its spec.delivery), and without %s%s this one would be files; add that",
				home.Name, ways(home), annotation.EnvPrefix, name))
		}
	}
	return errors.Join(problems...)
}

func ways(home *v1alpha1.Environment) string {
	names := make([]string, 0, len(home.Spec.Delivery))
	for _, way := range home.Spec.Delivery {
		names = append(names, string(way))
	}
	return strings.Join(names, ", ")
}

// home is the environment that a namespace is in. One in two environments
// counts as one in none: its claims say that both refuse it.
func (h *Handler) home(ctx context.Context, name string) (*v1alpha1.Environment, error) {
	var environments v1alpha1.EnvironmentList
	if err := h.Environments.List(ctx, &environments); err != nil {
		return nil, fmt.Errorf("listing environments: %w", err)
	}
	namespace := &metav1.PartialObjectMetadata{}
	namespace.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	err := h.Environments.Get(ctx, client.ObjectKey{Name: name}, namespace)
	if apierrors.IsNotFound(err) && h.Live != nil {
		// It was made a moment ago, and its first pod comes with it.
		err = h.Live.Get(ctx, client.ObjectKey{Name: name}, namespace)
	}
	if client.IgnoreNotFound(err) != nil {
		return nil, fmt.Errorf("reading namespace %s: %w", name, err)
	}
	home, err := environment.Home(environments.Items, name, namespace.Labels)
	if err != nil {
		return nil, nil //nolint:nilerr // the claim tells it
	}
	return home, nil
}
