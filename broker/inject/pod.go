package inject

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"gomodules.xyz/jsonpatch/v2"
	corev1 "k8s.io/api/core/v1"

	"github.com/privyseal/privyseal/broker/annotation"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// volumePrefix begins the names of the volumes that we add: privyseal-<name>,
// 50 characters at most. An admission policy can tell by it, and by the Secret
// behind it, that a pod was injected, whatever its annotations say.
const volumePrefix = "privyseal-"

// File modes where privyseal.io/mode.<name> is not given. With an fsGroup,
// kubelet gives the files to that group, so others need no right; without one
// they belong to root, and a container that is not root reads them as other.
const (
	modeWithGroup    int32 = 0o440
	modeWithoutGroup int32 = 0o444
)

// Facts are what Pod judges by, beside the pod.
type Facts struct {
	// Wanted is what the pod's own annotations ask for.
	Wanted annotation.Parsed

	// Targets of the requests, by the request's name; each request has one.
	Targets map[string]Target

	// Sidecars are names of containers that get no secret unless
	// privyseal.io/containers names them. Nil for DefaultSidecars.
	Sidecars []string
}

// Target is the Secret that a request is served by.
type Target struct {
	// Secret is its name.
	Secret string

	// Sequence of its content as its claim's status says; nil where there is
	// no content yet that we know of. A pod's evidence may be too low, never
	// too high: too low and it is at worst compared once more.
	Sequence *int64
}

// Pod returns the JSON patch (RFC 6902) that gives a pod what its annotations
// ask for; nothing for a pod that asks for nothing, or that has it already.
// Every operation is an "add" of something that was not there, the two
// annotations that we write excepted. The pod itself is left as it is.
//
// The error joins what stands in the way, each naming the annotation to change.
func Pod(pod *corev1.Pod, facts Facts) ([]jsonpatch.Operation, error) {
	if len(facts.Wanted.Requests) == 0 {
		return nil, nil
	}
	for _, request := range facts.Wanted.Requests {
		if facts.Targets[request.Name].Secret == "" {
			return nil, fmt.Errorf("[unexpected] no target for request %s", request.Name)
		}
	}
	if _, injected := pod.Annotations[annotation.InjectedContainers]; injected {
		return nil, checkInjected(pod, facts)
	}
	chosen, err := choose(pod, facts)
	if err != nil {
		return nil, err
	}
	if err := checkRoom(pod, chosen, facts.Wanted.Requests); err != nil {
		return nil, err
	}
	var p patch
	p.annotations(pod, facts, chosen)
	addTo(&p, "/spec/volumes", len(pod.Spec.Volumes), volumes(pod, facts))
	for _, c := range chosen {
		// Variables go before the container's own, whose values may then refer
		// to them: $(PGPASSWORD) knows only what stands above it.
		insertInto(&p, c.at+"/env", len(c.Env), variables(facts))
		// Of two sources of one variable the last counts: a secret is not to be
		// hidden by a ConfigMap.
		addTo(&p, c.at+"/envFrom", len(c.EnvFrom), sources(facts))
		addTo(&p, c.at+"/volumeMounts", len(c.VolumeMounts), mounts(facts))
	}
	return p, nil
}

// checkInjected judges a pod that says it was injected: a second call of the
// webhook, or a pod made from the YAML of another. It is believed if it has
// what it asks for; anybody can write an annotation.
func checkInjected(pod *corev1.Pod, facts Facts) error {
	var problems []error
	for _, request := range facts.Wanted.Requests {
		if !delivered(pod, request, facts.Targets[request.Name].Secret) {
			problems = append(problems, fmt.Errorf(
				"annotation %s%s: the pod does not have Secret %s, yet carries %s, which only Privyseal writes: remove that one",
				annotation.SecretPrefix, request.Name, facts.Targets[request.Name].Secret, annotation.InjectedContainers))
		}
	}
	return errors.Join(problems...)
}

// delivered: the pod has the volume, and some container the variables, that
// the request asks for.
func delivered(pod *corev1.Pod, request annotation.Request, secret string) bool {
	if request.Volume != nil && !slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool {
		return v.Name == volumePrefix+request.Name && v.Secret != nil && v.Secret.SecretName == secret
	}) {
		return false
	}
	return request.Env == nil || slices.ContainsFunc(containers(pod), func(c container) bool {
		return slices.ContainsFunc(c.EnvFrom, func(from corev1.EnvFromSource) bool {
			return from.SecretRef != nil && from.SecretRef.Name == secret
		}) || slices.ContainsFunc(c.Env, func(env corev1.EnvVar) bool {
			return env.ValueFrom != nil && env.ValueFrom.SecretKeyRef != nil && env.ValueFrom.SecretKeyRef.Name == secret
		})
	})
}

// checkRoom reports what already stands where we would add.
func checkRoom(pod *corev1.Pod, chosen []container, requests []annotation.Request) error {
	var problems []error
	problem := func(prefix, name, format string, args ...any) {
		problems = append(problems, fmt.Errorf("annotation %s%s: %s", prefix, name, fmt.Sprintf(format, args...)))
	}
	for _, request := range requests {
		if request.Volume != nil && hasVolume(pod, volumePrefix+request.Name) {
			problem(annotation.SecretPrefix, request.Name,
				"the pod has a volume %s%s of its own; rename that, or the secret", volumePrefix, request.Name)
		}
		for _, c := range chosen {
			for _, name := range request.EnvNames() {
				if c.hasEnv(name) {
					problem(annotation.EnvPrefix, request.Name,
						"container %s already sets %s; remove it there, or choose another name: %q", c.Name, name, "key=NAME")
				}
			}
			if request.Volume != nil && c.hasMount(request.Volume.Path) {
				problem(annotation.VolumePrefix, request.Name,
					"container %s already mounts something at %s; choose another directory", c.Name, request.Volume.Path)
			}
		}
	}
	return errors.Join(problems...)
}

func hasVolume(pod *corev1.Pod, name string) bool {
	return slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == name })
}

func (c container) hasEnv(name string) bool {
	return slices.ContainsFunc(c.Env, func(env corev1.EnvVar) bool { return env.Name == name })
}

func (c container) hasMount(dir string) bool {
	return slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return path.Clean(m.MountPath) == dir })
}

func volumes(pod *corev1.Pod, facts Facts) []corev1.Volume {
	mode := modeWithoutGroup
	if security := pod.Spec.SecurityContext; security != nil && security.FSGroup != nil {
		mode = modeWithGroup
	}
	var added []corev1.Volume
	for _, request := range facts.Wanted.Requests {
		if request.Volume == nil {
			continue
		}
		chosen := mode
		if request.Volume.Mode != nil {
			chosen = *request.Volume.Mode
		}
		added = append(added, corev1.Volume{
			Name: volumePrefix + request.Name,
			VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{
				SecretName:  facts.Targets[request.Name].Secret,
				DefaultMode: &chosen,
			}},
		})
	}
	return added
}

func mounts(facts Facts) []corev1.VolumeMount {
	var added []corev1.VolumeMount
	for _, request := range facts.Wanted.Requests {
		if request.Volume != nil {
			added = append(added, corev1.VolumeMount{
				Name:      volumePrefix + request.Name,
				MountPath: request.Volume.Path,
				ReadOnly:  true,
			})
		}
	}
	return added
}

func sources(facts Facts) []corev1.EnvFromSource {
	var added []corev1.EnvFromSource
	for _, request := range facts.Wanted.Requests {
		if request.Env != nil && request.Env.All {
			added = append(added, corev1.EnvFromSource{
				Prefix:    request.Env.Prefix,
				SecretRef: &corev1.SecretEnvSource{LocalObjectReference: reference(facts, request)},
			})
		}
	}
	return added
}

func variables(facts Facts) []corev1.EnvVar {
	var added []corev1.EnvVar
	for _, request := range facts.Wanted.Requests {
		if request.Env == nil {
			continue
		}
		for _, key := range request.Env.Keys {
			added = append(added, corev1.EnvVar{
				Name: key.Name,
				ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
					LocalObjectReference: reference(facts, request),
					Key:                  key.Key,
				}},
			})
		}
	}
	return added
}

func reference(facts Facts, request annotation.Request) corev1.LocalObjectReference {
	return corev1.LocalObjectReference{Name: facts.Targets[request.Name].Secret}
}

// patch is a JSON patch that only adds. It is written by hand rather than as
// the difference of two pods: a difference of lists is told by position, and
// an element that moved would keep the fields that our version of the type
// does not know.
type patch []jsonpatch.Operation

func (p *patch) add(path string, value any) {
	*p = append(*p, jsonpatch.NewOperation("add", path, value))
}

// annotations adds the two annotations that we write.
func (p *patch) annotations(pod *corev1.Pod, facts Facts, chosen []container) {
	const at = "/metadata/annotations"
	if len(pod.Annotations) == 0 {
		p.add(at, map[string]string{})
	}
	names := make([]string, 0, len(chosen))
	for _, c := range chosen {
		names = append(names, c.Name)
	}
	p.add(at+"/"+escape(annotation.InjectedContainers), strings.Join(names, ","))

	sequences := map[string]int64{}
	for _, target := range facts.Targets {
		if target.Sequence != nil {
			sequences[target.Secret] = *target.Sequence
		}
	}
	if len(sequences) > 0 {
		p.add(at+"/"+escape(v1alpha1.AnnotationStartedWith), annotation.FormatSequences(sequences))
	}
}

// addTo puts items at the end of a list that has so many.
func addTo[T any](p *patch, list string, has int, items []T) {
	for _, item := range startList(p, list, has, items) {
		p.add(list+"/-", item)
	}
}

// insertInto puts items at the head of a list that has so many.
func insertInto[T any](p *patch, list string, has int, items []T) {
	for i, item := range startList(p, list, has, items) {
		p.add(fmt.Sprintf("%s/%d", list, i), item)
	}
}

// startList adds the whole list where there is none, since an operation on an
// element needs one, and returns the items that are left to add.
func startList[T any](p *patch, list string, has int, items []T) []T {
	if has > 0 || len(items) == 0 {
		return items
	}
	p.add(list, items)
	return nil
}

// escape writes a key as a segment of a JSON pointer (RFC 6901).
func escape(key string) string {
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(key)
}
