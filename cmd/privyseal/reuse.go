package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	ssv1alpha1 "github.com/bitnami-labs/sealed-secrets/pkg/apis/sealedsecrets/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/installkey"
	"github.com/privyseal/privyseal/broker/manifest"
	"github.com/privyseal/privyseal/broker/seal"
	"github.com/privyseal/privyseal/providers"
)

// remembered is what this machine sealed before, so that a value which has not
// changed keeps its ciphertext, and git shows what has. It holds keyed digests
// of ciphertext and value together, under a random key that never leaves the
// machine: without the key they tell nothing, and with it one can check a guess,
// as whoever has the account can anyway who seals values there.
type remembered struct {
	folder string
	ring   *installkey.Keyring
	known  []string
	added  bool
}

const (
	reuseKeySize = 32
	// maxRemembered bounds the file, to a few megabytes.
	maxRemembered = 1 << 16
)

// recall opens the memory; where that cannot be, there is none.
func recall() (*remembered, error) {
	base, err := os.UserCacheDir()
	if err != nil {
		return nil, fmt.Errorf("finding the cache: %w", err)
	}
	folder := filepath.Join(base, "privyseal", "reuse")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, fmt.Errorf("making the cache: %w", err)
	}
	key, err := reuseKey(filepath.Join(folder, "key"))
	if err != nil {
		return nil, err
	}
	ring, err := installkey.NewKeyring(map[string][]byte{"k1": key})
	if err != nil {
		return nil, fmt.Errorf("reading the cache's key: %w", err)
	}
	text, err := os.ReadFile(filepath.Join(folder, "known"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading the cache: %w", err)
	}
	return &remembered{folder: folder, ring: ring, known: strings.Fields(string(text))}, nil
}

func reuseKey(name string) ([]byte, error) {
	key, err := os.ReadFile(name)
	if err == nil && len(key) == reuseKeySize {
		return key, nil
	}
	key = make([]byte, reuseKeySize)
	_, _ = rand.Read(key) // never fails: crypto/rand ends the program first
	if err := writeFile(name, key, 0o600); err != nil {
		return nil, fmt.Errorf("making the cache's key: %w", err)
	}
	return key, os.Chmod(name, 0o600)
}

// digest of an item and its value, where and to whom it was sealed.
func (m *remembered) digest(text string, value providers.Value, label seal.Label, sealer manifest.Sealer) string {
	if m == nil {
		return ""
	}
	return m.ring.Digest(m.ring.Current(), []byte(text), value.Bytes(), []byte(label.Scope.String()),
		[]byte(label.Environment), []byte(label.Namespace), []byte(label.Name), []byte(label.Item), []byte(keyNames(sealer)))
}

func (m *remembered) knows(digest string) bool { return m != nil && slices.Contains(m.known, digest) }

func (m *remembered) remember(digest string) {
	if m != nil && !m.knows(digest) {
		m.known, m.added = append(m.known, digest), true
	}
}

// keep writes the memory, without its oldest half where it is full.
func (m *remembered) keep() error {
	if m == nil || !m.added {
		return nil
	}
	if len(m.known) > maxRemembered {
		m.known = m.known[len(m.known)-maxRemembered/2:]
	}
	return writeFile(filepath.Join(m.folder, "known"), []byte(strings.Join(m.known, "\n")+"\n"), 0o600)
}

// keyNames are the keys that a sealer seals to.
func keyNames(sealer manifest.Sealer) string {
	if len(sealer.Recipients) == 0 {
		return sealer.RSA.Fingerprint()
	}
	names := make([]string, 0, len(sealer.Recipients))
	for _, key := range sealer.Recipients {
		names = append(names, key.ID().String())
	}
	slices.Sort(names)
	return strings.Join(names, ",")
}

// sealedTo says whether an item is of the sealer's envelope, and to its keys as
// far as the item says: one of version 1 does not.
func sealedTo(text string, sealer manifest.Sealer) bool {
	item, err := manifest.Decode(text)
	if err != nil {
		return false
	}
	parsed, err := seal.Parse(item)
	if err != nil {
		return false
	}
	if parsed.Version() == seal.V1 {
		return len(sealer.Recipients) == 0
	}
	return sameKeys(parsed.Recipients(), sealer.Recipients)
}

func sameKeys(ids []seal.KeyID, keys []*seal.PublicKey) bool {
	return len(ids) == len(keys) && !slices.ContainsFunc(keys, func(key *seal.PublicKey) bool { return !slices.Contains(ids, key.ID()) })
}

// live is what the cluster has of an object, if whoever runs the command may
// read it.
type live struct {
	sealed *ssv1alpha1.SealedSecret
	secret *corev1.Secret
}

// look reads an object and its Secret; nil where there is none to be read.
func look(ctx context.Context, cluster client.Client, name client.ObjectKey) *live {
	found := live{&ssv1alpha1.SealedSecret{}, &corev1.Secret{}}
	if cluster.Get(ctx, name, found.sealed) != nil || cluster.Get(ctx, name, found.secret) != nil {
		return nil
	}
	if !synced(found.sealed) {
		return nil
	}
	return &found
}

// synced says that the Secret is what the object, as it is now, came to.
func synced(sealed *ssv1alpha1.SealedSecret) bool {
	return sealed.Status != nil && sealed.Status.ObservedGeneration == sealed.Generation &&
		slices.ContainsFunc(sealed.Status.Conditions, func(c ssv1alpha1.SealedSecretCondition) bool {
			return c.Type == ssv1alpha1.SealedSecretSynced && c.Status == corev1.ConditionTrue
		})
}

// proves that a ciphertext holds a value: the cluster made the Secret of just
// this ciphertext.
func (l *live) proves(item, text string, value providers.Value) bool {
	if l == nil || l.sealed.Spec.EncryptedData[item] != text {
		return false
	}
	has, there := l.secret.Data[item]
	return there && bytes.Equal(has, value.Bytes())
}
