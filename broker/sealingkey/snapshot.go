package sealingkey

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/privyseal/privyseal/broker/seal"
)

const (
	// LabelV1 marks Sealed Secrets' key Secrets; its value says what a key is
	// good for.
	LabelV1 = "sealedsecrets.bitnami.com/sealed-secrets-key"

	// NameV1 begins the names of these, and is the name of the one that very old
	// versions made, without a label.
	NameV1 = "sealed-secrets-key"

	// LabelV2 marks the Secrets of our own keys, likewise.
	LabelV2 = "privyseal.io/sealing-key"

	// NameV2 begins their names.
	NameV2 = "privyseal-sealing-key-"

	// TypeV2 is their type.
	TypeV2 corev1.SecretType = "privyseal.io/sealing-key"

	// active is the label's value for a key in use. Any other, such as
	// compromised, takes the key out of use, for sealing and for opening.
	active = "active"

	// annotationSince says since when a key of version 2 is sealed to, in RFC
	// 3339. A Secret that comes back from a backup has a new creation time.
	annotationSince = "privyseal.io/sealing-since"

	privateEntry = "key.pem" // of a key of version 2
	publicEntry  = "public.pem"
)

// State of a key.
type State string

// The states of keys.
const (
	// Active: it opens items, and the newest such is sealed to.
	Active State = "active"
	// Future: it opens items, and is not sealed to yet: it begins later.
	Future State = "future"
	// Unused: its label takes it out of use.
	Unused State = "unused"
	// Malformed: it cannot be read.
	Malformed State = "malformed"
)

// Key is one key Secret.
type Key struct {
	// Secret's name.
	Secret  string
	Version int
	// ID is its fingerprint (version 1) or id; "" if it cannot be read.
	ID    string
	State State
	// Since when it is sealed to: its certificate's NotBefore, or when it was
	// made.
	Since time.Time
	// Problem of a key that cannot be read, without anything of its content.
	Problem error

	rsa    *seal.RSAKey
	hybrid *seal.PrivateKey
}

// Snapshot is the keys at one time.
type Snapshot struct {
	// Open opens what is sealed to any of the keys in use.
	Open *seal.Keys

	// RSA and Hybrid are the keys to seal to, of version 1 and 2; nil is none.
	RSA    *seal.RSAKey
	Hybrid *seal.PrivateKey

	// Keys are all key Secrets, the newest first.
	Keys []Key
}

// Read makes a Snapshot of the key Secrets among some Secrets, as they are at
// that time.
func Read(secrets []corev1.Secret, now time.Time) Snapshot {
	var found Snapshot
	for i := range secrets {
		if version := versionOf(&secrets[i]); version != 0 {
			found.Keys = append(found.Keys, readKey(&secrets[i], version, now))
		}
	}
	slices.SortFunc(found.Keys, newestFirst)
	var rsa []*seal.RSAKey
	var hybrid []*seal.PrivateKey
	for _, key := range found.Keys {
		if key.State != Active && key.State != Future {
			continue
		}
		if key.rsa != nil {
			rsa = append(rsa, key.rsa)
		} else {
			hybrid = append(hybrid, key.hybrid)
		}
		switch {
		case key.State == Active && key.rsa != nil && found.RSA == nil:
			found.RSA = key.rsa
		case key.State == Active && key.hybrid != nil && found.Hybrid == nil:
			found.Hybrid = key.hybrid
		}
	}
	found.Open = seal.NewKeys(rsa, hybrid)
	return found
}

// newestFirst orders keys; of two that begin together the one whose name is
// first wins, whoever looks.
func newestFirst(a, b Key) int {
	return cmp.Or(b.Since.Compare(a.Since), cmp.Compare(a.Secret, b.Secret))
}

// versionOf is 1 or 2 for a key Secret, and 0 for any other.
func versionOf(secret *corev1.Secret) int {
	_, v1 := secret.Labels[LabelV1]
	_, v2 := secret.Labels[LabelV2]
	switch {
	case v2 && secret.Type == TypeV2:
		return seal.V2
	case v1, secret.Name == NameV1:
		return seal.V1
	}
	return 0
}

func readKey(secret *corev1.Secret, version int, now time.Time) Key {
	key := Key{Secret: secret.Name, Version: version, State: Active, Since: secret.CreationTimestamp.Time}
	label := LabelV1
	if version == seal.V2 {
		label = LabelV2
	}
	if value, labelled := secret.Labels[label]; labelled && value != active {
		key.State = Unused
	}
	if err := key.parse(secret); err != nil {
		return Key{
			Secret: secret.Name, Version: version, State: Malformed, Since: secret.CreationTimestamp.Time,
			Problem: fmt.Errorf("key Secret %s: %w", secret.Name, err),
		}
	}
	if key.State == Active && key.Since.After(now) {
		key.State = Future
	}
	return key
}

func (k *Key) parse(secret *corev1.Secret) error {
	if k.Version == seal.V1 {
		rsa, err := seal.ParseRSAKey(secret.Data[corev1.TLSPrivateKeyKey], secret.Data[corev1.TLSCertKey])
		if err != nil {
			return err
		}
		if rsa.Certificate() == nil {
			return fmt.Errorf("%w: it has no certificate in %s", seal.ErrKey, corev1.TLSCertKey)
		}
		k.rsa, k.ID, k.Since = rsa, rsa.Fingerprint(), rsa.Certificate().NotBefore
		return nil
	}
	keys, err := seal.ParsePrivateKeys(secret.Data[privateEntry])
	if err != nil {
		return err
	}
	if len(keys) != 1 {
		return fmt.Errorf("%w: %s holds %d keys, want one", seal.ErrKey, privateEntry, len(keys))
	}
	k.hybrid, k.ID = keys[0], keys[0].Public().ID().String()
	if since, given := secret.Annotations[annotationSince]; given {
		if k.Since, err = time.Parse(time.RFC3339, since); err != nil {
			return errors.New("its annotation " + annotationSince + " is no time of RFC 3339")
		}
	}
	return nil
}

// PublicPEM is what is given out to seal to: the RSA certificate first, where
// kubeseal looks, and the key of version 2 behind it. It is empty without keys.
func (s Snapshot) PublicPEM() []byte {
	var text []byte
	if s.RSA != nil {
		key, certificate := s.RSA.PEM()
		clear(key)
		text = append(text, certificate...)
	}
	if s.Hybrid != nil {
		text = append(text, s.Hybrid.Public().PEM()...)
	}
	return text
}
