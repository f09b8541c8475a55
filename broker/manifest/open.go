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

	"github.com/privyseal/privyseal/broker/seal"
	"github.com/privyseal/privyseal/providers"
)

// ErrBoth: spec.encryptedData and the deprecated spec.data are both set, so it
// is not known which of them is the Secret.
var ErrBoth = errors.New("spec.encryptedData and the deprecated spec.data are both set; remove one of them")

// Opened is what came out of a SealedSecret's items.
type Opened struct {
	// Data are the values, by the keys of the Secret.
	Data map[string]providers.Value

	// Keys that the items opened with, sorted: ids, or fingerprints for version 1.
	Keys []string

	// KeyOf says which key each item opened with.
	KeyOf map[string]string

	// Secret is what the deprecated spec.data held; nil if that is not set.
	Secret *corev1.Secret
}

// Clear overwrites the values.
func (o Opened) Clear() {
	for _, value := range o.Data {
		value.Clear()
	}
	if o.Secret != nil {
		for _, value := range o.Secret.Data {
			clear(value)
		}
	}
}

// ItemError is an item that does not open, or cannot be sealed.
type ItemError struct {
	// Item is the key of the Secret; "" is the deprecated spec.data.
	Item string
	Err  error
}

func (e ItemError) Error() string {
	if e.Item == "" {
		return fmt.Sprintf("spec.data: %v", e.Err)
	}
	return fmt.Sprintf("item %s: %v", e.Item, e.Err)
}

// Unwrap gives the cause, which is an error of package seal.
func (e ItemError) Unwrap() error { return e.Err }

// ItemErrors are all items that do not open, sorted.
type ItemErrors []ItemError

// maxToldItems bounds an error's text, which goes into a status.
const maxToldItems = 8

func (e ItemErrors) Error() string {
	var told []string
	for _, one := range e[:min(len(e), maxToldItems)] {
		told = append(told, one.Error())
	}
	if more := len(e) - maxToldItems; more > 0 {
		told = append(told, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(told, "; ")
}

// Unwrap gives each item's error.
func (e ItemErrors) Unwrap() []error {
	all := make([]error, 0, len(e))
	for _, one := range e {
		all = append(all, one)
	}
	return all
}

func (e ItemErrors) sorted() ItemErrors {
	slices.SortFunc(e, func(a, b ItemError) int { return strings.Compare(a.Item, b.Item) })
	return e
}

// Open opens all items or none: the error is ItemErrors, which names every item
// that does not open, or ErrBoth. The environment is the one that the namespace
// is in, "" outside of environments.
func Open(sealed *ssv1alpha1.SealedSecret, environment string, keys *seal.Keys) (Opened, error) {
	switch {
	case len(sealed.Spec.Data) > 0 && len(sealed.Spec.EncryptedData) > 0:
		return Opened{}, ErrBoth
	case len(sealed.Spec.Data) > 0:
		return openWhole(sealed, keys)
	}
	opened := Opened{
		Data:  make(map[string]providers.Value, len(sealed.Spec.EncryptedData)),
		KeyOf: make(map[string]string, len(sealed.Spec.EncryptedData)),
	}
	var wrong ItemErrors
	for _, name := range Items(sealed) {
		item, err := Decode(sealed.Spec.EncryptedData[name])
		if err != nil {
			wrong = append(wrong, ItemError{name, err})
			continue
		}
		one, err := keys.Open(item, LabelOf(sealed, environment, name))
		if err != nil {
			wrong = append(wrong, ItemError{name, err})
			continue
		}
		opened.Data[name] = one.Value
		opened.KeyOf[name] = one.Key
		keys = keys.First(one.Key)
	}
	if wrong != nil {
		opened.Clear()
		return Opened{}, wrong
	}
	opened.Keys = slices.Compact(slices.Sorted(maps.Values(opened.KeyOf)))
	return opened, nil
}

// Items are the names of the items, sorted.
func Items(sealed *ssv1alpha1.SealedSecret) []string {
	return slices.Sorted(maps.Keys(sealed.Spec.EncryptedData))
}

// LabelOf is what one of the object's items must have been sealed with.
func LabelOf(sealed *ssv1alpha1.SealedSecret, environment, item string) seal.Label {
	return seal.Label{
		Scope:       Scope(sealed),
		Environment: environment,
		Namespace:   sealed.Namespace,
		Name:        sealed.Name,
		Item:        item,
	}
}

// Decode decodes an item's base64. Its errors wrap seal.ErrMalformed and
// seal.ErrTooLarge.
func Decode(text string) ([]byte, error) {
	if len(text) > MaxObject {
		return nil, fmt.Errorf("%w: %d bytes of base64", seal.ErrTooLarge, len(text))
	}
	item, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("%w: not base64: %w", seal.ErrMalformed, err)
	}
	return item, nil
}

// openWhole opens the deprecated spec.data, a whole Secret as JSON. It is of
// version 1: version 2 knows no item without a key of the Secret.
func openWhole(sealed *ssv1alpha1.SealedSecret, keys *seal.Keys) (Opened, error) {
	version, err := seal.Version(sealed.Spec.Data)
	if err == nil && version != seal.V1 {
		err = fmt.Errorf("%w: only version 1 can hold a whole Secret", seal.ErrVersion)
	}
	if err != nil {
		return Opened{}, ItemErrors{{Err: err}}
	}
	one, err := keys.Open(sealed.Spec.Data, LabelOf(sealed, "", ""))
	if err != nil {
		return Opened{}, ItemErrors{{Err: err}}
	}
	defer one.Value.Clear()
	secret := &corev1.Secret{}
	if json.Unmarshal(one.Value.Bytes(), secret) != nil || secret.Kind != "" && secret.Kind != "Secret" {
		// What JSON has against it could quote the value.
		return Opened{}, ItemErrors{{Err: fmt.Errorf("%w: what it holds is not the JSON of a Secret", seal.ErrMalformed)}}
	}
	if secret.Data == nil && len(secret.StringData) > 0 {
		secret.Data = make(map[string][]byte, len(secret.StringData))
	}
	for name, value := range secret.StringData {
		secret.Data[name] = []byte(value)
	}
	secret.StringData = nil
	return Opened{Keys: []string{one.Key}, Secret: secret}, nil
}
