package sealingkey

import (
	"cmp"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/privyseal/privyseal/broker/seal"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// What tells key Secrets of version 1, which are upstream's, from others.
const (
	// LabelV1 has the value Active on a key that is used.
	LabelV1 = "sealedsecrets.bitnami.com/sealed-secrets-key"

	// PrefixV1 begins the names of key Secrets. One of just this name is a key
	// without the label, too: the first releases of upstream made such.
	PrefixV1 = "sealed-secrets-key"
)

// What tells key Secrets of version 2, which are ours, from others.
const (
	// LabelV2 has the value Active on a key that is used.
	LabelV2 = v1alpha1.Group + "/sealing-key"

	// PrefixV2 begins the names of key Secrets.
	PrefixV2 = "privyseal-sealing-key-"

	// TypeV2 is the type of key Secrets.
	TypeV2 corev1.SecretType = v1alpha1.Group + "/sealing-key"

	// PrivateV2 and PublicV2 are the keys of the Secret, PEM both. The public
	// one is for people and is not read.
	PrivateV2 = "private.pem"
	PublicV2  = "public.pem"

	// AnnotationSince says when the key was made, in RFC 3339. Without it, that
	// is when the Secret was: another time, if it came out of a backup.
	AnnotationSince = v1alpha1.Group + "/sealing-key-since"
)

// Active is the value of the labels on keys that are used. Any other, as
// "compromised", takes a key out of use.
const Active = "active"

// skew is by how much another replica's clock, or that of whoever made a key,
// may be ahead of ours.
const skew = 5 * time.Minute

// Kind of a key.
type Kind string

// The kinds of keys, by the version of the items that they open.
const (
	V1 Kind = "v1"
	V2 Kind = "v2"
)

// State of a key.
type State string

// The states of keys.
const (
	// Sealing: new items are sealed to it, and it opens. One of each kind.
	Sealing State = "sealing"
	// Opening: it opens what was sealed to it.
	Opening State = "opening"
	// Future: its time to seal has not come. It opens.
	Future State = "future"
	// Ignored: its label has another value than Active. It is not used at all.
	Ignored State = "ignored"
	// Malformed: the Secret holds no usable key.
	Malformed State = "malformed"
)

// Key is what there is to know of a key without holding it.
type Key struct {
	Kind  Kind
	State State

	// ID is the key's id, or its fingerprint for version 1; "" if malformed or
	// ignored.
	ID string

	// Secret that holds it, and the value of its label.
	Secret string
	Label  string

	// Since when new items are sealed to it, and until when; Until is zero for
	// ever.
	Since, Until time.Time

	// Problem that somebody should see to; "" for none.
	Problem string
}

// Snapshot is the keys as they were at one time. It is shared and must not be
// modified.
type Snapshot struct {
	// Open holds all keys that open, the newest first.
	Open *seal.Keys

	// RSA is the key to seal to with version 1; nil if there is none yet.
	RSA *seal.RSAKey

	// Hybrid is the key to seal to with version 2; nil if there is none yet.
	Hybrid *seal.PrivateKey

	// Keys are all keys, those that are not used among them: by kind, then the
	// newest first.
	Keys []Key
}

// held is a key Secret, read.
type held struct {
	key     Key
	created time.Time
	rsa     *seal.RSAKey
	hybrid  *seal.PrivateKey
}

// opens says that the key is one to open with.
func (h held) opens() bool { return h.rsa != nil || h.hybrid != nil }

// judge decides what each key is for.
func judge(all []held, now time.Time) Snapshot {
	all = slices.Clone(all)
	slices.SortFunc(all, newestFirst)
	var made Snapshot
	var rsa []*seal.RSAKey
	var hybrid []*seal.PrivateKey
	for _, one := range all {
		switch {
		case !one.opens():
		case one.key.Since.After(now.Add(skew)):
			one.key.State = Future
			one.key.Problem = "it seals from " + one.key.Since.UTC().Format(time.RFC3339) + " on, which is still to come"
		case one.hybrid != nil && made.Hybrid == nil:
			one.key.State, made.Hybrid = Sealing, one.hybrid
		case one.rsa != nil && one.rsa.Certificate() != nil && made.RSA == nil:
			one.key.State, made.RSA = Sealing, one.rsa
			if until := one.key.Until; until.Before(now) {
				one.key.Problem = "its certificate expired " + until.UTC().Format(time.RFC3339) + ", and kubeseal does not seal to it"
			}
		default:
			one.key.State = Opening
		}
		if one.rsa != nil {
			rsa = append(rsa, one.rsa)
		}
		if one.hybrid != nil {
			hybrid = append(hybrid, one.hybrid)
		}
		made.Keys = append(made.Keys, one.key)
	}
	made.Open = seal.NewKeys(rsa, hybrid)
	return made
}

// newestFirst orders keys by kind and time. Where two are of the same time, the
// older Secret is first, as with upstream, and then the one whose name is: so
// that all replicas agree.
func newestFirst(a, b held) int {
	return cmp.Or(
		cmp.Compare(a.key.Kind, b.key.Kind),
		b.key.Since.Compare(a.key.Since),
		a.created.Compare(b.created),
		cmp.Compare(a.key.Secret, b.key.Secret),
	)
}

// nextFuture is when the first of the keys begins to seal whose time is still
// to come; zero where there is none.
func (s Snapshot) nextFuture() time.Time {
	var next time.Time
	for _, key := range s.Keys {
		if from := key.Since.Add(-skew); key.State == Future && (next.IsZero() || from.Before(next)) {
			next = from
		}
	}
	return next
}

// sealing is the key of a kind to seal to.
func (s Snapshot) sealing(kind Kind) (Key, bool) {
	at := slices.IndexFunc(s.Keys, func(key Key) bool { return key.Kind == kind && key.State == Sealing })
	if at < 0 {
		return Key{}, false
	}
	return s.Keys[at], true
}
