package v1alpha1

import (
	"errors"
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
)

// StoreKind is the kind of a store.
//
// +kubebuilder:validation:Enum=SecretStore;ClusterSecretStore
type StoreKind string

// The kinds of stores.
const (
	KindSecretStore        StoreKind = "SecretStore"
	KindClusterSecretStore StoreKind = "ClusterSecretStore"
)

// Store is what stores of both kinds have in common: one version of a place
// where values come from. What reads from it need not know of which kind it is.
//
// +kubebuilder:object:generate=false
type Store struct {
	Kind StoreKind

	// NamespacedName of the object. A ClusterSecretStore has no namespace, so
	// stores of the two kinds never have the same one.
	types.NamespacedName

	UID        types.UID
	Generation int64
	Vault      VaultStore
}

// String names the store to people: "SecretStore pay/vault".
func (s Store) String() string {
	if s.Namespace == "" {
		return string(s.Kind) + " " + s.Name
	}
	return string(s.Kind) + " " + s.NamespacedName.String()
}

// Same says whether two stores, be they of different names, are one: a document has
// one path in each namespace of a Vault.
func (s Store) Same(other Store) bool {
	return s.NamespacedName == other.NamespacedName ||
		s.Vault.Address == other.Vault.Address && s.Vault.Namespace == other.Vault.Namespace
}

// StoreObject is a store as an object of the API.
//
// +kubebuilder:object:generate=false
type StoreObject interface {
	metav1.Object
	runtime.Object

	// Store is what the object says.
	Store() Store
	// StoreStatus is the object's own status, to be changed.
	StoreStatus() *StoreStatus
}

var (
	_ StoreObject = (*SecretStore)(nil)
	_ StoreObject = (*ClusterSecretStore)(nil)
)

// Store implements StoreObject.
func (s *SecretStore) Store() Store { return storeOf(KindSecretStore, s, s.Spec.Vault) }

// StoreStatus implements StoreObject.
func (s *SecretStore) StoreStatus() *StoreStatus { return &s.Status }

// Store implements StoreObject.
func (s *ClusterSecretStore) Store() Store {
	return storeOf(KindClusterSecretStore, s, s.Spec.Vault)
}

// StoreStatus implements StoreObject.
func (s *ClusterSecretStore) StoreStatus() *StoreStatus { return &s.Status }

func storeOf(kind StoreKind, object metav1.Object, vault VaultStore) Store {
	return Store{
		Kind:           kind,
		NamespacedName: types.NamespacedName{Namespace: object.GetNamespace(), Name: object.GetName()},
		UID:            object.GetUID(), Generation: object.GetGeneration(),
		Vault: vault,
	}
}

// Check says, as the rules of the CRDs do, what a VaultStore may not hold
// together. An object can lack that check: one that was stored before its rule.
func (v VaultStore) Check() error {
	if tls := v.TLS; tls != nil && tls.CASecretRef != nil && tls.CAConfigMapRef != nil {
		return errors.New("spec.vault.tls: give at most one of caSecretRef and caConfigMapRef")
	}
	var given []string
	for _, method := range []struct {
		name  string
		given bool
	}{
		{"kubernetes", v.Auth.Kubernetes != nil},
		{"appRole", v.Auth.AppRole != nil},
		{"token", v.Auth.Token != nil},
	} {
		if method.given {
			given = append(given, method.name)
		}
	}
	switch len(given) {
	case 1:
		return nil
	case 0:
		return errors.New("spec.vault.auth: give exactly one of kubernetes, appRole and token")
	default:
		return fmt.Errorf("spec.vault.auth: give exactly one of kubernetes, appRole and token, not %s", strings.Join(given, " and "))
	}
}
