package restart

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/environment"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// homes tell the environments of namespaces, each looked up once: package home
// would list all environments for each.
type homes struct {
	cache        client.Reader
	environments []v1alpha1.Environment
	known        map[string]*v1alpha1.Environment
}

func (g gatherer) homes(ctx context.Context) (*homes, error) {
	list := &v1alpha1.EnvironmentList{}
	if err := g.cache.List(ctx, list, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing environments: %w", err)
	}
	return &homes{g.cache, list.Items, map[string]*v1alpha1.Environment{}}, nil
}

// of a namespace: its environment, or nil where it is in none, or is not there.
// isUnclear says of an error that it is not known in which it is.
func (h *homes) of(ctx context.Context, namespace string) (*v1alpha1.Environment, error) {
	if home, known := h.known[namespace]; known || len(h.environments) == 0 {
		return home, nil
	}
	in := metaOf(corev1.SchemeGroupVersion.WithKind("Namespace"))
	err := h.cache.Get(ctx, types.NamespacedName{Name: namespace}, in, client.UnsafeDisableDeepCopy)
	if client.IgnoreNotFound(err) != nil {
		return nil, fmt.Errorf("looking up namespace %s: %w", namespace, err)
	}
	home, err := environment.Home(h.environments, namespace, in.Labels)
	if err == nil {
		h.known[namespace] = home
	}
	return home, err
}

// name of a namespace's environment; "" where it is in none, or it is not known
// in which.
func (h *homes) name(ctx context.Context, namespace string) (string, error) {
	home, err := h.of(ctx, namespace)
	if isUnclear(err) {
		return "", nil
	}
	if home == nil {
		return "", err
	}
	return home.Name, err
}

func isUnclear(err error) bool {
	return errors.Is(err, environment.ErrTwo) || errors.Is(err, environment.ErrSelector)
}
