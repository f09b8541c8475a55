package environment

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/privyseal/privyseal/broker/v1alpha1"
)

var (
	// ErrTwo: more than one environment selects the namespace, and so all of
	// them refuse it.
	ErrTwo = errors.New("in more than one environment")

	// ErrSelector: an environment's spec.namespaceSelector is malformed, so it
	// is not known which namespaces are in it.
	ErrSelector = errors.New("malformed selector")
)

// Home is the one environment that a namespace with these labels is in; nil
// where it is in none. Errors wrap ErrTwo or ErrSelector.
func Home(environments []v1alpha1.Environment, namespace string, has labels.Set) (*v1alpha1.Environment, error) {
	var homes []*v1alpha1.Environment
	for i := range environments {
		candidate := &environments[i]
		selector, err := metav1.LabelSelectorAsSelector(&candidate.Spec.NamespaceSelector)
		if err != nil {
			return nil, fmt.Errorf("environment %s spec.namespaceSelector: %w: %w", candidate.Name, ErrSelector, err)
		}
		// An empty selector would put every namespace of the cluster into one
		// environment: more likely a mistake than a wish.
		if !selector.Empty() && selector.Matches(has) {
			homes = append(homes, candidate)
		}
	}
	switch len(homes) {
	case 0:
		return nil, nil
	case 1:
		return homes[0], nil
	}
	names := make([]string, 0, len(homes))
	for _, home := range homes {
		names = append(names, home.Name)
	}
	slices.Sort(names)
	return nil, fmt.Errorf("namespace %s is %w, %s, and so all of them refuse it; change its labels or their spec.namespaceSelector",
		namespace, ErrTwo, strings.Join(names, " and "))
}
