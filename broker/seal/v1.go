package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/privyseal/privyseal/providers"
)

// sessionKeySize is that of AES-256.
const sessionKeySize = 32

// partsV1 are the two of an item of version 1:
//
//	uint16   length of the wrapped key, big-endian
//	wrapped  RSA-OAEP(SHA-256, label) of a session key
//	body     AES-256-GCM of the value under the session key
//
// The nonce is twelve zeros and there is no additional data. That is sound as
// long as a session key is used once, which is what a random one is for.
type partsV1 struct {
	wrapped []byte
	body    []byte
}

func parseV1(item []byte) (partsV1, error) {
	if len(item) > maxItemV1 {
		return partsV1{}, fmt.Errorf("%w: the item is longer than %d bytes", ErrTooLarge, maxItemV1)
	}
	length, rest := int(binary.BigEndian.Uint16(item)), item[2:]
	switch {
	case length == 0 || length > maxRSA:
		return partsV1{}, fmt.Errorf("%w: its wrapped key would have %d bytes, and no RSA key makes that", ErrMalformed, length)
	case len(rest) < length:
		return partsV1{}, fmt.Errorf("%w: it ends inside its wrapped key", ErrMalformed)
	case len(rest) < length+gcmTagSize:
		return partsV1{}, fmt.Errorf("%w: it ends inside its body", ErrMalformed)
	}
	return partsV1{wrapped: rest[:length], body: rest[length:]}, nil
}

// SealV1 seals a value as Sealed Secrets does, for its controller or ours.
// Errors wrap ErrLabel, ErrKey and ErrTooLarge.
func SealV1(value providers.Value, label Label, recipient *RSAPublicKey) ([]byte, error) {
	bound, err := label.bytesV1()
	if err != nil {
		return nil, err
	}
	item := make([]byte, 2, 2+recipient.key.Size()+len(value.Bytes())+gcmTagSize)
	if cap(item) > maxItemV1 {
		return nil, fmt.Errorf("%w: the item would be longer than %d bytes", ErrTooLarge, maxItemV1)
	}
	sessionKey := make([]byte, sessionKeySize)
	defer clear(sessionKey)
	_, _ = rand.Read(sessionKey) // never fails: crypto/rand ends the program first
	wrapped, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, recipient.key, sessionKey, bound)
	if err != nil {
		return nil, fmt.Errorf("%w: wrapping the session key: %w", ErrKey, err)
	}
	binary.BigEndian.PutUint16(item, uint16(len(wrapped))) // at most maxRSA
	aead, nonce, err := bodyV1(sessionKey)
	if err != nil {
		return nil, err // unreachable: the key has a good length
	}
	return aead.Seal(append(item, wrapped...), nonce, value.Bytes(), nil), nil
}

// bodyV1 is the cipher of a body, and its nonce.
func bodyV1(sessionKey []byte) (cipher.AEAD, []byte, error) {
	block, err := aes.NewCipher(sessionKey)
	if err != nil {
		return nil, nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, nil, err // unreachable: AES has the block size of GCM
	}
	return aead, make([]byte, aead.NonceSize()), nil
}

// open opens an item with the first of the keys that can. An item does not
// name its key, so each try costs a private RSA operation, and it is worth
// having the likely key first.
func (p partsV1) open(keys []*RSAKey, label Label) (Opened, error) {
	bound, err := label.bytesV1()
	if err != nil {
		return Opened{}, err
	}
	fits := func(key *RSAKey) bool { return key.private.Size() == len(p.wrapped) }
	// RSA allows for zeros at the front to be left out. Nobody is known to do
	// so, but upstream opens it, so larger keys are tried after those that fit.
	candidates := slices.DeleteFunc(slices.Clone(keys), func(key *RSAKey) bool { return key.private.Size() < len(p.wrapped) })
	slices.SortStableFunc(candidates, func(a, b *RSAKey) int { return a.private.Size() - b.private.Size() })
	for _, key := range candidates {
		if value, err := p.openWith(key, bound); err == nil {
			return Opened{Value: providers.NewValue(value), Key: key.Fingerprint()}, nil
		}
	}
	if !slices.ContainsFunc(keys, fits) {
		return Opened{}, fmt.Errorf("%w: it is sealed to an RSA key of %d bits, and none of the %d here has that size",
			ErrNoKey, 8*len(p.wrapped), len(keys))
	}
	return Opened{}, errDecryptV1
}

// errDecryptV1 adds what may also be the cause where items name no keys.
var errDecryptV1 = fmt.Errorf("%w; or it was sealed to another key", ErrDecrypt)

// openWith goes on with any length of session key that AES has, as upstream
// does: whoever sealed chose it, and an attacker cannot change it.
func (p partsV1) openWith(key *RSAKey, label []byte) ([]byte, error) {
	sessionKey, err := rsa.DecryptOAEP(sha256.New(), nil, key.private, p.wrapped, label)
	if err != nil {
		return nil, err
	}
	defer clear(sessionKey)
	aead, nonce, err := bodyV1(sessionKey)
	if err != nil {
		return nil, err
	}
	return aead.Open(nil, nonce, p.body, nil)
}
