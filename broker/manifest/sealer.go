package manifest

import (
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"

	ssv1alpha1 "github.com/bitnami-labs/sealed-secrets/pkg/apis/sealedsecrets/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/privyseal/privyseal/broker/seal"
	"github.com/privyseal/privyseal/providers"
)

// MaxObject is the longest SealedSecret that an API server takes, with room for
// what it adds.
const MaxObject = 1_200_000

// ErrSecret: a Secret cannot be sealed as it is.
var ErrSecret = errors.New("the Secret cannot be sealed")

// Sealer seals to one RSA key (version 1), or to some keys of version 2. Exactly
// one of RSA and Recipients is set.
type Sealer struct {
	RSA        *seal.RSAPublicKey
	Recipients []*seal.PublicKey

	// Environment that the namespace is in, for version 2; "" is none.
	Environment string
}

// Item seals one value, to what stands in spec.encryptedData.
func (s Sealer) Item(value providers.Value, label seal.Label) (string, error) {
	label.Environment = s.Environment
	var item []byte
	var err error
	if s.RSA != nil {
		item, err = seal.SealV1(value, label, s.RSA)
	} else {
		item, err = seal.Seal(value, label, s.Recipients...)
	}
	if err != nil {
		return "", err
	}
	return base64.StdEncoding.EncodeToString(item), nil
}

// Seal makes a SealedSecret of a Secret, with the Secret's labels, annotations,
// type and immutable in its template. What tools leave in a Secret's annotations
// as a copy of it, and owners, which another cluster does not have, are left out.
// Errors wrap ErrSecret, or are those of Item with the item's name.
func (s Sealer) Seal(secret *corev1.Secret, scope seal.Scope) (*ssv1alpha1.SealedSecret, error) {
	if secret.Name == "" && scope == seal.Strict {
		return nil, fmt.Errorf("%w: metadata.name is missing, and scope %s needs it", ErrSecret, scope)
	}
	if secret.Namespace == "" && scope != seal.ClusterWide {
		return nil, fmt.Errorf("%w: metadata.namespace is missing, and scope %s needs it", ErrSecret, scope)
	}
	sealed := &ssv1alpha1.SealedSecret{
		TypeMeta:   metav1.TypeMeta{APIVersion: ssv1alpha1.SchemeGroupVersion.String(), Kind: "SealedSecret"},
		ObjectMeta: metav1.ObjectMeta{Namespace: secret.Namespace, Name: secret.Name},
		Spec: ssv1alpha1.SealedSecretSpec{
			Template: ssv1alpha1.SecretTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{
					Namespace: secret.Namespace, Name: secret.Name,
					Labels: maps.Clone(secret.Labels), Annotations: maps.Clone(secret.Annotations),
				},
				Type: secret.Type, Immutable: secret.Immutable,
			},
			EncryptedData: map[string]string{},
		},
	}
	ssv1alpha1.StripLastAppliedAnnotations(sealed.Spec.Template.Annotations)
	SetScope(sealed, scope)
	SetScope(&sealed.Spec.Template, scope)
	values := maps.Clone(secret.Data)
	if values == nil {
		values = map[string][]byte{}
	}
	for key, text := range secret.StringData {
		values[key] = []byte(text)
	}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		item, err := s.Item(providers.NewValue(values[key]), Label(sealed, s.Environment, key))
		if err != nil {
			return nil, fmt.Errorf("sealing item %s: %w", key, err)
		}
		sealed.Spec.EncryptedData[key] = item
	}
	return sealed, nil
}

// Reseal seals the items anew that needs accepts, and nothing else of the
// SealedSecret is touched: not the template, not the scope. It gives a copy, and
// the names of the items. Errors are those of Open and Item.
func Reseal(sealed *ssv1alpha1.SealedSecret, environment string, keys *seal.Keys, sealer Sealer, needs func(item []byte) bool) (*ssv1alpha1.SealedSecret, []string, error) {
	again := sealed.DeepCopy()
	var chosen []string
	if sealed.Spec.Data == nil {
		again.Spec.EncryptedData = map[string]string{}
		for name, text := range sealed.Spec.EncryptedData {
			if item, err := base64.StdEncoding.DecodeString(text); err != nil || needs(item) {
				again.Spec.EncryptedData[name] = text
				chosen = append(chosen, name)
			}
		}
	}
	slices.Sort(chosen)
	opened, err := Open(again, environment, keys)
	if err != nil {
		return nil, nil, err
	}
	defer opened.Clear()
	again = sealed.DeepCopy()
	if sealed.Spec.Data != nil {
		return resealWhole(again, opened, sealer, needs)
	}
	for _, name := range chosen {
		if again.Spec.EncryptedData[name], err = sealer.Item(opened.Data[name], Label(sealed, environment, name)); err != nil {
			return nil, nil, fmt.Errorf("sealing item %s: %w", name, err)
		}
	}
	return again, chosen, nil
}

func resealWhole(again *ssv1alpha1.SealedSecret, opened Opened, sealer Sealer, needs func([]byte) bool) (*ssv1alpha1.SealedSecret, []string, error) {
	if !needs(again.Spec.Data) {
		return again, nil, nil
	}
	if sealer.RSA == nil {
		return nil, nil, fmt.Errorf("sealing spec.data: %w: it is always of version 1, so it needs an RSA key", seal.ErrKey)
	}
	item, err := seal.SealV1(opened.Whole, Label(again, "", ""), sealer.RSA)
	if err != nil {
		return nil, nil, fmt.Errorf("sealing spec.data: %w", err)
	}
	again.Spec.Data = item
	return again, []string{"spec.data"}, nil
}
