package manifest

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/template"

	ssv1alpha1 "github.com/bitnami-labs/sealed-secrets/pkg/apis/sealedsecrets/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ErrTemplate: spec.template.data does not parse or render.
var ErrTemplate = errors.New("template does not render")

// Render builds the Secret that the object stands for, as upstream would, but
// without an owner reference, which is the caller's to set. The name and the
// namespace are the object's own. The values in it are copies of opened's, which
// the caller clears as well.
//
// A template sees the values and the texts of the other templates, as they are
// written; a value wins over a text of the same key, here and in the Secret.
// Its functions are Sprig's without those that tell of the daemon's
// surroundings, so some give another result each time (randAlphaNum, now, genCA):
// render when the inputs have changed, and not otherwise. Errors wrap
// ErrTemplate and hold no value.
func Render(sealed *ssv1alpha1.SealedSecret, opened Opened) (*corev1.Secret, error) {
	secret := &corev1.Secret{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		Data:     make(map[string][]byte, len(opened.Data)+len(sealed.Spec.Template.Data)),
	}
	if opened.Secret != nil {
		secret.ObjectMeta = ownMetadata(opened.Secret.ObjectMeta)
		secret.Type, secret.Immutable = opened.Secret.Type, opened.Secret.Immutable
		for name, value := range opened.Secret.Data {
			secret.Data[name] = bytes.Clone(value)
		}
	} else {
		template := &sealed.Spec.Template
		secret.ObjectMeta = ownMetadata(template.ObjectMeta)
		secret.Type, secret.Immutable = template.Type, template.Immutable
		if err := renderData(secret.Data, template.Data, opened); err != nil {
			return nil, err
		}
		for name, value := range opened.Data {
			secret.Data[name] = bytes.Clone(value.Bytes())
		}
	}
	secret.Name, secret.Namespace = sealed.Name, sealed.Namespace
	return secret, nil
}

// ownMetadata leaves out what only an API server writes: a template made from a
// live Secret may hold it, and the create would be refused.
func ownMetadata(metadata metav1.ObjectMeta) metav1.ObjectMeta {
	return *(&metav1.ObjectMeta{
		Labels:      metadata.Labels,
		Annotations: metadata.Annotations,
		Finalizers:  metadata.Finalizers,
	}).DeepCopy()
}

func renderData(into map[string][]byte, templates map[string]string, opened Opened) error {
	if len(templates) == 0 {
		return nil
	}
	// text/template works on strings; these copies cannot be cleared.
	sees := maps.Clone(templates)
	for name, value := range opened.Data {
		sees[name] = string(value.Bytes())
	}
	var wrong []error
	for _, name := range slices.Sorted(maps.Keys(templates)) {
		if _, isItem := opened.Data[name]; isItem {
			continue
		}
		rendered, err := renderOne(name, templates[name], sees)
		if err != nil {
			wrong = append(wrong, fmt.Errorf("spec.template.data %s: %w: %w", name, ErrTemplate, err))
			continue
		}
		into[name] = rendered
	}
	return errors.Join(wrong...)
}

func renderOne(name, text string, sees map[string]string) ([]byte, error) {
	spent := &budget{left: maxWork}
	parsed, err := template.New(name).Funcs(spent.functions()).Parse(text)
	if err != nil {
		return nil, err // quotes the template's text alone
	}
	if err := spent.meter(parsed); err != nil {
		return nil, err
	}
	output := &limitedBuffer{}
	if err := parsed.Execute(output, sees); err != nil {
		return nil, withoutValues(err)
	}
	return output.Bytes(), nil
}

// withoutValues keeps the part of an error that speaks of the template, and
// drops what follows, where functions may have quoted their arguments.
func withoutValues(err error) error {
	for _, known := range []error{errTooLong, errTooMuch} {
		if errors.Is(err, known) {
			return known
		}
	}
	place, _, found := strings.Cut(err.Error(), ">: ")
	if failed := new(template.ExecError); !found || !errors.As(err, failed) {
		return errors.New("check the functions it calls")
	}
	return errors.New(place + ">: check the items it uses, and the functions called with them")
}

type limitedBuffer struct{ bytes.Buffer }

func (b *limitedBuffer) Write(p []byte) (int, error) {
	if b.Len()+len(p) > maxOutput {
		return 0, errTooLong
	}
	return b.Buffer.Write(p)
}
