package seal

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hpke"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/privyseal/privyseal/providers"
)

const (
	// MaxRecipients is how many keys an item can be sealed to.
	MaxRecipients = 16

	contentKeySize = 32
	gcmNonceSize   = 12
	gcmTagSize     = 16

	// wrappedSize is HPKE's encapsulated key (ML-KEM-768's ciphertext and a
	// point of X25519) and the content key with its tag.
	wrappedSize = 1088 + 32 + contentKeySize + gcmTagSize

	stanzaSize = len(KeyID{}) + 2 + wrappedSize
)

// partsV2 are those of an item of version 2:
//
//	0xFFFF, 2   not version 1, but 2
//	header      uint8 n, then n stanzas, sorted by key id, no id twice
//	body        12-byte nonce, AES-256-GCM of the value under the content key
//
//	stanza      8-byte key id, uint16 length, HPKE of the content key
//
// HPKE's info is the label. The additional data of the body is the label and
// the header, so a stanza cannot be taken off, put on or moved unseen: one that
// has been stripped of the offline recovery key is found when it is opened, not
// on the day when that key is needed.
type partsV2 struct {
	stanzas []stanza
	header  []byte
	body    []byte
}

type stanza struct {
	id      KeyID
	wrapped []byte
}

// parseV2 takes one way to write an item and no other.
func parseV2(item []byte) (partsV2, error) {
	if len(item) > MaxItem {
		return partsV2{}, fmt.Errorf("%w: the item is longer than %d bytes", ErrTooLarge, MaxItem)
	}
	rest := item[3:]
	if len(rest) == 0 {
		return partsV2{}, fmt.Errorf("%w: it ends before its header", ErrMalformed)
	}
	n := int(rest[0])
	if n == 0 || n > MaxRecipients {
		return partsV2{}, fmt.Errorf("%w: it has %d recipients; it can have 1 to %d", ErrMalformed, n, MaxRecipients)
	}
	headerSize := 1 + n*stanzaSize
	switch {
	case len(rest) < headerSize:
		return partsV2{}, fmt.Errorf("%w: it ends inside its header", ErrMalformed)
	case len(rest) < headerSize+gcmNonceSize+gcmTagSize:
		return partsV2{}, fmt.Errorf("%w: it ends inside its body", ErrMalformed)
	}
	parts := partsV2{header: rest[:headerSize], body: rest[headerSize:]}
	var err error
	parts.stanzas, err = parseStanzas(parts.header[1:])
	return parts, err
}

func parseStanzas(header []byte) ([]stanza, error) {
	stanzas := make([]stanza, 0, len(header)/stanzaSize)
	for one := range slices.Chunk(header, stanzaSize) {
		next := stanza{id: KeyID(one), wrapped: one[len(KeyID{})+2:]}
		if length := binary.BigEndian.Uint16(one[len(KeyID{}):]); length != wrappedSize {
			return nil, fmt.Errorf("%w: the wrapped key for %s has %d bytes, not %d", ErrMalformed, next.id, length, wrappedSize)
		}
		if last := len(stanzas) - 1; last >= 0 && compareIDs(stanzas[last].id, next.id) >= 0 {
			return nil, fmt.Errorf("%w: its recipients are not sorted, or one is there twice", ErrMalformed)
		}
		stanzas = append(stanzas, next)
	}
	return stanzas, nil
}

func compareIDs(a, b KeyID) int { return bytes.Compare(a[:], b[:]) }

// Seal seals a value to each of the recipients, 1 to 16, in any order: any one
// of their private keys opens it. Errors wrap ErrLabel, ErrKey and ErrTooLarge.
func Seal(value providers.Value, label Label, recipients ...*PublicKey) ([]byte, error) {
	bound, err := label.bytesV2()
	if err != nil {
		return nil, err
	}
	sorted, err := sortRecipients(recipients)
	if err != nil {
		return nil, err
	}
	item := make([]byte, 0, sizeV2(len(value.Bytes()), len(sorted)))
	if cap(item) > MaxItem {
		return nil, fmt.Errorf("%w: with %d recipients a value can have %d bytes", ErrTooLarge, len(sorted), MaxItem-sizeV2(0, len(sorted)))
	}
	contentKey := make([]byte, contentKeySize)
	defer clear(contentKey)
	_, _ = rand.Read(contentKey) // never fails: crypto/rand ends the program first
	header, err := sealHeader(contentKey, bound, sorted)
	if err != nil {
		return nil, err
	}
	aead, err := bodyV2(contentKey)
	if err != nil {
		return nil, err // unreachable: the key has a good length
	}
	item = append(binary.BigEndian.AppendUint16(item, extended), V2)
	item = append(item, header...)
	return aead.Seal(item, nil, value.Bytes(), slices.Concat(bound, header)), nil
}

func sizeV2(value, recipients int) int {
	return 2 + 1 + 1 + recipients*stanzaSize + gcmNonceSize + value + gcmTagSize
}

func sortRecipients(recipients []*PublicKey) ([]*PublicKey, error) {
	if len(recipients) == 0 || len(recipients) > MaxRecipients {
		return nil, fmt.Errorf("%w: sealing to %d recipients; give 1 to %d", ErrKey, len(recipients), MaxRecipients)
	}
	sorted := slices.SortedFunc(slices.Values(recipients), func(a, b *PublicKey) int { return compareIDs(a.id, b.id) })
	for i, recipient := range sorted[1:] {
		if recipient.id == sorted[i].id {
			return nil, fmt.Errorf("%w: recipient %s is given twice", ErrKey, recipient.id)
		}
	}
	return sorted, nil
}

func sealHeader(contentKey, label []byte, recipients []*PublicKey) ([]byte, error) {
	header := make([]byte, 1, 1+len(recipients)*stanzaSize)
	header[0] = byte(len(recipients)) // at most MaxRecipients
	for _, recipient := range recipients {
		wrapped, err := hpke.Seal(recipient.key, hpke.HKDFSHA256(), hpke.AES256GCM(), label, contentKey)
		if err != nil {
			return nil, fmt.Errorf("%w: wrapping the content key for %s: %w", ErrKey, recipient.id, err)
		}
		header = append(header, recipient.id[:]...)
		header = binary.BigEndian.AppendUint16(header, uint16(len(wrapped))) // wrappedSize
		header = append(header, wrapped...)
	}
	return header, nil
}

// bodyV2 is the cipher of a body. It writes a random nonce before the
// ciphertext, and reads it from there.
func bodyV2(contentKey []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(contentKey)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// open opens an item with the first stanza that there is a key for. Where
// that fails no other is tried: an item with one bad stanza was altered, or made
// so that it opens for some of its recipients only.
func (p partsV2) open(keys map[KeyID]*PrivateKey, label Label) (Opened, error) {
	bound, err := label.bytesV2()
	if err != nil {
		return Opened{}, err
	}
	i := slices.IndexFunc(p.stanzas, func(s stanza) bool { return keys[s.id] != nil })
	if i < 0 {
		return Opened{}, p.noKey()
	}
	own := p.stanzas[i]
	contentKey, err := hpke.Open(keys[own.id].key, hpke.HKDFSHA256(), hpke.AES256GCM(), bound, own.wrapped)
	if err != nil {
		return Opened{}, ErrDecrypt
	}
	defer clear(contentKey)
	aead, err := bodyV2(contentKey)
	if err != nil {
		return Opened{}, ErrDecrypt // unreachable: wrappedSize leaves one length
	}
	value, err := aead.Open(nil, nil, p.body, slices.Concat(bound, p.header))
	if err != nil {
		return Opened{}, ErrDecrypt
	}
	return Opened{Value: providers.NewValue(value), Key: own.id.String()}, nil
}

func (p partsV2) noKey() error {
	ids := make([]string, 0, len(p.stanzas))
	for _, stanza := range p.stanzas {
		ids = append(ids, stanza.id.String())
	}
	return fmt.Errorf("%w: it is sealed to %s; give one of these keys", ErrNoKey, strings.Join(ids, ", "))
}
