package recovery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// ProofsName is the ConfigMap in the daemon's namespace that says, for each
// recovery key by its id, when somebody last showed that it opens. It holds
// dates and numbers alone; whoever may write it is believed.
const ProofsName = "privyseal-recovery"

// maxProof bounds one key's entry, in bytes.
const maxProof = 1 << 10

// Proof is what a recovery key was shown to open.
type Proof struct {
	// At is when.
	At time.Time `json:"at"`
	// Copies that it opened.
	Copies int `json:"copies"`
	// Bundle is when the newest bundle was made that it opened; none if nil.
	Bundle *time.Time `json:"bundle,omitempty"`
}

// Proofs reads what was recorded, by the ids of keys; there is none where nobody
// recorded any. Entries that cannot be read are in the error, and the others
// are given all the same.
func Proofs(ctx context.Context, cluster client.Reader, namespace string) (map[string]Proof, error) {
	recorded := &corev1.ConfigMap{}
	err := cluster.Get(ctx, client.ObjectKey{Namespace: namespace, Name: ProofsName}, recorded)
	if err != nil && !apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("reading ConfigMap %s/%s: %w", namespace, ProofsName, err)
	}
	found := map[string]Proof{}
	var wrong []error
	for _, key := range slices.Sorted(maps.Keys(recorded.Data)) {
		var proof Proof
		text := recorded.Data[key]
		if len(text) > maxProof || json.Unmarshal([]byte(text), &proof) != nil || proof.At.IsZero() {
			wrong = append(wrong, fmt.Errorf("%.64q of ConfigMap %s/%s is no record of a check; record one with: privyseal keys check --record", key, namespace, ProofsName))
			continue
		}
		found[key] = proof
	}
	return found, errors.Join(wrong...)
}

// Record notes what a key was shown to open.
func Record(ctx context.Context, cluster client.Client, namespace, key string, proof Proof) error {
	text, err := json.Marshal(proof)
	if err != nil {
		return fmt.Errorf("writing the record: %w", err)
	}
	recorded := &corev1.ConfigMap{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: ProofsName,
			Labels: map[string]string{"app.kubernetes.io/managed-by": v1alpha1.Group}},
		Data: map[string]string{key: string(text)},
	}
	err = cluster.Create(ctx, recorded)
	if apierrors.IsAlreadyExists(err) {
		var patch []byte
		if patch, err = json.Marshal(map[string]any{"data": recorded.Data}); err == nil {
			err = cluster.Patch(ctx, recorded, client.RawPatch(types.MergePatchType, patch))
		}
	}
	if err != nil {
		return fmt.Errorf("recording the check in ConfigMap %s/%s: %w", namespace, ProofsName, err)
	}
	return nil
}
