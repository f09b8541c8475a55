package restart

import (
	"context"
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/reloader"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// The cache holds every pod of the cluster, so it holds little of each. What
// the functions below make is for reading only: writing it back would blank
// the object.

// ByObject is how the manager's cache must hold what this package reads, for
// cache.Options.ByObject. Other readers of the same cache see what the Keep
// functions leave: names, owners and our own annotations are all there.
//
// Secrets are read as metadata and are not among them: their owner is the
// claim's controller, and of a Secret this package needs no more than our own
// labels and annotations, and Reloader's.
func ByObject() map[client.Object]cache.ByObject {
	return map[client.Object]cache.ByObject{
		&corev1.Pod{}:         {Transform: KeepPod},
		&appsv1.ReplicaSet{}:  {Transform: KeepMetadata},
		&appsv1.Deployment{}:  {Transform: KeepWorkload},
		&appsv1.StatefulSet{}: {Transform: KeepWorkload},
		&appsv1.DaemonSet{}:   {Transform: KeepWorkload},
	}
}

// KeepPod is a cache.TransformFunc that leaves of a pod its identity, owner,
// times, phase, whether it is ready, the hash of its template and our
// annotations. Of its spec it
// leaves a single container without a name that reads the same Secrets, so that
// ReadsOf says the same of it; beside that the names of variables in containers
// that take whole Secrets as such, and the volumes that the webhook puts in.
// Applying it twice changes nothing.
func KeepPod(object any) (any, error) {
	pod, is := object.(*corev1.Pod)
	if !is {
		return object, nil // a tombstone, or a pod's metadata
	}
	kept := &corev1.Pod{
		ObjectMeta: keepMeta(&pod.ObjectMeta),
		Spec:       ReadsOf(&pod.Spec).spec(),
		Status:     keepReady(pod),
	}
	kept.Annotations = keepOurs(pod.Annotations) // what else its template says is read off the workload
	kept.Spec.Containers = append(kept.Spec.Containers, keepVariables(&pod.Spec)...)
	kept.Spec.Volumes = keepVolumes(&pod.Spec)
	keepHash(&pod.ObjectMeta, &kept.ObjectMeta)
	return kept, nil
}

// KeepMetadata is a cache.TransformFunc that leaves of metadata the identity,
// the owners and what is ours.
func KeepMetadata(object any) (any, error) {
	partial, is := object.(*metav1.PartialObjectMetadata)
	if !is {
		return object, nil
	}
	return &metav1.PartialObjectMetadata{TypeMeta: partial.TypeMeta, ObjectMeta: keepMeta(&partial.ObjectMeta)}, nil
}

// KeepWorkload is a cache.TransformFunc that leaves of a Deployment,
// StatefulSet, DaemonSet or Rollout what a restart is judged by: identity, how it
// replaces pods, whether it wants any, how far it is with that, and of its
// template the labels, our annotations and a single container that reads the
// same Secrets.
func KeepWorkload(object any) (any, error) {
	switch object := object.(type) {
	case *appsv1.Deployment:
		return &appsv1.Deployment{ObjectMeta: keepWorkloadMeta(&object.ObjectMeta), Spec: appsv1.DeploymentSpec{
			Replicas: object.Spec.Replicas, Paused: object.Spec.Paused, Template: keepTemplate(&object.Spec.Template)},
			Status: appsv1.DeploymentStatus{ObservedGeneration: object.Status.ObservedGeneration, Replicas: object.Status.Replicas,
				UpdatedReplicas: object.Status.UpdatedReplicas, AvailableReplicas: object.Status.AvailableReplicas,
				Conditions: keepProgress(object.Status.Conditions)}}, nil
	case *appsv1.StatefulSet:
		return &appsv1.StatefulSet{ObjectMeta: keepWorkloadMeta(&object.ObjectMeta), Spec: appsv1.StatefulSetSpec{
			Replicas: object.Spec.Replicas, UpdateStrategy: object.Spec.UpdateStrategy, Template: keepTemplate(&object.Spec.Template)},
			Status: appsv1.StatefulSetStatus{ObservedGeneration: object.Status.ObservedGeneration,
				CurrentRevision: object.Status.CurrentRevision, UpdateRevision: object.Status.UpdateRevision}}, nil
	case *appsv1.DaemonSet:
		return &appsv1.DaemonSet{ObjectMeta: keepWorkloadMeta(&object.ObjectMeta), Spec: appsv1.DaemonSetSpec{
			UpdateStrategy: object.Spec.UpdateStrategy, Template: keepTemplate(&object.Spec.Template)},
			Status: appsv1.DaemonSetStatus{ObservedGeneration: object.Status.ObservedGeneration,
				DesiredNumberScheduled: object.Status.DesiredNumberScheduled, UpdatedNumberScheduled: object.Status.UpdatedNumberScheduled}}, nil
	case *unstructured.Unstructured:
		if isArgo(object) {
			return keepArgo(object)
		}
	}
	return object, nil
}

func keepTemplate(template *corev1.PodTemplateSpec) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: template.Labels, Annotations: keepRead(template.Annotations)},
		Spec:       ReadsOf(&template.Spec).spec(),
	}
}

func keepWorkloadMeta(meta *metav1.ObjectMeta) metav1.ObjectMeta {
	kept := keepMeta(meta)
	kept.ManagedFields = keepBegan(meta.ManagedFields)
	return kept
}

func keepMeta(meta *metav1.ObjectMeta) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name:              meta.Name,
		Namespace:         meta.Namespace,
		UID:               meta.UID,
		ResourceVersion:   meta.ResourceVersion,
		Generation:        meta.Generation,
		CreationTimestamp: meta.CreationTimestamp,
		DeletionTimestamp: meta.DeletionTimestamp,
		OwnerReferences:   meta.OwnerReferences,
		Labels:            keepOurs(meta.Labels),
		Annotations:       keepRead(meta.Annotations),
	}
}

// keepOurs leaves what is under privyseal.io/.
func keepOurs(all map[string]string) map[string]string { return keep(all, isOurs) }

// keepRead leaves the annotations that are ours or Reloader's.
func keepRead(all map[string]string) map[string]string {
	return keep(all, func(key string) bool { return isOurs(key) || reloader.Reads(key) })
}

func isOurs(key string) bool { return strings.HasPrefix(key, v1alpha1.Group+"/") }

func keep(all map[string]string, wanted func(key string) bool) map[string]string {
	var kept map[string]string
	for key, value := range all {
		if wanted(key) {
			if kept == nil {
				kept = map[string]string{}
			}
			kept[key] = value
		}
	}
	return kept
}

// Indexes of the cache: the pods that read a Secret, by its name; pods and
// ReplicaSets by the UID of their controller; and the pods whose annotations
// ask for a claim, by its name, or for any.
const (
	indexReads = "privyseal.io/reads"
	indexOwner = "privyseal.io/owner"
	indexAsks  = "privyseal.io/asks"
)

// index of the cache: objects of a kind, by what they give for a name.
type index struct {
	of   client.Object
	name string
	by   client.IndexerFunc
}

func indexes() []index {
	return []index{
		{&corev1.Pod{}, indexReads, readBy},
		{&corev1.Pod{}, indexAsks, asksOf},
		{&corev1.Pod{}, indexOwner, ownerUID},
		{replicaSetMeta(), indexOwner, ownerUID},
	}
}

func addIndexes(ctx context.Context, indexer client.FieldIndexer) error {
	for _, index := range indexes() {
		if err := indexer.IndexField(ctx, index.of, index.name, index.by); err != nil {
			return fmt.Errorf("indexing %T by %s: %w", index.of, index.name, err)
		}
	}
	return nil
}

func readBy(object client.Object) []string {
	pod, is := object.(*corev1.Pod)
	if !is {
		return nil
	}
	return ReadsOf(&pod.Spec).names()
}

func ownerUID(object client.Object) []string {
	owner, known := controllerOf(object)
	if !known {
		return nil
	}
	return []string{string(owner.UID)}
}

func replicaSetMeta() *metav1.PartialObjectMetadata {
	return metaOf(appsv1.SchemeGroupVersion.WithKind("ReplicaSet"))
}

func secretMeta() *metav1.PartialObjectMetadata {
	return metaOf(corev1.SchemeGroupVersion.WithKind("Secret"))
}
