package generate

import (
	"cmp"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/netip"
	"regexp"
	"time"
)

const (
	defaultValidity = 90 * 24 * time.Hour
	minValidity     = time.Hour
	maxValidity     = 10 * 365 * 24 * time.Hour
	maxNames        = 32
	// maxCommonName is of RFC 5280, appendix A.1.
	maxCommonName = 64
	// slack is for clocks that are behind ours.
	slack = 5 * time.Minute
)

// dnsName may begin with a wildcard. RFC 1123, section 2.1.
var dnsName = regexp.MustCompile(`^(\*\.)?[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$`)

// X509 is a key with a certificate that it signs itself: for those who pin the
// certificate, as there is no authority behind it, and it is none.
type X509 struct {
	// CommonName of the subject, at most 64 characters; "" is the first name.
	CommonName string

	// DNSNames and IPAddresses that the certificate is for; at least one of
	// either, at most 32 of each.
	DNSNames    []string
	IPAddresses []string

	// Validity is how long it is valid, from an hour to ten years; 0 is 90 days.
	Validity time.Duration

	// KeyType is ecdsa (P-256), ed25519 or rsa (3072 bits); "" is ecdsa.
	KeyType string
}

func (x *X509) maker() keyMaker { return algorithm(cmp.Or(x.KeyType, "ecdsa")) }

// Lasts is how long its certificates are valid.
func (x *X509) Lasts() time.Duration { return cmp.Or(x.Validity, defaultValidity) }

func (x *X509) check(field string) error {
	switch {
	case x.maker() == nil:
		return fmt.Errorf("%s.keyType %.64q: %w: want ecdsa, ed25519 or rsa", field, x.KeyType, ErrSpec)
	case x.Lasts() < minValidity || x.Lasts() > maxValidity:
		return fmt.Errorf("%s.validity %s: %w: want from %s to %s", field, x.Validity, ErrSpec, minValidity, maxValidity)
	case len(x.CommonName) > maxCommonName || !printed(x.CommonName):
		return fmt.Errorf("%s.commonName: %w: want at most %d printable ASCII characters", field, ErrSpec, maxCommonName)
	case len(x.DNSNames)+len(x.IPAddresses) == 0:
		return fmt.Errorf("%s.dnsNames: %w: want a name, or an address in ipAddresses; clients look at those alone", field, ErrSpec)
	case len(x.DNSNames) > maxNames || len(x.IPAddresses) > maxNames:
		return fmt.Errorf("%s: %w: want at most %d dnsNames and ipAddresses", field, ErrSpec, maxNames)
	}
	for i, name := range x.DNSNames {
		if len(name) > 253 || !dnsName.MatchString(name) {
			return fmt.Errorf("%s.dnsNames[%d] %.253q: %w: want a DNS name in lower case", field, i, name, ErrSpec)
		}
	}
	for i, address := range x.IPAddresses {
		if parsed, err := netip.ParseAddr(address); err != nil || parsed.Zone() != "" {
			return fmt.Errorf("%s.ipAddresses[%d] %.64q: %w: want an address such as 10.0.0.1", field, i, address, ErrSpec)
		}
	}
	return nil
}

func (x *X509) entropy() float64 { return x.maker().entropy() }

func (x *X509) generate(from source) (Made, error) {
	key, err := x.maker().key()
	if err != nil {
		return Made{}, fmt.Errorf("making the key: %w", err)
	}
	template, err := x.template(from)
	if err != nil {
		return Made{}, err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return Made{}, fmt.Errorf("writing the certificate: %w", err)
	}
	secret, err := private(key)
	if err != nil {
		return Made{}, err
	}
	return Made{Secret: secret, Public: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}, nil
}

func (x *X509) template(from source) (*x509.Certificate, error) {
	// A serial is positive and has at most 20 bytes: RFC 5280, section 4.1.2.2.
	serial := make([]byte, 16)
	if _, err := io.ReadFull(from.random, serial); err != nil {
		return nil, fmt.Errorf("reading random bytes: %w", err)
	}
	serial[0] = serial[0]&0x7f | 0x40
	template := &x509.Certificate{
		SerialNumber:          new(big.Int).SetBytes(serial),
		Subject:               pkix.Name{CommonName: x.CommonName},
		DNSNames:              x.DNSNames,
		NotBefore:             from.now.Add(-slack),
		NotAfter:              from.now.Add(x.Lasts()),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}
	for _, address := range x.IPAddresses {
		parsed, err := netip.ParseAddr(address)
		if err != nil {
			return nil, fmt.Errorf("reading an address: %w", err)
		}
		template.IPAddresses = append(template.IPAddresses, parsed.AsSlice())
	}
	if names := append(append([]string{}, x.DNSNames...), x.IPAddresses...); x.CommonName == "" && len(names[0]) <= maxCommonName {
		template.Subject.CommonName = names[0]
	}
	return template, nil
}
