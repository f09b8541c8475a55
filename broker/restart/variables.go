package restart

import (
	"context"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/annotation"
	"github.com/privyseal/privyseal/broker/variables"
)

// EnvConflicts are the variables that a container of a live pod gets from the
// target and from somewhere else too, from the caches: no request goes out.
func (c *Controller) EnvConflicts(ctx context.Context, target types.NamespacedName) ([]variables.Conflict, error) {
	pods := &corev1.PodList{}
	err := c.gather.cache.List(ctx, pods, client.InNamespace(target.Namespace),
		client.MatchingFields{indexReads: target.Name}, client.UnsafeDisableDeepCopy)
	if err != nil {
		return nil, fmt.Errorf("listing the pods that read Secret %s: %w", target, err)
	}
	known := knownTargets{gatherer: c.gather, namespace: target.Namespace, targets: map[string]Target{}}
	var containers []variables.Container
	for i := range pods.Items {
		pod := &pods.Items[i]
		if !live(pod) || !takesWhole(pod, target.Name) {
			continue
		}
		of, err := c.gather.nameOf(ctx, pod)
		if err != nil {
			return nil, err
		}
		more, err := known.containers(ctx, pod, of)
		if err != nil {
			return nil, err
		}
		containers = append(containers, more...)
	}
	return variables.Conflicts(target.Name, containers, known.keys()), nil
}

// nameOf says whose a pod is, as people call it.
func (g gatherer) nameOf(ctx context.Context, pod *corev1.Pod) (string, error) {
	w, belongs, err := g.workloadOf(ctx, pod)
	switch {
	case err != nil:
		return "", err
	case belongs:
		return w.Kind + " " + w.Name, nil
	}
	return "Pod " + pod.Name, nil
}

// knownTargets are the targets of a namespace that were met on the way.
type knownTargets struct {
	gatherer
	namespace string
	targets   map[string]Target
}

// containers of a pod that take whole Secrets, as KeepPod leaves them.
func (k knownTargets) containers(ctx context.Context, pod *corev1.Pod, of string) ([]variables.Container, error) {
	parsed, err := annotation.Parse(pod.Annotations)
	if err != nil {
		parsed = annotation.Parsed{} // nothing in the pod comes from such annotations
	}
	var containers []variables.Container
	for i := range pod.Spec.Containers {
		kept := &pod.Spec.Containers[i]
		if kept.Name == "" {
			continue // stands for what the pod reads, and is none of its own
		}
		container := variables.Container{Of: of, Name: kept.Name}
		for _, from := range kept.EnvFrom {
			if err := k.meet(ctx, from.SecretRef.Name); err != nil {
				return nil, err
			}
			container.Whole = append(container.Whole, variables.Whole{
				Secret: from.SecretRef.Name, Prefix: from.Prefix,
				Annotation: k.askedBy(parsed.Requests, from),
			})
		}
		for _, env := range kept.Env {
			own := variables.Own{Name: env.Name}
			if env.ValueFrom != nil && env.ValueFrom.SecretKeyRef != nil {
				own.Secret, own.Key = env.ValueFrom.SecretKeyRef.Name, env.ValueFrom.SecretKeyRef.Key
			}
			container.Own = append(container.Own, own)
		}
		containers = append(containers, container)
	}
	return containers, nil
}

func (k knownTargets) meet(ctx context.Context, secret string) error {
	if _, met := k.targets[secret]; met {
		return nil
	}
	known, ours, err := k.target(ctx, types.NamespacedName{Namespace: k.namespace, Name: secret})
	if err == nil && ours {
		k.targets[secret] = known
	}
	return err
}

// askedBy is the annotation that put such a source into the pod; "" for none.
func (k knownTargets) askedBy(requests []annotation.Request, from corev1.EnvFromSource) string {
	for _, request := range requests {
		if request.Env != nil && request.Env.All && request.Env.Prefix == from.Prefix &&
			request.ClaimName() == k.targets[from.SecretRef.Name].Claim {
			return annotation.EnvPrefix + request.Name
		}
	}
	return ""
}

// keys that each target has now: one that is gone has no digest any more.
func (k knownTargets) keys() map[string][]string {
	keys := map[string][]string{}
	for name, target := range k.targets {
		for _, key := range slices.Sorted(maps.Keys(target.Revisions.Keys)) {
			if target.Revisions.Keys[key][0].Digest != "" {
				keys[name] = append(keys[name], key)
			}
		}
	}
	return keys
}

// takesWhole says that a container of the pod, as KeepPod leaves it, takes the
// whole Secret as variables; any Secret where the name is empty.
func takesWhole(pod *corev1.Pod, secret string) bool {
	return slices.ContainsFunc(pod.Spec.Containers, func(c corev1.Container) bool {
		return c.Name != "" && wholeOf(&c, secret)
	})
}

func wholeOf(container *corev1.Container, secret string) bool {
	return slices.ContainsFunc(container.EnvFrom, func(from corev1.EnvFromSource) bool {
		return from.SecretRef != nil && (secret == "" || from.SecretRef.Name == secret)
	})
}

// keepVariables leaves of the containers that take whole Secrets as variables
// the names of their variables, and never a value that somebody wrote there.
func keepVariables(spec *corev1.PodSpec) []corev1.Container {
	var kept []corev1.Container
	for _, containers := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range containers {
			if containers[i].Name != "" && wholeOf(&containers[i], "") {
				kept = append(kept, keepContainer(&containers[i]))
			}
		}
	}
	return kept
}

func keepContainer(container *corev1.Container) corev1.Container {
	kept := corev1.Container{Name: container.Name}
	for _, from := range container.EnvFrom {
		if from.SecretRef != nil {
			name := corev1.LocalObjectReference{Name: from.SecretRef.Name}
			kept.EnvFrom = append(kept.EnvFrom, corev1.EnvFromSource{Prefix: from.Prefix,
				SecretRef: &corev1.SecretEnvSource{LocalObjectReference: name}})
		}
	}
	for _, env := range container.Env {
		named := corev1.EnvVar{Name: env.Name}
		if env.ValueFrom != nil && env.ValueFrom.SecretKeyRef != nil {
			ref := env.ValueFrom.SecretKeyRef
			named.ValueFrom = &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
				LocalObjectReference: corev1.LocalObjectReference{Name: ref.Name}, Key: ref.Key}}
		}
		kept.Env = append(kept.Env, named)
	}
	return kept
}
