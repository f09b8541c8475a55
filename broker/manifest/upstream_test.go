package manifest_test

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"testing"

	ssv1alpha1 "github.com/bitnami-labs/sealed-secrets/pkg/apis/sealedsecrets/v1alpha1"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/privyseal/privyseal/broker/manifest"
	"github.com/privyseal/privyseal/broker/seal"
)

func theirKey(t *testing.T, key *seal.RSAKey) *rsa.PrivateKey {
	t.Helper()
	text, _ := key.PEM()
	block, _ := pem.Decode(text)
	parsed, err := x509.ParsePKCS1PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func TestWhatUpstreamSealsOpensHereAndTheOtherWayRound(t *testing.T) {
	keys := newKeyring(t)
	theirs := theirKey(t, keys.rsa)
	immutable := true
	for _, scope := range []seal.Scope{seal.Strict, seal.NamespaceWide, seal.ClusterWide} {
		t.Run(scope.String(), func(t *testing.T) {
			plain := secret(func(s *corev1.Secret) {
				s.Immutable = &immutable
				s.Type = "kubernetes.io/basic-auth"
				s.Data["empty"] = []byte{}
				s.Data["binary"] = []byte{0, 255, 10}
				manifest.SetScope(s, scope)
			})
			sealedThere, err := ssv1alpha1.NewSealedSecret(scheme.Codecs, &theirs.PublicKey, plain)
			if err != nil {
				t.Fatal(err)
			}
			sealedHere := mustSeal(t, keys.v1(), plain, scope)
			for _, sealed := range []*ssv1alpha1.SealedSecret{sealedThere, sealedHere} {
				sealed.Spec.Template.Data = map[string]string{"url": "{{ .user }}:{{ .password | upper }}"}
				opened, err := manifest.Open(sealed, "any", keys.open)
				if err != nil {
					t.Fatal(err)
				}
				ours, err := manifest.Render(sealed, opened)
				if err != nil {
					t.Fatal(err)
				}
				want, err := sealed.Unseal(scheme.Codecs, map[string]*rsa.PrivateKey{"": theirs})
				if err != nil {
					t.Fatal(err)
				}
				want.OwnerReferences, want.TypeMeta = nil, ours.TypeMeta
				for name, value := range want.Data {
					want.Data[name] = append([]byte{}, value...) // nil and empty are one
				}
				for name, value := range ours.Data {
					ours.Data[name] = append([]byte{}, value...)
				}
				if diff := cmp.Diff(want, ours); diff != "" {
					t.Error(diff)
				}
			}
			sealedThere.Spec.EncryptedData, sealedHere.Spec.EncryptedData = nil, nil
			sealedHere.TypeMeta = sealedThere.TypeMeta
			if scope == seal.Strict {
				sealedThere.Annotations = nil // {} and nothing are one
			}
			if diff := cmp.Diff(sealedThere, sealedHere); diff != "" {
				t.Error("sealed otherwise than there:", diff)
			}
		})
	}
}

func TestTheDeprecatedDataOfUpstreamOpens(t *testing.T) {
	keys := newKeyring(t)
	sealed, err := ssv1alpha1.NewSealedSecretV1(scheme.Codecs, &theirKey(t, keys.rsa).PublicKey, secret())
	if err != nil {
		t.Fatal(err)
	}
	opened, err := manifest.Open(sealed, "", keys.open)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(secret().Data, opened.Secret.Data); diff != "" {
		t.Error(diff)
	}
}
