package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"

	ssv1alpha1 "github.com/bitnami-labs/sealed-secrets/pkg/apis/sealedsecrets/v1alpha1"
	corev1 "k8s.io/api/core/v1"

	"github.com/privyseal/privyseal/broker/manifest"
	"github.com/privyseal/privyseal/broker/seal"
	"github.com/privyseal/privyseal/providers"
)

// find is the object of a Secret in the file before; nil if there is none.
func find(before *manifest.File, secret *corev1.Secret) *ssv1alpha1.SealedSecret {
	if before == nil {
		return nil
	}
	for _, object := range before.Objects {
		if object.Name == secret.Name && object.Namespace == secret.Namespace {
			if sealed, err := object.Sealed(); err == nil {
				return sealed
			}
		}
	}
	return nil
}

// rewritten is the text for these objects. Where nothing but ciphertexts differs
// from the file before, it is that file with them replaced: its comments and its
// layout are somebody's.
func rewritten(before *manifest.File, all []*ssv1alpha1.SealedSecret, asJSON bool) ([]byte, error) {
	var text []byte
	for _, sealed := range all {
		one, err := manifest.Encode(sealed, asJSON)
		if err != nil {
			return nil, err
		}
		text = append(text, one...)
	}
	after, err := manifest.Parse(text)
	if err != nil {
		return nil, err
	}
	if before == nil || len(before.Objects) != len(all) {
		return text, nil
	}
	var edits []manifest.Edit
	for i, object := range before.Objects {
		was, err := object.Sealed()
		if err != nil || !reflect.DeepEqual(object.With(all[i]), after.Objects[i].Tree) {
			return text, nil //nolint:nilerr // the file held something else
		}
		edits = append(edits, changes(object, was, all[i])...)
	}
	edited, err := before.Replace(edits)
	if err != nil {
		return text, nil //nolint:nilerr // a layout that cannot be kept
	}
	return edited, nil
}

// changes are the ciphertexts in which two readings of an object differ.
func changes(object *manifest.Object, was, is *ssv1alpha1.SealedSecret) []manifest.Edit {
	var edits []manifest.Edit
	for _, item := range manifest.Items(is) {
		if text := is.Spec.EncryptedData[item]; text != was.Spec.EncryptedData[item] {
			edits = append(edits, manifest.Edit{Object: object, Item: item, Text: text})
		}
	}
	if len(is.Spec.Data) > 0 && !bytes.Equal(is.Spec.Data, was.Spec.Data) {
		edits = append(edits, manifest.Edit{Object: object, Text: base64.StdEncoding.EncodeToString(is.Spec.Data)})
	}
	return edits
}

// merge seals the items of one Secret into a file that is there.
func (s *sealing) merge(ctx context.Context, secrets []*corev1.Secret) error {
	before, err := readBefore(s.mergeInto)
	if err != nil {
		return err
	}
	if before == nil || len(before.Objects) != 1 {
		return fmt.Errorf("--merge-into %s: want a file with one SealedSecret; without it, seal with -w", s.mergeInto)
	}
	if len(secrets) != 1 {
		return fmt.Errorf("--merge-into takes one Secret, and the input has %d", len(secrets))
	}
	object, secret := before.Objects[0], secrets[0]
	into, err := object.Sealed()
	if err != nil {
		return fmt.Errorf("--merge-into %s: %w", s.mergeInto, err)
	}
	if err := s.placeInto(secret, into); err != nil {
		return err
	}
	all, err := s.sealAll(ctx, secrets, before)
	if err != nil {
		return err
	}
	mergeTemplate(&into.Spec.Template, &all[0].Spec.Template)
	merged := object.With(all[0])
	edits := changes(object, into, all[0])
	if edited, err := before.Replace(edits); err == nil && sameTemplate(object, into) {
		return writeFile(s.mergeInto, edited, 0o644)
	}
	merged = withTemplate(merged, into)
	text, err := manifest.Encode(merged, looksLikeJSON(s.mergeInto))
	if err != nil {
		return err
	}
	return writeFile(s.mergeInto, text, 0o644)
}

// placeInto gives the Secret the place of the object that it is merged into:
// items of another place would not open there.
func (s *sealing) placeInto(secret *corev1.Secret, into *ssv1alpha1.SealedSecret) error {
	if len(into.Spec.Data) > 0 {
		return fmt.Errorf("--merge-into %s: it holds the deprecated spec.data; unseal it, and seal the Secret anew", s.mergeInto)
	}
	scope := manifest.Scope(into)
	if s.flags.Changed("scope") && s.scope != scope.String() {
		return fmt.Errorf("--merge-into %s: its scope is %s, and --scope says %s; all items of an object have its scope", s.mergeInto, scope, s.scope)
	}
	secret.Name, secret.Namespace = into.Name, into.Namespace
	manifest.SetScope(secret, scope)
	return nil
}

// mergeTemplate adds the labels and annotations of what was sealed, as kubeseal
// does.
func mergeTemplate(into, from *ssv1alpha1.SecretTemplateSpec) {
	for name, value := range from.Labels {
		if into.Labels == nil {
			into.Labels = map[string]string{}
		}
		into.Labels[name] = value
	}
	for name, value := range from.Annotations {
		if into.Annotations == nil {
			into.Annotations = map[string]string{}
		}
		into.Annotations[name] = value
	}
}

func sameTemplate(object *manifest.Object, merged *ssv1alpha1.SealedSecret) bool {
	was, err := object.Sealed()
	return err == nil && reflect.DeepEqual(was.Spec.Template, merged.Spec.Template)
}

// withTemplate puts labels and annotations into a tree that may hold fields
// which the kind does not know.
func withTemplate(tree map[string]any, merged *ssv1alpha1.SealedSecret) map[string]any {
	spec, _ := tree["spec"].(map[string]any)
	template := child(spec, "template")
	metadata := child(template, "metadata")
	for field, entries := range map[string]map[string]string{"labels": merged.Spec.Template.Labels, "annotations": merged.Spec.Template.Annotations} {
		if len(entries) > 0 {
			into := child(metadata, field)
			for name, value := range entries {
				into[name] = value
			}
		}
	}
	return tree
}

func child(tree map[string]any, name string) map[string]any {
	found, isMapping := tree[name].(map[string]any)
	if !isMapping {
		found = map[string]any{}
		tree[name] = found
	}
	return found
}

func looksLikeJSON(name string) bool {
	text, err := os.ReadFile(name)
	return err == nil && strings.HasPrefix(strings.TrimSpace(string(text)), "{")
}

// runRaw seals one value.
func (s *sealing) runRaw(ctx context.Context) error {
	if len(s.fromFile) > 1 {
		return usageError{errors.New("--raw seals one value: give one --from-file")}
	}
	var item, from string
	if len(s.fromFile) == 1 {
		if key, file, found := strings.Cut(s.fromFile[0], "="); found {
			item, from = key, file
		} else {
			from = s.fromFile[0]
		}
	}
	scope, err := seal.ParseScope(s.scope)
	if err != nil {
		return err // unreachable: checked before
	}
	if scope == seal.Strict && s.name == "" {
		return usageError{errors.New("--raw with scope strict needs --name, the name of the Secret")}
	}
	label := seal.Label{Scope: scope, Name: s.name, Item: item}
	if scope != seal.ClusterWide {
		label.Namespace = s.controller.defaultNamespace()
	}
	sealer, err := s.recipients.sealer(ctx, &s.controller)
	if err != nil {
		return err
	}
	if len(sealer.Recipients) > 0 && item == "" {
		return usageError{errors.New("v2 binds the key of the Secret: write --from-file KEY=FILE (KEY=/dev/stdin for standard input), or seal with --envelope v1")}
	}
	if err := s.setHome(ctx, &sealer, scope, label.Namespace, map[string]string{}); err != nil {
		return err
	}
	if from == "/dev/stdin" {
		from = "-"
	}
	raw, err := readInput(s.stdin, from)
	if err != nil {
		return err
	}
	value := providers.NewValue(raw)
	defer value.Clear()
	text, err := sealer.Item(value, label)
	if err != nil {
		return fmt.Errorf("sealing the value: %w", err)
	}
	if s.output != "" {
		return writeFile(s.output, []byte(text), 0o644)
	}
	_, err = io.WriteString(s.stdout, text)
	return err
}
