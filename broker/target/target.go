package target

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/privyseal/privyseal/broker/installkey"
	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/providers"
)

var (
	// ErrNotOurs: a Secret of that name exists and is not the claim's.
	ErrNotOurs = errors.New("the Secret exists and is not this claim's")

	// ErrTooLarge: the content does not fit a Secret.
	ErrTooLarge = errors.New("the content does not fit a Secret")

	// ErrKeyInvalid: a key cannot be a key of a Secret.
	ErrKeyInvalid = errors.New("not a key that a Secret can have")

	// ErrRefused: no claim may write a Secret of that type or in that place.
	ErrRefused = errors.New("no claim may write this Secret")

	// ErrMissing: the Secret to merge into is not there.
	ErrMissing = errors.New("the Secret to merge into is not there")

	// ErrConflict: somebody else manages what the claim would merge.
	ErrConflict = errors.New("somebody else manages what the claim would merge into the Secret")

	// ErrGone: the claim or SealedSecret was deleted meanwhile, so nothing was
	// written for it.
	ErrGone = errors.New("what it was made of is gone")
)

// Owner is the claim that a target belongs to.
type Owner struct {
	Name string
	UID  types.UID

	// Retain keeps the Secret when the claim is deleted: it carries the
	// claim's label then, and no owner reference.
	Retain bool
}

// Desired is what a target should be.
type Desired struct {
	Namespace string
	Name      string
	Owner     Owner

	// Merge puts the data into a Secret that somebody else made, and makes
	// none. Owner.Retain has no effect then: it is always kept.
	Merge bool

	// Type of the Secret; "" is Opaque, and with Merge whatever type it has.
	Type corev1.SecretType

	// Data by key.
	Data map[string]providers.Value

	// Metadata that the claim puts on the Secret; none with Merge.
	Metadata Metadata

	// Last is what the claim's status remembers of the target, nil where it
	// never had one; LastSequence likewise.
	Last         *v1alpha1.TargetStatus
	LastSequence int64

	// Lives says whether the claim is still there, at the API server itself. It is
	// asked just before a Secret is made that is not there: whoever deletes a claim
	// deletes its Secret as well, and the caches may show the second before the
	// first. Nil: it is, as of a claim that never had a Secret.
	Lives func(ctx context.Context) (bool, error)
}

// Outcome says what Apply did.
type Outcome string

// The outcomes of Apply.
const (
	// Created: there was no such Secret.
	Created Outcome = "created"
	// Updated: the content changed.
	Updated Outcome = "updated"
	// Relabelled: the content is the same; the claim gives other labels or
	// annotations.
	Relabelled Outcome = "relabelled"
	// Healed: the content is the same as Privyseal last wrote; somebody had
	// changed the Secret, and it was put back.
	Healed Outcome = "healed"
	// Recreated: the Secret could not be changed, so it was deleted and made anew.
	Recreated Outcome = "recreated"
	// Rekeyed: the content is the same; its history was under an install key
	// that is lost, and was written anew.
	Rekeyed Outcome = "rekeyed"
	// Adopted: the content is the same; a standby had made the Secret while no
	// claim could.
	Adopted Outcome = "adopted"
	// Unchanged: nothing was written.
	Unchanged Outcome = "unchanged"
)

// Applied is a target after Apply.
type Applied struct {
	Outcome  Outcome
	Status   v1alpha1.TargetStatus
	Sequence int64

	// Changed are the names of the keys whose content changed, sorted.
	Changed []string
}

// check refuses what no claim may write, before anything is asked of anyone.
func (d Desired) check(reserved []string) error {
	if slices.Contains(reserved, d.Namespace) {
		return fmt.Errorf("%w: namespace %s is the cluster's or the daemon's own; put the claim into the application's namespace", ErrRefused, d.Namespace)
	}
	if isClusters(d.Type) {
		return fmt.Errorf("%w: target.type %s belongs to the cluster itself; use Opaque", ErrRefused, d.Type)
	}
	size := 0
	for key, value := range d.Data {
		if problems := validation.IsConfigMapKey(key); len(problems) > 0 {
			return fmt.Errorf("%w: %q: %s; rename it with keys[].to", ErrKeyInvalid, key, strings.Join(problems, "; "))
		}
		size += len(value.Bytes())
	}
	if size > corev1.MaxSecretSize {
		return fmt.Errorf("%w: its values exceed %d bytes; choose fewer keys", ErrTooLarge, corev1.MaxSecretSize)
	}
	return nil
}

// isClusters says that Secrets of a type hold credentials of the cluster itself
// or releases of Helm, which whoever writes them can turn into rights.
func isClusters(kind corev1.SecretType) bool {
	return slices.ContainsFunc(
		[]string{string(corev1.SecretTypeServiceAccountToken), "bootstrap.kubernetes.io/", "helm.sh/release"},
		func(prefix string) bool { return strings.HasPrefix(string(kind), prefix) })
}

// ClaimUID is the UID of the claim whose keys a Secret holds, whether the
// Secret is the claim's own or one that it merges into; "" for any other.
func ClaimUID(secret metav1.Object) string {
	if uid, owned := secret.GetLabels()[v1alpha1.LabelClaimUID]; owned {
		return uid
	}
	return secret.GetLabels()[v1alpha1.LabelMergedBy]
}

// owns says whether a Secret with this metadata is the claim's own: made for
// this very object, or for one of the same name before it. A namespace has one
// claim of a name at a time, so the latter is gone.
func (o Owner) owns(meta metav1.ObjectMeta) bool {
	uid, labelled := meta.Labels[v1alpha1.LabelClaimUID]
	return labelled && (uid == string(o.UID) || meta.Annotations[v1alpha1.AnnotationClaim] == o.Name)
}

// standby says that a Secret with this metadata was made by a sealed copy in the
// place of whichever claim names it, and that no claim has it yet. Its label
// names the SealedSecret, which has the Secret's own name, and it has no owner.
func standby(meta metav1.ObjectMeta) bool {
	of, labelled := meta.Labels[v1alpha1.LabelStandbyOf]
	_, claimed := meta.Labels[v1alpha1.LabelClaimUID]
	return labelled && of == meta.Name && !claimed && metav1.GetControllerOf(&meta) == nil
}

// marks puts the claim's marks on a target's metadata, and leaves what others
// put there.
func (o Owner) marks(meta *metav1.ObjectMeta, revisions Revisions) {
	delete(meta.Labels, v1alpha1.LabelStandbyOf)
	metav1.SetMetaDataLabel(meta, v1alpha1.LabelClaimUID, string(o.UID))
	metav1.SetMetaDataAnnotation(meta, v1alpha1.AnnotationClaim, o.Name)
	metav1.SetMetaDataAnnotation(meta, v1alpha1.AnnotationRevisions, revisions.String())
	meta.OwnerReferences = slices.DeleteFunc(meta.OwnerReferences, isClaim)
	if !o.Retain {
		meta.OwnerReferences = append(meta.OwnerReferences, o.reference())
	}
}

// marked says whether the claim's marks are all there, and what the claim last
// put into the metadata is what it wants now.
func (d Desired) marked(meta metav1.ObjectMeta) bool {
	if d.Merge {
		return meta.Labels[v1alpha1.LabelMergedBy] == string(d.Owner.UID) && meta.Annotations[v1alpha1.AnnotationClaim] == d.Owner.Name
	}
	return d.Owner.marked(meta) && meta.Annotations[v1alpha1.AnnotationMetadata] == d.Metadata.String()
}

// marked says whether the marks of a Secret of the claim's own are all there.
func (o Owner) marked(meta metav1.ObjectMeta) bool {
	if meta.Labels[v1alpha1.LabelClaimUID] != string(o.UID) || meta.Annotations[v1alpha1.AnnotationClaim] != o.Name {
		return false
	}
	at := slices.IndexFunc(meta.OwnerReferences, isClaim)
	if o.Retain {
		return at < 0
	}
	return at >= 0 && meta.OwnerReferences[at].UID == o.UID
}

func isClaim(reference metav1.OwnerReference) bool {
	return reference.Kind == "SecretClaim" && strings.HasPrefix(reference.APIVersion, v1alpha1.Group+"/")
}

// reference makes the claim the target's controller. Deletion is not blocked
// on it, so no right on the claim's finalizers is needed.
func (o Owner) reference() metav1.OwnerReference {
	controller, block := true, false
	return metav1.OwnerReference{
		APIVersion: v1alpha1.GroupVersion.String(), Kind: "SecretClaim",
		Name: o.Name, UID: o.UID,
		Controller: &controller, BlockOwnerDeletion: &block,
	}
}

func (d Desired) secretType() corev1.SecretType {
	if d.Type == "" {
		return corev1.SecretTypeOpaque
	}
	return d.Type
}

// bytes copies the values out, at the border to the API client.
func (d Desired) bytes() map[string][]byte {
	data := make(map[string][]byte, len(d.Data))
	for key, value := range d.Data {
		data[key] = slices.Clone(value.Bytes())
	}
	return data
}

// digester makes digests of one target's values.
type digester struct {
	ring            *installkey.Keyring
	namespace, name string
}

func (d digester) values(kid string, data map[string]providers.Value) digests {
	made := make(digests, len(data))
	for key, value := range data {
		made[key] = d.one(kid, key, value.Bytes())
	}
	return made
}

func (d digester) live(kid string, data map[string][]byte) digests {
	made := make(digests, len(data))
	for key, value := range data {
		made[key] = d.one(kid, key, value)
	}
	return made
}

func (d digester) one(kid, key string, value []byte) string {
	return d.ring.Digest(kid, []byte(d.namespace), []byte(d.name), []byte(key), value)
}

// whole is the keyed digest of a content, with its kid in front.
func (d digester) whole(kid string, content digests) string {
	parts := [][]byte{[]byte(d.namespace), []byte(d.name)}
	for _, key := range sortedKeys(content) {
		parts = append(parts, []byte(key), []byte(content[key]))
	}
	return kid + ":" + d.ring.Digest(kid, parts...)
}
