package seal_test

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hpke"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/binary"
	"slices"
	"sync"
	"testing"

	"github.com/privyseal/privyseal/broker/seal"
	"github.com/privyseal/privyseal/providers"
)

// Sizes as docs/sealed-format.md has them, written down a second time.
const (
	prefix  = 3
	wrapped = 1168
	stanza  = 8 + 2 + wrapped
)

var password = seal.Label{
	Scope: seal.Strict, Environment: "prod", Namespace: "payments", Name: "db", Item: "password",
}

// keyNamed are keys that one run of the tests shares.
var keyNamed = func() func(t testing.TB, name string) *seal.PrivateKey {
	var made sync.Map
	return func(t testing.TB, name string) *seal.PrivateKey {
		t.Helper()
		if key, ok := made.Load(name); ok {
			return key.(*seal.PrivateKey)
		}
		key, _ := made.LoadOrStore(name, must(seal.GenerateKey())(t))
		return key.(*seal.PrivateKey)
	}
}()

// rsaNamed are those of the vectors, since making one takes long.
func rsaNamed(t testing.TB, name string) *seal.RSAKey {
	t.Helper()
	return must(seal.ParseRSAKey([]byte(loadVectors(t, "v1.json").Keys[name]), nil))(t)
}

// must is for calls that do not fail: must(call())(t).
func must[T any](value T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

func secret(text string) providers.Value { return providers.NewValue([]byte(text)) }

func reveal(opened seal.Opened) string { return string(opened.Value.Bytes()) }

// opens are keys for version 2 only.
func opens(keys ...*seal.PrivateKey) *seal.Keys { return seal.NewKeys(nil, keys) }

// handmade is a second way to make an item of version 2, from the words of
// docs/sealed-format.md, whose parts can be spoiled before they are joined.
type handmade struct {
	label      []byte
	value      []byte
	contentKey []byte
	stanzas    []handmadeStanza
}

type handmadeStanza struct{ id, length, wrapped []byte }

func makeByHand(t testing.TB, label seal.Label, value []byte, keys ...*seal.PrivateKey) *handmade {
	t.Helper()
	made := &handmade{label: labelByHand(label), value: value, contentKey: make([]byte, 32)}
	_, _ = rand.Read(made.contentKey)
	keys = slices.SortedFunc(slices.Values(keys), func(a, b *seal.PrivateKey) int {
		return slices.Compare(idOf(a), idOf(b))
	})
	for _, key := range keys {
		made.stanzas = append(made.stanzas, stanzaByHand(t, key, made.label, made.contentKey))
	}
	return made
}

func idOf(key *seal.PrivateKey) []byte {
	id := key.Public().ID()
	return id[:]
}

func labelByHand(l seal.Label) []byte {
	var label []byte
	for _, field := range []string{"privyseal/v2", l.Scope.String(), l.Environment, l.Namespace, l.Name, l.Item} {
		label = append(label, byte(len(field)>>8), byte(len(field)))
		label = append(label, field...)
	}
	return label
}

func stanzaByHand(t testing.TB, key *seal.PrivateKey, label, contentKey []byte) handmadeStanza {
	t.Helper()
	kem := must(hpke.NewKEM(0x647a))(t)
	kdf := must(hpke.NewKDF(0x0001))(t)
	aead := must(hpke.NewAEAD(0x0002))(t)
	public := must(kem.NewPublicKey(pemBytes(t, key.Public().PEM())))(t)
	enc, sender, err := hpke.NewSender(public, kdf, aead, label)
	if err != nil {
		t.Fatal(err)
	}
	sealed := must(sender.Seal(nil, contentKey))(t)
	return handmadeStanza{
		id:      idOf(key),
		length:  binary.BigEndian.AppendUint16(nil, uint16(len(enc)+len(sealed))),
		wrapped: slices.Concat(enc, sealed),
	}
}

func (h *handmade) header() []byte {
	header := []byte{byte(len(h.stanzas))}
	for _, s := range h.stanzas {
		header = slices.Concat(header, s.id, s.length, s.wrapped)
	}
	return header
}

// item joins the parts, with a body that fits the header as it is now.
func (h *handmade) item(t testing.TB) []byte {
	t.Helper()
	block := must(aes.NewCipher(h.contentKey))(t)
	gcm := must(cipher.NewGCM(block))(t)
	nonce := make([]byte, 12)
	_, _ = rand.Read(nonce)
	body := gcm.Seal(nonce, nonce, h.value, slices.Concat(h.label, h.header()))
	return slices.Concat([]byte{0xFF, 0xFF, 2}, h.header(), body)
}

// flipped is the item with one bit changed.
func flipped(item []byte, at int) []byte {
	item = slices.Clone(item)
	item[at] ^= 0x10
	return item
}

// rsaPublic is the key as upstream takes it.
func rsaPublic(t testing.TB, key *seal.RSAKey) *rsa.PublicKey {
	t.Helper()
	return &rsaPrivate(t, key).PublicKey
}

func rsaPrivate(t testing.TB, key *seal.RSAKey) *rsa.PrivateKey {
	t.Helper()
	text, _ := key.PEM()
	return must(x509.ParsePKCS1PrivateKey(pemBytes(t, text)))(t)
}

// v1Body is noise if no cipher takes the session key.
func v1Body(t testing.TB, sessionKey []byte, value string) []byte {
	t.Helper()
	block, err := aes.NewCipher(sessionKey)
	if err != nil {
		return make([]byte, 32)
	}
	return must(cipher.NewGCM(block))(t).Seal(nil, make([]byte, 12), []byte(value), nil)
}
