package seal_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"testing"

	upstream "github.com/bitnami-labs/sealed-secrets/pkg/crypto"

	"github.com/privyseal/privyseal/broker/seal"
	"github.com/privyseal/privyseal/providers"
)

// scoped are labels, each with what upstream makes of it.
var scoped = map[string]seal.Label{
	"payments/db": {Scope: seal.Strict, Namespace: "payments", Name: "db"},
	"payments":    {Scope: seal.NamespaceWide, Namespace: "payments", Name: "db"},
	"":            {Scope: seal.ClusterWide, Namespace: "payments", Name: "db"},
}

func upstreamKeys(t testing.TB, keys ...*seal.RSAKey) map[string]*rsa.PrivateKey {
	t.Helper()
	all := map[string]*rsa.PrivateKey{}
	for _, key := range keys {
		all[key.Fingerprint()] = rsaPrivate(t, key)
	}
	return all
}

func TestUpstreamOpensWhatIsSealedHere(t *testing.T) {
	for _, name := range []string{"small", "usual", "large"} {
		key := rsaNamed(t, name)
		for theirs, label := range scoped {
			item := must(seal.SealV1(secret("correct horse"), label, key.Public()))(t)
			value, err := upstream.HybridDecrypt(rand.Reader, upstreamKeys(t, key), item, []byte(theirs))
			if err != nil || string(value) != "correct horse" {
				t.Errorf("%s, label %q: got %q, %v", name, theirs, value, err)
			}
		}
	}
}

func TestWhatUpstreamSealsOpensHere(t *testing.T) {
	for _, name := range []string{"small", "usual", "large"} {
		key := rsaNamed(t, name)
		for theirs, label := range scoped {
			item := must(upstream.HybridEncrypt(rand.Reader, rsaPublic(t, key), []byte("correct horse"), []byte(theirs)))(t)
			opened, err := rsaOpens(rsaNamed(t, "other"), key).Open(item, label)
			if err != nil || reveal(opened) != "correct horse" || opened.Key != key.Fingerprint() {
				t.Errorf("%s, label %q: got %v, %v", name, theirs, opened, err)
			}
		}
	}
}

func TestFingerprintsAreUpstreams(t *testing.T) {
	for _, name := range []string{"small", "usual", "large"} {
		key := rsaNamed(t, name)
		want := must(upstream.PublicKeyFingerprint(rsaPublic(t, key)))(t)
		if key.Fingerprint() != want || key.Public().Fingerprint() != want {
			t.Errorf("%s: got %s, want %s", name, key.Fingerprint(), want)
		}
	}
}

func TestUpstreamAndWeAgreeOnEveryVectorOfVersion1(t *testing.T) {
	file := loadVectors(t, "v1.json")
	for _, v := range file.Cases {
		if v.Error == "label" || v.Error == "too large" {
			continue // limits of ours
		}
		var keys []*seal.RSAKey
		for _, name := range v.Keys {
			keys = append(keys, must(seal.ParseRSAKey([]byte(file.Keys[name]), nil))(t))
		}
		value, err := upstream.HybridDecrypt(rand.Reader, upstreamKeys(t, keys...), v.item(), upstreamLabel(v.label(t)))
		if (err == nil) != (v.Value != nil) {
			t.Errorf("%s: upstream says %q, %v", v.Name, value, err)
		}
	}
}

func upstreamLabel(l seal.Label) []byte {
	switch l.Scope {
	case seal.NamespaceWide:
		return []byte(l.Namespace)
	case seal.ClusterWide:
		return nil
	}
	return []byte(l.Namespace + "/" + l.Name)
}

// Upstream's controller must refuse an item of version 2, however long it is,
// and not mistake a part of it for something else.
func TestUpstreamRefusesVersion2(t *testing.T) {
	cluster := keyNamed(t, "cluster")
	for _, size := range []int{0, 1000, 65_535, 500_000} {
		item := sealTo(t, string(make([]byte, size)), password, cluster)
		_, err := upstream.HybridDecrypt(rand.Reader, upstreamKeys(t, rsaNamed(t, "usual"), rsaNamed(t, "large")), item, []byte("payments/db"))
		if err == nil {
			t.Errorf("it opens an item of version 2 with a value of %d bytes", size)
		}
	}
}

func FuzzUpstreamAndWeOpenTheSame(f *testing.F) {
	file := loadVectors(f, "v1.json")
	for _, v := range file.Cases {
		if v.Zeros == 0 {
			f.Add(v.Item, "payments", "db", v.Label.Scope)
		}
	}
	small, usual := rsaNamed(f, "small"), rsaNamed(f, "usual")
	ours, theirs := rsaOpens(small, usual), upstreamKeys(f, small, usual)
	f.Fuzz(func(t *testing.T, item []byte, namespace, name, scopeText string) {
		scope, err := seal.ParseScope(scopeText)
		if err != nil {
			return
		}
		label := seal.Label{Scope: scope, Namespace: namespace, Name: name}
		opened, err := ours.Open(item, label)
		if errors.Is(err, seal.ErrLabel) || errors.Is(err, seal.ErrTooLarge) {
			return // limits of ours
		}
		value, theirErr := upstream.HybridDecrypt(rand.Reader, theirs, item, upstreamLabel(label))
		if (err == nil) != (theirErr == nil) || !bytes.Equal(opened.Value.Bytes(), value) {
			t.Errorf("ours: %q, %v; theirs: %q, %v", reveal(opened), err, value, theirErr)
		}
	})
}

func FuzzUpstreamOpensWhateverIsSealedHere(f *testing.F) {
	f.Add([]byte("correct horse"), "payments", "db")
	f.Add([]byte{}, "a", "b")
	key := rsaNamed(f, "small")
	theirs := upstreamKeys(f, key)
	f.Fuzz(func(t *testing.T, value []byte, namespace, name string) {
		label := seal.Label{Namespace: namespace, Name: name}
		item, err := seal.SealV1(providers.NewValue(value), label, key.Public())
		if err != nil {
			return
		}
		got, err := upstream.HybridDecrypt(rand.Reader, theirs, item, upstreamLabel(label))
		if err != nil || !bytes.Equal(got, value) {
			t.Errorf("upstream: got %q, %v", got, err)
		}
		sealed := must(upstream.HybridEncrypt(rand.Reader, rsaPublic(t, key), value, upstreamLabel(label)))(t)
		opened, err := rsaOpens(key).Open(sealed, label)
		if err != nil || !bytes.Equal(opened.Value.Bytes(), value) {
			t.Errorf("ours: got %v, %v", opened, err)
		}
	})
}
