package target

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	applycorev1 "k8s.io/client-go/applyconfigurations/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// Merging is server-side apply, never forced. The API server knows then which
// keys are the claim's: it takes away those that the claim gives no longer,
// and refuses the whole apply where somebody else manages one with another
// value. The claim's marks and its history are applied with the keys, so one
// Secret has room for one claim.

// managerPrefix, with a claim's UID behind it, is the claim in managedFields.
const managerPrefix = "privyseal-"

func (o Owner) manager() string { return managerPrefix + string(o.UID) }

// merge looks at the Secret itself and applies the claim's keys to it if one of
// them differs, or a mark.
func (w *Writer) merge(ctx context.Context, desired Desired, digest digester) (Applied, error) {
	secret := &corev1.Secret{}
	key := client.ObjectKey{Namespace: desired.Namespace, Name: desired.Name}
	err := w.config.Live.Get(ctx, key, secret)
	if apierrors.IsNotFound(err) {
		return Applied{}, fmt.Errorf("%w: %s; make it, or set target.mode to Own to have it made", ErrMissing, key)
	}
	if err != nil {
		return Applied{}, fmt.Errorf("reading Secret %s: %w", key, err)
	}
	defer clearData(secret.Data)
	if err := desired.mergesInto(secret); err != nil {
		return Applied{}, err
	}
	before, after := w.reviseMerged(secret, desired, digest)
	applied := Applied{Outcome: Unchanged, Sequence: after.Sequence(), Changed: changedKeys(before, after)}
	same := holdsBytes(secret.Data, desired) && len(applied.Changed) == 0
	if !same || !desired.marked(secret.ObjectMeta) || unreadable(secret, digest) {
		if isImmutable(secret) && !same {
			return Applied{}, fmt.Errorf("%w: %s is immutable, and its keys are not what the store holds; make it anew without immutable", ErrRefused, key)
		}
		switch {
		case len(applied.Changed) > 0:
			applied.Outcome = Updated
		case same && desired.marked(secret.ObjectMeta) && keyLost(secret, digest):
			applied.Outcome = Rekeyed
		default:
			applied.Outcome = Healed
		}
		if err := w.apply(ctx, secret, desired, after); err != nil {
			return Applied{}, err
		}
	}
	applied.Status = status(secret, digest.whole(after.KID, digest.values(after.KID, desired.Data)))
	return applied, nil
}

// mergesInto refuses the Secrets that the claim may not merge into.
func (d Desired) mergesInto(secret *corev1.Secret) error {
	name := secret.Namespace + "/" + secret.Name
	marked := secret.Annotations[v1alpha1.AnnotationClaim]
	if _, owned := secret.Labels[v1alpha1.LabelClaimUID]; owned {
		return fmt.Errorf("%w: %s is the own Secret of claim %s; set target.mode of this claim to Own if that is this one, else give it another target.name",
			ErrConflict, name, marked)
	}
	if uid, merged := secret.Labels[v1alpha1.LabelMergedBy]; merged && uid != string(d.Owner.UID) && marked != d.Owner.Name {
		return fmt.Errorf("%w: %s holds the keys of claim %s, and one claim merges into a Secret; ask for all keys in one claim, or if that one is gone, remove its keys, label %s and annotations %s and %s",
			ErrConflict, name, marked, v1alpha1.LabelMergedBy, v1alpha1.AnnotationClaim, v1alpha1.AnnotationRevisions)
	}
	if isClusters(secret.Type) {
		return fmt.Errorf("%w: %s has type %s, which belongs to the cluster itself", ErrRefused, name, secret.Type)
	}
	if d.Type != "" && secret.Type != d.Type {
		return fmt.Errorf("%w: %s has type %s and not %s; correct target.type or leave it out", ErrRefused, name, secret.Type, d.Type)
	}
	size := 0
	for key, value := range secret.Data {
		if _, ours := d.Data[key]; !ours {
			size += len(value)
		}
	}
	for _, value := range d.Data {
		size += len(value.Bytes())
	}
	if size > corev1.MaxSecretSize {
		return fmt.Errorf("%w: with the keys that %s has already, its values exceed %d bytes; choose fewer keys", ErrTooLarge, name, corev1.MaxSecretSize)
	}
	return nil
}

// reviseMerged is revise for a Secret that is not ours to know: where it has no
// history, because the claim is new to it or its owner made it anew, one begins.
// Keys of others have no part in it.
func (w *Writer) reviseMerged(secret *corev1.Secret, desired Desired, digest digester) (before, after Revisions) {
	if _, err := ParseRevisions(secret.Annotations[v1alpha1.AnnotationRevisions]); err == nil {
		return w.revise(secret, desired, digest)
	}
	kid := digest.ring.Current()
	after = first(kid, digest.values(kid, desired.Data), w.firstSequence(desired, digest))
	if desired.Last != nil && sameContent(desired.Last.Revision, desired, digest) {
		return after, after
	}
	return Revisions{}, after
}

// apply applies keys, marks and history to the very version of the Secret that
// was looked at: the UID keeps the API server from making a Secret that is gone
// meanwhile.
func (w *Writer) apply(ctx context.Context, secret *corev1.Secret, desired Desired, after Revisions) error {
	if err := w.inherit(ctx, secret, desired.Owner); err != nil {
		return err
	}
	sent := desired.bytes()
	defer clearData(sent)
	config := applycorev1.Secret(secret.Name, secret.Namespace).
		WithUID(secret.UID).WithResourceVersion(secret.ResourceVersion).
		WithLabels(map[string]string{v1alpha1.LabelMergedBy: string(desired.Owner.UID)}).
		WithAnnotations(map[string]string{
			v1alpha1.AnnotationClaim:     desired.Owner.Name,
			v1alpha1.AnnotationRevisions: after.String(),
		}).
		WithData(sent)
	// The answer holds the whole Secret.
	defer func() { clearData(config.Data) }()
	if err := w.config.Writer.Apply(ctx, config, client.FieldOwner(desired.Owner.manager())); err != nil {
		return conflictOr(err, client.ObjectKeyFromObject(secret))
	}
	secret.ResourceVersion = *config.ResourceVersion
	return nil
}

// inherit makes the fields of a claim of the same name, that was deleted or
// came back under another UID, this claim's. Applying beside it would conflict
// with it, and would leave behind the keys that are wanted no longer.
func (w *Writer) inherit(ctx context.Context, secret *corev1.Secret, owner Owner) error {
	if secret.Annotations[v1alpha1.AnnotationClaim] != owner.Name {
		return nil
	}
	after := &metav1.PartialObjectMetadata{ObjectMeta: *secret.ObjectMeta.DeepCopy()}
	after.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Secret"))
	before := after.DeepCopy()
	inherited := false
	for i, entry := range after.ManagedFields {
		if entry.Operation == metav1.ManagedFieldsOperationApply && strings.HasPrefix(entry.Manager, managerPrefix) && entry.Manager != owner.manager() {
			after.ManagedFields[i].Manager, inherited = owner.manager(), true
		}
	}
	if !inherited {
		return nil
	}
	if err := w.config.Writer.Patch(ctx, after, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}), fieldOwner); err != nil {
		return fmt.Errorf("taking over the fields of an earlier claim %s in Secret %s/%s: %w", owner.Name, secret.Namespace, secret.Name, err)
	}
	secret.ResourceVersion = after.ResourceVersion
	return nil
}

// maxConflicts is how many conflicts a message tells of.
const maxConflicts = 8

// conflictOr makes an ErrConflict of a refused apply, naming what and whose, or
// gives the error its context.
func conflictOr(err error, key client.ObjectKey) error {
	theirs := map[string]bool{}
	if status := apierrors.APIStatus(nil); errors.As(err, &status) && status.Status().Details != nil {
		for _, cause := range status.Status().Details.Causes {
			if cause.Type == metav1.CauseTypeFieldManagerConflict {
				theirs[fieldName(cause.Field)+": "+cause.Message] = true
			}
		}
	}
	if len(theirs) == 0 {
		return fmt.Errorf("merging into Secret %s: %w", key, err)
	}
	told := slices.Sorted(maps.Keys(theirs))
	if len(told) > maxConflicts {
		told = append(told[:maxConflicts], "…")
	}
	return fmt.Errorf("%w: %s: %s; rename the claim's key with keys[].to, or remove the other's from the Secret, and the claim's is put there",
		ErrConflict, key, strings.Join(told, ", "))
}

// fieldName says of a field's path what it is to people.
func fieldName(path string) string {
	for prefix, kind := range map[string]string{".data.": "key ", ".metadata.annotations.": "annotation ", ".metadata.labels.": "label "} {
		if name, found := strings.CutPrefix(path, prefix); found {
			return kind + name
		}
	}
	return path
}
