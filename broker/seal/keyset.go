package seal

import (
	"slices"

	"github.com/privyseal/privyseal/providers"
)

// Keys are those that items are opened with. They are immutable, and safe for
// concurrent use.
type Keys struct {
	rsa    []*RSAKey
	hybrid map[KeyID]*PrivateKey
}

// NewKeys makes a set of keys for version 1, which are tried in the order
// given, and of keys for version 2. Either may be empty. A key that is there
// twice counts once.
func NewKeys(rsa []*RSAKey, hybrid []*PrivateKey) *Keys {
	keys := &Keys{hybrid: make(map[KeyID]*PrivateKey, len(hybrid))}
	for _, key := range rsa {
		if !slices.ContainsFunc(keys.rsa, key.hasFingerprint) {
			keys.rsa = append(keys.rsa, key)
		}
	}
	for _, key := range hybrid {
		keys.hybrid[key.public.id] = key
	}
	return keys
}

// First is the same set, in which the RSA key with this fingerprint is tried
// before others. Items that were sealed together are sealed to one key, so with
// what opened the last item the next one costs one RSA operation, however many
// keys there are. A fingerprint that is none changes nothing.
func (k *Keys) First(fingerprint string) *Keys {
	i := slices.IndexFunc(k.rsa, func(key *RSAKey) bool { return key.Fingerprint() == fingerprint })
	if i <= 0 {
		return k
	}
	rsa := slices.Concat(k.rsa[i:i+1], k.rsa[:i], k.rsa[i+1:])
	return &Keys{rsa: rsa, hybrid: k.hybrid}
}

// Opened is what came out of an item.
type Opened struct {
	// Value, which the caller clears after use.
	Value providers.Value

	// Key that opened the item: its id, or its fingerprint for version 1.
	Key string
}

// Open opens an item of either version. Errors wrap ErrMalformed, ErrVersion,
// ErrTooLarge, ErrLabel, ErrNoKey and ErrDecrypt, and depend on nothing secret.
func (k *Keys) Open(item []byte, label Label) (Opened, error) {
	sealed, err := Parse(item)
	if err != nil {
		return Opened{}, err
	}
	if sealed.version == V1 {
		return sealed.v1.open(k.rsa, label)
	}
	return sealed.v2.open(k.hybrid, label)
}
