package target

import (
	"encoding/json"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// Metadata is what a claim puts on a target of its own.
//
// The target remembers it, in annotation privyseal.io/metadata: the cache of
// Secrets holds our own labels and annotations alone, and what a claim gives no
// longer has to be known to be taken off. It has no part in revisions, so no
// pod is restarted for it.
type Metadata struct {
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// String is the annotation's text; "" for none.
func (m Metadata) String() string {
	if len(m.Labels)+len(m.Annotations) == 0 {
		return ""
	}
	text, err := json.Marshal(m)
	if err != nil {
		panic(err) // unreachable: maps of strings always marshal
	}
	return string(text)
}

// put makes the claim's metadata the target's, takes off what the claim gave
// before, and leaves what others put there.
func (m Metadata) put(meta *metav1.ObjectMeta) {
	var before Metadata
	// An annotation that cannot be read was written by somebody else: what was
	// ours is unknown then, and stays.
	_ = json.Unmarshal([]byte(meta.Annotations[v1alpha1.AnnotationMetadata]), &before)
	takeOff(meta.Labels, before.Labels)
	takeOff(meta.Annotations, before.Annotations)
	for key, value := range m.Labels {
		metav1.SetMetaDataLabel(meta, key, value)
	}
	for key, value := range m.Annotations {
		metav1.SetMetaDataAnnotation(meta, key, value)
	}
	delete(meta.Annotations, v1alpha1.AnnotationMetadata)
	if text := m.String(); text != "" {
		metav1.SetMetaDataAnnotation(meta, v1alpha1.AnnotationMetadata, text)
	}
}

// takeOff removes what was ours; where somebody else wrote another value over
// it, that value is theirs.
func takeOff(from, ours map[string]string) {
	for key, value := range ours {
		if from[key] == value {
			delete(from, key)
		}
	}
}

// on says whether the target has the claim's metadata.
func (m Metadata) on(meta metav1.ObjectMeta) bool {
	return hold(meta.Labels, m.Labels) && hold(meta.Annotations, m.Annotations)
}

func hold(all, wanted map[string]string) bool {
	for key, value := range wanted {
		if held, found := all[key]; !found || held != value {
			return false
		}
	}
	return true
}
