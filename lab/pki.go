package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// authority is the lab's one certificate authority. Its certificates are kept
// in the state folder and used again by later starts, so that a kubeconfig
// handed out once stays good.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// identity says what a certificate is for. Every one of them may serve and ask.
type identity struct {
	file   string   // <file>.crt and <file>.key
	user   string   // common name
	groups []string // organisations
	hosts  []string // names and addresses it serves at
}

const (
	certLife  = 10 * 365 * 24 * time.Hour
	certSpare = 30 * 24 * time.Hour // renewed when less is left
)

func openAuthority(dir string) (*authority, error) {
	a := &authority{dir: dir}
	cert, key, err := a.read("ca")
	if err == nil && time.Until(cert.NotAfter) > certSpare {
		a.cert, a.key = cert, key
		return a, nil
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "privyseal-lab"},
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	a.cert, a.key, err = a.make("ca", template)
	if err != nil {
		return nil, fmt.Errorf("making the lab's CA: %w", err)
	}
	return a, nil
}

// issue makes the identity's certificate, unless a good one is there.
func (a *authority) issue(id identity) error {
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: id.user, Organization: id.groups},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, host := range id.hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	if cert, _, err := a.read(id.file); err == nil && a.good(cert, id) {
		return nil
	}
	if _, _, err := a.make(id.file, template); err != nil {
		return fmt.Errorf("making certificate %s: %w", id.file, err)
	}
	return nil
}

// good says whether a certificate from an earlier start serves this one.
func (a *authority) good(cert *x509.Certificate, id identity) bool {
	if cert.CheckSignatureFrom(a.cert) != nil || time.Until(cert.NotAfter) < certSpare || cert.Subject.CommonName != id.user {
		return false
	}
	for _, host := range id.hosts {
		if cert.VerifyHostname(host) != nil {
			return false
		}
	}
	return true
}

// make writes the key before the certificate: a kill between the two leaves a
// pair that does not match, which read refuses.
func (a *authority) make(file string, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	now := time.Now()
	template.NotBefore, template.NotAfter = now.Add(-time.Hour), now.Add(certLife)
	if template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120)); err != nil {
		return nil, nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return nil, nil, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	err = errors.Join(
		write(a.path(file+".key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600),
		write(a.path(file+".crt"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644),
	)
	if err != nil {
		return nil, nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return cert, key, err
}

func (a *authority) read(file string) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	cert, err := readPEM(a.path(file + ".crt"))
	if err != nil {
		return nil, nil, err
	}
	parsed, err := x509.ParseCertificate(cert)
	if err != nil {
		return nil, nil, err
	}
	secret, err := readPEM(a.path(file + ".key"))
	if err != nil {
		return nil, nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(secret)
	if err != nil {
		return nil, nil, err
	}
	private, ok := key.(*ecdsa.PrivateKey)
	if !ok || !private.PublicKey.Equal(parsed.PublicKey) {
		return nil, nil, fmt.Errorf("%s: certificate and key do not match", file)
	}
	return parsed, private, nil
}

func readPEM(path string) ([]byte, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(content)
	if block == nil {
		return nil, fmt.Errorf("%s: no PEM block", path)
	}
	return block.Bytes, nil
}

// signingKey makes the key pair that service-account tokens are signed with.
// It outlives the lab: so do the tokens.
func (a *authority) signingKey(file string) error {
	if _, err := readPEM(a.path(file + ".key")); err == nil && exists(a.path(file+".pub")) {
		return nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	secret, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	return errors.Join(
		write(a.path(file+".key"), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: secret}), 0o600),
		write(a.path(file+".pub"), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}), 0o644),
	)
}

func (a *authority) path(file string) string { return filepath.Join(a.dir, file) }
