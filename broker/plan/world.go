package plan

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/annotation"
	"github.com/privyseal/privyseal/broker/environment"
	"github.com/privyseal/privyseal/broker/home"
	"github.com/privyseal/privyseal/broker/restart"
	"github.com/privyseal/privyseal/broker/target"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// World is what a plan is made from: the objects of a cluster at one moment, or
// what files describe of one.
type World struct {
	// Notes on what is not known, for people.
	Notes []string

	where     string // "in the files", for errors
	webhook   string
	snapshot  *restart.Snapshot
	workloads []restart.Workload
	// reads is what pods of each workload's template would read, with what the
	// webhook gives them.
	reads map[restart.Workload]restart.Reads
	// replicas of the workloads that files describe.
	replicas map[restart.Workload]*int
	secrets  map[types.NamespacedName]maker
	// claimed are the Secrets that claims make, by claim; claimOf the other way.
	claimed map[types.NamespacedName]types.NamespacedName
	claimOf map[types.NamespacedName]string
	// keys of the Secrets of which they are known.
	keys map[types.NamespacedName][]string
	// claims and rotations that there are.
	claims    []*v1alpha1.SecretClaim
	rotations []*v1alpha1.SecretRotation
}

// maker of a Secret.
type maker int

const (
	// made by a claim or a SealedSecret.
	made maker = iota
	// theirs: by nobody of ours.
	theirs
	// assumed to be made by one of ours, since the files do not have it.
	assumed
)

// newWorld of objects, as restart.NewSnapshot wants them.
func newWorld(objects []client.Object, webhook, where string) (*World, error) {
	snapshot, err := restart.NewSnapshot(objects)
	if err != nil {
		return nil, err
	}
	w := &World{
		where: where, webhook: webhook, snapshot: snapshot,
		reads: map[restart.Workload]restart.Reads{}, replicas: map[restart.Workload]*int{},
		secrets: map[types.NamespacedName]maker{}, keys: map[types.NamespacedName][]string{},
		claimed: map[types.NamespacedName]types.NamespacedName{}, claimOf: map[types.NamespacedName]string{},
	}
	for _, object := range objects {
		switch object := object.(type) {
		case *v1alpha1.SecretClaim:
			w.addClaim(object)
		case *v1alpha1.SecretRotation:
			w.rotations = append(w.rotations, object)
		case *metav1.PartialObjectMetadata:
			if object.Kind == "Secret" {
				w.addSecret(object)
			}
		}
	}
	for _, object := range objects {
		if workload, is := restart.WorkloadOf(object); is {
			if _, passedOver := restart.TemplateOf(object); passedOver != "" {
				w.Notes = append(w.Notes, fmt.Sprintf("%s is passed over: %s", workload, passedOver))
				continue
			}
			pod, _ := asPod(templateOf(object), w.targetOf(workload.Namespace))
			w.reads[workload] = restart.ReadsOf(&pod.Spec)
			w.workloads = append(w.workloads, workload)
		}
	}
	if slices.ContainsFunc(w.workloads, func(one restart.Workload) bool { return one.Kind == restart.ArgoRollout().Kind }) {
		w.Notes = append(w.Notes, "Rollouts of Argo are restarted where the chart's argoRollouts.enabled says so")
	}
	slices.SortFunc(w.workloads, func(a, b restart.Workload) int { return strings.Compare(a.String(), b.String()) })
	return w, nil
}

func (w *World) addClaim(claim *v1alpha1.SecretClaim) {
	name := client.ObjectKeyFromObject(claim)
	makes := claim.TargetName()
	w.claimed[name], w.claimOf[makes] = makes, claim.Name
	w.claims = append(w.claims, claim)
}

func (w *World) addSecret(secret *metav1.PartialObjectMetadata) {
	name := client.ObjectKeyFromObject(secret)
	history := secret.Annotations[v1alpha1.AnnotationRevisions]
	if history == "" || target.ClaimUID(secret) == "" && target.SealedUID(secret) == "" {
		w.secrets[name] = theirs
		return
	}
	w.secrets[name] = made
	revisions, err := target.ParseRevisions(history)
	if err != nil {
		w.Notes = append(w.Notes, fmt.Sprintf("Secret %s is passed over: %v", name, err))
		return
	}
	for _, key := range slices.Sorted(maps.Keys(revisions.Keys)) {
		if revisions.Keys[key][0].Digest != "" {
			w.keys[name] = append(w.keys[name], key)
		}
	}
}

// targetOf says which Secret a claim of a namespace makes, or would.
func (w *World) targetOf(namespace string) func(claim string) string {
	return func(claim string) string {
		if makes, there := w.claimed[types.NamespacedName{Namespace: namespace, Name: claim}]; there {
			return makes.Name
		}
		return claim
	}
}

// environmentOf a namespace; empty where it is in none, and where it is not
// known in which, which a block tells of.
func (w *World) environmentOf(ctx context.Context, namespace string) (string, error) {
	name, err := home.NameOf(ctx, w.snapshot, namespace)
	if errors.Is(err, environment.ErrTwo) || errors.Is(err, environment.ErrSelector) {
		return "", nil
	}
	return name, err
}

func templateOf(object client.Object) *corev1.PodTemplateSpec {
	template, _ := restart.TemplateOf(object)
	return template
}

// injectedVolume begins the names of the volumes that the webhook adds.
const injectedVolume = "privyseal-"

// asPod is a pod of the template as it reads Secrets once the webhook has seen
// it. Errors are those of the annotations, for which the webhook would refuse
// it; what they ask for is left out then.
func asPod(template *corev1.PodTemplateSpec, targetOf func(claim string) string) (*corev1.Pod, error) {
	pod := &corev1.Pod{ObjectMeta: *template.ObjectMeta.DeepCopy(), Spec: *template.Spec.DeepCopy()}
	parsed, err := annotation.Parse(template.Annotations)
	if err != nil {
		return pod, err
	}
	injected := corev1.Container{}
	for _, request := range parsed.Requests {
		name := corev1.LocalObjectReference{Name: targetOf(request.ClaimName())}
		if request.Volume != nil {
			pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: injectedVolume + request.Name, VolumeSource: corev1.VolumeSource{
				Secret: &corev1.SecretVolumeSource{SecretName: name.Name}}})
		}
		if request.Env == nil {
			continue
		}
		if request.Env.All {
			injected.EnvFrom = append(injected.EnvFrom, corev1.EnvFromSource{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: name}})
		}
		for _, key := range request.Env.Keys {
			injected.Env = append(injected.Env, corev1.EnvVar{Name: key.Name, ValueFrom: &corev1.EnvVarSource{
				SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: name, Key: key.Key}}})
		}
	}
	pod.Spec.Containers = append(pod.Spec.Containers, injected)
	return pod, nil
}
