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
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// Annotations of Sealed Secrets by which a Secret says what may be done to it
// (docs of sealed-secrets: "Managing existing secrets").
const (
	annotationManaged   = "sealedsecrets.bitnami.com/managed"
	annotationPatch     = "sealedsecrets.bitnami.com/patch"
	annotationSkipOwner = "sealedsecrets.bitnami.com/skip-set-owner-references"
)

// SealedOwner is the SealedSecret that a Secret belongs to.
type SealedOwner struct {
	Name string
	UID  types.UID
}

// Unsealed is what a SealedSecret's Secret should be.
//
// The history of its content is put on it only with its first change. Until then
// the Secret is what Sealed Secrets would have made, so that either can take it
// over from the other without a write.
type Unsealed struct {
	// Secret as the SealedSecret has it, without owner.
	Secret *corev1.Secret

	// Owner of the Secret.
	Owner SealedOwner

	// Known says that this very content was written before, so that what differs
	// on the Secret is somebody's edit, and putting it right is no change.
	Known bool

	// Volatile are keys whose texts render differently each time. What the Secret
	// holds of them stays, unless something else of the content has changed.
	Volatile []string

	// Replaces says that pods may know another content of a Secret that is gone.
	Replaces bool

	// Recreate permits to delete a Secret and make it anew, where it is immutable
	// and the content another, or where it is taken over and has another type.
	Recreate bool

	// Lives says whether the SealedSecret is still there, as Desired.Lives says it
	// of a claim. Nil: it is.
	Lives func(ctx context.Context) (bool, error)

	// CreateOnly is for a standby: a Secret that is there is left alone, whatever
	// it holds, and one that is made has no owner.
	CreateOnly bool
}

// SealedUID is the UID of the SealedSecret that a Secret belongs to; "" for any
// other.
func SealedUID(secret metav1.Object) string {
	if uid, marked := secret.GetLabels()[v1alpha1.LabelSealedUID]; marked {
		return uid
	}
	for _, owner := range secret.GetOwnerReferences() {
		if isSealed(owner) && owner.Controller != nil && *owner.Controller {
			return string(owner.UID)
		}
	}
	return ""
}

func isSealed(reference metav1.OwnerReference) bool {
	return reference.Kind == "SealedSecret" && strings.HasPrefix(reference.APIVersion, "bitnami.com/")
}

// ApplyUnsealed makes a SealedSecret's Secret what it should be: one request to
// create it, one to see that nothing is to be done, two to change it. A Secret
// of somebody else's is written only if its own annotations say so: managed has
// it taken over, patch has the values put into it.
//
// Errors wrap ErrNotOurs, ErrTooLarge, ErrKeyInvalid or ErrRefused where somebody
// has to change something, and ErrGone where nobody wants it; any other is the API
// server's, and worth another try.
func (w *Writer) ApplyUnsealed(ctx context.Context, wanted Unsealed) (Applied, error) {
	if err := wanted.check(w.config.reserved()); err != nil {
		return Applied{}, err
	}
	if wanted.Secret.Type == "" {
		wanted.Secret = wanted.Secret.DeepCopy()
		wanted.Secret.Type = corev1.SecretTypeOpaque
	}
	meta := &metav1.PartialObjectMetadata{}
	meta.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Secret"))
	key := client.ObjectKeyFromObject(wanted.Secret)
	err := w.config.Metadata.Get(ctx, key, meta)
	if apierrors.IsNotFound(err) {
		if err := checkLives(ctx, key, wanted.Lives); err != nil {
			return Applied{}, err
		}
		history, err := w.historyOfNew(ctx, wanted)
		if err != nil {
			return Applied{}, err
		}
		applied, err := w.createUnsealed(ctx, wanted, history)
		if !apierrors.IsAlreadyExists(err) {
			return applied, err
		}
		// It is there, but not in the cache yet.
	} else if err != nil {
		return Applied{}, fmt.Errorf("looking for Secret %s: %w", key, err)
	}
	live := &corev1.Secret{}
	if err := w.config.Live.Get(ctx, key, live); err != nil {
		return Applied{}, fmt.Errorf("reading Secret %s: %w", key, err)
	}
	defer clearData(live.Data)
	if wanted.CreateOnly {
		return Applied{Outcome: Unchanged, Status: status(live, "")}, nil
	}
	return w.updateUnsealed(ctx, wanted, live)
}

// check refuses what no SealedSecret may write.
func (u Unsealed) check(reserved []string) error {
	if slices.Contains(reserved, u.Secret.Namespace) {
		return fmt.Errorf("%w: namespace %s is the cluster's or the daemon's own; put the SealedSecret into the application's namespace", ErrRefused, u.Secret.Namespace)
	}
	if isClusters(u.Secret.Type) {
		return fmt.Errorf("%w: spec.template.type %s belongs to the cluster itself; use Opaque", ErrRefused, u.Secret.Type)
	}
	size := 0
	for key, value := range u.Secret.Data {
		if problems := validation.IsConfigMapKey(key); len(problems) > 0 {
			return fmt.Errorf("%w: %q: %s", ErrKeyInvalid, key, strings.Join(problems, "; "))
		}
		size += len(value)
	}
	if size > corev1.MaxSecretSize {
		return fmt.Errorf("%w: its values exceed %d bytes", ErrTooLarge, corev1.MaxSecretSize)
	}
	return nil
}

// historyOfNew is that of a Secret that is not there: none, unless it takes the
// place of another content.
func (w *Writer) historyOfNew(ctx context.Context, wanted Unsealed) (Revisions, error) {
	if !wanted.Replaces {
		return Revisions{}, nil
	}
	ring, err := w.config.Keys.Keyring(ctx)
	if err != nil {
		return Revisions{}, err
	}
	digest := digester{ring: ring, namespace: wanted.Secret.Namespace, name: wanted.Secret.Name}
	return first(ring.Current(), digest.live(ring.Current(), wanted.Secret.Data), w.config.Clock.Now().Unix()), nil
}

// createUnsealed makes the Secret; history is that of one that was deleted for
// it, and empty for a first content.
func (w *Writer) createUnsealed(ctx context.Context, wanted Unsealed, history Revisions) (Applied, error) {
	secret := wanted.Secret.DeepCopy()
	defer clearData(secret.Data)
	wanted.own(&secret.ObjectMeta)
	if text := wanted.metadata().String(); text != "" {
		metav1.SetMetaDataAnnotation(&secret.ObjectMeta, v1alpha1.AnnotationMetadata, text)
	}
	if history.KID != "" {
		metav1.SetMetaDataAnnotation(&secret.ObjectMeta, v1alpha1.AnnotationRevisions, history.String())
	}
	if err := w.config.Writer.Create(ctx, secret, fieldOwner); err != nil {
		return Applied{}, fmt.Errorf("creating Secret %s/%s: %w", secret.Namespace, secret.Name, err)
	}
	return Applied{
		Outcome: Created, Status: status(secret, ""), Sequence: history.Sequence(),
		Changed: slices.Sorted(maps.Keys(wanted.Secret.Data)),
	}, nil
}

// grip says what may be done to a Secret that is there.
type grip int

const (
	notOurs grip = iota
	wholly       // it is the SealedSecret's, or may be taken over
	patched      // the SealedSecret's values are put into it
)

// gripOn judges by the live Secret alone.
func (u Unsealed) gripOn(live *corev1.Secret) grip {
	switch {
	case ClaimUID(live) != "":
		return notOurs
	case live.Annotations[annotationPatch] == "true":
		return patched
	case u.Owner.owns(live), live.Annotations[annotationManaged] == "true":
		return wholly
	}
	return notOurs
}

// owns says that a Secret was made for this SealedSecret, or for one of the same
// name before it: a namespace has one of a name at a time, so that one is gone,
// and a Secret that it left is taken over before the garbage collector comes for
// it.
func (o SealedOwner) owns(live *corev1.Secret) bool {
	if _, marked := live.Labels[v1alpha1.LabelSealedUID]; marked {
		return live.Name == o.Name
	}
	owner := metav1.GetControllerOf(live)
	return owner != nil && isSealed(*owner) && owner.Name == o.Name
}

func (w *Writer) updateUnsealed(ctx context.Context, wanted Unsealed, live *corev1.Secret) (Applied, error) {
	grip := wanted.gripOn(live)
	if grip == notOurs {
		return Applied{}, fmt.Errorf("%w: Secret %s exists and is not managed by this SealedSecret; delete it, or annotate it with %s: \"true\" to have it taken over",
			ErrNotOurs, client.ObjectKeyFromObject(live), annotationManaged)
	}
	next := wanted.next(live, grip)
	defer clearData(next.Data)
	if grip == wholly {
		wanted.settle(live, next)
	}
	before, after, err := w.reviseUnsealed(ctx, wanted, live, next)
	if err != nil {
		return Applied{}, err
	}
	applied := Applied{Outcome: Unchanged, Sequence: after.Sequence(), Changed: changedKeys(before, after)}
	same := maps.EqualFunc(live.Data, next.Data, bytes.Equal)
	if same && live.Type == next.Type && isImmutable(live) == isImmutable(next) && wanted.metadata().on(live.ObjectMeta) &&
		slices.EqualFunc(live.OwnerReferences, next.OwnerReferences, sameOwner) && wanted.givesWhatItGave(live) {
		applied.Status = status(live, "")
		return applied, nil
	}
	applied.Outcome = Healed
	if len(applied.Changed) > 0 {
		applied.Outcome = Updated
		metav1.SetMetaDataAnnotation(&next.ObjectMeta, v1alpha1.AnnotationRevisions, after.String())
	} else if same {
		applied.Outcome = Relabelled
	}
	if live.Type != next.Type || isImmutable(live) && (!same || !isImmutable(next)) {
		return w.recreate(ctx, wanted, live, after, applied)
	}
	if err := w.config.Writer.Update(ctx, next, fieldOwner); err != nil {
		return Applied{}, fmt.Errorf("updating Secret %s: %w", client.ObjectKeyFromObject(live), err)
	}
	applied.Status = status(next, "")
	return applied, nil
}

// next is the Secret that is to be, on top of the one that is there.
func (u Unsealed) next(live *corev1.Secret, grip grip) *corev1.Secret {
	next := live.DeepCopy()
	u.metadata().put(&next.ObjectMeta)
	if grip == patched {
		if next.Data == nil {
			next.Data = map[string][]byte{}
		}
		for key, value := range u.Secret.Data {
			next.Data[key] = slices.Clone(value)
		}
		if live.Annotations[annotationManaged] == "true" {
			u.own(&next.ObjectMeta)
		}
		return next
	}
	clearData(next.Data)
	next.Data = u.Secret.DeepCopy().Data
	next.Type = u.Secret.Type
	if u.Secret.Immutable != nil && *u.Secret.Immutable {
		next.Immutable = u.Secret.Immutable
	}
	u.own(&next.ObjectMeta)
	return next
}

// settle keeps what the Secret holds of volatile keys, where nothing else says
// that the content is another.
func (u Unsealed) settle(live, next *corev1.Secret) {
	if !u.Known && !maps.EqualFunc(u.lasting(live.Data), u.lasting(next.Data), bytes.Equal) {
		return
	}
	for _, key := range u.Volatile {
		value, there := live.Data[key]
		if _, wanted := next.Data[key]; there && wanted {
			next.Data[key] = slices.Clone(value)
		}
	}
}

// lasting is the data without what is volatile.
func (u Unsealed) lasting(data map[string][]byte) map[string][]byte {
	lasting := maps.Clone(data)
	for _, key := range u.Volatile {
		delete(lasting, key)
	}
	return lasting
}

// own makes the SealedSecret the Secret's controller, or marks it as its where
// the template wants no owner.
func (u Unsealed) own(meta *metav1.ObjectMeta) {
	if u.CreateOnly {
		// It is the claim's to come, which adopts it by this label.
		metav1.SetMetaDataLabel(meta, v1alpha1.LabelStandbyOf, u.Owner.Name)
		return
	}
	if u.Secret.Annotations[annotationSkipOwner] == "true" {
		meta.OwnerReferences = slices.DeleteFunc(meta.OwnerReferences, isSealed)
		metav1.SetMetaDataLabel(meta, v1alpha1.LabelSealedUID, string(u.Owner.UID))
		return
	}
	delete(meta.Labels, v1alpha1.LabelSealedUID)
	if slices.ContainsFunc(meta.OwnerReferences, func(r metav1.OwnerReference) bool { return r.UID == u.Owner.UID && isSealed(r) }) {
		return
	}
	controller := true
	meta.OwnerReferences = []metav1.OwnerReference{{
		APIVersion: "bitnami.com/v1alpha1", Kind: "SealedSecret", Name: u.Owner.Name, UID: u.Owner.UID, Controller: &controller,
	}}
}

func sameOwner(a, b metav1.OwnerReference) bool { return a.UID == b.UID && a.Kind == b.Kind }

// metadata is what the template gives.
func (u Unsealed) metadata() Metadata {
	return Metadata{Labels: u.Secret.Labels, Annotations: u.Secret.Annotations}
}

// givesWhatItGave says that the template takes nothing back that it is known to
// have given.
func (u Unsealed) givesWhatItGave(live *corev1.Secret) bool {
	remembered, known := live.Annotations[v1alpha1.AnnotationMetadata]
	return !known || remembered == u.metadata().String()
}

// reviseUnsealed gives the Secret's history as it stands and as it will be.
func (w *Writer) reviseUnsealed(ctx context.Context, wanted Unsealed, live, next *corev1.Secret) (before, after Revisions, err error) {
	ring, err := w.config.Keys.Keyring(ctx)
	if err != nil {
		return Revisions{}, Revisions{}, err
	}
	digest := digester{ring: ring, namespace: next.Namespace, name: next.Name}
	if _, kept := live.Annotations[v1alpha1.AnnotationRevisions]; !kept && wanted.Known {
		known := first(ring.Current(), digest.live(ring.Current(), next.Data), 0)
		return known, known, nil
	}
	before, after = w.reviseBytes(live, next.Data, 0, digest)
	return before, after, nil
}

// recreate deletes the Secret that was looked at, and no other, and makes it
// anew with its history.
func (w *Writer) recreate(ctx context.Context, wanted Unsealed, live *corev1.Secret, history Revisions, applied Applied) (Applied, error) {
	// Of its own Secret the type may change: nothing else could be meant.
	mayChangeType := wanted.Owner.owns(live) && live.Type != wanted.Secret.Type && !isImmutable(live)
	if !wanted.Recreate && !mayChangeType {
		what := fmt.Sprintf("has type %s, which cannot be changed to %s", live.Type, wanted.Secret.Type)
		if live.Type == wanted.Secret.Type {
			what = "is immutable, and what is sealed is different"
		}
		return Applied{}, fmt.Errorf("%w: Secret %s %s; annotate the SealedSecret with %s: \"true\" to have it deleted and made anew, during which new pods wait for it",
			ErrRefused, client.ObjectKeyFromObject(live), what, v1alpha1.AnnotationRecreate)
	}
	only := client.Preconditions{UID: &live.UID, ResourceVersion: &live.ResourceVersion}
	err := w.config.Writer.Delete(ctx, live, only)
	if apierrors.IsForbidden(err) {
		return Applied{}, fmt.Errorf("%w: Secret %s has to be deleted and made anew, and this installation may not delete Secrets; delete it, or set the chart's sealedSecrets.mayRecreate",
			ErrRefused, client.ObjectKeyFromObject(live))
	}
	if err != nil {
		return Applied{}, fmt.Errorf("deleting Secret %s to make it anew: %w", client.ObjectKeyFromObject(live), err)
	}
	made, err := w.createUnsealed(ctx, wanted, history)
	made.Changed, made.Sequence, made.Outcome = applied.Changed, applied.Sequence, Recreated
	return made, err
}
