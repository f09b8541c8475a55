package manifest

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	ssv1alpha1 "github.com/bitnami-labs/sealed-secrets/pkg/apis/sealedsecrets/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	kubejson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// IsSealedSecret says whether it is one, of any version.
func (o *Object) IsSealedSecret() bool {
	return o.Kind == Kind && strings.HasPrefix(o.APIVersion, "bitnami.com/")
}

// IsSecret says whether it is a plain Secret.
func (o *Object) IsSecret() bool { return o.Kind == "Secret" && o.APIVersion == "v1" }

// Sealed reads the object as a SealedSecret. Errors wrap ErrMalformed and name
// the object.
func (o *Object) Sealed() (*ssv1alpha1.SealedSecret, error) {
	if !o.IsSealedSecret() {
		return nil, fmt.Errorf("%w: %s: want kind SealedSecret of bitnami.com/v1alpha1", ErrMalformed, o)
	}
	spec, _ := o.Tree["spec"].(map[string]any)
	// The kind's own reader passes over what is not a text; nobody may learn in
	// the cluster only that an item was none.
	items, err := texts(spec, "encryptedData")
	if err != nil {
		return nil, fmt.Errorf("%w: %s: spec.%w", ErrMalformed, o, err)
	}
	for name := range items {
		if name == "" {
			return nil, fmt.Errorf("%w: %s: spec.encryptedData has an item without a name", ErrMalformed, o)
		}
	}
	sealed := &ssv1alpha1.SealedSecret{}
	return sealed, o.decode(sealed)
}

// Secret reads the object as a Secret. Errors wrap ErrMalformed, name the
// object, and hold no value.
func (o *Object) Secret() (*corev1.Secret, error) {
	if !o.IsSecret() {
		return nil, fmt.Errorf("%w: %s: want kind Secret of v1", ErrMalformed, o)
	}
	data, err := texts(o.Tree, "data")
	if err == nil {
		_, err = texts(o.Tree, "stringData")
	}
	for _, name := range slices.Sorted(maps.Keys(data)) {
		if _, isBase64 := base64.StdEncoding.DecodeString(data[name]); err == nil && isBase64 != nil {
			err = fmt.Errorf("data %s: not base64; write plain text under stringData", name)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrMalformed, o, err)
	}
	secret := &corev1.Secret{}
	return secret, o.decode(secret)
}

// texts are the entries of a mapping of texts. An error names the entry only.
func texts(tree map[string]any, field string) (map[string]string, error) {
	value, there := tree[field]
	if !there || value == nil {
		return nil, nil
	}
	entries, isMapping := value.(map[string]any)
	if !isMapping {
		return nil, fmt.Errorf("%s: want a mapping of names to texts", field)
	}
	found := make(map[string]string, len(entries))
	for _, name := range slices.Sorted(maps.Keys(entries)) {
		text, isText := entries[name].(string)
		if !isText {
			return nil, fmt.Errorf("%s %s: not a text; put it in quotes", field, name)
		}
		found[name] = text
	}
	return found, nil
}

func (o *Object) decode(into any) error {
	raw, err := json.Marshal(o.Tree)
	defer clear(raw)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrMalformed, o, err) // unreachable: it was read from a text
	}
	if len(raw) > MaxObject {
		return fmt.Errorf("%w: %s: %d bytes as JSON, and an API server takes %d; split it", ErrMalformed, o, len(raw), MaxObject)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("%w: %s: %s", ErrMalformed, o, fieldOf(err))
	}
	return nil
}

// Into reads the object into a kind of Kubernetes as the API server would: a
// field counts only as it is spelt. unknown are those that the kind does not
// have, which an API server would drop, each as 'unknown field "spec.x"'. Errors
// wrap ErrMalformed, name the object, and hold no value.
func (o *Object) Into(kind any) (unknown []error, err error) {
	raw, err := json.Marshal(o.Tree)
	defer clear(raw)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrMalformed, o, err) // unreachable: it was read from a text
	}
	unknown, err = kubejson.UnmarshalStrict(raw, kind, kubejson.DisallowUnknownFields)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %s", ErrMalformed, o, fieldOf(err))
	}
	return unknown, nil
}

// fieldOf says which field is of the wrong type: the error itself may quote the
// value.
func fieldOf(err error) string {
	if wrong := new(json.UnmarshalTypeError); errors.As(err, &wrong) && wrong.Field != "" {
		return fmt.Sprintf("%s: want a %s", wrong.Field, wrong.Type)
	}
	return "a field has a value of the wrong type; kubectl explain tells the right ones"
}

// Encode writes an object, as JSON or as a document of YAML, with sorted keys.
func Encode(object any, asJSON bool) ([]byte, error) {
	raw, err := json.MarshalIndent(object, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encoding the object: %w", err)
	}
	if len(raw) > MaxObject {
		compact, err := json.Marshal(object)
		if err != nil || len(compact) > MaxObject {
			return nil, fmt.Errorf("%w: %d bytes as JSON, and an API server takes %d; split it", ErrMalformed, len(compact), MaxObject)
		}
	}
	if asJSON {
		return append(raw, '\n'), nil
	}
	text, err := yaml.JSONToYAML(raw)
	if err != nil {
		return nil, fmt.Errorf("encoding the object: %w", err)
	}
	return append([]byte("---\n"), text...), nil
}

// With is the object's tree with the ciphertexts of another reading of it, and
// all else as it was, fields that the kind does not know among them.
func (o *Object) With(sealed *ssv1alpha1.SealedSecret) map[string]any {
	tree := o.Tree
	for name, text := range sealed.Spec.EncryptedData {
		tree = withItem(tree, name, text)
	}
	if len(sealed.Spec.Data) > 0 {
		tree = withItem(tree, "", base64.StdEncoding.EncodeToString(sealed.Spec.Data))
	}
	return tree
}
