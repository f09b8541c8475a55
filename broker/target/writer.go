package target

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/installkey"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// fieldOwner names Privyseal in a target's managedFields.
const fieldOwner = client.FieldOwner("privyseal")

// KeySource gives the installation's keys.
type KeySource interface {
	Keyring(ctx context.Context) (*installkey.Keyring, error)
}

// Config of a Writer. Every field is required but KeyNamespace.
type Config struct {
	// Metadata reads Secrets' metadata from the metadata-only cache.
	Metadata client.Reader

	// Live reads Secrets from the API server itself.
	Live client.Reader

	// Writer creates and updates Secrets.
	Writer client.Writer

	// Keys are the installation's keys.
	Keys KeySource

	// Clock gives sequences their seconds.
	Clock clock.PassiveClock

	// DaemonNamespace is a namespace that no target may lie in.
	DaemonNamespace string

	// KeyNamespace is another one, where the sealing keys are. Empty: they are in
	// DaemonNamespace.
	KeyNamespace string
}

// reserved are the namespaces that no target may lie in.
func (c Config) reserved() []string {
	all := []string{c.DaemonNamespace, metav1.NamespaceSystem, "kube-node-lease"}
	if c.KeyNamespace != "" {
		all = append(all, c.KeyNamespace)
	}
	return all
}

// Writer writes targets.
type Writer struct{ config Config }

// NewWriter makes a Writer.
func NewWriter(config Config) *Writer { return &Writer{config: config} }

// Apply makes the target what it should be, in as few requests as that takes:
// none when the Secret is as it was last seen and the content is the same, one
// to create it, two to change it.
//
// Errors wrap ErrNotOurs, ErrTooLarge, ErrKeyInvalid, ErrRefused, ErrMissing or
// ErrConflict where somebody has to change something, and ErrGone where nobody
// wants it; any other is the API server's, and worth another try.
func (w *Writer) Apply(ctx context.Context, desired Desired) (Applied, error) {
	if err := desired.check(w.config.reserved()); err != nil {
		return Applied{}, err
	}
	ring, err := w.config.Keys.Keyring(ctx)
	if err != nil {
		return Applied{}, err
	}
	digest := digester{ring: ring, namespace: desired.Namespace, name: desired.Name}

	meta := &metav1.PartialObjectMetadata{}
	meta.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Secret"))
	key := client.ObjectKey{Namespace: desired.Namespace, Name: desired.Name}
	err = w.config.Metadata.Get(ctx, key, meta)
	switch {
	case apierrors.IsNotFound(err) && desired.Merge:
		// It may be there, and not in the cache yet: merging looks at it itself.
	case apierrors.IsNotFound(err):
		if err := checkLives(ctx, key, desired.Lives); err != nil {
			return Applied{}, err
		}
		applied, err := w.create(ctx, desired, digest)
		if !apierrors.IsAlreadyExists(err) {
			return applied, err
		}
		// It is there, but not in the cache yet: look at it itself.
	case err != nil:
		return Applied{}, fmt.Errorf("looking for Secret %s: %w", key, err)
	default:
		if applied, unchanged := unchanged(meta.ObjectMeta, desired, digest); unchanged {
			return applied, nil
		}
	}
	if desired.Merge {
		return w.merge(ctx, desired, digest)
	}
	return w.update(ctx, desired, digest)
}

// checkLives asks whether a Secret that is gone is still wanted.
func checkLives(ctx context.Context, secret client.ObjectKey, lives func(context.Context) (bool, error)) error {
	if lives == nil {
		return nil
	}
	wanted, err := lives(ctx)
	if err == nil && !wanted {
		err = fmt.Errorf("%w: nobody wants Secret %s any more", ErrGone, secret)
	}
	return err
}

// unchanged judges by metadata alone: the Secret is the very one that was last
// seen, it is marked as ours, and its newest digests are those of the content.
func unchanged(meta metav1.ObjectMeta, desired Desired, digest digester) (Applied, bool) {
	last := desired.Last
	if last == nil || last.UID != string(meta.UID) || last.ResourceVersion != meta.ResourceVersion || !desired.marked(meta) {
		return Applied{}, false
	}
	revisions, err := ParseRevisions(meta.Annotations[v1alpha1.AnnotationRevisions])
	if err != nil || !digest.ring.Knows(revisions.KID) {
		return Applied{}, false
	}
	wanted := digest.values(revisions.KID, desired.Data)
	if !revisions.holds(wanted) {
		return Applied{}, false
	}
	return Applied{Outcome: Unchanged, Status: *last, Sequence: revisions.Sequence()}, true
}

// create makes a target that is not there. One that was there before, and was
// deleted by somebody, comes back with the sequence that pods know if its
// content is another, and as a first content if it is the same.
func (w *Writer) create(ctx context.Context, desired Desired, digest digester) (Applied, error) {
	kid := digest.ring.Current()
	wanted := digest.values(kid, desired.Data)
	sequence := w.firstSequence(desired, digest)
	revisions := first(kid, wanted, sequence)
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: desired.Namespace, Name: desired.Name},
		Type:       desired.secretType(),
		Data:       desired.bytes(),
	}
	desired.Metadata.put(&secret.ObjectMeta)
	desired.Owner.marks(&secret.ObjectMeta, revisions)
	defer clearData(secret.Data)
	if err := w.config.Writer.Create(ctx, secret, fieldOwner); err != nil {
		return Applied{}, fmt.Errorf("creating Secret %s/%s: %w", desired.Namespace, desired.Name, err)
	}
	return Applied{
		Outcome: Created, Status: status(secret, digest.whole(kid, wanted)),
		Sequence: sequence, Changed: sortedKeys(wanted),
	}, nil
}

// firstSequence is that of a history that begins now: 0, unless pods may know
// another content of the target.
func (w *Writer) firstSequence(desired Desired, digest digester) int64 {
	if last := desired.Last; last != nil && !sameContent(last.Revision, desired, digest) {
		return max(desired.LastSequence+1, w.config.Clock.Now().Unix())
	}
	return 0
}

// sameContent says whether a remembered revision is that of the content.
// Under a key that is gone, nothing can be said, and so nothing changed.
func sameContent(revision string, desired Desired, digest digester) bool {
	kid, _, found := strings.Cut(revision, ":")
	if !found || !digest.ring.Knows(kid) {
		return true
	}
	return digest.whole(kid, digest.values(kid, desired.Data)) == revision
}

// update looks at the Secret itself, refuses a stranger's, and writes it only
// if a byte or a mark differs. The write names the object and the version that
// were looked at, so it can hit no other.
func (w *Writer) update(ctx context.Context, desired Desired, digest digester) (Applied, error) {
	secret := &corev1.Secret{}
	key := client.ObjectKey{Namespace: desired.Namespace, Name: desired.Name}
	if err := w.config.Live.Get(ctx, key, secret); err != nil {
		return Applied{}, fmt.Errorf("reading Secret %s: %w", key, err)
	}
	defer clearData(secret.Data)
	adopts := standby(secret.ObjectMeta)
	if !adopts && !desired.Owner.owns(secret.ObjectMeta) {
		return Applied{}, fmt.Errorf("%w: %s; delete it, or give the claim another target.name", ErrNotOurs, key)
	}
	if secret.Type != desired.secretType() {
		return Applied{}, fmt.Errorf("%w: %s has type %s, which cannot be changed to %s; delete it, or give the claim another target.name",
			ErrRefused, key, secret.Type, desired.secretType())
	}

	before, after := w.revise(secret, desired, digest)
	applied := Applied{Outcome: Unchanged, Sequence: after.Sequence(), Changed: changedKeys(before, after)}
	wanted := digest.values(after.KID, desired.Data)
	same := sameBytes(secret.Data, desired)
	if same && len(applied.Changed) == 0 && desired.marked(secret.ObjectMeta) &&
		desired.Metadata.on(secret.ObjectMeta) && !unreadable(secret, digest) {
		applied.Status = status(secret, digest.whole(after.KID, wanted))
		return applied, nil
	}
	if isImmutable(secret) && !same {
		return Applied{}, fmt.Errorf("%w: %s was made immutable by somebody, and is not what the store holds; delete it, and it is made again", ErrRefused, key)
	}
	switch {
	case len(applied.Changed) > 0:
		applied.Outcome = Updated
	case same && adopts:
		applied.Outcome = Adopted
	case same && secret.Annotations[v1alpha1.AnnotationMetadata] != desired.Metadata.String():
		applied.Outcome = Relabelled
	case same && desired.marked(secret.ObjectMeta) && keyLost(secret, digest):
		applied.Outcome = Rekeyed
	default:
		applied.Outcome = Healed
	}
	secret.Data = desired.bytes()
	defer clearData(secret.Data)
	desired.Metadata.put(&secret.ObjectMeta)
	desired.Owner.marks(&secret.ObjectMeta, after)
	if err := w.config.Writer.Update(ctx, secret, fieldOwner); err != nil {
		return Applied{}, fmt.Errorf("updating Secret %s: %w", key, err)
	}
	applied.Status = status(secret, digest.whole(after.KID, wanted))
	return applied, nil
}

// revise gives the Secret's history as it stands and as it will be, under the
// current install key. A history under a key that is lost, or one that somebody
// removed, is rebuilt from the live content, so that neither counts as a change.
func (w *Writer) revise(secret *corev1.Secret, desired Desired, digest digester) (before, after Revisions) {
	wanted := make(map[string][]byte, len(desired.Data))
	for key, value := range desired.Data {
		wanted[key] = value.Bytes()
	}
	before, after = w.reviseBytes(secret, wanted, desired.LastSequence, digest)
	if sequence := w.firstSequence(desired, digest); standby(secret.ObjectMeta) && sequence > after.Sequence() {
		// The Secret that pods know was another one, with another content.
		current := digest.ring.Current()
		after = first(current, digest.values(current, desired.Data), sequence)
	}
	return before, after
}

// reviseBytes is revise; last is the sequence of a content whose history is gone.
func (w *Writer) reviseBytes(secret *corev1.Secret, wanted map[string][]byte, last int64, digest digester) (before, after Revisions) {
	current := digest.ring.Current()
	before, err := ParseRevisions(secret.Annotations[v1alpha1.AnnotationRevisions])
	if err != nil {
		before = first(current, digest.live(current, secret.Data), last)
	}
	if old := before.KID; old != current {
		before = before.rekeyed(current, func(key, newest string) string {
			value, live := wanted[key], secret.Data[key]
			switch {
			case digest.ring.Knows(old) && digest.one(old, key, value) == newest:
				return digest.one(current, key, value)
			case digest.ring.Knows(old) && digest.one(old, key, live) != newest:
				return newest
			default:
				return digest.one(current, key, live)
			}
		})
	}
	return before, before.advance(digest.live(current, wanted), w.config.Clock.Now().Unix())
}

// unreadable says that the Secret's history cannot be judged by its digests:
// it is missing, or made with a key that is lost. It is written anew then.
func unreadable(secret *corev1.Secret, digest digester) bool {
	revisions, err := ParseRevisions(secret.Annotations[v1alpha1.AnnotationRevisions])
	return err != nil || !digest.ring.Knows(revisions.KID)
}

// keyLost says that the Secret's history is whole, and under a key that is lost.
func keyLost(secret *corev1.Secret, digest digester) bool {
	revisions, err := ParseRevisions(secret.Annotations[v1alpha1.AnnotationRevisions])
	return err == nil && !digest.ring.Knows(revisions.KID)
}

func isImmutable(secret *corev1.Secret) bool { return secret.Immutable != nil && *secret.Immutable }

func sameBytes(data map[string][]byte, desired Desired) bool {
	return len(data) == len(desired.Data) && holdsBytes(data, desired)
}

// holdsBytes says that the wanted keys are all there, with the wanted values.
func holdsBytes(data map[string][]byte, desired Desired) bool {
	for key, value := range desired.Data {
		if live, ok := data[key]; !ok || !bytes.Equal(live, value.Bytes()) {
			return false
		}
	}
	return true
}

// changedKeys are the keys whose newest entry differs, sorted.
func changedKeys(before, after Revisions) []string {
	var changed []string
	for key, entries := range after.Keys {
		if old := before.Keys[key]; len(old) == 0 || old[0] != entries[0] {
			changed = append(changed, key)
		}
	}
	slices.Sort(changed)
	return changed
}

func status(secret *corev1.Secret, revision string) v1alpha1.TargetStatus {
	return v1alpha1.TargetStatus{
		Name: secret.Name, UID: string(secret.UID),
		ResourceVersion: secret.ResourceVersion, Revision: revision,
	}
}

func clearData(data map[string][]byte) {
	for _, value := range data {
		clear(value)
	}
}

func sortedKeys(content digests) []string { return slices.Sorted(maps.Keys(content)) }
