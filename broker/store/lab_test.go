package store_test

import (
	"testing"
	"time"

	"github.com/privyseal/privyseal/broker/address"
	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/providers"
)

// pause is more than a session waits after a login that was refused.
const pause = 11 * time.Second

func TestAStoreLogsInWithTheCredentialsThatItNames(t *testing.T) {
	w := newWorld(t)
	for _, row := range []struct {
		name      string
		kind      v1alpha1.StoreKind
		namespace string // in which its references are resolved
		auth      v1alpha1.VaultAuth
		field     string
		made      func(*testing.T) []byte
	}{
		{"a ClusterSecretStore by AppRole", v1alpha1.KindClusterSecretStore, system,
			w.appRole(t), "spec.vault.auth.appRole.secretIdSecretRef", w.newSecretID},
		{"a ClusterSecretStore by token", v1alpha1.KindClusterSecretStore, system,
			w.token(), "spec.vault.auth.token.secretRef", w.newToken},
		{"a SecretStore by AppRole", v1alpha1.KindSecretStore, "pay",
			w.appRole(t), "spec.vault.auth.appRole.secretIdSecretRef", w.newSecretID},
		{"a SecretStore by token", v1alpha1.KindSecretStore, "pay",
			w.token(), "spec.vault.auth.token.secretRef", w.newToken},
	} {
		t.Run(row.name, func(t *testing.T) {
			connections, at := w.connections(t), w.store(row.kind, row.auth)
			other := map[string]string{system: "pay", "pay": system}[row.namespace]
			w.put(t, other, "vault-login", map[string][]byte{"credential": row.made(t)})
			w.put(t, row.namespace, "vault-login", map[string][]byte{"other": []byte("MARKER")})
			mustBe(t, w.read(t, connections, at, "pay"), providers.ErrInvalid,
				row.field+": Secret "+row.namespace+"/vault-login has nothing under the key credential; write it there")

			w.clock.Step(pause)
			w.put(t, row.namespace, "vault-login", map[string][]byte{"credential": []byte("MARKER-wrong")})
			mustBe(t, w.read(t, connections, at, "pay"), providers.ErrDenied)

			w.clock.Step(pause)
			w.put(t, row.namespace, "vault-login", map[string][]byte{"credential": row.made(t)})
			if err := w.read(t, connections, at, "pay"); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestASecretThatIsNotThereIsNamedWithItsField(t *testing.T) {
	w := newWorld(t)
	at := w.store(v1alpha1.KindSecretStore, w.token())
	mustBe(t, w.read(t, w.connections(t), at, "pay"), providers.ErrInvalid,
		"spec.vault.auth.token.secretRef: Secret pay/vault-login is not there; create it")

	at.Vault.TLS.ClientCertSecretRef = &v1alpha1.SecretRef{Name: "vault-client"}
	mustBe(t, w.connections(t).Health(t.Context(), at), providers.ErrInvalid,
		"spec.vault.tls.clientCertSecretRef: Secret pay/vault-client is not there; create it")

	at.Vault.TLS = &v1alpha1.VaultTLS{CAConfigMapRef: &v1alpha1.KeyRef{Name: "nowhere"}}
	mustBe(t, w.connections(t).Health(t.Context(), at), providers.ErrInvalid,
		"spec.vault.tls.caConfigMapRef: ConfigMap pay/nowhere is not there; create it")
}

func TestAChangedCredentialIsUsedFromTheNextLogin(t *testing.T) {
	w := newWorld(t)
	connections, at := w.connections(t), w.store(v1alpha1.KindClusterSecretStore, w.token())
	first := w.newToken(t)
	w.put(t, system, "vault-login", map[string][]byte{"credential": first})
	if err := w.read(t, connections, at, "pay"); err != nil {
		t.Fatal(err)
	}
	// Whoever keeps the token alive replaces it.
	w.put(t, system, "vault-login", map[string][]byte{"credential": w.newToken(t)})
	w.mustWrite(t, "auth/token/revoke", map[string]any{"token": string(first)})
	w.clock.Step(pause)
	if err := w.read(t, connections, at, "pay"); err != nil {
		t.Error(err)
	}
}

func TestTenantsThatShareCredentialsShareALogin(t *testing.T) {
	w := newWorld(t)
	connections, at := w.connections(t), w.store(v1alpha1.KindClusterSecretStore, w.appRole(t))
	w.put(t, system, "vault-login", map[string][]byte{"credential": w.newSecretID(t)})
	for _, tenant := range []string{"pay", "orders", "pay"} {
		if err := w.read(t, connections, at, tenant); err != nil {
			t.Fatal(err)
		}
	}
	if _, logins := w.door.counted(); logins != 1 {
		t.Errorf("there were %d logins, want one", logins)
	}
}

func TestAClientCertificateIsShownAndItsRenewalTakenUp(t *testing.T) {
	w := newWorld(t)
	w.put(t, system, "vault-login", map[string][]byte{"credential": w.newToken(t)})
	first, second := clientCertificate(t), clientCertificate(t)
	w.door.admit(first["tls.crt"])

	connections, at := w.connections(t), w.store(v1alpha1.KindClusterSecretStore, w.token())
	mustBe(t, w.read(t, connections, at, "pay"), providers.ErrUnavailable, "check the client certificate")

	w.put(t, system, "vault-client", first)
	at.Generation++
	at.Vault.TLS.ClientCertSecretRef = &v1alpha1.SecretRef{Name: "vault-client"}
	if err := w.read(t, connections, at, "pay"); err != nil {
		t.Fatal(err)
	}

	// It is renewed, and some time later the old one is worth nothing.
	w.put(t, system, "vault-client", second)
	w.door.admit(second["tls.crt"])
	mustBe(t, w.read(t, connections, at, "pay"), providers.ErrUnavailable)
	w.clock.Step(time.Minute)
	mustBe(t, connections.Health(t.Context(), at), providers.ErrUnavailable) // and looks at the Secret again
	if err := connections.Health(t.Context(), at); err != nil {
		t.Error(err)
	}
	if err := w.read(t, connections, at, "pay"); err != nil {
		t.Error(err)
	}

	w.put(t, system, "vault-client", map[string][]byte{"tls.crt": first["tls.crt"], "tls.key": second["tls.key"]})
	at.Generation++
	mustBe(t, connections.Health(t.Context(), at), providers.ErrInvalid, "not a pair")
}

func TestNothingIsSentToAnAddressThatIsNotAllowed(t *testing.T) {
	w := newWorld(t)
	w.put(t, "pay", "vault-login", map[string][]byte{"credential": w.newToken(t)})
	w.put(t, system, "vault-login", map[string][]byte{"credential": w.newToken(t)})
	tenants := w.store(v1alpha1.KindSecretStore, w.token())
	for name, row := range map[string]struct {
		allow []string
		words string
	}{
		"none is listed":         {nil, "SecretStores are switched off; have an administrator list the address"},
		"only others are":        {[]string{"https://vault:8200"}, "vault.allowedAddresses lists https://vault:8200"},
		"only the host is alike": {[]string{"https://127.0.0.1:1"}, "vault.allowedAddresses lists"},
	} {
		t.Run(name, func(t *testing.T) {
			w.allow = row.allow
			connections := w.connections(t)
			for _, err := range []error{w.read(t, connections, tenants, "pay"), connections.Health(t.Context(), tenants)} {
				mustBe(t, err, address.ErrNotAllowed, "opening SecretStore pay/vault", "spec.vault.address", row.words)
				mustBe(t, err, providers.ErrInvalid)
			}
		})
	}
	if visitors, _ := w.door.counted(); visitors != 0 {
		t.Errorf("the Vault was visited %d times", visitors)
	}
	// What an administrator writes needs no list.
	if err := w.read(t, w.connections(t), w.store(v1alpha1.KindClusterSecretStore, w.token()), "pay"); err != nil {
		t.Error(err)
	}
}

func TestARoleOfAnEnvironmentIsRefusedWhereThereIsNone(t *testing.T) {
	w := newWorld(t)
	at := w.store(v1alpha1.KindSecretStore, v1alpha1.VaultAuth{
		Kubernetes: &v1alpha1.VaultKubernetesAuth{Role: "{{ .Environment }}-{{ .Namespace }}"},
	})
	mustBe(t, w.read(t, w.connections(t), at, "pay"), providers.ErrInvalid,
		"spec.vault.auth.kubernetes.role", "namespace pay is in no environment")
}
