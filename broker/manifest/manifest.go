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
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/privyseal/privyseal/broker/seal"
	"github.com/privyseal/privyseal/providers"
)

var (
	// ErrBoth: a SealedSecret has items and the deprecated spec.data.
	ErrBoth = errors.New("spec.encryptedData and the deprecated spec.data cannot be used together; keep spec.encryptedData")

	// ErrItems: some items do not open, so none counts.
	ErrItems = errors.New("not every item opens")
)

// Scope of a SealedSecret, by its metadata's annotations.
func Scope(object metav1.Object) seal.Scope {
	annotations := object.GetAnnotations()
	return seal.ScopeOf(annotations[ssv1alpha1.SealedSecretClusterWideAnnotation], annotations[ssv1alpha1.SealedSecretNamespaceWideAnnotation])
}

// SetScope writes the scope's annotation, and removes that of another scope.
func SetScope(object metav1.Object, scope seal.Scope) {
	annotations := maps.Clone(object.GetAnnotations())
	delete(annotations, ssv1alpha1.SealedSecretClusterWideAnnotation)
	delete(annotations, ssv1alpha1.SealedSecretNamespaceWideAnnotation)
	if annotations == nil {
		annotations = map[string]string{}
	}
	switch scope {
	case seal.ClusterWide:
		annotations[ssv1alpha1.SealedSecretClusterWideAnnotation] = "true"
	case seal.NamespaceWide:
		annotations[ssv1alpha1.SealedSecretNamespaceWideAnnotation] = "true"
	}
	if len(annotations) == 0 {
		annotations = nil
	}
	object.SetAnnotations(annotations)
}

// Label of an item of a SealedSecret.
func Label(object metav1.Object, environment, item string) seal.Label {
	return seal.Label{
		Scope: Scope(object), Environment: environment,
		Namespace: object.GetNamespace(), Name: object.GetName(), Item: item,
	}
}

// Opened is what came out of a SealedSecret.
type Opened struct {
	// Data by key, of spec.encryptedData.
	Data map[string]providers.Value

	// Whole is the Secret that the deprecated spec.data holds, as JSON; the zero
	// Value where there is none.
	Whole providers.Value

	// Keys that opened it, by id or fingerprint, sorted.
	Keys []string
}

// Clear overwrites what was opened.
func (o Opened) Clear() {
	for _, value := range o.Data {
		value.Clear()
	}
	o.Whole.Clear()
}

// ItemErrors says of each item that does not open why. It wraps ErrItems, and
// every item's own error.
type ItemErrors map[string]error

// Error implements error. Items are in order, and none of their content is in it.
func (e ItemErrors) Error() string {
	var each []string
	for _, name := range slices.Sorted(maps.Keys(e)) {
		each = append(each, fmt.Sprintf("%s: %v", name, e[name]))
	}
	return strings.Join(each, "; ")
}

// Unwrap gives ErrItems and each item's error.
func (e ItemErrors) Unwrap() []error {
	return append([]error{ErrItems}, slices.Collect(maps.Values(e))...)
}

// Open opens all items of a SealedSecret, or none; environment is the one that
// its namespace is in, "" outside. Errors are ErrBoth, or ItemErrors. Items were
// mostly sealed together, so the RSA key that opened one is tried first on the
// next.
func Open(sealed *ssv1alpha1.SealedSecret, environment string, keys *seal.Keys) (Opened, error) {
	if sealed.Spec.Data != nil {
		return openWhole(sealed, keys)
	}
	opened, failed, used := Opened{Data: map[string]providers.Value{}}, ItemErrors{}, map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(sealed.Spec.EncryptedData)) {
		item, err := base64.StdEncoding.DecodeString(sealed.Spec.EncryptedData[name])
		if err != nil {
			failed[name] = fmt.Errorf("%w: not standard base64", seal.ErrMalformed)
			continue
		}
		one, err := keys.Open(item, Label(sealed, environment, name))
		if err != nil {
			failed[name] = err
			continue
		}
		opened.Data[name], used[one.Key] = one.Value, true
		keys = keys.First(one.Key)
	}
	if len(failed) > 0 {
		opened.Clear()
		return Opened{}, failed
	}
	opened.Keys = slices.Sorted(maps.Keys(used))
	return opened, nil
}

// openWhole opens spec.data, which older versions of kubeseal made.
func openWhole(sealed *ssv1alpha1.SealedSecret, keys *seal.Keys) (Opened, error) {
	if len(sealed.Spec.EncryptedData) > 0 {
		return Opened{}, ErrBoth
	}
	version, err := seal.Version(sealed.Spec.Data)
	if err == nil && version != seal.V1 {
		err = fmt.Errorf("%w: spec.data is always of version 1", seal.ErrVersion)
	}
	if err != nil {
		return Opened{}, ItemErrors{"spec.data": err}
	}
	one, err := keys.Open(sealed.Spec.Data, Label(sealed, "", ""))
	if err != nil {
		return Opened{}, ItemErrors{"spec.data": err}
	}
	return Opened{Whole: one.Value, Keys: []string{one.Key}}, nil
}

// Render builds the Secret that a SealedSecret stands for, as upstream does:
// named as the SealedSecret is, with the template's metadata, type and immutable,
// the opened values, and the template's texts rendered with them. A value wins
// over a text of the same key. Errors name the text and nothing of its content.
func Render(sealed *ssv1alpha1.SealedSecret, opened Opened) (*corev1.Secret, error) {
	secret := &corev1.Secret{}
	if opened.Data == nil {
		if err := json.Unmarshal(opened.Whole.Bytes(), secret); err != nil {
			return nil, errors.New("spec.data does not hold a Secret")
		}
	} else {
		sealed.Spec.Template.ObjectMeta.DeepCopyInto(&secret.ObjectMeta)
		secret.Type, secret.Immutable = sealed.Spec.Template.Type, sealed.Spec.Template.Immutable
		texts, err := render(sealed.Spec.Template.Data, opened.Data)
		if err != nil {
			return nil, err
		}
		secret.Data = texts
		for key, value := range opened.Data {
			secret.Data[key] = slices.Clone(value.Bytes())
		}
	}
	for key, text := range secret.StringData {
		if secret.Data == nil {
			secret.Data = map[string][]byte{}
		}
		secret.Data[key] = []byte(text)
	}
	secret.ObjectMeta = metav1.ObjectMeta{
		Namespace: sealed.Namespace, Name: sealed.Name,
		Labels: secret.Labels, Annotations: secret.Annotations,
	}
	secret.StringData = nil
	if secret.Type == "" {
		secret.Type = corev1.SecretTypeOpaque
	}
	return secret, nil
}
