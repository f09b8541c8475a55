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

	"github.com/privyseal/privyseal/broker/address"
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
	// own is the SecretStore that the claim names; nil where it names none, or
	// one that is not there.
	own *v1alpha1.SecretStore
	// allowed are the addresses that a SecretStore may have.
	allowed address.Allowed
}

// plan is what to read, where, and as whom.
type plan struct {
	store    v1alpha1.Store
	identity providers.Identity
	requests []providers.Request
}

// Gatherer collects facts from the cache. It judges nothing. What it gathers is
// shared with the cache, since it is gathered for every claim at every read,
// and must not be changed.
type Gatherer struct {
	// Cache of namespaces, environments and stores.
	Cache client.Reader
	// Allowed are the addresses that SecretStores may have. The zero value:
	// none.
	Allowed address.Allowed
}

// gather collects the facts about one claim.
func (g Gatherer) gather(ctx context.Context, claim *v1alpha1.SecretClaim) (facts, error) {
	gathered := facts{claim: claim, stores: map[string]*v1alpha1.ClusterSecretStore{}, allowed: g.Allowed}
	var err error
	if gathered.namespace, gathered.environments, err = surroundings(ctx, g.Cache, claim.Namespace); err != nil {
		return facts{}, err
	}
	for _, candidate := range gathered.environments {
		for _, name := range candidate.Spec.Stores {
			if err := g.addStore(ctx, gathered.stores, name); err != nil {
				return facts{}, err
			}
		}
	}
	if namesOwnStore(claim) {
		own := &v1alpha1.SecretStore{}
		name := client.ObjectKey{Namespace: claim.Namespace, Name: claim.Spec.StoreRef.Name}
		switch err := g.Cache.Get(ctx, name, own, client.UnsafeDisableDeepCopy); {
		case err == nil:
			gathered.own = own
		case !apierrors.IsNotFound(err):
			return facts{}, fmt.Errorf("looking up SecretStore %s: %w", name, err)
		}
	}
	return gathered, nil
}

// surroundings are a namespace's labels, and all environments: what
// environment.Home chooses by.
func surroundings(ctx context.Context, cache client.Reader, name string) (labels.Set, []v1alpha1.Environment, error) {
	namespace := namespaceMeta()
	if err := cache.Get(ctx, client.ObjectKey{Name: name}, namespace, client.UnsafeDisableDeepCopy); client.IgnoreNotFound(err) != nil {
		return nil, nil, fmt.Errorf("looking up namespace %s: %w", name, err)
	}
	var environments v1alpha1.EnvironmentList
	if err := cache.List(ctx, &environments, client.UnsafeDisableDeepCopy); err != nil {
		return nil, nil, fmt.Errorf("listing environments: %w", err)
	}
	return namespace.Labels, environments.Items, nil
}

func namespaceMeta() *metav1.PartialObjectMetadata {
	namespace := &metav1.PartialObjectMetadata{}
	namespace.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	return namespace
}

// namesOwnStore says that a claim asks for a SecretStore of its namespace.
func namesOwnStore(claim *v1alpha1.SecretClaim) bool {
	return claim.Spec.StoreRef != nil && claim.Spec.StoreRef.Kind == v1alpha1.KindSecretStore
}

func (g Gatherer) addStore(ctx context.Context, stores map[string]*v1alpha1.ClusterSecretStore, name string) error {
	if _, known := stores[name]; known {
		return nil
	}
	store := &v1alpha1.ClusterSecretStore{}
	err := g.Cache.Get(ctx, client.ObjectKey{Name: name}, store, client.UnsafeDisableDeepCopy)
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
	if refusal := checkTarget(facts.claim.Spec, home); refusal != nil {
		return plan{}, refusal
	}
	if home == nil {
		return resolveOutside(facts)
	}
	return resolveInside(facts, home)
}

// resolveInside is for a namespace in an environment: the environment's stores,
// and what its paths allow.
func resolveInside(facts facts, home *v1alpha1.Environment) (plan, error) {
	if facts.claim.Labels[v1alpha1.LabelMadeFrom] == v1alpha1.MadeFromAnnotation {
		if err := environment.CheckAnnotation(home, environment.AsksForPath); err != nil {
			return plan{}, &Refusal{Reason: v1alpha1.ReasonAnnotationNotAllowed, Cause: err,
				Message: "made from an annotation: " + err.Error() + "; the last good value stays"}
		}
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
		store:    store.Store(),
		identity: providers.Identity{Namespace: facts.claim.Namespace, Environment: home.Name},
	}
	return resolved.asking(facts.claim, func(path string) (providers.Ref, error) {
		return rules.Resolve(facts.claim.Namespace, path)
	})
}

// resolveOutside is for a namespace that is in no environment: a store of its
// own, which has no root to start at and no rules but the Vault's.
func resolveOutside(facts facts) (plan, error) {
	store, refusal := ownStoreOf(facts)
	if refusal != nil {
		return plan{}, refusal
	}
	resolved := plan{
		store:    store.Store(),
		identity: providers.Identity{Namespace: facts.claim.Namespace},
	}
	return resolved.asking(facts.claim, func(path string) (providers.Ref, error) {
		if !strings.HasPrefix(path, "/") {
			return providers.Ref{}, fmt.Errorf("%w %q: namespace %s is in no environment, so there is no root where it could start; write it from the store's root, with a leading slash",
				providers.ErrPath, path, facts.claim.Namespace)
		}
		return providers.ParseRef(path)
	})
}

// asking completes a plan with the claim's sources.
func (p plan) asking(claim *v1alpha1.SecretClaim, find func(path string) (providers.Ref, error)) (plan, error) {
	for i, source := range claim.Spec.Sources {
		ref, err := find(source.Path)
		field := fmt.Sprintf("spec.sources[%d].path", i)
		switch {
		case errors.Is(err, environment.ErrOutside):
			return plan{}, because(v1alpha1.ReasonPathNotAllowed, field, err)
		case err != nil:
			return plan{}, because(v1alpha1.ReasonPathInvalid, field, err)
		}
		p.requests = append(p.requests, providers.Request{Ref: ref, Version: source.Version})
	}
	return p, nil
}

// homeOf is the one environment that selects the claim's namespace, or nil.
func homeOf(facts facts) (*v1alpha1.Environment, *Refusal) {
	home, err := environment.Home(facts.environments, facts.claim.Namespace, facts.namespace)
	switch {
	case errors.Is(err, environment.ErrTwo):
		return nil, &Refusal{Reason: v1alpha1.ReasonTwoEnvironments, Message: err.Error(), Cause: err}
	case err != nil:
		return nil, &Refusal{Reason: v1alpha1.ReasonNoEnvironment, Message: err.Error(), Cause: err}
	}
	return home, nil
}

// ownStoreOf is the SecretStore that a claim outside environments names.
func ownStoreOf(facts facts) (*v1alpha1.SecretStore, *Refusal) {
	claim := facts.claim
	switch {
	case !namesOwnStore(claim):
		return nil, refuse(v1alpha1.ReasonNoEnvironment,
			"namespace %s is in no environment; label it so that an Environment's spec.namespaceSelector selects it, or name a SecretStore of the namespace in spec.storeRef, with its kind", claim.Namespace)
	case facts.own == nil:
		return nil, refuse(v1alpha1.ReasonStoreNotFound,
			"spec.storeRef.name: there is no SecretStore %s in namespace %s", claim.Spec.StoreRef.Name, claim.Namespace)
	}
	if err := facts.allowed.Check(facts.own.Spec.Vault.Address); err != nil {
		return nil, because(v1alpha1.ReasonStoreNotAllowed, "SecretStore "+facts.own.Name+" spec.vault.address", err)
	}
	return facts.own, nil
}

// storeOf is the store that a claim in an environment may and wants to use.
func storeOf(facts facts, home *v1alpha1.Environment) (*v1alpha1.ClusterSecretStore, *Refusal) {
	if namesOwnStore(facts.claim) {
		return nil, refuse(v1alpha1.ReasonStoreNotAllowed,
			"spec.storeRef.kind: namespace %s is in environment %s, and uses only the ClusterSecretStores that this lists: %s",
			facts.claim.Namespace, home.Name, strings.Join(home.Spec.Stores, ", "))
	}
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
		return nil, refuse(v1alpha1.ReasonStoreNotFound, "%s: there is no ClusterSecretStore %s; create it, or name another", field, name)
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
