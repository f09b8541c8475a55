package generate

import (
	"cmp"
	"encoding/pem"
	"fmt"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/privyseal/privyseal/providers"
)

const maxComment = 253

// SSH is a key pair as OpenSSH has it: the private key's file, and the line for
// authorized_keys.
type SSH struct {
	// Type is ed25519, ecdsa (P-256) or rsa; "" is ed25519.
	Type string

	// Bits are those of an RSA key: 2048, 3072 or 4096; 0 is 3072.
	Bits int

	// Comment at the end of the line; "" is none.
	Comment string
}

func (s *SSH) maker() keyMaker {
	if s.Type == "rsa" {
		return &RSA{Bits: s.Bits}
	}
	return algorithm(cmp.Or(s.Type, "ed25519"))
}

func (s *SSH) check(field string) error {
	if s.maker() == nil {
		return fmt.Errorf("%s.type %.64q: %w: want ed25519, ecdsa or rsa", field, s.Type, ErrSpec)
	}
	if s.Bits != 0 && s.Type != "rsa" {
		return fmt.Errorf("%s.bits %d: %w: they are for type rsa", field, s.Bits, ErrSpec)
	}
	if err := s.maker().check(field); err != nil {
		return err
	}
	// A line break would begin another line of authorized_keys.
	if !printed(s.Comment) || len(s.Comment) > maxComment {
		return fmt.Errorf("%s.comment: %w: want one line of at most %d printable ASCII characters", field, ErrSpec, maxComment)
	}
	return nil
}

func (s *SSH) entropy() float64 { return s.maker().entropy() }

func (s *SSH) generate(source) (Made, error) {
	key, err := s.maker().key()
	if err != nil {
		return Made{}, fmt.Errorf("making the key: %w", err)
	}
	block, err := ssh.MarshalPrivateKey(key, s.Comment)
	if err != nil {
		return Made{}, fmt.Errorf("writing the private key: %w", err)
	}
	defer clear(block.Bytes)
	public, err := ssh.NewPublicKey(key.Public())
	if err != nil {
		return Made{}, fmt.Errorf("writing the public key: %w", err)
	}
	line := strings.TrimSuffix(string(ssh.MarshalAuthorizedKey(public)), "\n")
	if s.Comment != "" {
		line += " " + s.Comment
	}
	return Made{Secret: providers.NewValue(pem.EncodeToMemory(block)), Public: []byte(line + "\n")}, nil
}
