package seal_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/broker/seal"
)

func TestAKeyIsWrittenAndReadBack(t *testing.T) {
	key := keyNamed(t, "cluster")
	private := must(seal.ParsePrivateKeys(must(key.PEM())(t)))(t)
	public := must(seal.ParsePublicKeys(key.Public().PEM()))(t)
	if len(private) != 1 || len(public) != 1 {
		t.Fatalf("read %d and %d keys", len(private), len(public))
	}
	item := must(seal.Seal(secret("x"), password, public[0]))(t)
	if opened, err := opens(private[0]).Open(item, password); err != nil || reveal(opened) != "x" {
		t.Errorf("got %v, %v", opened, err)
	}
}

func TestAKeysIDIsTheBeginningOfItsDigest(t *testing.T) {
	key := keyNamed(t, "cluster").Public()
	sum := sha256.Sum256(pemBytes(t, key.PEM()))
	if want := hex.EncodeToString(sum[:8]); key.ID().String() != want {
		t.Errorf("got %s, want %s", key.ID(), want)
	}
}

func TestTwoKeysAreNotTheSame(t *testing.T) {
	one, two := must(seal.GenerateKey())(t), must(seal.GenerateKey())(t)
	if one.Public().ID() == two.Public().ID() {
		t.Error("two keys have one id")
	}
}

func TestTheSeedIsExpandedAsTheDraftSays(t *testing.T) {
	// The first of the vectors of draft-ietf-hpke-pq with KEM 0x647a: its skRm,
	// and the beginning of the SHA-256 of its pkRm.
	seed := must(hex.DecodeString("b3f98b03126a431ccecc62ae0f68e102c2d8e1cc7b21ba85d821d8e31761e0f8"))(t)
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVYSEAL V2 PRIVATE KEY", Bytes: seed})
	key := must(seal.ParsePrivateKeys(text))(t)[0]
	if got := key.Public().ID().String(); got != "120b60e0ae3c00c1" {
		t.Errorf("got %s", got)
	}
}

func TestSeveralKeysAreReadFromOneText(t *testing.T) {
	cluster, recovery := pair(t)
	private := slices.Concat([]byte("the cluster's\n"), must(cluster.PEM())(t), []byte("\nfor the safe\n"), must(recovery.PEM())(t))
	if got := must(seal.ParsePrivateKeys(private))(t); len(got) != 2 || got[1].Public().ID() != recovery.Public().ID() {
		t.Errorf("got %v", got)
	}
	public := slices.Concat(certificate(t), cluster.Public().PEM(), recovery.Public().PEM())
	if got := must(seal.ParsePublicKeys(public))(t); len(got) != 2 || got[0].ID() != cluster.Public().ID() {
		t.Errorf("got %d keys", len(got))
	}
	// The same text to one who knows of certificates only.
	if got := must(seal.ParseCertificate(public, day))(t); got.Fingerprint() != rsaNamed(t, "usual").Fingerprint() {
		t.Errorf("got %s", got.Fingerprint())
	}
}

func TestABadKeyIsRefusedWithWhatToDo(t *testing.T) {
	cluster := keyNamed(t, "cluster")
	private, public := must(cluster.PEM())(t), cluster.Public().PEM()
	block := func(blockType string, size int, headers map[string]string) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: blockType, Headers: headers, Bytes: make([]byte, size)})
	}
	broken := bytes.Replace(public, []byte("\n"), []byte("\n!"), 2)
	high := slices.Repeat([]byte{0xFF}, 1216)
	for _, row := range []struct {
		name            string
		text            []byte
		private, public string
	}{
		{"nothing", nil, "no PEM block of type", "no PEM block of type"},
		{"no PEM", []byte("secret"), "no PEM block of type", "no PEM block of type"},
		{"a private key", private, "", "this is a private key"},
		{"a public key", public, "no PEM block of type", ""},
		{"an RSA key", []byte(loadVectors(t, "v1.json").Keys["usual"]), "no PEM block of type", "no PEM block of type"},
		{"a public key, cut off", public[:1000], "cut off or altered", "cut off or altered"},
		{"a private key, cut off", private[:40], "cut off or altered", "cut off or altered"},
		{"a broken key before a good one", slices.Concat(broken, public), "cut off or altered", "cut off or altered"},
		{"a good key before a broken one", slices.Concat(public, broken), "cut off or altered", "cut off or altered"},
		{"a private key of 31 bytes", block(seal.PrivateKeyType, 31, nil), "PEM block of 32 bytes", "this is a private key"},
		{"a private key of 64 bytes", block(seal.PrivateKeyType, 64, nil), "PEM block of 32 bytes", "this is a private key"},
		{"a private key with headers", block(seal.PrivateKeyType, 32, map[string]string{"A": "b"}), "without headers", "this is a private key"},
		{"a public key of 1215 bytes", block(seal.PublicKeyType, 1215, nil), "no PEM block of type", "PEM block of 1216 bytes"},
		{"a public key of 1217 bytes", block(seal.PublicKeyType, 1217, nil), "no PEM block of type", "PEM block of 1216 bytes"},
		{"a public key with headers", block(seal.PublicKeyType, 1216, map[string]string{"A": "b"}), "no PEM block of type", "without headers"},
		{"coefficients that are too high", pem.EncodeToMemory(&pem.Block{Type: seal.PublicKeyType, Bytes: high}), "no PEM block of type", "reading a public key"},
		{"a text that is too long", slices.Concat(public, make([]byte, 1<<18)), "longer than 262144 bytes", "longer than 262144 bytes"},
	} {
		_, err := seal.ParsePrivateKeys(row.text)
		checkMention(t, "private: "+row.name, err, row.private)
		_, err = seal.ParsePublicKeys(row.text)
		checkMention(t, "public: "+row.name, err, row.public)
	}
}

// checkMention wants an error of ErrKey with some words; "" wants none.
func checkMention(t *testing.T, name string, err error, mention string) {
	t.Helper()
	switch {
	case mention == "" && err != nil:
		t.Errorf("%s: %v", name, err)
	case mention != "" && (!errors.Is(err, seal.ErrKey) || !strings.Contains(err.Error(), mention)):
		t.Errorf("%s: got %v, want it to mention %q", name, err, mention)
	}
}

func TestAPointThatGivesNoSecretIsNotSealedTo(t *testing.T) {
	weak := pemBytes(t, keyNamed(t, "cluster").Public().PEM())
	clear(weak[1184:])
	key := must(seal.ParsePublicKeys(pem.EncodeToMemory(&pem.Block{Type: seal.PublicKeyType, Bytes: weak})))(t)[0]
	_, err := seal.Seal(secret("x"), password, key)
	if !errors.Is(err, seal.ErrKey) || !strings.Contains(err.Error(), key.ID().String()) {
		t.Errorf("got %v", err)
	}
}

// printed is a value through whatever might show it.
func printed(t *testing.T, value any) []string {
	t.Helper()
	var all []string
	type holder struct{ held any }
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%p", "%z"} {
		all = append(all, fmt.Sprintf(verb, value), fmt.Sprintf(verb, holder{value}), fmt.Sprintf(verb, &holder{value}), fmt.Sprintf(verb, []any{value}))
	}
	all = append(all, string(must(json.Marshal(value))(t)), string(must(json.Marshal(map[string]any{"key": value}))(t)))
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "key", value)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "key", value)
	return append(all, log.String())
}

func TestAPrivateKeyPrintsAsItsName(t *testing.T) {
	cluster, usual := keyNamed(t, "cluster"), rsaNamed(t, "usual")
	seed := pemBytes(t, must(cluster.PEM())(t))
	exponent := rsaPrivate(t, usual).D
	for _, secret := range []string{
		hex.EncodeToString(seed), strings.ToUpper(hex.EncodeToString(seed)), base64.StdEncoding.EncodeToString(seed),
		strings.Trim(fmt.Sprint(seed), "[]"), exponent.String(), exponent.Text(16),
	} {
		for _, shown := range append(printed(t, cluster), printed(t, usual)...) {
			if strings.Contains(shown, secret[:24]) {
				t.Errorf("it prints as %s", shown)
			}
		}
	}
	if got := fmt.Sprintf("%v %s", cluster, usual); got != "sealing key "+cluster.Public().ID().String()+" sealing key "+usual.Fingerprint() {
		t.Errorf("got %s", got)
	}
	if got := string(must(json.Marshal([]any{cluster, usual}))(t)); !strings.Contains(got, cluster.Public().ID().String()) || !strings.Contains(got, "sealing key SHA256:") {
		t.Errorf("got %s", got)
	}
}
