package certs

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"
)

// Keys of the authority's Secret.
const (
	currentCert = "ca.crt" // signs
	currentKey  = "ca.key"
	nextCert    = "next.crt" // is trusted already, and signs later
	nextKey     = "next.key"
	oldCerts    = "previous.crt" // signed once, and are trusted until oldUntil
	oldUntil    = "previous-until"
)

// maxOld bounds previous.crt, in certificates. One is the rule; more are there
// where authorities live shorter than the certificates that they sign.
const maxOld = 8

// errMalformed: the Secret holds something that is no authority.
var errMalformed = errors.New("malformed certificate authority")

// authority is what the Secret holds. The zero authority is that of a Secret
// that nobody has filled yet.
type authority struct {
	current, next *pair
	old           []*x509.Certificate
	until         time.Time // old is trusted until then
}

// pair is a certificate with its key.
type pair struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// parseAuthority reads the Secret's data. Errors wrap errMalformed.
func parseAuthority(data map[string][]byte) (authority, error) {
	var a authority
	var err error
	if a.current, err = parsePair(data[currentCert], data[currentKey]); err != nil {
		return authority{}, fmt.Errorf("%w: %s: %w", errMalformed, currentCert, err)
	}
	if a.next, err = parsePair(data[nextCert], data[nextKey]); err != nil {
		return authority{}, fmt.Errorf("%w: %s: %w", errMalformed, nextCert, err)
	}
	if a.old, err = parseCerts(data[oldCerts]); err != nil {
		return authority{}, fmt.Errorf("%w: %s: %w", errMalformed, oldCerts, err)
	}
	if text := data[oldUntil]; len(text) > 0 {
		if a.until, err = time.Parse(time.RFC3339, string(text)); err != nil {
			return authority{}, fmt.Errorf("%w: %s: %w", errMalformed, oldUntil, err)
		}
	}
	return a, nil
}

// parsePair returns nil where neither is given.
func parsePair(cert, key []byte) (*pair, error) {
	if len(cert) == 0 && len(key) == 0 {
		return nil, nil //nolint:nilnil // nothing there is no mistake
	}
	certs, err := parseCerts(cert)
	if err != nil {
		return nil, err
	}
	if len(certs) != 1 || !certs[0].IsCA {
		return nil, errors.New("it is not one certificate of an authority")
	}
	block, _ := pem.Decode(key)
	if block == nil {
		return nil, errors.New("its key is not PEM")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("its key is not PKCS #8") // the parser's words could quote it
	}
	signer, signs := parsed.(*ecdsa.PrivateKey)
	if !signs || !signer.PublicKey.Equal(certs[0].PublicKey) {
		return nil, errors.New("its key is another's")
	}
	return &pair{cert: certs[0], key: signer}, nil
}

// parseCerts reads PEM certificates, and nothing else.
func parseCerts(text []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for rest := bytes.TrimSpace(text); len(rest) > 0; rest = bytes.TrimSpace(rest) {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil || block.Type != "CERTIFICATE" {
			return nil, errors.New("it is not PEM certificates")
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("reading a certificate: %w", err)
		}
		certs = append(certs, cert)
	}
	return certs, nil
}

// into writes the authority over the Secret's data; keys of others stay.
func (a authority) into(data map[string][]byte) error {
	for _, key := range []string{currentCert, currentKey, nextCert, nextKey, oldCerts, oldUntil} {
		delete(data, key)
	}
	if err := a.current.into(data, currentCert, currentKey); err != nil {
		return err
	}
	if err := a.next.into(data, nextCert, nextKey); err != nil {
		return err
	}
	if len(a.old) > 0 {
		data[oldCerts] = encodeCerts(a.old)
		data[oldUntil] = []byte(a.until.UTC().Format(time.RFC3339))
	}
	return nil
}

func (p *pair) into(data map[string][]byte, cert, key string) error {
	if p == nil {
		return nil
	}
	der, err := x509.MarshalPKCS8PrivateKey(p.key)
	if err != nil {
		return fmt.Errorf("encoding the authority's key: %w", err)
	}
	data[cert] = encodeCerts([]*x509.Certificate{p.cert})
	data[key] = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	return nil
}

func encodeCerts(certs []*x509.Certificate) []byte {
	var text []byte
	for _, cert := range certs {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})...)
	}
	return text
}

// trusted are all the certificates that the bundle holds.
func (a authority) trusted() []*x509.Certificate {
	var certs []*x509.Certificate
	for _, p := range []*pair{a.current, a.next} {
		if p != nil {
			certs = append(certs, p.cert)
		}
	}
	return append(certs, a.old...)
}

// bundle is the caBundle that belongs to the authority.
func (a authority) bundle() []byte { return encodeCerts(a.trusted()) }

// trusts says whether cert is among certs.
func trusts(certs []*x509.Certificate, cert *x509.Certificate) bool {
	return slices.ContainsFunc(certs, cert.Equal)
}

// valid says whether a pair is there and not over.
func (p *pair) valid(now time.Time) bool { return p != nil && now.Before(p.cert.NotAfter) }

// dueForRenewal: two thirds of its life are over.
func dueForRenewal(cert *x509.Certificate, now time.Time) bool {
	left := cert.NotAfter.Sub(cert.NotBefore) / 3
	return !now.Before(cert.NotAfter.Add(-left))
}

// backdate is how long before now a certificate begins, for clocks that are
// behind ours.
func backdate(lifetime time.Duration) time.Duration { return min(5*time.Minute, lifetime/10) }

// newAuthorityPair makes a self-signed authority.
func newAuthorityPair(now time.Time, lifetime time.Duration) (*pair, error) {
	template := &x509.Certificate{
		// The time tells authorities apart in a listing; what tells them apart
		// in a chain is the key's identifier, which Go adds.
		Subject:               pkix.Name{CommonName: "privyseal webhook " + now.UTC().Format(time.RFC3339)},
		NotBefore:             now.Add(-backdate(lifetime)),
		NotAfter:              now.Add(lifetime),
		IsCA:                  true,
		MaxPathLenZero:        true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	return sign(template, nil)
}

// sign makes a key and a certificate for it, signed by issuer, or by itself
// where issuer is nil.
func sign(template *x509.Certificate, issuer *pair) (*pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	if template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)); err != nil {
		return nil, fmt.Errorf("making a serial number: %w", err)
	}
	parent, signer := template, crypto.Signer(key)
	if issuer != nil {
		parent, signer = issuer.cert, issuer.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return nil, fmt.Errorf("signing a certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("reading the certificate just signed: %w", err)
	}
	return &pair{cert: cert, key: key}, nil
}
