package plan

import (
	"context"
	"fmt"
	"slices"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/restart"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// Live is the cluster behind a reader, or one namespace of it; all of them
// where namespace is empty. webhook names the MutatingWebhookConfiguration by
// which pods get secrets. Whoever the reader asks as has to list, there, pods,
// replicasets, deployments, statefulsets, daemonsets, poddisruptionbudgets,
// secretclaims and secrets, of these and of replicasets the metadata only, to read namespaces, and to list
// environments.
func Live(ctx context.Context, reader client.Reader, namespace, webhook string) (*World, error) {
	objects, err := gather(ctx, reader, namespace)
	if err != nil {
		return nil, err
	}
	return live(ctx, reader, objects, namespace, webhook)
}

// LiveRotations is Live with the rotations of all namespaces, and the stores. Whoever
// asks has to list both; without that, the rotations are those of the namespace, each
// store is taken to be one of its own, and the World's notes say so.
func LiveRotations(ctx context.Context, reader client.Reader, namespace, webhook string) (*World, error) {
	objects, err := gather(ctx, reader, namespace)
	if err != nil {
		return nil, err
	}
	var notes []string
	rotations, err := listed(ctx, reader, &v1alpha1.SecretRotationList{})
	if apierrors.IsForbidden(err) && namespace != "" {
		notes = append(notes, fmt.Sprintf("whether rotations of other namespaces rotate the same path is not known: %v", err))
		rotations, err = listed(ctx, reader, &v1alpha1.SecretRotationList{}, client.InNamespace(namespace))
	}
	if err != nil {
		return nil, err
	}
	stores, err := listed(ctx, reader, &v1alpha1.ClusterSecretStoreList{})
	if apierrors.IsForbidden(err) {
		notes = append(notes, fmt.Sprintf("whether stores are there, and which are one, is not known: %v", err))
		stores, err = assumedStores(objects), nil
	}
	if err != nil {
		return nil, err
	}
	w, err := live(ctx, reader, slices.Concat(objects, rotations, stores), namespace, webhook)
	if err == nil {
		w.Notes = append(w.Notes, notes...)
	}
	return w, err
}

func gather(ctx context.Context, reader client.Reader, namespace string) ([]client.Object, error) {
	var objects []client.Object
	for _, list := range []client.ObjectList{
		&appsv1.DeploymentList{}, &appsv1.StatefulSetList{}, &appsv1.DaemonSetList{}, &corev1.PodList{},
		metaList(appsv1.SchemeGroupVersion, "ReplicaSet"), metaList(corev1.SchemeGroupVersion, "Secret"),
		&v1alpha1.SecretClaimList{}, &policyv1.PodDisruptionBudgetList{},
	} {
		more, err := listed(ctx, reader, list, client.InNamespace(namespace))
		if err != nil {
			return nil, err
		}
		objects = append(objects, more...)
	}
	environments, err := listed(ctx, reader, &v1alpha1.EnvironmentList{})
	if err != nil {
		return nil, fmt.Errorf("%w (they say when restarts may happen)", err)
	}
	namespaces, err := namespacesOf(ctx, reader, namespace)
	if err != nil {
		return nil, err
	}
	return slices.Concat(objects, environments, namespaces), nil
}

func live(ctx context.Context, reader client.Reader, objects []client.Object, namespace, webhook string) (*World, error) {
	rollouts, unknown := rolloutsOf(ctx, reader, namespace)
	objects = append(objects, rollouts...)
	configuration := &admissionregistrationv1.MutatingWebhookConfiguration{}
	err := reader.Get(ctx, client.ObjectKey{Name: webhook}, configuration)
	if err == nil {
		objects = append(objects, configuration)
	}
	w, worldErr := newWorld(objects, webhook, where(namespace))
	if worldErr == nil && unknown != nil {
		w.Notes = append(w.Notes, fmt.Sprintf("Rollouts of Argo are not in it: %v", unknown))
	}
	if worldErr == nil && client.IgnoreNotFound(err) != nil {
		w.Notes = append(w.Notes, fmt.Sprintf("whether pods are replaced for a secret that they ask for and lack is not known: reading the webhook's configuration %s: %v", webhook, err))
	}
	return w, worldErr
}

// rolloutsOf Argo; none in a cluster that does not have the kind.
func rolloutsOf(ctx context.Context, reader client.Reader, namespace string) ([]client.Object, error) {
	list := &unstructured.UnstructuredList{}
	kind := restart.ArgoRollout()
	list.SetGroupVersionKind(kind.GroupVersion().WithKind(kind.Kind + "List"))
	found, err := listed(ctx, reader, list, client.InNamespace(namespace))
	if meta.IsNoMatchError(err) {
		return nil, nil
	}
	return found, err
}

// assumedStores are those that environments name and that are not known, each at an
// address of its own.
func assumedStores(objects []client.Object) []client.Object {
	known := map[string]bool{}
	for _, object := range objects {
		if store, is := object.(*v1alpha1.ClusterSecretStore); is {
			known[store.Name] = true
		}
	}
	var assumed []client.Object
	for _, object := range objects {
		environment, is := object.(*v1alpha1.Environment)
		if !is {
			continue
		}
		for _, name := range environment.Spec.Stores {
			if !known[name] {
				known[name] = true
				store := &v1alpha1.ClusterSecretStore{ObjectMeta: metav1.ObjectMeta{Name: name}}
				store.Spec.Vault.Address = "assumed:" + name
				assumed = append(assumed, store)
			}
		}
	}
	return assumed
}

func where(namespace string) string {
	if namespace == "" {
		return "in the cluster"
	}
	return "in namespace " + namespace
}

func metaList(version schema.GroupVersion, kind string) *metav1.PartialObjectMetadataList {
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(version.WithKind(kind + "List"))
	return list
}

func listed(ctx context.Context, reader client.Reader, list client.ObjectList, options ...client.ListOption) ([]client.Object, error) {
	if err := reader.List(ctx, list, options...); err != nil {
		return nil, fmt.Errorf("gathering what a plan is made from: %w", err)
	}
	items, err := meta.ExtractList(list)
	if err != nil {
		return nil, fmt.Errorf("gathering what a plan is made from: %w", err)
	}
	objects := make([]client.Object, 0, len(items))
	for _, item := range items {
		object, is := item.(client.Object)
		if !is {
			return nil, fmt.Errorf("gathering what a plan is made from: %T is no object", item) // unreachable: lists hold objects
		}
		if partial, isMeta := object.(*metav1.PartialObjectMetadata); isMeta {
			partial.SetGroupVersionKind(itemKind(list))
		}
		objects = append(objects, object)
	}
	return objects, nil
}

// itemKind of a list of metadata, whose items need not say it.
func itemKind(list client.ObjectList) schema.GroupVersionKind {
	kind := list.GetObjectKind().GroupVersionKind()
	kind.Kind = kind.Kind[:len(kind.Kind)-len("List")]
	return kind
}

func namespacesOf(ctx context.Context, reader client.Reader, namespace string) ([]client.Object, error) {
	if namespace == "" {
		return listed(ctx, reader, metaList(corev1.SchemeGroupVersion, "Namespace"))
	}
	in := &metav1.PartialObjectMetadata{}
	in.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	if err := reader.Get(ctx, client.ObjectKey{Name: namespace}, in); err != nil {
		return nil, fmt.Errorf("looking up namespace %s: %w", namespace, err)
	}
	return []client.Object{in}, nil
}
