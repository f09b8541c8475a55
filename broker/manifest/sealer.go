package manifest

import (
	"encoding/base64"
	"errors"
	"fmt"

	ssv1alpha1 "github.com/bitnami-labs/sealed-secrets/pkg/apis/sealedsecrets/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/privyseal/privyseal/broker/seal"
	"github.com/privyseal/privyseal/providers"
)

// MaxObject bounds one SealedSecret as JSON, in bytes: an API server takes no
// larger one.
const MaxObject = 12 << 20 / 10

// APIVersion and Kind of SealedSecrets.
const (
	APIVersion = "bitnami.com/v1alpha1"
	Kind       = "SealedSecret"
)

// Sealer seals to keys: to Recipients, in version 2, if there are any, else to
// RSA, in version 1. One of the two must be there.
type Sealer struct {
	// RSA is the key for version 1.
	RSA *seal.RSAPublicKey

	// Recipients are the keys for version 2, any one of which opens.
	Recipients []*seal.PublicKey

	// Environment that the namespace is in, which version 2 binds; "" is none.
	Environment string
}

// Item seals one value, and encodes it as spec.encryptedData has it. The
// label's environment is the Sealer's.
func (s Sealer) Item(value providers.Value, label seal.Label) (string, error) {
	label.Environment = s.Environment
	var item []byte
	var err error
	switch {
	case len(s.Recipients) > 0:
		item, err = seal.Seal(value, label, s.Recipients...)
	case s.RSA != nil:
		item, err = seal.SealV1(value, label, s.RSA)
	default:
		err = fmt.Errorf("%w: no key to seal to", seal.ErrKey)
	}
	return base64.StdEncoding.EncodeToString(item), err
}

// Seal seals each value of a Secret. Its type, labels and annotations become
// the template; what only a cluster writes is left out, and so are the copies
// of the whole Secret that kubectl and kubecfg leave in annotations. What
// stringData has wins over data, as an API server has it.
func (s Sealer) Seal(secret *corev1.Secret, scope seal.Scope) (*ssv1alpha1.SealedSecret, error) {
	sealed := &ssv1alpha1.SealedSecret{
		TypeMeta:   metav1.TypeMeta{APIVersion: APIVersion, Kind: Kind},
		ObjectMeta: metav1.ObjectMeta{Name: secret.Name, Namespace: secret.Namespace},
		Spec: ssv1alpha1.SealedSecretSpec{
			Template: ssv1alpha1.SecretTemplateSpec{
				ObjectMeta: templateMetadata(secret, scope),
				Type:       secret.Type,
				Immutable:  secret.Immutable,
			},
			EncryptedData: make(map[string]string, len(secret.Data)+len(secret.StringData)),
		},
	}
	SetScope(sealed, scope)
	var wrong ItemErrors
	for name, value := range Values(secret) {
		item, err := s.Item(value, LabelOf(sealed, s.Environment, name))
		if err != nil {
			wrong = append(wrong, ItemError{name, err})
			continue
		}
		sealed.Spec.EncryptedData[name] = item
	}
	if wrong != nil {
		return nil, wrong.sorted()
	}
	return sealed, nil
}

// Values of a Secret, by its keys. Those of stringData are copies.
func Values(secret *corev1.Secret) map[string]providers.Value {
	values := make(map[string]providers.Value, len(secret.Data)+len(secret.StringData))
	for name, value := range secret.Data {
		values[name] = providers.NewValue(value)
	}
	for name, value := range secret.StringData {
		values[name] = providers.NewValue([]byte(value))
	}
	return values
}

func templateMetadata(secret *corev1.Secret, scope seal.Scope) metav1.ObjectMeta {
	metadata := metav1.ObjectMeta{
		Name:        secret.Name,
		Namespace:   secret.Namespace,
		Labels:      secret.Labels,
		Annotations: secret.Annotations,
		Finalizers:  secret.Finalizers,
	}
	metadata = *metadata.DeepCopy()
	delete(metadata.Annotations, "kubectl.kubernetes.io/last-applied-configuration")
	delete(metadata.Annotations, "kubecfg.ksonnet.io/last-applied-configuration")
	SetScope(&metadata, scope)
	return metadata
}

// errWholeToV2: there is no way to write spec.data in version 2.
var errWholeToV2 = errors.New("the deprecated spec.data can be sealed to an RSA key only; unseal the object and seal its Secret anew")

// Reseal seals items anew, those that needs says, and changes nothing else: they
// open under the same label as before, environment included, whatever the
// Sealer's. An item of version 1 stays one if the sealer has an RSA key, and one
// of version 2 if it has recipients. It gives the names of the items changed,
// sorted; that of the deprecated spec.data is "". Errors are as Open's.
func Reseal(sealed *ssv1alpha1.SealedSecret, environment string, keys *seal.Keys, sealer Sealer, needs func(item []byte) bool) (*ssv1alpha1.SealedSecret, []string, error) {
	if len(sealed.Spec.Data) > 0 {
		return resealWhole(sealed, keys, sealer, needs)
	}
	resealed := sealed.DeepCopy()
	var changed []string
	var wrong ItemErrors
	for _, name := range Items(sealed) {
		text, key, err := resealItem(sealed.Spec.EncryptedData[name], LabelOf(sealed, environment, name), keys, sealer, needs)
		switch {
		case err != nil:
			wrong = append(wrong, ItemError{name, err})
		case text != "":
			resealed.Spec.EncryptedData[name] = text
			changed = append(changed, name)
			keys = keys.First(key)
		}
	}
	if wrong != nil {
		return nil, nil, wrong
	}
	return resealed, changed, nil
}

// resealItem gives "" for an item that stays, and the key that it opened with.
func resealItem(text string, label seal.Label, keys *seal.Keys, sealer Sealer, needs func(item []byte) bool) (string, string, error) {
	item, err := Decode(text)
	if err != nil {
		return "", "", err
	}
	parsed, err := seal.Parse(item)
	if err != nil {
		return "", "", err
	}
	if !needs(item) {
		return "", "", nil
	}
	opened, err := keys.Open(item, label)
	if err != nil {
		return "", "", err
	}
	defer opened.Value.Clear()
	if parsed.Version() == seal.V1 && sealer.RSA != nil {
		sealer.Recipients = nil
	}
	sealer.Environment = label.Environment
	resealed, err := sealer.Item(opened.Value, label)
	return resealed, opened.Key, err
}

func resealWhole(sealed *ssv1alpha1.SealedSecret, keys *seal.Keys, sealer Sealer, needs func(item []byte) bool) (*ssv1alpha1.SealedSecret, []string, error) {
	opened, err := Open(sealed, "", keys)
	if err != nil {
		return nil, nil, err
	}
	opened.Clear()
	switch {
	case !needs(sealed.Spec.Data):
		return sealed.DeepCopy(), nil, nil
	case sealer.RSA == nil:
		return nil, nil, ItemErrors{{Err: errWholeToV2}}
	}
	label := LabelOf(sealed, "", "")
	one, err := keys.Open(sealed.Spec.Data, label)
	if err != nil {
		return nil, nil, ItemErrors{{Err: err}} // unreachable: it has just opened
	}
	defer one.Value.Clear()
	item, err := seal.SealV1(one.Value, label, sealer.RSA)
	if err != nil {
		return nil, nil, ItemErrors{{Err: err}}
	}
	resealed := sealed.DeepCopy()
	resealed.Spec.Data = item
	return resealed, []string{""}, nil
}
