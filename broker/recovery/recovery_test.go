package recovery_test

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/brokertest"
	"github.com/privyseal/privyseal/broker/recovery"
	"github.com/privyseal/privyseal/broker/seal"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

func newKey(t testing.TB) *seal.PrivateKey {
	t.Helper()
	key, err := seal.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func small() recovery.Bundle {
	return recovery.Bundle{
		Made:       time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC),
		Namespaces: []corev1.Namespace{{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"}, ObjectMeta: metav1.ObjectMeta{Name: "pay", Labels: map[string]string{"env": "prod"}}}},
		Secrets: []corev1.Secret{{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"}, ObjectMeta: metav1.ObjectMeta{Namespace: "privyseal-system", Name: "sealing-key-1"},
			Type: "privyseal.io/sealing-key", Data: map[string][]byte{"key": []byte("the very key")}}},
	}
}

func sealed(t testing.TB, bundle recovery.Bundle, keys ...*seal.PrivateKey) []byte {
	t.Helper()
	var public []*seal.PublicKey
	for _, key := range keys {
		public = append(public, key.Public())
	}
	text, err := recovery.Seal(bundle, public)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestABundleOpensWithEachRecoveryKeyAndWithNoOther(t *testing.T) {
	one, two, other := newKey(t), newKey(t), newKey(t)
	text := sealed(t, small(), one, two)
	if bytes.Contains(text, []byte("very key")) {
		t.Fatal("the bundle shows the key")
	}
	if ids, err := recovery.Recipients(text); err != nil || len(ids) != 2 || !slices.Contains(ids, one.Public().ID()) {
		t.Errorf("recipients %v: %v", ids, err)
	}
	for _, key := range []*seal.PrivateKey{one, two} {
		bundle, err := recovery.Open(text, seal.NewKeys(nil, []*seal.PrivateKey{key}))
		if err != nil || string(bundle.Secrets[0].Data["key"]) != "the very key" || bundle.Namespaces[0].Labels["env"] != "prod" || !bundle.Made.Equal(small().Made) {
			t.Errorf("opened %+v: %v", bundle.Contents(), err)
		}
	}
	if _, err := recovery.Open(text, seal.NewKeys(nil, []*seal.PrivateKey{other})); !errors.Is(err, seal.ErrNoKey) {
		t.Errorf("with another key: %v", err)
	}
}

func TestWhatIsNoBundleIsRefused(t *testing.T) {
	key := newKey(t)
	keys := seal.NewKeys(nil, []*seal.PrivateKey{key})
	text := sealed(t, small(), key)
	flipped := bytes.Clone(text)
	flipped[len(flipped)/2] ^= 1
	for name, broken := range map[string][]byte{
		"nothing": nil, "half": text[:len(text)/2], "two": append(bytes.Clone(text), text...),
		"another block": bytes.ReplaceAll(text, []byte("RECOVERY"), []byte("DISCOVERY")),
		"too large":     make([]byte, recovery.MaxBundle+1), "a public key": key.Public().PEM(),
	} {
		if _, err := recovery.Open(broken, keys); !errors.Is(err, recovery.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := recovery.Open(flipped, keys); err == nil {
		t.Error("an altered bundle opens")
	}
	if _, err := recovery.Seal(recovery.Bundle{}, []*seal.PublicKey{key.Public()}); !errors.Is(err, recovery.ErrEmpty) {
		t.Errorf("a bundle without keys: %v", err)
	}
}

func FuzzOpeningABundleNeverPanics(f *testing.F) {
	key := newKey(f)
	f.Add(sealed(f, small(), key))
	f.Add([]byte("-----BEGIN PRIVYSEAL RECOVERY BUNDLE-----\n-----END PRIVYSEAL RECOVERY BUNDLE-----\n"))
	f.Fuzz(func(_ *testing.T, text []byte) {
		_, _ = recovery.Recipients(text)
		_, _ = recovery.Open(text, seal.NewKeys(nil, []*seal.PrivateKey{key}))
	})
}

// What was made by an earlier release opens with this one.
func TestTheFrozenBundleOpens(t *testing.T) {
	text, err := os.ReadFile("testdata/bundle.pem")
	if err != nil {
		t.Fatal(err)
	}
	private, err := os.ReadFile("testdata/recovery.key")
	if err != nil {
		t.Fatal(err)
	}
	keys, err := seal.ParsePrivateKeys(private)
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := recovery.Open(text, seal.NewKeys(nil, keys))
	want := []string{"Namespace pay", "Secret privyseal-system/sealing-key-1 (sealing key, version 2)"}
	if err != nil || !slices.Equal(bundle.Contents(), want) {
		t.Errorf("it holds %q: %v", bundle.Contents(), err)
	}
}

func TestAClusterThatLostItsKeysGetsThemBackAndNothingThatIsThereIsTouched(t *testing.T) {
	api := brokertest.Client(t, brokertest.APIServer(t))
	create := func(object client.Object) {
		t.Helper()
		if err := api.Create(t.Context(), object); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"privyseal-system", "pay", "elsewhere"} {
		namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
		if name == "pay" {
			namespace.Labels = map[string]string{"env": "prod"}
		}
		create(namespace)
	}
	tls := map[string][]byte{"tls.key": []byte("k"), "tls.crt": []byte("c")}
	secrets := []*corev1.Secret{
		{ObjectMeta: metav1.ObjectMeta{Namespace: "privyseal-system", Name: "privyseal-install-key"}, Data: map[string][]byte{"k1": []byte("install")}},
		{ObjectMeta: metav1.ObjectMeta{Namespace: "privyseal-system", Name: "hybrid"}, Type: "privyseal.io/sealing-key", Data: map[string][]byte{"key": []byte("v2")}},
		{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "sealed-secrets-keyabc", Labels: map[string]string{"sealedsecrets.bitnami.com/sealed-secrets-key": "active"}},
			Type: corev1.SecretTypeTLS, Data: tls},
	}
	for _, secret := range secrets {
		create(secret)
	}
	create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "privyseal-system", Name: "vault-token"}, Data: map[string][]byte{"token": []byte("t")}})
	create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "tls-of-others"}, Type: corev1.SecretTypeTLS, Data: tls})
	home := &v1alpha1.Environment{ObjectMeta: metav1.ObjectMeta{Name: "prod"}, Spec: v1alpha1.EnvironmentSpec{
		NamespaceSelector: metav1.LabelSelector{MatchLabels: map[string]string{"env": "prod"}},
		Stores:            []string{"vault"}, Root: "kv", Paths: []string{"kv/**"}}}
	create(home)

	gathered, err := recovery.Gather(t.Context(), api, "privyseal-system", "kube-system")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"Namespace kube-system", "Namespace pay", "Namespace privyseal-system",
		"Secret kube-system/sealed-secrets-keyabc (sealing key, version 1)",
		"Secret privyseal-system/hybrid (sealing key, version 2)", "Secret privyseal-system/privyseal-install-key (install key)",
		"Environment prod"}
	if !slices.Equal(gathered.Contents(), want) {
		t.Fatalf("gathered %q", gathered.Contents())
	}
	key := newKey(t)
	text := sealed(t, gathered, key)

	// Two keys and the environment are lost; one key is another now.
	for _, object := range []client.Object{secrets[1], secrets[2], home} {
		if err := api.Delete(t.Context(), object); err != nil {
			t.Fatal(err)
		}
	}
	secrets[0].Data["k1"] = []byte("another")
	if err := api.Update(t.Context(), secrets[0]); err != nil {
		t.Fatal(err)
	}
	opened, err := recovery.Open(text, seal.NewKeys(nil, []*seal.PrivateKey{key}))
	if err != nil {
		t.Fatal(err)
	}
	restored, err := recovery.Restore(t.Context(), api, opened)
	if err != nil {
		t.Fatal(err)
	}
	var fates []string
	for _, one := range restored {
		fates = append(fates, one.Object.GetName()+": "+string(one.Fate))
	}
	if got := strings.Join(fates, "; "); got != "kube-system: already there; pay: already there; privyseal-system: already there; "+
		"sealed-secrets-keyabc: made; hybrid: made; privyseal-install-key: "+string(recovery.Differs)+"; prod: made" {
		t.Errorf("restored %s", got)
	}
	var found corev1.Secret
	if err := api.Get(t.Context(), client.ObjectKeyFromObject(secrets[0]), &found); err != nil || string(found.Data["k1"]) != "another" {
		t.Errorf("the key that was there is %q: %v", found.Data["k1"], err)
	}
	if err := api.Get(t.Context(), client.ObjectKeyFromObject(secrets[2]), &found); err != nil || string(found.Data["tls.key"]) != "k" ||
		found.Labels["sealedsecrets.bitnami.com/sealed-secrets-key"] != "active" || found.Type != corev1.SecretTypeTLS {
		t.Errorf("the key came back as %+v: %v", found.ObjectMeta, err)
	}
}
