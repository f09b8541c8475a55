package generate

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/privyseal/privyseal/providers"
)

// ErrSpec: a generator is not set up in a way that makes good secrets. The error
// names the field.
var ErrSpec = errors.New("unusable generator")

// MinEntropy of a generated value, in bits. Below it, who has any digest of a
// value finds the value by trying.
const MinEntropy = 64

// Spec says how one value is made. Exactly one field is set.
type Spec struct {
	Password *Password
	Hex      *Bytes
	Base64   *Bytes
	UUID     *UUID
	RSA      *RSA
	ECDSA    *ECDSA
	Ed25519  *Ed25519
	SSH      *SSH
	X509     *X509
}

// Made is one new value.
type Made struct {
	// Secret is the value, which the caller clears after use. Keys are in PEM.
	Secret providers.Value

	// Public is what belongs to a key and may be known: the public key, the line
	// for authorized_keys, or the certificate. Empty for all else.
	Public []byte
}

// maker is any of Spec's fields.
type maker interface {
	check(field string) error
	entropy() float64
	generate(from source) (Made, error)
}

// source is what a value is made from.
type source struct {
	random io.Reader
	now    time.Time
}

// Check says whether the spec makes values, and good ones. Errors wrap ErrSpec
// and name the field, below the name of the spec's own.
func (s Spec) Check(field string) error {
	kind, chosen, err := s.chosen(field)
	if err != nil {
		return err
	}
	return chosen.check(field + "." + kind)
}

// Entropy of the values in bits, or the security of the algorithm for keys; 0
// for a spec that Check refuses.
func (s Spec) Entropy() float64 {
	if s.Check("") != nil {
		return 0
	}
	_, chosen, _ := s.chosen("")
	return chosen.entropy()
}

// Generate makes a value. A nil random is crypto/rand's, which is what all but
// tests want; now is when a certificate begins to be valid. Errors wrap ErrSpec,
// or come from random.
func (s Spec) Generate(random io.Reader, now time.Time) (Made, error) {
	const field = "generate"
	if err := s.Check(field); err != nil {
		return Made{}, err
	}
	if random == nil {
		random = rand.Reader
	}
	kind, chosen, _ := s.chosen(field)
	made, err := chosen.generate(source{random: random, now: now})
	if err != nil {
		return Made{}, fmt.Errorf("generating %s: %w", kind, err)
	}
	return made, nil
}

func (s Spec) chosen(field string) (kind string, chosen maker, err error) {
	var kinds []string
	choose := func(name string, given bool, m maker) {
		if given {
			kinds, kind, chosen = append(kinds, name), name, m
		}
	}
	choose("password", s.Password != nil, s.Password)
	choose("hex", s.Hex != nil, hexBytes{s.Hex})
	choose("base64", s.Base64 != nil, base64Bytes{s.Base64})
	choose("uuid", s.UUID != nil, s.UUID)
	choose("rsa", s.RSA != nil, s.RSA)
	choose("ecdsa", s.ECDSA != nil, s.ECDSA)
	choose("ed25519", s.Ed25519 != nil, s.Ed25519)
	choose("ssh", s.SSH != nil, s.SSH)
	choose("x509", s.X509 != nil, s.X509)
	switch len(kinds) {
	case 1:
		return kind, chosen, nil
	case 0:
		return "", nil, fmt.Errorf("%s: %w: it is empty; give it one of password, hex, base64, uuid, rsa, ecdsa, ed25519, ssh and x509", field, ErrSpec)
	default:
		return "", nil, fmt.Errorf("%s: %w: it has %s; keep one of them", field, ErrSpec, strings.Join(kinds, " and "))
	}
}
