package recovery

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/installkey"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// What sealing keys are known by.
const (
	// labelV1 is upstream's, whatever its value: a compromised key opens, too.
	labelV1 = "sealedsecrets.bitnami.com/sealed-secrets-key"
	// legacyV1 is the name of the one key that upstream's first releases had.
	legacyV1 = "sealed-secrets-key"
	// typeV2 is the type of our own.
	typeV2 corev1.SecretType = v1alpha1.Group + "/sealing-key"
)

func isSealingKey(secret *corev1.Secret) bool {
	_, labelled := secret.Labels[labelV1]
	return secret.Type == typeV2 || secret.Type == corev1.SecretTypeTLS && (labelled || secret.Name == legacyV1)
}

// what a Secret of a bundle is.
func what(secret *corev1.Secret) string {
	switch {
	case secret.Type == typeV2:
		return "sealing key, version 2"
	case isSealingKey(secret):
		return "sealing key, version 1"
	default:
		return "install key"
	}
}

// Gather collects a bundle from a cluster: all sealing keys of the namespaces
// given, the install key of the first, all environments, and the namespaces
// that are in one or that a key lies in.
func Gather(ctx context.Context, cluster client.Reader, daemon string, keyNamespaces ...string) (Bundle, error) {
	var bundle Bundle
	places := append([]string{daemon}, keyNamespaces...)
	slices.Sort(places)
	for _, place := range slices.Compact(places) {
		var secrets corev1.SecretList
		if err := cluster.List(ctx, &secrets, client.InNamespace(place)); err != nil {
			return bundle, fmt.Errorf("listing the Secrets of namespace %s: %w", place, err)
		}
		for i := range secrets.Items {
			secret := &secrets.Items[i]
			if isSealingKey(secret) || place == daemon && secret.Name == installkey.SecretName {
				bundle.Secrets = append(bundle.Secrets, corev1.Secret{
					TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"}, ObjectMeta: keep(secret.ObjectMeta),
					Type: secret.Type, Immutable: secret.Immutable, Data: secret.Data,
				})
			}
		}
	}
	var environments v1alpha1.EnvironmentList
	if err := cluster.List(ctx, &environments); err != nil {
		return bundle, fmt.Errorf("listing environments: %w", err)
	}
	for _, environment := range environments.Items {
		bundle.Environments = append(bundle.Environments, v1alpha1.Environment{
			TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "Environment"},
			ObjectMeta: keep(environment.ObjectMeta), Spec: environment.Spec,
		})
	}
	var err error
	bundle.Namespaces, err = namespaces(ctx, cluster, bundle, places)
	return bundle, err
}

func namespaces(ctx context.Context, cluster client.Reader, bundle Bundle, always []string) ([]corev1.Namespace, error) {
	var all corev1.NamespaceList
	if err := cluster.List(ctx, &all); err != nil {
		return nil, fmt.Errorf("listing namespaces: %w", err)
	}
	var kept []corev1.Namespace
	for _, namespace := range all.Items {
		if slices.Contains(always, namespace.Name) || inAny(bundle.Environments, namespace.Labels) {
			kept = append(kept, corev1.Namespace{
				TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"}, ObjectMeta: keep(namespace.ObjectMeta)})
		}
	}
	return kept, nil
}

// inAny says that an environment selects these labels; whether another does so
// as well is not asked.
func inAny(environments []v1alpha1.Environment, has labels.Set) bool {
	return slices.ContainsFunc(environments, func(e v1alpha1.Environment) bool {
		selector, err := metav1.LabelSelectorAsSelector(&e.Spec.NamespaceSelector)
		return err == nil && !selector.Empty() && selector.Matches(has)
	})
}

// keep is the part of an object's metadata that somebody gave it.
func keep(meta metav1.ObjectMeta) metav1.ObjectMeta {
	kept := metav1.ObjectMeta{Namespace: meta.Namespace, Name: meta.Name,
		Labels: maps.Clone(meta.Labels), Annotations: maps.Clone(meta.Annotations)}
	delete(kept.Annotations, corev1.LastAppliedConfigAnnotation)
	return kept
}

// Fate says what restoring did with an object.
type Fate string

// What restoring does with an object.
const (
	// Made: it was not there.
	Made Fate = "made"
	// Same: it is there, with the same content.
	Same Fate = "already there"
	// Differs: there is one of that name with another content, and it is left as
	// it is.
	Differs Fate = "there is another of that name, which is left as it is"
)

// Restored is an object and its fate.
type Restored struct {
	Object client.Object
	Fate   Fate
}

// Restore makes what is not there, by create alone: nothing that is there is
// touched. It stops at the first error, with what was done until then.
func Restore(ctx context.Context, cluster client.Client, bundle Bundle) ([]Restored, error) {
	var done []Restored
	for i := range bundle.Namespaces {
		found := &corev1.Namespace{}
		fate, err := restore(ctx, cluster, &bundle.Namespaces[i], found, func() bool {
			return holds(found.Labels, bundle.Namespaces[i].Labels)
		})
		if err != nil {
			return done, err
		}
		done = append(done, Restored{&bundle.Namespaces[i], fate})
	}
	for i := range bundle.Secrets {
		found := &corev1.Secret{}
		fate, err := restore(ctx, cluster, &bundle.Secrets[i], found, func() bool {
			return found.Type == bundle.Secrets[i].Type && maps.EqualFunc(found.Data, bundle.Secrets[i].Data, bytes.Equal)
		})
		if err != nil {
			return done, err
		}
		done = append(done, Restored{&bundle.Secrets[i], fate})
	}
	for i := range bundle.Environments {
		found := &v1alpha1.Environment{}
		fate, err := restore(ctx, cluster, &bundle.Environments[i], found, func() bool {
			return equality.Semantic.DeepEqual(found.Spec, bundle.Environments[i].Spec)
		})
		if err != nil {
			return done, err
		}
		done = append(done, Restored{&bundle.Environments[i], fate})
	}
	return done, nil
}

func restore(ctx context.Context, cluster client.Client, wanted, found client.Object, same func() bool) (Fate, error) {
	name := client.ObjectKeyFromObject(wanted)
	err := cluster.Create(ctx, wanted.DeepCopyObject().(client.Object))
	if err == nil {
		return Made, nil
	}
	if !apierrors.IsAlreadyExists(err) {
		return "", fmt.Errorf("making %s %s: %w", wanted.GetObjectKind().GroupVersionKind().Kind, name, err)
	}
	if err := cluster.Get(ctx, name, found); err != nil {
		return "", fmt.Errorf("reading %s %s: %w", wanted.GetObjectKind().GroupVersionKind().Kind, name, err)
	}
	if same() {
		return Same, nil
	}
	return Differs, nil
}

func holds(all, wanted map[string]string) bool {
	for key, value := range wanted {
		if all[key] != value {
			return false
		}
	}
	return true
}
