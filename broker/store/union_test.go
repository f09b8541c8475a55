package store_test

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/brokertest"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// TestTheAPIServerAndTheDaemonJudgeStoresAlike: each rule is written twice, in
// CEL on the type and in Go, for objects that were stored before the rule.
func TestTheAPIServerAndTheDaemonJudgeStoresAlike(t *testing.T) {
	api := brokertest.Client(t, apiServer.Access(t))
	if err := client.IgnoreAlreadyExists(api.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "pay"}})); err != nil {
		t.Fatal(err)
	}
	secret := v1alpha1.SecretKeyRef{Name: "vault-login", Key: "credential"}
	kubernetes := &v1alpha1.VaultKubernetesAuth{Role: "pay"}
	appRole := &v1alpha1.VaultAppRoleAuth{RoleID: "role", SecretIDSecretRef: secret}
	token := &v1alpha1.VaultTokenAuth{SecretRef: secret}
	ca := &v1alpha1.KeyRef{Name: "vault-ca"}
	for i, row := range []struct {
		name  string
		auth  v1alpha1.VaultAuth
		tls   *v1alpha1.VaultTLS
		field string // that is refused; empty: none
	}{
		{"kubernetes alone", v1alpha1.VaultAuth{Kubernetes: kubernetes}, nil, ""},
		{"appRole alone", v1alpha1.VaultAuth{AppRole: appRole}, nil, ""},
		{"token alone", v1alpha1.VaultAuth{Token: token}, nil, ""},
		{"no login", v1alpha1.VaultAuth{}, nil, "spec.vault.auth"},
		{"no login, but its namespace", v1alpha1.VaultAuth{Namespace: "team"}, nil, "spec.vault.auth"},
		{"kubernetes and appRole", v1alpha1.VaultAuth{Kubernetes: kubernetes, AppRole: appRole}, nil, "spec.vault.auth"},
		{"appRole and token", v1alpha1.VaultAuth{AppRole: appRole, Token: token}, nil, "spec.vault.auth"},
		{"all three", v1alpha1.VaultAuth{Kubernetes: kubernetes, AppRole: appRole, Token: token}, nil, "spec.vault.auth"},
		{"authorities from a Secret", v1alpha1.VaultAuth{Token: token}, &v1alpha1.VaultTLS{CASecretRef: ca}, ""},
		{"authorities from two places", v1alpha1.VaultAuth{Token: token},
			&v1alpha1.VaultTLS{CASecretRef: ca, CAConfigMapRef: ca}, "spec.vault.tls"},
		{"a client certificate alone", v1alpha1.VaultAuth{Token: token},
			&v1alpha1.VaultTLS{ClientCertSecretRef: &v1alpha1.SecretRef{Name: "vault-client"}}, ""},
	} {
		vault := v1alpha1.VaultStore{Address: "https://vault:8200", Auth: row.auth, TLS: row.tls}
		twin := vault.Check()
		if (twin != nil) != (row.field != "") || twin != nil && !strings.HasPrefix(twin.Error(), row.field+": give ") {
			t.Errorf("%s: the daemon says %v, want it to refuse %q", row.name, twin, row.field)
		}
		for _, kind := range []v1alpha1.StoreKind{v1alpha1.KindClusterSecretStore, v1alpha1.KindSecretStore} {
			err := api.Create(t.Context(), stored(kind, fmt.Sprintf("store-%d", i), vault))
			switch {
			case row.field == "" && err != nil:
				t.Errorf("%s: %s: %v", kind, row.name, err)
			case row.field != "" && (!apierrors.IsInvalid(err) || !strings.Contains(err.Error(), row.field+`: Invalid value: "object": give `)):
				t.Errorf("%s: %s: the API server says %v, want it to refuse %s", kind, row.name, err, row.field)
			}
		}
	}
}
