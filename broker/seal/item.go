package seal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

var (
	// ErrMalformed: the bytes are no item.
	ErrMalformed = errors.New("malformed sealed item")

	// ErrVersion: the item has a version that this program does not know.
	ErrVersion = errors.New("unknown version of sealed item")

	// ErrTooLarge: an item, or a value to be sealed, is over the limit.
	ErrTooLarge = errors.New("too large to seal")

	// ErrNoKey: the item is sealed to keys that are not here.
	ErrNoKey = errors.New("no key for the sealed item")

	// ErrDecrypt: the item does not open with the keys that it should open with.
	// Which of the causes it is cannot be known, or is not told: an answer that
	// differed would help whoever forges items.
	ErrDecrypt = errors.New("the sealed item does not open: it was altered, or sealed under another scope, environment, namespace, name or key of the Secret")
)

// Limits of what is read and written.
const (
	// MaxItem is the longest item of version 2. An API server takes no object
	// that could hold a longer one.
	MaxItem = 1 << 20

	// maxItemV1 is above all that an API server takes in one object, so nothing
	// that could ever be applied is refused. It is more than MaxItem, since the
	// deprecated field data has a whole Secret in it, and its values in base64.
	maxItemV1 = 2 << 20

	// maxRSA is the longest modulus in bytes. Keys that people have are 256 to
	// 1,024; x509 and RSA itself become very slow above.
	maxRSA = 2048
)

// Versions of items.
const (
	V1 = 1
	V2 = 2
)

// extended begins all items that are not version 1. There these two bytes are
// the length of the RSA ciphertext, which is that of the key's modulus; it
// would take a key of 524,280 bits to be an item of version 1 with this length.
// A controller of Sealed Secrets that meets one says that no key opens it.
const extended = 0xFFFF

// Version is 1 or 2, by the item's first bytes alone. Errors wrap ErrMalformed
// and ErrVersion.
func Version(item []byte) (int, error) {
	if len(item) < 2 {
		return 0, fmt.Errorf("%w: it ends after %d bytes", ErrMalformed, len(item))
	}
	if binary.BigEndian.Uint16(item) != extended {
		return V1, nil
	}
	switch {
	case len(item) < 3:
		return 0, fmt.Errorf("%w: it ends before its version", ErrMalformed)
	case item[2] != V2:
		return 0, fmt.Errorf("%w: %d; a newer Privyseal may have written it", ErrVersion, item[2])
	}
	return V2, nil
}

// Sealed is an item that is well formed. It may still not open.
type Sealed struct {
	version int
	v1      partsV1
	v2      partsV2
}

// Parse checks the form of an item, which takes no key. The Sealed reads from
// item, which must not be modified while it is in use. Errors wrap ErrMalformed,
// ErrVersion and ErrTooLarge.
func Parse(item []byte) (*Sealed, error) {
	version, err := Version(item)
	if err != nil {
		return nil, err
	}
	sealed := &Sealed{version: version}
	if version == V1 {
		sealed.v1, err = parseV1(item)
	} else {
		sealed.v2, err = parseV2(item)
	}
	if err != nil {
		return nil, err
	}
	return sealed, nil
}

// Version is 1 or 2.
func (s *Sealed) Version() int { return s.version }

// Recipients are the keys that the item says it is sealed to, sorted. An item of
// version 1 does not say, and has none. The list is proven when the item opens,
// not before.
func (s *Sealed) Recipients() []KeyID {
	ids := make([]KeyID, 0, len(s.v2.stanzas))
	for _, stanza := range s.v2.stanzas {
		ids = append(ids, stanza.id)
	}
	return slices.Clip(ids)
}
