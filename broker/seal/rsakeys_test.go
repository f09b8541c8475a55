package seal_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	upstream "github.com/bitnami-labs/sealed-secrets/pkg/crypto"

	"github.com/privyseal/privyseal/broker/seal"
)

// day is when the tests are.
var day = time.Date(2026, 3, 14, 15, 9, 26, 500, time.FixedZone("somewhere", 3600))

// certificate of the key "usual", valid on that day.
func certificate(t testing.TB) []byte {
	t.Helper()
	return signed(t, rsaNamed(t, "usual"), day.Add(-time.Hour), day.Add(time.Hour))
}

func signed(t testing.TB, key *seal.RSAKey, from, to time.Time) []byte {
	t.Helper()
	return selfSigned(t, rsaPrivate(t, key), from, to)
}

func selfSigned(t testing.TB, key crypto.Signer, from, to time.Time) []byte {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: from, NotAfter: to}
	der := must(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))(t)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func TestARSAKeyIsMadeAsUpstreamMakesIt(t *testing.T) {
	key := must(seal.GenerateRSAKey(seal.RSAConfig{Now: day, Validity: 36 * time.Hour, Bits: 1024, CommonName: "sealing.example"}))(t)
	theirs := must(upstream.SignKey(rand.Reader, rsaPrivate(t, key), 36*time.Hour, "sealing.example"))(t)
	ours := key.Certificate()
	if !ours.NotBefore.Equal(day.Truncate(time.Second)) || !ours.NotAfter.Equal(day.Add(36*time.Hour).Truncate(time.Second)) {
		t.Errorf("valid from %s to %s", ours.NotBefore, ours.NotAfter)
	}
	// All but the serial number, the dates and the signature.
	for name, same := range map[string]bool{
		"usage":       ours.KeyUsage == theirs.KeyUsage,
		"authority":   ours.IsCA == theirs.IsCA && ours.BasicConstraintsValid == theirs.BasicConstraintsValid,
		"subject":     bytes.Equal(ours.RawSubject, theirs.RawSubject),
		"issuer":      bytes.Equal(ours.RawIssuer, theirs.RawIssuer),
		"key":         bytes.Equal(ours.RawSubjectPublicKeyInfo, theirs.RawSubjectPublicKeyInfo),
		"algorithm":   ours.SignatureAlgorithm == theirs.SignatureAlgorithm,
		"version":     ours.Version == theirs.Version,
		"extensions":  len(ours.Extensions) == len(theirs.Extensions),
		"its own key": ours.CheckSignature(ours.SignatureAlgorithm, ours.RawTBSCertificate, ours.Signature) == nil,
	} {
		if !same {
			t.Errorf("the %s is not as upstream's", name)
		}
	}
	other := must(seal.GenerateRSAKey(seal.RSAConfig{Now: day, Bits: 1024}))(t)
	if ours.SerialNumber.Cmp(other.Certificate().SerialNumber) == 0 || ours.SerialNumber.BitLen() < 64 {
		t.Errorf("serial numbers %s and %s", ours.SerialNumber, other.Certificate().SerialNumber)
	}
}

func TestARSAKeyHasUpstreamsSizeAndTimeByDefault(t *testing.T) {
	key := must(seal.GenerateRSAKey(seal.RSAConfig{Now: day}))(t)
	certificate := key.Certificate()
	if bits := rsaPublic(t, key).N.BitLen(); bits != 4096 {
		t.Errorf("got %d bits", bits)
	}
	if got := certificate.NotAfter.Sub(certificate.NotBefore); got != 87600*time.Hour {
		t.Errorf("valid for %s", got)
	}
	if certificate.Subject.String() != "" {
		t.Errorf("subject %s", certificate.Subject)
	}
}

func TestARSAKeyThatMakesNoSenseIsNotMade(t *testing.T) {
	for mention, config := range map[string]seal.RSAConfig{
		"of 512 bits; it must have 1024 to 16384":   {Now: day, Bits: 512},
		"of 16392 bits; it must have 1024 to 16384": {Now: day, Bits: 16392},
		"of -1 bits":              {Now: day, Bits: -1},
		"ends before it begins":   {Now: day, Validity: -time.Hour, Bits: 1024},
		"without a time to begin": {Bits: 1024},
		"making a certificate: ":  {Now: time.Date(12345, 1, 1, 0, 0, 0, 0, time.UTC), Bits: 1024},
	} {
		_, err := seal.GenerateRSAKey(config)
		checkMention(t, mention, err, mention)
	}
}

func TestARSAKeyIsWrittenAsUpstreamWritesItAndReadBack(t *testing.T) {
	key := must(seal.GenerateRSAKey(seal.RSAConfig{Now: day, Bits: 1024}))(t)
	tlsKey, tlsCrt := key.PEM()
	for blockType, text := range map[string][]byte{"RSA PRIVATE KEY": tlsKey, "CERTIFICATE": tlsCrt} {
		if block, rest := pem.Decode(text); block == nil || block.Type != blockType || len(rest) > 0 {
			t.Errorf("not one block %s: %s", blockType, text)
		}
	}
	again := must(seal.ParseRSAKey(tlsKey, tlsCrt))(t)
	if again.Fingerprint() != key.Fingerprint() || !again.Certificate().Equal(key.Certificate()) {
		t.Error("it is another key")
	}
	recipient := must(seal.ParseCertificate(tlsCrt, day))(t)
	item := must(seal.SealV1(secret("x"), password, recipient))(t)
	if opened, err := rsaOpens(again).Open(item, password); err != nil || opened.Key != recipient.Fingerprint() {
		t.Errorf("got %v, %v", opened, err)
	}
}

func TestAKeyWithoutACertificateOpens(t *testing.T) {
	usual := rsaNamed(t, "usual")
	if text, certificate := usual.PEM(); usual.Certificate() != nil || len(certificate) > 0 || len(text) == 0 {
		t.Errorf("it has a certificate: %s", certificate)
	}
}

func TestAKeyOpensAfterItsCertificateHasExpired(t *testing.T) {
	usual := rsaNamed(t, "usual")
	text, _ := usual.PEM()
	expired := signed(t, usual, day.AddDate(-2, 0, 0), day.AddDate(-1, 0, 0))
	item := must(seal.SealV1(secret("x"), password, usual.Public()))(t)
	if _, err := rsaOpens(must(seal.ParseRSAKey(text, expired))(t)).Open(item, password); err != nil {
		t.Error(err)
	}
	_, err := seal.ParseCertificate(expired, day)
	if !errors.Is(err, seal.ErrExpired) || !strings.Contains(err.Error(), "2025-03-14") {
		t.Errorf("sealing to it: got %v", err)
	}
}

func TestACertificateIsGoodUntilItsLastSecond(t *testing.T) {
	end := day.Truncate(time.Second)
	text := signed(t, rsaNamed(t, "usual"), day.Add(-time.Hour), end)
	if _, err := seal.ParseCertificate(text, end); err != nil {
		t.Error(err)
	}
	if _, err := seal.ParseCertificate(text, end.Add(time.Nanosecond)); !errors.Is(err, seal.ErrExpired) {
		t.Errorf("got %v", err)
	}
}

func TestEveryFormOfRSAKeyIsRead(t *testing.T) {
	usual := rsaNamed(t, "usual")
	pkcs1, _ := usual.PEM()
	pkcs8 := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: must(x509.MarshalPKCS8PrivateKey(rsaPrivate(t, usual)))(t)})
	other, _ := rsaNamed(t, "other").PEM()
	chain := slices.Concat(certificate(t), signed(t, rsaNamed(t, "other"), day, day))
	annotated := slices.Concat([]byte("Bag Attributes\n  friendlyName: sealing\n"), chain)
	for name, form := range map[string][2][]byte{
		"PKCS#1":                          {pkcs1, certificate(t)},
		"PKCS#8":                          {pkcs8, certificate(t)},
		"a certificate in front":          {slices.Concat(certificate(t), pkcs1), certificate(t)},
		"a chain":                         {pkcs1, chain},
		"a chain with remarks":            {pkcs1, annotated},
		"another key behind":              {slices.Concat(pkcs1, other), nil},
		"a block with headers in between": {pkcs1, slices.Concat(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Headers: map[string]string{"A": "b"}}), certificate(t))},
		"no newline at the end":           {bytes.TrimSpace(pkcs1), bytes.TrimSpace(certificate(t))},
		"carriage returns":                {bytes.ReplaceAll(pkcs1, []byte("\n"), []byte("\r\n")), nil},
	} {
		if key, err := seal.ParseRSAKey(form[0], form[1]); err != nil || key.Fingerprint() != usual.Fingerprint() {
			t.Errorf("%s: got %v, %v", name, key, err)
		}
	}
}

func TestABadRSAKeyIsRefusedWithWhatToDo(t *testing.T) {
	pkcs1, _ := rsaNamed(t, "usual").PEM()
	elliptical := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	pkcs8 := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: must(x509.MarshalPKCS8PrivateKey(elliptical))(t)})
	sec1 := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: must(x509.MarshalECPrivateKey(elliptical))(t)})
	locked := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Headers: map[string]string{"Proc-Type": "4,ENCRYPTED"}, Bytes: []byte("x")})
	marked := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: []byte("MARKER")})
	marked8 := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("MARKER")})
	ed := ed25519.NewKeyFromSeed(make([]byte, 32))
	for _, row := range []struct {
		name             string
		key, certificate []byte
		mention          string
	}{
		{"nothing", nil, nil, "no PEM block"},
		{"a certificate only", certificate(t), nil, "no PEM block"},
		{"an EC key", sec1, nil, "no PEM block"},
		{"an EC key in PKCS#8", pkcs8, nil, "holds no RSA key"},
		{"a key with a passphrase", locked, nil, "give it decrypted"},
		{"no PKCS#1", marked, nil, "holds no RSA key"},
		{"no PKCS#8", marked8, nil, "holds no RSA key"},
		{"a key cut off", pkcs1[:300], nil, "cut off or altered"},
		{"a certificate cut off", pkcs1, certificate(t)[:300], "cut off or altered"},
		{"no certificate", pkcs1, pkcs1, "no PEM block"},
		{"a broken certificate", pkcs1, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")}), "reading a certificate"},
		{"the certificate of another key", pkcs1, signed(t, rsaNamed(t, "other"), day, day), "of another key"},
		{"a certificate without RSA", pkcs1, selfSigned(t, ed, day, day), "of another key"},
		{"a text that is too long", slices.Concat(pkcs1, make([]byte, 1<<18)), nil, "longer than"},
	} {
		_, err := seal.ParseRSAKey(row.key, row.certificate)
		checkMention(t, row.name, err, row.mention)
		if err != nil && strings.Contains(err.Error(), "MARKER") {
			t.Errorf("the error repeats the key: %v", err)
		}
	}
	_, err := seal.ParseCertificate(selfSigned(t, ed, day, day), day)
	checkMention(t, "a certificate without RSA", err, "no RSA key")
	_, err = seal.ParseCertificate(nil, day)
	checkMention(t, "no certificate", err, "no PEM block")
}

func TestARSAKeyThatIsTooSmallIsRefusedWhenItIsRead(t *testing.T) {
	_, err := seal.ParseRSAKey([]byte(tinyKey), nil)
	checkMention(t, "a private key of 512 bits", err, "of 512 bits; it must have 1024 to 16384")

	usual := rsaPrivate(t, rsaNamed(t, "usual"))
	tiny := usual.PublicKey
	tiny.N = new(big.Int).Rsh(tiny.N, 2048-512)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: day, NotAfter: day.Add(time.Hour)}
	der := must(x509.CreateCertificate(rand.Reader, template, template, &tiny, usual))(t)
	_, err = seal.ParseCertificate(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), day)
	checkMention(t, "a certificate of 512 bits", err, "an RSA key of 512 bits; it must have 1024 to 16384")
}

// tinyKey has 512 bits, as no program here makes it.
const tinyKey = `-----BEGIN RSA PRIVATE KEY-----
MIIBOgIBAAJBAJLlwYKQCnFBjuKfLd0S6N4CfUbMZ5nnTi7ijPBYeeOvYa+J4nVM
ykRYSO2vvnlpcaCd7ke7lxV6s2xJRRNIO0ECAwEAAQJAIMPyp8atLZnr3wyWVEtV
eb+gZdxN93wqajbKLQnvFiO/6b/9x9V8wCOLHrDoyrKprOl1d4yTzC5KW3ZiuSj1
iQIhAMIJZ/FrIPNbCq+rgTCWv/JOHrsVtvK/rJSqiPpFw4fDAiEAwc6xjbYEq8RG
ti9xW0fcGjYtMvezQSpNW5Cq7GrkhKsCIGng2hAZBdzk09rxucf6qnicehZaDf89
6f0hZSczxDMjAiB5rYV4DUEdfltO4rZuss0Tf9Qc3bsjPKXYyRkm2W2jhQIhALyH
1Mgf4/dzdySzuCISEm0ukcIDRpe8x5ZDduN+pLo2
-----END RSA PRIVATE KEY-----
`

func TestAPublicKeyThatRSADoesNotTakeIsNotSealedTo(t *testing.T) {
	usual := rsaPrivate(t, rsaNamed(t, "usual"))
	odd := usual.PublicKey
	odd.E = 1 // would leave the session key as it is
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: day, NotAfter: day.Add(time.Hour)}
	der := must(x509.CreateCertificate(rand.Reader, template, template, &odd, usual))(t)
	key := must(seal.ParseCertificate(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), day))(t)
	_, err := seal.SealV1(secret("x"), password, key)
	checkMention(t, "an exponent of 1", err, "wrapping the session key")
}
