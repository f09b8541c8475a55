package seal

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"time"

	"golang.org/x/crypto/ssh"
)

// ErrExpired: a certificate is past its end, and nothing is sealed to it.
var ErrExpired = errors.New("expired sealing certificate")

// Types of the PEM blocks in key Secrets of Sealed Secrets.
const (
	certificateType = "CERTIFICATE"
	pkcs1Type       = "RSA PRIVATE KEY"
	pkcs8Type       = "PRIVATE KEY"
)

const (
	defaultRSABits     = 4096
	defaultRSAValidity = 10 * 365 * 24 * time.Hour

	// minRSABits is what Go's crypto/rsa works with, and upstream by it.
	minRSABits = 1024
)

// RSAPublicKey is what items of version 1 are sealed to.
type RSAPublicKey struct {
	key         *rsa.PublicKey
	fingerprint string
}

// Fingerprint names the key as upstream's logs do: that of the SSH public key,
// "SHA256:" and base64 without padding.
func (k *RSAPublicKey) Fingerprint() string { return k.fingerprint }

func newRSAPublicKey(key *rsa.PublicKey) (*RSAPublicKey, error) {
	if bits := key.N.BitLen(); bits < minRSABits || bits > 8*maxRSA {
		return nil, fmt.Errorf("%w: an RSA key of %d bits; it must have %d to %d", ErrKey, bits, minRSABits, 8*maxRSA)
	}
	encoded, err := ssh.NewPublicKey(key)
	if err != nil {
		return nil, fmt.Errorf("%w: fingerprinting an RSA key: %w", ErrKey, err)
	}
	return &RSAPublicKey{key: key, fingerprint: ssh.FingerprintSHA256(encoded)}, nil
}

// RSAKey opens items of version 1. It prints as its fingerprint.
type RSAKey struct {
	private     *rsa.PrivateKey
	public      *RSAPublicKey
	certificate *x509.Certificate // nil: none came with it
}

// Fingerprint names the key; see RSAPublicKey.
func (k *RSAKey) Fingerprint() string { return k.public.fingerprint }

// Public is the key to seal to.
func (k *RSAKey) Public() *RSAPublicKey { return k.public }

// Certificate that the key came with, or nil. It is signed by the key itself and
// proves nothing; its dates say since when the key is used, and until when
// kubeseal seals to it. It must not be modified.
func (k *RSAKey) Certificate() *x509.Certificate { return k.certificate }

// Format implements fmt.Formatter: under every verb a private key is its
// fingerprint.
func (k *RSAKey) Format(state fmt.State, _ rune) { _, _ = io.WriteString(state, k.String()) }

// String implements fmt.Stringer.
func (k *RSAKey) String() string { return "sealing key " + k.public.fingerprint }

// MarshalText implements encoding.TextMarshaler, and so what JSON and logs show.
func (k *RSAKey) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

func (k *RSAKey) hasFingerprint(other *RSAKey) bool { return k.Fingerprint() == other.Fingerprint() }

// PEM is the key and its certificate as upstream writes them into a key Secret,
// under tls.key (PKCS#1) and tls.crt. The caller clears the key after use. The
// certificate is empty if there is none.
func (k *RSAKey) PEM() (key, certificate []byte) {
	der := x509.MarshalPKCS1PrivateKey(k.private)
	defer clear(der)
	key = pem.EncodeToMemory(&pem.Block{Type: pkcs1Type, Bytes: der})
	if k.certificate != nil {
		certificate = pem.EncodeToMemory(&pem.Block{Type: certificateType, Bytes: k.certificate.Raw})
	}
	return key, certificate
}

// RSAConfig says what key GenerateRSAKey makes.
type RSAConfig struct {
	// Now is when the certificate begins to be valid. It must be given.
	Now time.Time

	// Validity of the certificate; 0 is ten years, as upstream has it. The key
	// itself opens for ever.
	Validity time.Duration

	// Bits of the modulus; 0 is 4096.
	Bits int

	// CommonName of the certificate; "" is none.
	CommonName string
}

// GenerateRSAKey makes a key with a self-signed certificate, as upstream does. It
// takes a second or so. Errors wrap ErrKey.
func GenerateRSAKey(config RSAConfig) (*RSAKey, error) {
	if config.Bits == 0 {
		config.Bits = defaultRSABits
	}
	if config.Validity == 0 {
		config.Validity = defaultRSAValidity
	}
	switch {
	case config.Bits < minRSABits || config.Bits > 8*maxRSA:
		return nil, fmt.Errorf("%w: making an RSA key of %d bits; it must have %d to %d", ErrKey, config.Bits, minRSABits, 8*maxRSA)
	case config.Validity < 0:
		return nil, fmt.Errorf("%w: making a certificate that ends before it begins", ErrKey)
	case config.Now.IsZero():
		return nil, fmt.Errorf("%w: making a certificate without a time to begin", ErrKey)
	}
	private, err := rsa.GenerateKey(rand.Reader, config.Bits)
	if err != nil {
		return nil, fmt.Errorf("%w: making an RSA key: %w", ErrKey, err)
	}
	certificate, err := selfSign(private, config)
	if err != nil {
		return nil, fmt.Errorf("%w: making a certificate: %w", ErrKey, err)
	}
	return newRSAKey(private, certificate)
}

// selfSign writes the certificate that upstream writes, with its odd usages.
func selfSign(key *rsa.PrivateKey, config RSAConfig) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 128))
	if err != nil {
		return nil, err // unreachable: crypto/rand ends the program first
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		KeyUsage:              x509.KeyUsageEncipherOnly,
		NotBefore:             config.Now.UTC(),
		NotAfter:              config.Now.Add(config.Validity).UTC(),
		Subject:               pkix.Name{CommonName: config.CommonName},
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func newRSAKey(private *rsa.PrivateKey, certificate *x509.Certificate) (*RSAKey, error) {
	public, err := newRSAPublicKey(&private.PublicKey)
	if err != nil {
		return nil, err
	}
	if certificate != nil && !private.PublicKey.Equal(certificate.PublicKey) {
		return nil, fmt.Errorf("%w: the certificate is of another key, so what is sealed to it would not open", ErrKey)
	}
	return &RSAKey{private: private, public: public, certificate: certificate}, nil
}

// ParseRSAKey reads a key Secret's tls.key, in PKCS#1 or PKCS#8, and tls.crt. An
// empty certificate is none: the key opens all the same. Whether the certificate
// has expired does not matter for opening. Errors wrap ErrKey and hold nothing
// of the key.
func ParseRSAKey(key, certificate []byte) (*RSAKey, error) {
	private, err := parseRSAPrivateKey(key)
	if err != nil {
		return nil, err
	}
	var parsed *x509.Certificate
	if len(certificate) > 0 {
		if parsed, err = parseCertificate(certificate); err != nil {
			return nil, err
		}
	}
	return newRSAKey(private, parsed)
}

// parseRSAPrivateKey takes the first private key of the text.
func parseRSAPrivateKey(text []byte) (*rsa.PrivateKey, error) {
	var private *rsa.PrivateKey
	err := eachBlock(text, func(block *pem.Block) error {
		defer clear(block.Bytes)
		if private != nil || block.Type != pkcs1Type && block.Type != pkcs8Type {
			return nil
		}
		var err error
		private, err = parseRSABlock(block)
		return err
	})
	if err == nil && private == nil {
		err = fmt.Errorf("%w: there is no PEM block of type %q or %q", ErrKey, pkcs1Type, pkcs8Type)
	}
	return private, err
}

// parseRSABlock drops what the parsers say, which may tell of the key's bytes.
func parseRSABlock(block *pem.Block) (*rsa.PrivateKey, error) {
	if len(block.Headers) > 0 {
		return nil, fmt.Errorf("%w: the private key has PEM headers, as one with a passphrase has; give it decrypted", ErrKey)
	}
	if block.Type == pkcs1Type {
		key, err := x509.ParsePKCS1PrivateKey(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%w: a PEM block of type %q holds no RSA key", ErrKey, block.Type)
		}
		return key, nil
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	rsaKey, ok := key.(*rsa.PrivateKey)
	if err != nil || !ok {
		return nil, fmt.Errorf("%w: a PEM block of type %q holds no RSA key", ErrKey, block.Type)
	}
	return rsaKey, nil
}

// ParseCertificate reads the key to seal to from what a controller gives out, as
// kubeseal does: the first certificate of the text, which must hold an RSA key
// and must not have expired. Errors wrap ErrKey and ErrExpired.
func ParseCertificate(text []byte, now time.Time) (*RSAPublicKey, error) {
	certificate, err := parseCertificate(text)
	if err != nil {
		return nil, err
	}
	key, ok := certificate.PublicKey.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("%w: the certificate holds no RSA key", ErrKey)
	}
	if now.After(certificate.NotAfter) {
		return nil, fmt.Errorf("%w: it ended at %s; get a new one from the cluster", ErrExpired, certificate.NotAfter.Format(time.RFC3339))
	}
	return newRSAPublicKey(key)
}

func parseCertificate(text []byte) (*x509.Certificate, error) {
	var certificate *x509.Certificate
	err := eachBlock(text, func(block *pem.Block) error {
		if certificate != nil || block.Type != certificateType || len(block.Headers) > 0 {
			return nil
		}
		var err error
		if certificate, err = x509.ParseCertificate(block.Bytes); err != nil {
			return fmt.Errorf("%w: reading a certificate: %w", ErrKey, err)
		}
		return nil
	})
	if err == nil && certificate == nil {
		err = fmt.Errorf("%w: there is no PEM block of type %q", ErrKey, certificateType)
	}
	return certificate, err
}
