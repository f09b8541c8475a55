package manifest_test

import (
	"encoding/base64"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	ssv1alpha1 "github.com/bitnami-labs/sealed-secrets/pkg/apis/sealedsecrets/v1alpha1"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"

	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"

	"github.com/privyseal/privyseal/broker/manifest"
	"github.com/privyseal/privyseal/broker/seal"
)

var day = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func rsaKey(t testing.TB) *seal.RSAKey {
	t.Helper()
	key, err := seal.GenerateRSAKey(seal.RSAConfig{Now: day, Bits: 2048})
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func hybridKey(t testing.TB) *seal.PrivateKey {
	t.Helper()
	key, err := seal.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// upstreamsKey is the key as Sealed Secrets' own code has it.
func upstreamsKey(t testing.TB, key *seal.RSAKey) *rsa.PrivateKey {
	t.Helper()
	text, _ := key.PEM()
	block, _ := pem.Decode(text)
	parsed, err := x509.ParsePKCS1PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func appSecret() *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "payments", Name: "db", Labels: map[string]string{"app": "checkout"},
			Annotations:     map[string]string{"note": "kept", "kubectl.kubernetes.io/last-applied-configuration": `{"data":{"password":"c2VjcmV0"}}`},
			OwnerReferences: []metav1.OwnerReference{{Name: "somebody"}},
		},
		Type:       corev1.SecretTypeBasicAuth,
		Data:       map[string][]byte{"password": []byte("correct horse")},
		StringData: map[string]string{"username": "ada"},
	}
}

func data(secret *corev1.Secret) map[string]string {
	texts := map[string]string{}
	for key, value := range secret.Data {
		texts[key] = string(value)
	}
	return texts
}

func must[T any](value T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

func TestWhatSealedSecretsSealedIsOpenedAndWhatIsSealedHereItOpens(t *testing.T) {
	key := rsaKey(t)
	for _, scope := range []seal.Scope{seal.Strict, seal.NamespaceWide, seal.ClusterWide} {
		t.Run(scope.String(), func(t *testing.T) {
			secret := appSecret()
			manifest.SetScope(secret, scope)
			theirs := must(ssv1alpha1.NewSealedSecret(scheme.Codecs, &upstreamsKey(t, key).PublicKey, secret))(t)
			opened := must(manifest.Open(theirs, "prod", seal.NewKeys([]*seal.RSAKey{key}, nil)))(t)
			ours := must(manifest.Render(theirs, opened))(t)

			sealed := must(manifest.Sealer{RSA: key.Public()}.Seal(appSecret(), scope))(t)
			if got := manifest.Scope(sealed); got != scope {
				t.Errorf("sealed %s, it is %s", scope, got)
			}
			back := must(sealed.Unseal(scheme.Codecs, map[string]*rsa.PrivateKey{"k": upstreamsKey(t, key)}))(t)
			back.OwnerReferences = nil
			for _, annotations := range []map[string]string{ours.Annotations, back.Annotations} {
				delete(annotations, ssv1alpha1.SealedSecretClusterWideAnnotation)
				delete(annotations, ssv1alpha1.SealedSecretNamespaceWideAnnotation)
			}
			if diff := cmp.Diff(ours, back); diff != "" {
				t.Errorf("what is opened here and there differs:\n%s", diff)
			}
			if diff := cmp.Diff(map[string]string{"password": "correct horse", "username": "ada"}, data(ours)); diff != "" {
				t.Error(diff)
			}
			if strings.Contains(strings.Join(slices.Collect(maps.Keys(sealed.Spec.Template.Annotations)), " "), "last-applied") || sealed.Spec.Template.OwnerReferences != nil {
				t.Errorf("the template took over %v", sealed.Spec.Template.ObjectMeta)
			}
		})
	}
}

func TestTheDeprecatedBlobIsAWholeSecret(t *testing.T) {
	key := rsaKey(t)
	keys := seal.NewKeys([]*seal.RSAKey{key}, nil)
	theirs := must(ssv1alpha1.NewSealedSecretV1(scheme.Codecs, &upstreamsKey(t, key).PublicKey, appSecret()))(t)
	opened := must(manifest.Open(theirs, "", keys))(t)
	secret := must(manifest.Render(theirs, opened))(t)
	if diff := cmp.Diff(map[string]string{"password": "correct horse", "username": "ada"}, data(secret)); diff != "" {
		t.Error(diff)
	}
	again, names, err := manifest.Reseal(theirs, "", keys, manifest.Sealer{RSA: key.Public()}, func([]byte) bool { return true })
	if err != nil || len(names) != 1 || string(again.Spec.Data) == string(theirs.Spec.Data) {
		t.Errorf("sealing it anew: %v, %v", names, err)
	}
	theirs.Spec.EncryptedData = map[string]string{"more": "AgA="}
	if _, err := manifest.Open(theirs, "", keys); !errors.Is(err, manifest.ErrBoth) {
		t.Errorf("with items beside it: %v", err)
	}
}

func TestASealedSecretOpensAsAWholeOrNotAtAll(t *testing.T) {
	key, other := hybridKey(t), hybridKey(t)
	sealer := manifest.Sealer{Recipients: []*seal.PublicKey{key.Public()}, Environment: "prod"}
	keys := seal.NewKeys(nil, []*seal.PrivateKey{key})
	fresh := func() *ssv1alpha1.SealedSecret { return must(sealer.Seal(appSecret(), seal.Strict))(t) }
	good := fresh()
	foreign := must(manifest.Sealer{Recipients: []*seal.PublicKey{other.Public()}, Environment: "prod"}.Seal(appSecret(), seal.Strict))(t)
	for _, c := range []struct {
		name        string
		spoil       func(*ssv1alpha1.SealedSecret)
		environment string
		items       []string // that do not open
		is          error
	}{
		{name: "as it was sealed", spoil: func(*ssv1alpha1.SealedSecret) {}, environment: "prod"},
		{name: "two items swapped", environment: "prod", items: []string{"password", "username"}, is: seal.ErrDecrypt, spoil: func(s *ssv1alpha1.SealedSecret) {
			items := s.Spec.EncryptedData
			items["password"], items["username"] = items["username"], items["password"]
		}},
		{name: "an item under another key", environment: "prod", items: []string{"motd"}, is: seal.ErrDecrypt, spoil: func(s *ssv1alpha1.SealedSecret) {
			s.Spec.EncryptedData["motd"] = s.Spec.EncryptedData["password"]
		}},
		{name: "another name", environment: "prod", items: []string{"password", "username"}, is: seal.ErrDecrypt, spoil: func(s *ssv1alpha1.SealedSecret) { s.Name = "other" }},
		{name: "another environment", environment: "dev", items: []string{"password", "username"}, is: seal.ErrDecrypt, spoil: func(*ssv1alpha1.SealedSecret) {}},
		{name: "a wider scope", environment: "prod", items: []string{"password", "username"}, is: seal.ErrDecrypt, spoil: func(s *ssv1alpha1.SealedSecret) {
			manifest.SetScope(s, seal.ClusterWide)
		}},
		{name: "no base64", environment: "prod", items: []string{"password"}, is: seal.ErrMalformed, spoil: func(s *ssv1alpha1.SealedSecret) { s.Spec.EncryptedData["password"] = "%" }},
		{name: "sealed to somebody else", environment: "prod", items: []string{"password"}, is: seal.ErrNoKey, spoil: func(s *ssv1alpha1.SealedSecret) {
			s.Spec.EncryptedData["password"] = foreign.Spec.EncryptedData["password"]
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			sealed := fresh()
			c.spoil(sealed)
			opened, err := manifest.Open(sealed, c.environment, keys)
			if c.items == nil {
				if err != nil || len(opened.Data) != 2 || !slices.Equal(opened.Keys, []string{key.Public().ID().String()}) {
					t.Errorf("opened %v, %v", opened, err)
				}
				return
			}
			var failed manifest.ItemErrors
			if !errors.As(err, &failed) || !errors.Is(err, manifest.ErrItems) || !errors.Is(err, c.is) || opened.Data != nil {
				t.Fatalf("opened %v, error %v, want %v", opened, err, c.is)
			}
			if got := slices.Sorted(maps.Keys(failed)); !slices.Equal(got, c.items) {
				t.Errorf("not opened: %v, want %v", got, c.items)
			}
		})
	}
	if diff := cmp.Diff(good.Spec.Template, fresh().Spec.Template); diff != "" {
		t.Error(diff)
	}
}

func TestTextsOfTheTemplateSeeTheValuesAndLoseToThem(t *testing.T) {
	key := hybridKey(t)
	sealed := must(manifest.Sealer{Recipients: []*seal.PublicKey{key.Public()}}.Seal(appSecret(), seal.Strict))(t)
	sealed.Spec.Template.Data = map[string]string{
		"dsn":      `{{ .username }}:{{ .password | upper }}@{{ index . "host" }}`,
		"host":     "db.payments",
		"password": "from the template",
	}
	opened := must(manifest.Open(sealed, "", seal.NewKeys(nil, []*seal.PrivateKey{key})))(t)
	secret := must(manifest.Render(sealed, opened))(t)
	want := map[string]string{"dsn": "ada:CORRECT HORSE@db.payments", "host": "db.payments", "password": "correct horse", "username": "ada"}
	if diff := cmp.Diff(want, data(secret)); diff != "" {
		t.Error(diff)
	}
	for name, text := range map[string]string{
		"a function that looks at the machine": `{{ env "HOME" }}`,
		"a function that fails on the value":   `{{ .password | mustFromJson }}`,
		"no template":                          `{{ .password `,
	} {
		sealed.Spec.Template.Data = map[string]string{"text": text}
		if _, err := manifest.Render(sealed, opened); err == nil || !strings.Contains(err.Error(), "spec.template.data[text]") || strings.Contains(err.Error(), "horse") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSealingAnewTouchesNothingButWhatItIsToldTo(t *testing.T) {
	old, current := rsaKey(t), hybridKey(t)
	sealed := must(manifest.Sealer{RSA: old.Public()}.Seal(appSecret(), seal.NamespaceWide))(t)
	sealed.Labels, sealed.Spec.Template.Data = map[string]string{"mine": "yes"}, map[string]string{"text": "{{ .password }}"}
	to := manifest.Sealer{Recipients: []*seal.PublicKey{current.Public()}, Environment: "prod"}
	password, _ := base64.StdEncoding.DecodeString(sealed.Spec.EncryptedData["password"])
	keys := seal.NewKeys([]*seal.RSAKey{old}, []*seal.PrivateKey{current})
	again, names, err := manifest.Reseal(sealed, "prod", keys, to, func(item []byte) bool { return string(item) == string(password) })
	if err != nil || !slices.Equal(names, []string{"password"}) {
		t.Fatalf("sealed anew: %v, %v", names, err)
	}
	same := again.DeepCopy()
	same.Spec.EncryptedData["password"] = sealed.Spec.EncryptedData["password"]
	if diff := cmp.Diff(sealed, same); diff != "" {
		t.Errorf("more than the item is different:\n%s", diff)
	}
	opened := must(manifest.Open(again, "prod", keys))(t)
	if got := string(opened.Data["password"].Bytes()); got != "correct horse" || len(opened.Keys) != 2 {
		t.Errorf("it opens to %q with keys %v", got, opened.Keys)
	}
}

func TestASecretWithoutANameIsNotSealedStrictly(t *testing.T) {
	key := hybridKey(t)
	sealer := manifest.Sealer{Recipients: []*seal.PublicKey{key.Public()}}
	for scope, secret := range map[seal.Scope]*corev1.Secret{
		seal.Strict:        {ObjectMeta: metav1.ObjectMeta{Namespace: "payments"}},
		seal.NamespaceWide: {ObjectMeta: metav1.ObjectMeta{Name: "db"}},
	} {
		if _, err := sealer.Seal(secret, scope); !errors.Is(err, manifest.ErrSecret) || !strings.Contains(err.Error(), "metadata.name") {
			t.Errorf("scope %s: %v", scope, err)
		}
	}
	if _, err := sealer.Seal(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "db"}, Data: map[string][]byte{"a": nil}}, seal.ClusterWide); err != nil {
		t.Error(err)
	}
}
