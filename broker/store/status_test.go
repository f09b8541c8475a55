package store_test

import (
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/privyseal/privyseal/broker/store"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

func TestStoresOfBothKindsSayWhetherTheyCanBeUsed(t *testing.T) {
	w := newWorld(t)
	vault := w.store(v1alpha1.KindClusterSecretStore, w.token()).Vault
	elsewhere := *vault.DeepCopy()
	elsewhere.Address = "https://127.0.0.1:1"
	broken := *vault.DeepCopy()
	broken.TLS.CAConfigMapRef.Name = "nowhere"
	connections := w.connections(t)

	for _, row := range []struct {
		name   string
		kind   v1alpha1.StoreKind
		vault  v1alpha1.VaultStore
		reason string
	}{
		{"a ClusterSecretStore that answers", v1alpha1.KindClusterSecretStore, vault, v1alpha1.ReasonReachable},
		{"a ClusterSecretStore that does not", v1alpha1.KindClusterSecretStore, elsewhere, v1alpha1.ReasonStoreUnavailable},
		{"a ClusterSecretStore that names nothing", v1alpha1.KindClusterSecretStore, broken, v1alpha1.ReasonStoreInvalid},
		{"a SecretStore that answers", v1alpha1.KindSecretStore, vault, v1alpha1.ReasonReachable},
		{"a SecretStore with an address of its own choice", v1alpha1.KindSecretStore, elsewhere, v1alpha1.ReasonStoreNotAllowed},
		{"a SecretStore that names nothing", v1alpha1.KindSecretStore, broken, v1alpha1.ReasonStoreInvalid},
	} {
		t.Run(row.name, func(t *testing.T) {
			object := stored(row.kind, "vault", row.vault)
			w.create(t, object)
			status := &store.Status{Kind: row.kind, Prober: connections, Client: w.api, Clock: w.clock}
			look := func() v1alpha1.StoreObject {
				t.Helper()
				name := client.ObjectKeyFromObject(object)
				if _, err := status.Reconcile(t.Context(), reconcile.Request{NamespacedName: name}); err != nil {
					t.Fatal(err)
				}
				if err := w.api.Get(t.Context(), name, object); err != nil {
					t.Fatal(err)
				}
				return object
			}
			ready := meta.FindStatusCondition(look().StoreStatus().Conditions, v1alpha1.ConditionReady)
			if ready == nil || ready.Reason != row.reason || (ready.Status == metav1.ConditionTrue) != (row.reason == v1alpha1.ReasonReachable) {
				t.Errorf("Ready is %+v, want reason %s", ready, row.reason)
			}
			if version := object.GetResourceVersion(); look().GetResourceVersion() != version {
				t.Error("the status was written again, and nothing had changed")
			}

			if err := w.api.Delete(t.Context(), object); err != nil {
				t.Fatal(err)
			}
			gone := reconcile.Request{NamespacedName: client.ObjectKeyFromObject(object)}
			if _, err := status.Reconcile(t.Context(), gone); err != nil {
				t.Errorf("a store that is gone: %v", err)
			}
		})
	}
}

// stored is a store as an object to create, in namespace pay if it is in one.
func stored(kind v1alpha1.StoreKind, name string, vault v1alpha1.VaultStore) v1alpha1.StoreObject {
	if kind == v1alpha1.KindSecretStore {
		return &v1alpha1.SecretStore{
			ObjectMeta: metav1.ObjectMeta{Namespace: "pay", Name: name},
			Spec:       v1alpha1.SecretStoreSpec{Vault: vault},
		}
	}
	return &v1alpha1.ClusterSecretStore{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       v1alpha1.ClusterSecretStoreSpec{Vault: vault},
	}
}
