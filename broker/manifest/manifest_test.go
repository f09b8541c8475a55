package manifest_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	ssv1alpha1 "github.com/bitnami-labs/sealed-secrets/pkg/apis/sealedsecrets/v1alpha1"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/privyseal/privyseal/broker/manifest"
	"github.com/privyseal/privyseal/broker/seal"
)

// keyring is what the tests seal to and open with.
type keyring struct {
	rsa    *seal.RSAKey
	hybrid *seal.PrivateKey
	open   *seal.Keys
}

func newKeyring(t testing.TB) keyring {
	t.Helper()
	rsa, err := seal.GenerateRSAKey(seal.RSAConfig{Now: time.Unix(1_800_000_000, 0), Bits: 2048})
	if err != nil {
		t.Fatal(err)
	}
	hybrid, err := seal.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return keyring{rsa, hybrid, seal.NewKeys([]*seal.RSAKey{rsa}, []*seal.PrivateKey{hybrid})}
}

func (k keyring) v1() manifest.Sealer { return manifest.Sealer{RSA: k.rsa.Public()} }

func (k keyring) v2(environment string) manifest.Sealer {
	return manifest.Sealer{Recipients: []*seal.PublicKey{k.hybrid.Public()}, Environment: environment}
}

func secret(modify ...func(*corev1.Secret)) *corev1.Secret {
	one := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "db", Namespace: "pay", Labels: map[string]string{"app": "pay"}},
		Type:       corev1.SecretTypeOpaque,
		Data:       map[string][]byte{"user": []byte("pay"), "password": []byte("hunter2")},
	}
	for _, change := range modify {
		change(one)
	}
	return one
}

func mustSeal(t testing.TB, sealer manifest.Sealer, one *corev1.Secret, scope seal.Scope) *ssv1alpha1.SealedSecret {
	t.Helper()
	sealed, err := sealer.Seal(one, scope)
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

func values(opened manifest.Opened) map[string]string {
	plain := map[string]string{}
	for name, value := range opened.Data {
		plain[name] = string(value.Bytes())
	}
	return plain
}

func TestASecretComesBackFromItsSealedForm(t *testing.T) {
	keys := newKeyring(t)
	for name, sealer := range map[string]manifest.Sealer{"version 1": keys.v1(), "version 2": keys.v2("production")} {
		for _, scope := range []seal.Scope{seal.Strict, seal.NamespaceWide, seal.ClusterWide} {
			t.Run(fmt.Sprint(name, " ", scope), func(t *testing.T) {
				sealed := mustSeal(t, sealer, secret(func(s *corev1.Secret) {
					s.StringData = map[string]string{"user": "wins over data"}
					s.Annotations = map[string]string{"note": "kept", "kubectl.kubernetes.io/last-applied-configuration": "hunter2"}
					s.UID, s.ResourceVersion = "1", "2"
					s.OwnerReferences = []metav1.OwnerReference{{Name: "x"}}
				}), scope)
				if manifest.Scope(sealed) != scope || manifest.Scope(&sealed.Spec.Template) != scope {
					t.Errorf("the scope is %s, the template's %s", manifest.Scope(sealed), manifest.Scope(&sealed.Spec.Template))
				}
				opened, err := manifest.Open(sealed, "production", keys.open)
				if err != nil {
					t.Fatal(err)
				}
				got, err := manifest.Render(sealed, opened)
				if err != nil {
					t.Fatal(err)
				}
				want := secret(func(s *corev1.Secret) {
					s.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"}
					s.Annotations = map[string]string{"note": "kept"}
					manifest.SetScope(s, scope)
					s.Data["user"] = []byte("wins over data")
				})
				if diff := cmp.Diff(want, got); diff != "" {
					t.Error(diff)
				}
				if len(opened.Keys) != 1 {
					t.Errorf("it opened with %q", opened.Keys)
				}
			})
		}
	}
}

func TestOneItemThatDoesNotOpenKeepsAllShutAndIsNamed(t *testing.T) {
	keys, foreign := newKeyring(t), newKeyring(t)
	sealed := mustSeal(t, keys.v2(""), secret(), seal.Strict)
	other := mustSeal(t, foreign.v2(""), secret(), seal.Strict)
	sealed.Spec.EncryptedData["foreign"] = other.Spec.EncryptedData["user"]
	sealed.Spec.EncryptedData["renamed"] = sealed.Spec.EncryptedData["user"]
	sealed.Spec.EncryptedData["torn"] = "Ag*"
	opened, err := manifest.Open(sealed, "", keys.open)
	var wrong manifest.ItemErrors
	if !errors.As(err, &wrong) || len(wrong) != 3 || opened.Data != nil {
		t.Fatalf("got %v, %v", opened, err)
	}
	for i, want := range []struct {
		item string
		is   error
	}{{"foreign", seal.ErrNoKey}, {"renamed", seal.ErrDecrypt}, {"torn", seal.ErrMalformed}} {
		if wrong[i].Item != want.item || !errors.Is(wrong[i], want.is) {
			t.Errorf("got %v, want %s: %v", wrong[i], want.item, want.is)
		}
	}
	for i := range 20 {
		sealed.Spec.EncryptedData[fmt.Sprint("x", i)] = "torn"
	}
	if _, err := manifest.Open(sealed, "", keys.open); !strings.HasSuffix(err.Error(), "and 15 more") {
		t.Errorf("got %v", err)
	}
}

func TestTheScopeIsReadFromTheObjectAndNotFromItsTemplate(t *testing.T) {
	keys := newKeyring(t)
	sealed := mustSeal(t, keys.v1(), secret(), seal.ClusterWide)
	manifest.SetScope(sealed, seal.Strict)
	if _, err := manifest.Open(sealed, "", keys.open); !errors.Is(err, seal.ErrDecrypt) {
		t.Errorf("got %v", err)
	}
	if sealed.Annotations != nil {
		t.Errorf("annotations are left: %v", sealed.Annotations)
	}
}

func TestTheDeprecatedDataIsOpenedAndSealedAnew(t *testing.T) {
	keys := newKeyring(t)
	sealed := &ssv1alpha1.SealedSecret{ObjectMeta: metav1.ObjectMeta{Name: "db", Namespace: "pay"}}
	label := manifest.LabelOf(sealed, "", "")
	item, err := seal.SealV1(value(`{"kind":"Secret","apiVersion":"v1","metadata":{"name":"x","uid":"1","labels":{"a":"b"}},"type":"T","data":{"user":"cGF5"},"stringData":{"a":"b"}}`), label, keys.rsa.Public())
	if err != nil {
		t.Fatal(err)
	}
	sealed.Spec.Data = item
	resealed, changed, err := manifest.Reseal(sealed, "", keys.open, keys.v1(), func([]byte) bool { return true })
	if err != nil || !slices.Equal(changed, []string{""}) || string(resealed.Spec.Data) == string(item) {
		t.Fatalf("changed %q, %v", changed, err)
	}
	opened, err := manifest.Open(resealed, "", keys.open)
	if err != nil {
		t.Fatal(err)
	}
	got, err := manifest.Render(resealed, opened)
	if err != nil {
		t.Fatal(err)
	}
	want := &corev1.Secret{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: metav1.ObjectMeta{Name: "db", Namespace: "pay", Labels: map[string]string{"a": "b"}},
		Type:       "T", Data: map[string][]byte{"user": []byte("pay"), "a": []byte("b")},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if _, _, err := manifest.Reseal(sealed, "", keys.open, keys.v2(""), func([]byte) bool { return true }); err == nil {
		t.Error("version 2 took a whole Secret")
	}
	sealed.Spec.EncryptedData = map[string]string{"user": base64.StdEncoding.EncodeToString(item)}
	if _, err := manifest.Open(sealed, "", keys.open); !errors.Is(err, manifest.ErrBoth) {
		t.Errorf("got %v", err)
	}
	sealed.Spec.EncryptedData = nil
	if sealed.Spec.Data, err = seal.SealV1(value(`{"data": "hunter2"`), label, keys.rsa.Public()); err != nil {
		t.Fatal(err)
	}
	if _, err := manifest.Open(sealed, "", keys.open); !errors.Is(err, seal.ErrMalformed) || strings.Contains(err.Error(), "hunter") {
		t.Errorf("got %v", err)
	}
}

func TestResealingTouchesWhatNeedsItAndNothingElse(t *testing.T) {
	old, now := newKeyring(t), newKeyring(t)
	open := seal.NewKeys([]*seal.RSAKey{now.rsa, old.rsa}, []*seal.PrivateKey{old.hybrid, now.hybrid})
	sealed := mustSeal(t, old.v2("production"), secret(), seal.Strict)
	fresh := mustSeal(t, now.v2("production"), secret(func(s *corev1.Secret) { s.Data = map[string][]byte{"token": []byte("t")} }), seal.Strict)
	sealed.Spec.EncryptedData["token"] = fresh.Spec.EncryptedData["token"]
	classic := mustSeal(t, old.v1(), secret(func(s *corev1.Secret) { s.Data = map[string][]byte{"classic": []byte("c")} }), seal.Strict)
	sealed.Spec.EncryptedData["classic"] = classic.Spec.EncryptedData["classic"]
	before := sealed.DeepCopy()

	sealer := now.v2("ignored")
	sealer.RSA = now.rsa.Public()
	resealed, changed, err := manifest.Reseal(sealed, "production", open, sealer, func(item []byte) bool {
		parsed, err := seal.Parse(item)
		return err == nil && !slices.Contains(parsed.Recipients(), now.hybrid.Public().ID())
	})
	if err != nil || !slices.Equal(changed, []string{"classic", "password", "user"}) {
		t.Fatalf("changed %q, %v", changed, err)
	}
	if diff := cmp.Diff(before, sealed); diff != "" {
		t.Error("the original changed:", diff)
	}
	if resealed.Spec.EncryptedData["token"] != sealed.Spec.EncryptedData["token"] {
		t.Error("an item changed that did not need it")
	}
	opened, err := manifest.Open(resealed, "production", now.open)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"user": "pay", "password": "hunter2", "token": "t", "classic": "c"}
	if diff := cmp.Diff(want, values(opened)); diff != "" {
		t.Error(diff)
	}
	if raw, _ := base64.StdEncoding.DecodeString(resealed.Spec.EncryptedData["classic"]); raw[0] == 0xff {
		t.Error("an item of version 1 became one of version 2, though there was a key for version 1")
	}
	for name := range resealed.Spec.EncryptedData {
		resealed.Spec.EncryptedData[name] = sealed.Spec.EncryptedData[name]
	}
	if diff := cmp.Diff(sealed, resealed); diff != "" {
		t.Error("more than ciphertexts changed:", diff)
	}
	// What cannot be opened cannot be sealed anew, and nothing is.
	if _, _, err := manifest.Reseal(sealed, "staging", open, sealer, func([]byte) bool { return true }); !errors.Is(err, seal.ErrDecrypt) {
		t.Errorf("got %v", err)
	}
}
