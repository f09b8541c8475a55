package seal

import (
	"crypto/hpke"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
)

// ErrKey: a key is not usable, or there are too few or too many.
var ErrKey = errors.New("unusable sealing key")

// Types of the PEM blocks that hold keys of version 2. They name the version:
// a key of another suite will have another type.
const (
	PublicKeyType  = "PRIVYSEAL V2 PUBLIC KEY"
	PrivateKeyType = "PRIVYSEAL V2 PRIVATE KEY"
)

const (
	publicKeySize  = 1184 + 32 // ML-KEM-768's and X25519's
	privateKeySize = 32        // the seed that both are made from
)

// KeyID names a public key: the first 8 bytes of its SHA-256. It tells keys
// apart and proves nothing.
type KeyID [8]byte

// String is the id in hex.
func (id KeyID) String() string { return hex.EncodeToString(id[:]) }

// PublicKey is what items are sealed to: MLKEM768-X25519, also known as X-Wing
// (draft-ietf-hpke-pq, KEM 0x647a).
type PublicKey struct {
	key hpke.PublicKey
	id  KeyID
}

// PrivateKey opens what is sealed to its public key. It prints as its id.
type PrivateKey struct {
	key    hpke.PrivateKey
	public *PublicKey
}

// GenerateKey makes a key.
func GenerateKey() (*PrivateKey, error) {
	key, err := hpke.MLKEM768X25519().GenerateKey()
	if err != nil {
		return nil, fmt.Errorf("making a sealing key: %w", err)
	}
	return newPrivateKey(key), nil
}

func newPrivateKey(key hpke.PrivateKey) *PrivateKey {
	return &PrivateKey{key: key, public: newPublicKey(key.PublicKey())}
}

func newPublicKey(key hpke.PublicKey) *PublicKey {
	// A digest of what is public anyhow.
	sum := sha256.Sum256(key.Bytes())
	return &PublicKey{key: key, id: KeyID(sum[:])}
}

// ID names the key.
func (k *PublicKey) ID() KeyID { return k.id }

// PEM is the key as text, which ParsePublicKeys reads: one block of type
// PublicKeyType with ML-KEM's encapsulation key and X25519's public key.
func (k *PublicKey) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: PublicKeyType, Bytes: k.key.Bytes()})
}

// Public is the key to seal to.
func (k *PrivateKey) Public() *PublicKey { return k.public }

// PEM is the key as text, which ParsePrivateKeys reads: one block of type
// PrivateKeyType with the 32-byte seed. The caller clears it after use.
func (k *PrivateKey) PEM() ([]byte, error) {
	// The key's own memory, which must not be cleared.
	seed, err := k.key.Bytes()
	if err != nil {
		return nil, fmt.Errorf("writing sealing key %s: %w", k.public.id, err) // unreachable: all are made from seeds
	}
	return pem.EncodeToMemory(&pem.Block{Type: PrivateKeyType, Bytes: seed}), nil
}

// Format implements fmt.Formatter: under every verb a private key is its id.
func (k *PrivateKey) Format(state fmt.State, _ rune) { _, _ = io.WriteString(state, k.String()) }

// String implements fmt.Stringer.
func (k *PrivateKey) String() string { return "sealing key " + k.public.id.String() }

// MarshalText implements encoding.TextMarshaler, and so what JSON and logs show.
func (k *PrivateKey) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// ParsePublicKeys reads all keys of version 2 in a PEM text, of which there must
// be one at least. Certificates beside them are passed over, for a cluster gives
// out both in one file. Errors wrap ErrKey.
func ParsePublicKeys(text []byte) ([]*PublicKey, error) {
	var keys []*PublicKey
	err := eachBlock(text, func(block *pem.Block) error {
		switch block.Type {
		case PrivateKeyType:
			return fmt.Errorf("%w: this is a private key, which opens what is sealed; give the public one, and keep this one safe", ErrKey)
		case PublicKeyType:
		default:
			return nil
		}
		key, err := parsePublicKey(block)
		keys = append(keys, key)
		return err
	})
	if err == nil && len(keys) == 0 {
		err = fmt.Errorf("%w: there is no PEM block of type %q", ErrKey, PublicKeyType)
	}
	if err != nil {
		return nil, err
	}
	return keys, nil
}

func parsePublicKey(block *pem.Block) (*PublicKey, error) {
	if len(block.Headers) > 0 || len(block.Bytes) != publicKeySize {
		return nil, fmt.Errorf("%w: a public key is a PEM block of %d bytes without headers", ErrKey, publicKeySize)
	}
	key, err := hpke.MLKEM768X25519().NewPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: reading a public key: %w", ErrKey, err)
	}
	return newPublicKey(key), nil
}

// ParsePrivateKeys reads all private keys of version 2 in a PEM text, of which
// there must be one at least. Blocks of other types are passed over. Errors wrap
// ErrKey and hold nothing of the text.
func ParsePrivateKeys(text []byte) ([]*PrivateKey, error) {
	var keys []*PrivateKey
	err := eachBlock(text, func(block *pem.Block) error {
		if block.Type != PrivateKeyType {
			return nil
		}
		key, err := parsePrivateKey(block)
		keys = append(keys, key)
		return err
	})
	if err == nil && len(keys) == 0 {
		err = fmt.Errorf("%w: there is no PEM block of type %q", ErrKey, PrivateKeyType)
	}
	if err != nil {
		return nil, err
	}
	return keys, nil
}

func parsePrivateKey(block *pem.Block) (*PrivateKey, error) {
	defer clear(block.Bytes)
	if len(block.Headers) > 0 || len(block.Bytes) != privateKeySize {
		return nil, fmt.Errorf("%w: a private key is a PEM block of %d bytes without headers", ErrKey, privateKeySize)
	}
	key, err := hpke.MLKEM768X25519().NewPrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: reading a private key: %w", ErrKey, err) // unreachable: any seed is a key
	}
	return newPrivateKey(key), nil
}
