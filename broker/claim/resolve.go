package claim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/environment"
	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/providers"
)

// facts is what decides whose store is asked for which paths.
type facts struct {
	claim        *v1alpha1.SecretClaim
	namespace    labels.Set
	environments []v1alpha1.Environment
	stores       map[string]*v1alpha1.ClusterSecretStore
}

// plan is what to read, where, and as whom.
type plan struct {
	store    *v1alpha1.ClusterSecretStore
	identity providers.Identity
	requests []providers.Request
}

// Gatherer collects facts from the cache. It judges nothing.
type Gatherer struct {
	// Cache of namespaces, environments and stores.
	Cache client.Reader
}

// gather collects the facts about one claim.
func (g Gatherer) gather(ctx context.Context, claim *v1alpha1.SecretClaim) (facts, error) {
	gathered := facts{claim: claim, stores: map[string]*v1alpha1.ClusterSecretStore{}}
	namespace := &metav1.PartialObjectMetadata{}
	namespace.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	if err := g.Cache.Get(ctx, client.ObjectKey{Name: claim.Namespace}, namespace); client.IgnoreNotFound(err) != nil {
		return facts{}, fmt.Errorf("looking up namespace %s: %w", claim.Namespace, err)
	}
	gathered.namespace = namespace.Labels

	var environments v1alpha1.EnvironmentList
	if err := g.Cache.List(ctx, &environments); err != nil {
		return facts{}, fmt.Errorf("listing environments: %w", err)
	}
	gathered.environments = environments.Items
	for _, candidate := range environments.Items {
		for _, name := range candidate.Spec.Stores {
			if err := g.addStore(ctx, gathered.stores, name); err != nil {
				return facts{}, err
			}
		}
	}
	return gathered, nil
}

func (g Gatherer) addStore(ctx context.Context, stores map[string]*v1alpha1.ClusterSecretStore, name string) error {
	if _, known := stores[name]; known {
		return nil
	}
	store := &v1alpha1.ClusterSecretStore{}
	err := g.Cache.Get(ctx, client.ObjectKey{Name: name}, store)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking up ClusterSecretStore %s: %w", name, err)
	}
	stores[name] = store
	return nil
}

// resolve decides. Its errors are *Refusal.
func resolve(facts facts) (plan, error) {
	home, refusal := homeOf(facts)
	if refusal != nil {
		return plan{}, refusal
	}
	rules, err := environment.Compile(home)
	if err != nil {
		return plan{}, because(v1alpha1.ReasonPathInvalid, "environment "+home.Name, err)
	}
	store, refusal := storeOf(facts, home)
	if refusal != nil {
		return plan{}, refusal
	}
	resolved := plan{
		store:    store,
		identity: providers.Identity{Namespace: facts.claim.Namespace, Environment: home.Name},
	}
	for i, source := range facts.claim.Spec.Sources {
		ref, err := rules.Resolve(facts.claim.Namespace, source.Path)
		field := fmt.Sprintf("spec.sources[%d].path", i)
		switch {
		case errors.Is(err, environment.ErrOutside):
			return plan{}, because(v1alpha1.ReasonPathNotAllowed, field, err)
		case err != nil:
			return plan{}, because(v1alpha1.ReasonPathInvalid, field, err)
		}
		resolved.requests = append(resolved.requests, providers.Request{Ref: ref, Version: source.Version})
	}
	return resolved, nil
}

// homeOf is the one environment that selects the claim's namespace.
func homeOf(facts facts) (*v1alpha1.Environment, *Refusal) {
	var homes []*v1alpha1.Environment
	for i := range facts.environments {
		candidate := &facts.environments[i]
		selector, err := metav1.LabelSelectorAsSelector(&candidate.Spec.NamespaceSelector)
		if err != nil {
			return nil, because(v1alpha1.ReasonNoEnvironment, "environment "+candidate.Name+" spec.namespaceSelector", err)
		}
		// An empty selector would put every namespace of the cluster into one
		// environment: more likely a mistake than a wish.
		if !selector.Empty() && selector.Matches(facts.namespace) {
			homes = append(homes, candidate)
		}
	}
	switch len(homes) {
	case 1:
		return homes[0], nil
	case 0:
		return nil, refuse(v1alpha1.ReasonNoEnvironment,
			"namespace %s is in no environment; label it so that an Environment's spec.namespaceSelector selects it", facts.claim.Namespace)
	default:
		var names []string
		for _, home := range homes {
			names = append(names, home.Name)
		}
		slices.Sort(names)
		return nil, refuse(v1alpha1.ReasonTwoEnvironments,
			"namespace %s is in the environments %s, and so all of them refuse it; change its labels or their spec.namespaceSelector",
			facts.claim.Namespace, strings.Join(names, " and "))
	}
}

// storeOf is the store that the claim may and wants to use.
func storeOf(facts facts, home *v1alpha1.Environment) (*v1alpha1.ClusterSecretStore, *Refusal) {
	if len(home.Spec.Stores) == 0 {
		return nil, refuse(v1alpha1.ReasonStoreNotFound, "environment %s: spec.stores is empty", home.Name)
	}
	name, field := home.Spec.Stores[0], "environment "+home.Name+" spec.stores[0]"
	if ref := facts.claim.Spec.StoreRef; ref != nil {
		name, field = ref.Name, "spec.storeRef.name"
	}
	if !slices.Contains(home.Spec.Stores, name) {
		return nil, refuse(v1alpha1.ReasonStoreNotAllowed, "%s: environment %s does not list the store %s; it lists %s",
			field, home.Name, name, strings.Join(home.Spec.Stores, ", "))
	}
	store, found := facts.stores[name]
	if !found {
		return nil, refuse(v1alpha1.ReasonStoreNotFound, "%s: there is no ClusterSecretStore %s", field, name)
	}
	if admits := store.Spec.Namespaces; admits != nil {
		selector, err := metav1.LabelSelectorAsSelector(&admits.Selector)
		if err != nil {
			return nil, because(v1alpha1.ReasonStoreInvalid, "ClusterSecretStore "+name+" spec.namespaces.selector", err)
		}
		if !selector.Matches(facts.namespace) {
			return nil, refuse(v1alpha1.ReasonStoreNotAllowed,
				"%s: the spec.namespaces of ClusterSecretStore %s does not select namespace %s", field, name, facts.claim.Namespace)
		}
	}
	return store, nil
}
