package generate_test

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/privyseal/privyseal/providers"
	"github.com/privyseal/privyseal/rotation/generate"
)

var now = time.Date(2026, 6, 1, 3, 0, 0, 0, time.UTC)

func TestBytesAreAsManyAsAskedFor(t *testing.T) {
	raw, err := hex.DecodeString(made(t, generate.Spec{Hex: &generate.Bytes{}}, stream(8)))
	if err != nil || len(raw) != 32 {
		t.Errorf("hex has %d bytes, %v", len(raw), err)
	}
	raw, err = base64.StdEncoding.DecodeString(made(t, generate.Spec{Base64: &generate.Bytes{Length: 20}}, stream(8)))
	if err != nil || len(raw) != 20 {
		t.Errorf("base64 has %d bytes, %v", len(raw), err)
	}
}

func TestAUUIDIsARandomOne(t *testing.T) {
	form := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	seen, random := map[string]bool{}, stream(9)
	for range 1000 {
		text := made(t, generate.Spec{UUID: &generate.UUID{}}, random)
		if !form.MatchString(text) || seen[text] {
			t.Fatal(text)
		}
		seen[text] = true
	}
}

func TestKeysAreRead(t *testing.T) {
	for name, spec := range map[string]generate.Spec{
		"rsa":     {RSA: &generate.RSA{Bits: 2048}},
		"ecdsa":   {ECDSA: &generate.ECDSA{}},
		"P-521":   {ECDSA: &generate.ECDSA{Curve: "P-521"}},
		"ed25519": {Ed25519: &generate.Ed25519{}},
	} {
		t.Run(name, func(t *testing.T) {
			made, err := spec.Generate(nil, now)
			if err != nil {
				t.Fatal(err)
			}
			block, _ := pem.Decode(made.Secret.Bytes())
			key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
			if err != nil {
				t.Fatal(err)
			}
			block, _ = pem.Decode(made.Public)
			public, err := x509.ParsePKIXPublicKey(block.Bytes)
			if err != nil || !reflect.DeepEqual(public, key.(crypto.Signer).Public()) {
				t.Errorf("the public key is of another, %v", err)
			}
			if spec.Entropy() < 112 {
				t.Errorf("it has %g bits", spec.Entropy())
			}
		})
	}
}

func TestAnSSHKeyIsTheOneOfItsLine(t *testing.T) {
	for _, spec := range []generate.SSH{{}, {Type: "ecdsa", Comment: "backup of db"}, {Type: "rsa", Bits: 2048}} {
		made, err := generate.Spec{SSH: &spec}.Generate(nil, now)
		if err != nil {
			t.Fatal(err)
		}
		key, err := ssh.ParsePrivateKey(made.Secret.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		line, comment, _, rest, err := ssh.ParseAuthorizedKey(made.Public)
		if err != nil || comment != spec.Comment || len(rest) > 0 || string(line.Marshal()) != string(key.PublicKey().Marshal()) {
			t.Errorf("%+v: the line is %s, %v", spec, made.Public, err)
		}
	}
}

func TestACertificateIsGoodForItsNamesAndItsTime(t *testing.T) {
	spec := generate.Spec{X509: &generate.X509{DNSNames: []string{"db.pay.svc", "*.db.pay.svc"}, IPAddresses: []string{"10.0.0.1", "fd00::1"}, Validity: 24 * time.Hour}}
	made, err := spec.Generate(nil, now)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(made.Public, made.Secret.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(pair.Leaf)
	for _, row := range []struct {
		name string
		at   time.Time
		good bool
	}{
		{"db.pay.svc", now, true}, {"1.db.pay.svc", now, true}, {"10.0.0.1", now, true}, {"fd00::1", now, true},
		{"db.ops.svc", now, false}, {"10.0.0.2", now, false},
		{"db.pay.svc", now.Add(-4 * time.Minute), true}, {"db.pay.svc", now.Add(24 * time.Hour), true}, {"db.pay.svc", now.Add(25 * time.Hour), false},
	} {
		_, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: row.name, CurrentTime: row.at})
		if (err == nil) != row.good {
			t.Errorf("for %s at %s: %v", row.name, row.at, err)
		}
	}
	if pair.Leaf.IsCA || pair.Leaf.Subject.CommonName != "db.pay.svc" {
		t.Errorf("it is an authority (%t), of %s", pair.Leaf.IsCA, pair.Leaf.Subject)
	}
}

func TestBadGeneratorsAreRefusedByTheirField(t *testing.T) {
	named := []string{"db"}
	for name, row := range map[string]struct {
		spec generate.Spec
		says string
	}{
		"nothing":          {generate.Spec{}, "generate: unusable generator: it is empty"},
		"two":              {generate.Spec{Hex: &generate.Bytes{}, UUID: &generate.UUID{}}, "it has hex and uuid"},
		"few bytes":        {generate.Spec{Hex: &generate.Bytes{Length: 7}}, "generate.hex.length 7"},
		"many bytes":       {generate.Spec{Base64: &generate.Bytes{Length: 1025}}, "generate.base64.length 1025"},
		"a short key":      {generate.Spec{RSA: &generate.RSA{Bits: 1024}}, "generate.rsa.bits 1024"},
		"another curve":    {generate.Spec{ECDSA: &generate.ECDSA{Curve: "P-224"}}, `generate.ecdsa.curve "P-224"`},
		"an old type":      {generate.Spec{SSH: &generate.SSH{Type: "dsa"}}, `generate.ssh.type "dsa"`},
		"bits of a curve":  {generate.Spec{SSH: &generate.SSH{Bits: 4096}}, "generate.ssh.bits 4096"},
		"few bits of SSH":  {generate.Spec{SSH: &generate.SSH{Type: "rsa", Bits: 1024}}, "generate.ssh.bits 1024"},
		"a second line":    {generate.Spec{SSH: &generate.SSH{Comment: "a\nssh-ed25519 AAAA"}}, "generate.ssh.comment"},
		"no name":          {generate.Spec{X509: &generate.X509{CommonName: "db"}}, "generate.x509.dnsNames"},
		"a bad name":       {generate.Spec{X509: &generate.X509{DNSNames: []string{"db", "-db"}}}, "generate.x509.dnsNames[1]"},
		"a bad address":    {generate.Spec{X509: &generate.X509{IPAddresses: []string{"10.0.0"}}}, "generate.x509.ipAddresses[0]"},
		"a zone":           {generate.Spec{X509: &generate.X509{IPAddresses: []string{"fe80::1%eth0"}}}, "generate.x509.ipAddresses[0]"},
		"a short time":     {generate.Spec{X509: &generate.X509{DNSNames: named, Validity: time.Minute}}, "generate.x509.validity"},
		"a long time":      {generate.Spec{X509: &generate.X509{DNSNames: named, Validity: 1 << 62}}, "generate.x509.validity"},
		"no algorithm":     {generate.Spec{X509: &generate.X509{DNSNames: named, KeyType: "dsa"}}, "generate.x509.keyType"},
		"a subject's code": {generate.Spec{X509: &generate.X509{DNSNames: named, CommonName: "db\x00"}}, "generate.x509.commonName"},
	} {
		err := row.spec.Check("generate")
		if !errors.Is(err, generate.ErrSpec) || !strings.Contains(fmt.Sprint(err), row.says) {
			t.Errorf("%s: it says %v", name, err)
		}
	}
}

func TestWhatIsMadePrintsAsNothing(t *testing.T) {
	made, err := generate.Spec{Hex: &generate.Bytes{}}.Generate(nil, now)
	if err != nil {
		t.Fatal(err)
	}
	if printed := fmt.Sprintf("%v %+v %#v", made, made, made); strings.Contains(printed, string(made.Secret.Bytes())) || !strings.Contains(printed, providers.Redacted) {
		t.Error(printed)
	}
}
