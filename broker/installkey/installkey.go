// Package installkey keeps the key under which an installation digests
// secret values.
//
// Privyseal has to know whether a value changed without keeping it, and it
// writes that knowledge on objects that others may read. An unkeyed digest of
// a short password can be guessed offline, so every digest is an HMAC under a
// key that only this installation has.
//
// The key lives in one Secret in the daemon's own namespace, made by the
// leader with a plain create: a chart that made it would replace it on some
// upgrade, and every pod in the cluster would look stale. It may hold several
// keys; the newest digests what is written from now on, and an older one stays
// for as long as a target's digests were made with it. A lost key is not a
// change: digests under an unknown key are unknown, never different. So a key
// is known by its name and by four bytes made of itself: the one that is made
// where k1 was lost is called k1 too, and is not the key of that time.
package installkey

import (
	"context"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// SecretName is the Secret in the daemon's namespace that holds the keys.
const SecretName = "privyseal-install-key"

// Size of a key and of the subkeys made from it, in bytes.
const keySize = 32

// digestSize is how much of an HMAC-SHA-256 is kept: 128 bits.
const digestSize = 16

// revisionLabel separates the subkey for revisions from other uses of the
// install key (RFC 5869's info).
const revisionLabel = "privyseal.io/v1/revision"

// inputLabel is that of the subkey for what a Secret is made of.
const inputLabel = "privyseal.io/v1/input"

// nameLabel is that of the bytes in a kid.
const nameLabel = "privyseal.io/v1/name"

// nameSize is how many those are.
const nameSize = 4

// ErrNoKey: the install key's Secret holds no usable key.
var ErrNoKey = errors.New("no usable install key")

// Keyring is the keys of one installation. It is immutable. Each has a kid, as
// k1-9f3c77ab: its name in the Secret, and what tells it from another of that
// name.
type Keyring struct {
	current   string
	revisions map[string][]byte // kid → HMAC subkey
	inputs    map[string][]byte // likewise
}

// NewKeyring makes a Keyring of keys by name: "k" and a number, of which the
// highest is the one in use. Other entries are ignored. Errors wrap ErrNoKey.
func NewKeyring(keys map[string][]byte) (*Keyring, error) {
	ring := &Keyring{revisions: map[string][]byte{}, inputs: map[string][]byte{}}
	highest := -1
	for name, key := range keys {
		number, ok := nameNumber(name)
		if !ok || len(key) != keySize {
			continue
		}
		subkey, err := hkdf.Key(sha256.New, key, nil, revisionLabel, keySize)
		if err != nil {
			return nil, fmt.Errorf("deriving the revision key of %s: %w", name, err)
		}
		input, err := hkdf.Key(sha256.New, key, nil, inputLabel, keySize)
		if err != nil {
			return nil, fmt.Errorf("deriving the input key of %s: %w", name, err)
		}
		proof, err := hkdf.Key(sha256.New, key, nil, nameLabel, nameSize)
		if err != nil {
			return nil, fmt.Errorf("deriving the kid of %s: %w", name, err)
		}
		kid := name + "-" + hex.EncodeToString(proof)
		ring.revisions[kid], ring.inputs[kid] = subkey, input
		if number > highest {
			highest, ring.current = number, kid
		}
	}
	if highest < 0 {
		return nil, fmt.Errorf("%w: want an entry k1 of %d bytes", ErrNoKey, keySize)
	}
	return ring, nil
}

func nameNumber(name string) (int, bool) {
	digits, found := strings.CutPrefix(name, "k")
	number, err := strconv.Atoi(digits)
	return number, found && err == nil && number > 0 && strconv.Itoa(number) == digits
}

// Current is the kid that new digests are made with.
func (k *Keyring) Current() string { return k.current }

// Knows says whether digests under kid can be made and compared.
func (k *Keyring) Knows(kid string) bool {
	_, ok := k.revisions[kid]
	return ok
}

// Digest is the keyed digest of parts under kid, in hex: 128 bits of an
// HMAC-SHA-256 over the length-prefixed parts. It is "" for an unknown kid.
func (k *Keyring) Digest(kid string, parts ...[]byte) string {
	return digest(k.revisions[kid], parts)
}

// Input is Digest for what a Secret is made of: under another subkey, so that
// neither can be taken for the other.
func (k *Keyring) Input(kid string, parts ...[]byte) string {
	return digest(k.inputs[kid], parts)
}

func digest(subkey []byte, parts [][]byte) string {
	if subkey == nil {
		return ""
	}
	mac := hmac.New(sha256.New, subkey)
	for _, part := range parts {
		// hash.Hash never returns an error from Write.
		_, _ = mac.Write(binary.BigEndian.AppendUint64(nil, uint64(len(part))))
		_, _ = mac.Write(part)
	}
	return hex.EncodeToString(mac.Sum(nil)[:digestSize])
}

// Config of a Keeper.
type Config struct {
	// Reader reads the Secret from the API server itself, not from a cache.
	Reader client.Reader

	// Writer creates the Secret where there is none.
	Writer client.Writer

	// Namespace of the daemon.
	Namespace string
}

// Keeper loads the install key once it is needed and makes it on an
// installation's first day.
type Keeper struct {
	config Config

	mu   sync.Mutex
	ring *Keyring
}

// NewKeeper makes a Keeper; it does nothing yet.
func NewKeeper(config Config) *Keeper { return &Keeper{config: config} }

// Keyring is the installation's keys, loaded or made on first use, and kept: one
// that was added or lost is noticed when the daemon starts again.
func (k *Keeper) Keyring(ctx context.Context) (*Keyring, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ring != nil {
		return k.ring, nil
	}
	secret, err := k.getOrCreate(ctx)
	if err != nil {
		return nil, err
	}
	ring, err := NewKeyring(secret.Data)
	if err != nil {
		return nil, fmt.Errorf("reading Secret %s/%s: %w", k.config.Namespace, SecretName, err)
	}
	k.ring = ring
	return ring, nil
}

func (k *Keeper) getOrCreate(ctx context.Context) (*corev1.Secret, error) {
	name := client.ObjectKey{Namespace: k.config.Namespace, Name: SecretName}
	secret := &corev1.Secret{}
	err := k.config.Reader.Get(ctx, name, secret)
	if err == nil || !apierrors.IsNotFound(err) {
		return secret, wrap(err, "reading the install key")
	}
	key := make([]byte, keySize)
	_, _ = rand.Read(key) // never fails: crypto/rand ends the program first
	secret = &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: name.Namespace, Name: name.Name},
		Data:       map[string][]byte{"k1": key},
	}
	err = k.config.Writer.Create(ctx, secret)
	if apierrors.IsAlreadyExists(err) {
		// Another leader was faster; its key is the installation's.
		return secret, wrap(k.config.Reader.Get(ctx, name, secret), "reading the install key")
	}
	return secret, wrap(err, "creating the install key")
}

func wrap(err error, doing string) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", doing, err)
}
