// Package recovery makes and opens the bundle that a cluster comes back with
// when all of it is gone: the sealing keys and the install key, and what says
// which namespaces are in which environment. With it, what lies in git opens
// again, and Secrets that are made of it count as the ones that were there.
//
// A bundle is sealed to recovery keys that lie offline, so that it can be kept
// where copies are kept. docs/recovery.md draws its bytes:
//
//	PEM block "PRIVYSEAL RECOVERY BUNDLE" ─▶ item of version 2 ─▶ gzip ─▶ JSON
package recovery

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/privyseal/privyseal/broker/seal"
	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/providers"
)

// BlockType is that of a bundle's PEM block. It names no version: that is in the
// item, and in the JSON.
const BlockType = "PRIVYSEAL RECOVERY BUNDLE"

// Format is the JSON's.
const Format = "privyseal.io/recovery-bundle/v1"

// maxPlain bounds a bundle's JSON, in bytes: gzip can make much of little.
const maxPlain = 64 << 20

// MaxBundle bounds a bundle's text, in bytes.
const MaxBundle = 2 << 20

// ErrMalformed: the text is no bundle, or one of another format.
var ErrMalformed = errors.New("malformed recovery bundle")

// ErrEmpty: the bundle would hold no key that opens anything.
var ErrEmpty = errors.New("no sealing key to back up")

// label is what a bundle is sealed under. No namespace has a dot in its name,
// so no item of a Secret has that label.
func label() seal.Label {
	return seal.Label{Scope: seal.Strict, Namespace: v1alpha1.Group, Name: "recovery", Item: "bundle"}
}

// Bundle is what a cluster comes back with, in the order in which it is made
// again.
type Bundle struct {
	// Format is Format.
	Format string `json:"format"`
	// Made is when.
	Made time.Time `json:"made"`
	// Namespaces with their labels: by these they are in environments.
	Namespaces []corev1.Namespace `json:"namespaces"`
	// Secrets are the sealing keys and the install key.
	Secrets []corev1.Secret `json:"secrets"`
	// Environments of the cluster.
	Environments []v1alpha1.Environment `json:"environments"`
}

// Clear overwrites the keys.
func (b Bundle) Clear() {
	for _, secret := range b.Secrets {
		for _, value := range secret.Data {
			clear(value)
		}
	}
}

// Contents names what is in it, one a line, in the order of restoring.
func (b Bundle) Contents() []string {
	var lines []string
	for _, namespace := range b.Namespaces {
		lines = append(lines, "Namespace "+namespace.Name)
	}
	for _, secret := range b.Secrets {
		lines = append(lines, fmt.Sprintf("Secret %s/%s (%s)", secret.Namespace, secret.Name, what(&secret)))
	}
	for _, environment := range b.Environments {
		lines = append(lines, "Environment "+environment.Name)
	}
	return lines
}

// Seal writes a bundle, sealed to the recipients. Errors wrap ErrEmpty and those
// of package seal.
func Seal(bundle Bundle, recipients []*seal.PublicKey) ([]byte, error) {
	if !slices.ContainsFunc(bundle.Secrets, func(s corev1.Secret) bool { return isSealingKey(&s) }) {
		return nil, ErrEmpty
	}
	bundle.Format = Format
	plain, err := json.Marshal(bundle)
	if err != nil {
		return nil, fmt.Errorf("writing the bundle: %w", err)
	}
	defer clear(plain)
	var packed bytes.Buffer
	zip := gzip.NewWriter(&packed)
	_, err = zip.Write(plain)
	if err := errors.Join(err, zip.Close()); err != nil {
		return nil, fmt.Errorf("packing the bundle: %w", err)
	}
	value := providers.NewValue(packed.Bytes())
	defer value.Clear()
	item, err := seal.Seal(value, label(), recipients...)
	if err != nil {
		return nil, fmt.Errorf("sealing the bundle: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: BlockType, Bytes: item}), nil
}

// Recipients are the ids of the keys that a bundle says it is sealed to. Errors
// wrap ErrMalformed.
func Recipients(text []byte) ([]seal.KeyID, error) {
	item, err := itemOf(text)
	if err != nil {
		return nil, err
	}
	parsed, err := seal.Parse(item)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return parsed.Recipients(), nil
}

// Open opens a bundle with a recovery key. Errors wrap ErrMalformed and those of
// package seal. The caller clears the bundle.
func Open(text []byte, keys *seal.Keys) (Bundle, error) {
	item, err := itemOf(text)
	if err != nil {
		return Bundle{}, err
	}
	opened, err := keys.Open(item, label())
	if err != nil {
		return Bundle{}, fmt.Errorf("opening the bundle: %w", err)
	}
	defer opened.Value.Clear()
	plain, err := unpack(opened.Value.Bytes())
	defer clear(plain)
	if err != nil {
		return Bundle{}, err
	}
	var bundle Bundle
	// The decoder's errors quote what they read, which is keys.
	if json.Unmarshal(plain, &bundle) != nil {
		return Bundle{}, fmt.Errorf("%w: it holds no JSON of a bundle", ErrMalformed)
	}
	if bundle.Format != Format {
		return Bundle{}, fmt.Errorf("%w: its format is not %s: open it with the release that made it", ErrMalformed, Format)
	}
	return bundle, nil
}

func itemOf(text []byte) ([]byte, error) {
	if len(text) > MaxBundle {
		return nil, fmt.Errorf("%w: larger than %d bytes", ErrMalformed, MaxBundle)
	}
	block, rest := pem.Decode(text)
	if block == nil || block.Type != BlockType || len(block.Headers) > 0 || strings.TrimSpace(string(rest)) != "" {
		return nil, fmt.Errorf("%w: want one PEM block %q and nothing else", ErrMalformed, BlockType)
	}
	return block.Bytes, nil
}

func unpack(packed []byte) ([]byte, error) {
	zip, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, fmt.Errorf("%w: not packed by gzip", ErrMalformed)
	}
	plain, err := io.ReadAll(io.LimitReader(zip, maxPlain+1))
	if err != nil || len(plain) > maxPlain {
		return plain, fmt.Errorf("%w: it does not unpack to at most %d bytes", ErrMalformed, maxPlain)
	}
	return plain, nil
}
