package copies

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	ssv1alpha1 "github.com/bitnami-labs/sealed-secrets/pkg/apis/sealedsecrets/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"github.com/privyseal/privyseal/broker/manifest"
	"github.com/privyseal/privyseal/broker/seal"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// Annotations of a copy, beside those of package v1alpha1.
const (
	annotationEnvironment    = v1alpha1.Group + "/environment"
	annotationEnvironmentUID = v1alpha1.Group + "/environment-uid"
	annotationSealedBy       = v1alpha1.Group + "/sealed-by"
	annotationOnClaimDeleted = v1alpha1.Group + "/on-claim-deleted"
)

// maxFile bounds what is taken for a copy, in bytes. An API server takes no
// larger object.
const maxFile = 4 << 20

// head is what a copy tells without being opened.
type head struct {
	// Environment that the items are bound to, and the object of that name.
	Environment, EnvironmentUID string
	// Secret is the target.
	Secret types.NamespacedName
	// Claim that the target is of.
	Claim, ClaimUID string
	// OnClaimDeleted says what becomes of the copy with its claim.
	OnClaimDeleted v1alpha1.OnClaimDeleted
	// Sequence of the target's content.
	Sequence int64
	// Type of the Secret.
	Type corev1.SecretType
}

// metadata is what a claim puts on its Secret.
type metadata struct{ labels, annotations map[string]string }

func (m metadata) equal(other metadata) bool {
	return maps.Equal(m.labels, other.labels) && maps.Equal(m.annotations, other.annotations)
}

// copied is a copy as it lies in the repository.
type copied struct {
	head
	metadata metadata
	// SealedBy is the own key of the installation that made it.
	SealedBy string
	// Recipients of its items; nil if they differ, or an item is malformed.
	Recipients []seal.KeyID
	// Empty says that it has no items, and so no recipients either.
	Empty bool
}

// errForeign: a file is no copy of a claim's.
var errForeign = errors.New("not a sealed copy of a claim")

// parse reads a file as a copy. Errors wrap errForeign.
func parse(content []byte) (*ssv1alpha1.SealedSecret, error) {
	if len(content) > maxFile {
		return nil, fmt.Errorf("%w: larger than %d bytes", errForeign, maxFile)
	}
	sealed := &ssv1alpha1.SealedSecret{}
	if err := yaml.Unmarshal(content, sealed); err != nil {
		return nil, fmt.Errorf("%w: not a manifest", errForeign)
	}
	if sealed.Kind != "SealedSecret" || !IsCopy(sealed) {
		return nil, fmt.Errorf("%w: no SealedSecret with the annotation %s", errForeign, v1alpha1.AnnotationStandby)
	}
	return sealed, nil
}

// read reads what a file tells without being opened. Errors wrap errForeign.
func read(content []byte) (copied, error) {
	sealed, err := parse(content)
	if err != nil {
		return copied{}, err
	}
	notes := sealed.Annotations
	sequence, err := strconv.ParseInt(notes[v1alpha1.AnnotationSequence], 10, 64)
	if err != nil {
		sequence = -1 // somebody edited it: no target's, so it is written anew
	}
	found := copied{
		head: head{
			Environment: notes[annotationEnvironment], EnvironmentUID: notes[annotationEnvironmentUID],
			Secret: types.NamespacedName{Namespace: sealed.Namespace, Name: sealed.Name},
			Claim:  notes[v1alpha1.AnnotationClaim], ClaimUID: sealed.Labels[v1alpha1.LabelClaimUID],
			OnClaimDeleted: v1alpha1.OnClaimDeleted(notes[annotationOnClaimDeleted]),
			Sequence:       sequence,
			Type:           sealed.Spec.Template.Type,
		},
		metadata: metadata{sealed.Spec.Template.Labels, sealed.Spec.Template.Annotations},
		SealedBy: notes[annotationSealedBy],
		Empty:    len(sealed.Spec.EncryptedData) == 0,
	}
	found.Recipients = recipients(sealed.Spec.EncryptedData)
	return found, nil
}

// recipients of items that are all sealed to the same; nil if they are not.
func recipients(items map[string]string) []seal.KeyID {
	var all []seal.KeyID
	for _, text := range items {
		item, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return nil
		}
		parsed, err := seal.Parse(item)
		if err != nil || parsed.Version() != seal.V2 {
			return nil
		}
		if all != nil && !slices.Equal(all, parsed.Recipients()) {
			return nil
		}
		all = slices.Clone(parsed.Recipients())
	}
	return all
}

// write seals a Secret's values and writes the copy, once it is proven. Errors
// wrap errUnproven and those of package seal.
func write(says head, puts metadata, data map[string][]byte, keys keys) ([]byte, error) {
	sealer := manifest.Sealer{Recipients: append([]*seal.PublicKey{keys.own}, keys.recipients...), Environment: says.Environment}
	sealed, err := sealer.Seal(&corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: says.Secret.Namespace, Name: says.Secret.Name,
			Labels: puts.labels, Annotations: puts.annotations},
		Type: says.Type, Data: data,
	}, seal.Strict)
	if err != nil {
		return nil, fmt.Errorf("sealing Secret %s: %w", says.Secret, err)
	}
	if found := flawOf(sealed, says.Environment, keys, data); found != "" {
		return nil, fmt.Errorf("%w: Secret %s: %s", errUnproven, says.Secret, found.says())
	}
	sealed.Labels = map[string]string{v1alpha1.LabelClaimUID: says.ClaimUID}
	sealed.Annotations = map[string]string{
		v1alpha1.AnnotationStandby: "true", v1alpha1.AnnotationClaim: says.Claim,
		v1alpha1.AnnotationSequence: strconv.FormatInt(says.Sequence, 10),
		annotationEnvironment:       says.Environment, annotationEnvironmentUID: says.EnvironmentUID,
		annotationOnClaimDeleted: string(says.OnClaimDeleted), annotationSealedBy: keys.own.ID().String(),
	}
	return marshal(sealed)
}

// marshal writes a manifest without the fields that an encoder adds to it.
func marshal(sealed *ssv1alpha1.SealedSecret) ([]byte, error) {
	encoded, err := json.Marshal(sealed)
	if err != nil {
		return nil, fmt.Errorf("writing the copy: %w", err)
	}
	if len(encoded) > manifest.MaxObject {
		return nil, fmt.Errorf("%w: the sealed copy has %d bytes, and an API server takes %d; give the environment fewer recipients, or the claim fewer keys",
			seal.ErrTooLarge, len(encoded), manifest.MaxObject)
	}
	var plain map[string]any
	if err := json.Unmarshal(encoded, &plain); err != nil {
		return nil, fmt.Errorf("writing the copy: %w", err)
	}
	withoutNulls(plain)
	return yaml.Marshal(plain)
}

func withoutNulls(fields map[string]any) {
	for key, value := range fields {
		switch value := value.(type) {
		case nil:
			delete(fields, key)
		case map[string]any:
			withoutNulls(value)
		}
	}
}
