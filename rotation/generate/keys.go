package generate

import (
	"cmp"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"

	"github.com/privyseal/privyseal/providers"
)

// keyMaker makes keys of one algorithm.
type keyMaker interface {
	check(field string) error
	entropy() float64
	key() (crypto.Signer, error)
}

// algorithm by its name, with the size that most want; nil for one that is not
// known.
func algorithm(name string) keyMaker {
	switch name {
	case "ed25519":
		return &Ed25519{}
	case "ecdsa":
		return &ECDSA{}
	case "rsa":
		return &RSA{}
	}
	return nil
}

// printed says whether a text has nothing but the characters of ASCII that leave
// a mark, and spaces.
func printed(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' })
}

// RSA is a key pair: PKCS#8 and PKIX in PEM.
type RSA struct {
	// Bits are 2048, 3072 or 4096; 0 is 3072.
	Bits int
}

func (r *RSA) bits() int { return cmp.Or(r.Bits, 3072) }

func (r *RSA) check(field string) error {
	if r.entropy() == 0 {
		return fmt.Errorf("%s.bits %d: %w: want 2048, 3072 or 4096", field, r.Bits, ErrSpec)
	}
	return nil
}

func (r *RSA) entropy() float64 {
	return map[int]float64{2048: 112, 3072: 128, 4096: 140}[r.bits()]
}

func (r *RSA) key() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, r.bits()) }

func (r *RSA) generate(source) (Made, error) { return pair(r) }

// ECDSA is a key pair: PKCS#8 and PKIX in PEM.
type ECDSA struct {
	// Curve is P-256, P-384 or P-521; "" is P-256.
	Curve string
}

func (e *ECDSA) curve() (curve elliptic.Curve, security float64) {
	switch e.Curve {
	case "", "P-256":
		return elliptic.P256(), 128
	case "P-384":
		return elliptic.P384(), 192
	case "P-521":
		return elliptic.P521(), 256
	}
	return nil, 0
}

func (e *ECDSA) check(field string) error {
	if curve, _ := e.curve(); curve == nil {
		return fmt.Errorf("%s.curve %q: %w: want P-256, P-384 or P-521", field, e.Curve, ErrSpec)
	}
	return nil
}

func (e *ECDSA) entropy() float64 {
	_, security := e.curve()
	return security
}

func (e *ECDSA) key() (crypto.Signer, error) {
	curve, _ := e.curve()
	return ecdsa.GenerateKey(curve, rand.Reader)
}

func (e *ECDSA) generate(source) (Made, error) { return pair(e) }

// Ed25519 is a key pair: PKCS#8 and PKIX in PEM.
type Ed25519 struct{}

func (*Ed25519) check(string) error { return nil }

func (*Ed25519) entropy() float64 { return 128 }

func (*Ed25519) key() (crypto.Signer, error) {
	_, key, err := ed25519.GenerateKey(nil)
	return key, err
}

func (e *Ed25519) generate(source) (Made, error) { return pair(e) }

func pair(maker keyMaker) (Made, error) {
	key, err := maker.key()
	if err != nil {
		return Made{}, fmt.Errorf("making the key: %w", err)
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return Made{}, fmt.Errorf("writing the public key: %w", err)
	}
	secret, err := private(key)
	if err != nil {
		return Made{}, err
	}
	return Made{Secret: secret, Public: pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})}, nil
}

func private(key crypto.Signer) (providers.Value, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return providers.Value{}, fmt.Errorf("writing the private key: %w", err)
	}
	defer clear(der)
	return providers.NewValue(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), nil
}
