package store_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/address"
	"github.com/privyseal/privyseal/broker/brokertest"
	"github.com/privyseal/privyseal/broker/store"
	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/providers"
)

const (
	system  = "privyseal-system"
	planted = "MARKER-planted"
)

// world is an API server of the test's own, the lab's Vault, and a door before
// the Vault that counts who comes and can ask for certificates.
type world struct {
	api   client.Client
	vault *api.Client
	door  *door
	clock *clocktesting.FakeClock
	name  string // of what is the test's own in the Vault
	allow []string
}

func newWorld(t *testing.T) *world {
	lab := brokertest.NewLab(t, brokertest.ControlPlane)
	w := &world{
		api:   brokertest.Client(t, apiServer.Access(t)),
		vault: lab.Vault.Client(),
		door:  newDoor(t, lab),
		clock: clocktesting.NewFakeClock(time.Unix(1000, 0)),
		name:  "store-test-" + strings.ToLower(rand.Text()[:10]),
	}
	w.allow = []string{w.door.URL}
	w.empty(t)
	for _, namespace := range []string{system, "pay"} {
		w.create(t, &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "vault-ca"},
			Data:       map[string]string{"ca.crt": string(certificatePEM(w.door.Certificate().Raw))},
		})
	}
	lab.Vault.Put(t, "kv/"+w.name+"/db", map[string]any{"password": planted})
	w.mustWrite(t, "sys/policies/acl/"+w.name, map[string]any{"policy": `path "kv/data/` + w.name + `/*" { capabilities = ["read"] }`})
	w.mustWrite(t, "sys/auth/"+w.name, map[string]any{"type": "approle"})
	w.mustWrite(t, "auth/"+w.name+"/role/pay", map[string]any{"token_policies": w.name, "token_ttl": "1h"})
	t.Cleanup(func() {
		for _, path := range []string{"kv/metadata/" + w.name + "/db", "sys/auth/" + w.name, "sys/policies/acl/" + w.name} {
			_, _ = w.vault.Logical().DeleteWithContext(context.Background(), path)
		}
	})
	return w
}

// empty takes away what the test before left.
func (w *world) empty(t *testing.T) {
	t.Helper()
	err := w.api.DeleteAllOf(t.Context(), &v1alpha1.ClusterSecretStore{})
	for _, namespace := range []string{system, "pay"} {
		here := client.InNamespace(namespace)
		err = errors.Join(err,
			client.IgnoreAlreadyExists(w.api.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}})),
			w.api.DeleteAllOf(t.Context(), &corev1.Secret{}, here), w.api.DeleteAllOf(t.Context(), &corev1.ConfigMap{}, here),
			w.api.DeleteAllOf(t.Context(), &v1alpha1.SecretStore{}, here))
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (w *world) create(t *testing.T, object client.Object) {
	t.Helper()
	if err := w.api.Create(t.Context(), object); err != nil {
		t.Fatal(err)
	}
}

// put makes a Secret hold this and nothing else.
func (w *world) put(t *testing.T, namespace, name string, data map[string][]byte) {
	t.Helper()
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Data: data}
	if err := client.IgnoreNotFound(w.api.Delete(t.Context(), secret.DeepCopy())); err != nil {
		t.Fatal(err)
	}
	w.create(t, secret)
}

func (w *world) mustWrite(t *testing.T, path string, values map[string]any) *api.Secret {
	t.Helper()
	written, err := w.vault.Logical().WriteWithContext(t.Context(), path, values)
	if err != nil {
		t.Fatalf("writing %s: %v", path, err)
	}
	return written
}

func (w *world) roleID(t *testing.T) string {
	t.Helper()
	found, err := w.vault.Logical().ReadWithContext(t.Context(), "auth/"+w.name+"/role/pay/role-id")
	if err != nil {
		t.Fatal(err)
	}
	return found.Data["role_id"].(string)
}

func (w *world) newSecretID(t *testing.T) []byte {
	t.Helper()
	return []byte(w.mustWrite(t, "auth/"+w.name+"/role/pay/secret-id", nil).Data["secret_id"].(string))
}

func (w *world) newToken(t *testing.T) []byte {
	t.Helper()
	made := w.mustWrite(t, "auth/token/create", map[string]any{"policies": []string{w.name}, "ttl": "10m"})
	return []byte(made.Auth.ClientToken)
}

// connections to stores, none of them open.
func (w *world) connections(t *testing.T) *store.Connections {
	t.Helper()
	allowed, err := address.Parse(w.allow)
	if err != nil {
		t.Fatal(err)
	}
	return store.New(store.Config{Live: w.api, Tokens: noTokens{}, Namespace: system, Allowed: allowed, Clock: w.clock})
}

// store of a kind at the door, with this login.
func (w *world) store(kind v1alpha1.StoreKind, auth v1alpha1.VaultAuth) v1alpha1.Store {
	made := v1alpha1.Store{
		Kind: kind, NamespacedName: types.NamespacedName{Name: "vault"}, UID: "uid-1", Generation: 1,
		Vault: v1alpha1.VaultStore{
			Address: w.door.URL, Auth: auth,
			TLS: &v1alpha1.VaultTLS{CAConfigMapRef: &v1alpha1.KeyRef{Name: "vault-ca"}},
		},
	}
	if kind == v1alpha1.KindSecretStore {
		made.Namespace = "pay"
	}
	return made
}

// appRole and token are logins with what Secret vault-login holds.
func (w *world) appRole(t *testing.T) v1alpha1.VaultAuth {
	return v1alpha1.VaultAuth{AppRole: &v1alpha1.VaultAppRoleAuth{
		Mount: w.name, RoleID: w.roleID(t), SecretIDSecretRef: v1alpha1.SecretKeyRef{Name: "vault-login", Key: "credential"},
	}}
}

func (w *world) token() v1alpha1.VaultAuth {
	return v1alpha1.VaultAuth{Token: &v1alpha1.VaultTokenAuth{
		SecretRef: v1alpha1.SecretKeyRef{Name: "vault-login", Key: "credential"},
	}}
}

// read the test's document as a tenant.
func (w *world) read(t *testing.T, from *store.Connections, at v1alpha1.Store, namespace string) error {
	t.Helper()
	ref, err := providers.ParseRef("kv/" + w.name + "/db")
	if err != nil {
		t.Fatal(err)
	}
	document, err := from.Read(t.Context(), at, providers.Identity{Namespace: namespace}, providers.Request{Ref: ref})
	if err == nil && string(document.Values["password"].Bytes()) != planted {
		t.Error("the value is another than was written")
	}
	return err
}

func mustBe(t *testing.T, err, fact error, words ...string) {
	t.Helper()
	if !errors.Is(err, fact) {
		t.Errorf("got %v, want %v", err, fact)
		return
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%v: it does not say %q", err, word)
		}
	}
}

// noTokens are for stores that have no use for a service account.
type noTokens struct{}

func (noTokens) Token(context.Context, types.NamespacedName, []string) (providers.Value, error) {
	return providers.Value{}, errors.New("a service account's token was asked for")
}

// door lets through to the lab's Vault.
type door struct {
	*httptest.Server

	mu       sync.Mutex
	visitors int            // connections begun
	logins   int            // requests to log in
	admits   *x509.CertPool // nil: anybody
}

func newDoor(t *testing.T, lab *brokertest.Lab) *door {
	behind, err := url.Parse(lab.Env("VAULT_ADDR"))
	if err != nil {
		t.Fatal(err)
	}
	authorities := x509.NewCertPool()
	authorities.AppendCertsFromPEM([]byte(lab.VaultCA(t)))
	through := httputil.NewSingleHostReverseProxy(behind)
	through.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: authorities, MinVersion: tls.VersionTLS12}}
	d := &door{}
	d.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/login") {
			d.mu.Lock()
			d.logins++
			d.mu.Unlock()
		}
		through.ServeHTTP(w, r)
	}))
	d.Config.ErrorLog = log.New(io.Discard, "", 0) // refused handshakes are what is tested
	d.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	d.TLS.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.visitors++
		if d.admits == nil {
			return nil, nil
		}
		asking := d.TLS.Clone()
		asking.GetConfigForClient = nil
		asking.ClientAuth, asking.ClientCAs = tls.RequireAndVerifyClientCert, d.admits
		return asking, nil
	}
	d.StartTLS()
	t.Cleanup(d.Close)
	return d
}

// admit only who shows this certificate, and send the others away.
func (d *door) admit(certificate []byte) {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(certificate)
	d.mu.Lock()
	d.admits = pool
	d.mu.Unlock()
	d.CloseClientConnections()
}

func (d *door) counted() (visitors, logins int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.visitors, d.logins
}

// clientCertificate is a new one with its key, as a Secret of type
// kubernetes.io/tls holds them.
func clientCertificate(t *testing.T) map[string][]byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{
		corev1.TLSCertKey:       certificatePEM(certificate),
		corev1.TLSPrivateKeyKey: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded}),
	}
}

func certificatePEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
