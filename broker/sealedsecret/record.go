package sealedsecret

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	ssv1alpha1 "github.com/bitnami-labs/sealed-secrets/pkg/apis/sealedsecrets/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/privyseal/privyseal/broker/installkey"
	"github.com/privyseal/privyseal/broker/manifest"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// record remembers a SealedSecret whose Secret was in order:
//
//	["9f3c…","5d1e…-uid","123456","k1-d0c4b1e7"]
//
// The digest is keyed, and covers the Secret's UID and version beside what it
// was made of. So whoever writes a record of their own makes one that counts for
// nothing.
type record struct {
	digest  string
	uid     string
	version string
	kid     string
}

// String is the record's text.
func (r record) String() string {
	text, err := json.Marshal([]string{r.digest, r.uid, r.version, r.kid})
	if err != nil {
		panic(err) // unreachable: strings always marshal
	}
	return string(text)
}

var errRecord = errors.New("malformed record")

func parseRecord(text string) (record, error) {
	var parts []string
	if err := json.Unmarshal([]byte(text), &parts); err != nil {
		return record{}, fmt.Errorf("%w: %w", errRecord, err)
	}
	if len(parts) != 4 {
		return record{}, fmt.Errorf("%w: %d parts", errRecord, len(parts))
	}
	return record{digest: parts[0], uid: parts[1], version: parts[2], kid: parts[3]}, nil
}

// inputs are all that a Secret is made of. A change of what is made of them is
// another format.
func inputs(sealed *ssv1alpha1.SealedSecret, home *v1alpha1.Environment) ([][]byte, error) {
	spec, err := json.Marshal(sealed.Spec)
	if err != nil {
		return nil, fmt.Errorf("writing down the spec of SealedSecret %s/%s: %w", sealed.Namespace, sealed.Name, err)
	}
	name := ""
	if home != nil {
		name = home.Name
	}
	parts := [][]byte{[]byte("format 1"), []byte(sealed.Namespace), []byte(sealed.Name), []byte(sealed.UID), []byte(manifest.Scope(sealed).String()), []byte(name), spec}
	for _, said := range []bool{standby(sealed), sealed.Annotations[v1alpha1.AnnotationRecreate] == "true"} {
		parts = append(parts, strconv.AppendBool(nil, said))
	}
	return parts, nil
}

// recordOf makes a record of a Secret that is in order.
func recordOf(ring *installkey.Keyring, made [][]byte, uid, version string) record {
	r := record{uid: uid, version: version, kid: ring.Current()}
	r.digest = r.of(ring, made)
	return r
}

func (r record) of(ring *installkey.Keyring, made [][]byte) string {
	return ring.Input(r.kid, append([][]byte{[]byte(r.uid), []byte(r.version)}, made...)...)
}

// knows says that the record is ours, and that the Secret was made of just this.
func (r record) knows(ring *installkey.Keyring, made [][]byte) bool {
	return r.digest != "" && r.digest == r.of(ring, made)
}

// saw says that a Secret is the very one.
func (r record) saw(secret metav1.Object) bool {
	return string(secret.GetUID()) == r.uid && secret.GetResourceVersion() == r.version
}

func secretMeta() *metav1.PartialObjectMetadata {
	meta := &metav1.PartialObjectMetadata{}
	meta.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Secret"))
	return meta
}
