package inject

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/privyseal/privyseal/broker/annotation"
)

// defaultContainer is kubectl's annotation for the container that a pod is
// about; service meshes set it when they add their own.
// See https://kubernetes.io/docs/reference/labels-annotations-taints/#kubectl-kubernetes-io-default-container.
const defaultContainer = "kubectl.kubernetes.io/default-container"

// DefaultSidecars are containers that meshes and agents put into pods. Which
// of them are there when we are called depends on the order of the webhooks,
// and none has a use for the application's secrets.
func DefaultSidecars() []string {
	return []string{
		"istio-proxy", "istio-init", "istio-validation",
		"linkerd-proxy", "linkerd-init", "linkerd-network-validator",
		"kuma-sidecar", "kuma-init", "kuma-validation",
		"consul-dataplane", "consul-connect-inject-init",
		"vault-agent", "vault-agent-init",
		"daprd", "datadog-agent-injector", "otc-container",
	}
}

// container is one container of a pod, and where it stands in it.
type container struct {
	corev1.Container

	at      string // JSON pointer
	sidecar bool   // a native one: an init container that keeps running
}

// containers of a pod in the order in which they start.
func containers(pod *corev1.Pod) []container {
	list := make([]container, 0, len(pod.Spec.InitContainers)+len(pod.Spec.Containers))
	for i, c := range pod.Spec.InitContainers {
		list = append(list, container{
			Container: c,
			at:        "/spec/initContainers/" + strconv.Itoa(i),
			sidecar:   c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways,
		})
	}
	for i, c := range pod.Spec.Containers {
		list = append(list, container{Container: c, at: "/spec/containers/" + strconv.Itoa(i)})
	}
	return list
}

// choose says which containers get the secrets: those that
// privyseal.io/containers names, else the one that the pod is about, else all
// but the sidecars.
func choose(pod *corev1.Pod, facts Facts) ([]container, error) {
	all := containers(pod)
	if names := facts.Wanted.Containers; len(names) > 0 {
		return named(all, names, annotation.Containers)
	}
	if name := pod.Annotations[defaultContainer]; name != "" {
		return named(all, []string{name}, defaultContainer)
	}
	sidecars := facts.Sidecars
	if sidecars == nil {
		sidecars = DefaultSidecars()
	}
	chosen := slices.DeleteFunc(all, func(c container) bool {
		return c.sidecar || slices.Contains(sidecars, c.Name)
	})
	if len(chosen) == 0 {
		return nil, fmt.Errorf("annotation %s: it is needed here, since every container of this pod is a sidecar by its kind or name; name those that get the secrets",
			annotation.Containers)
	}
	return chosen, nil
}

// named chooses by name, in the pod's order.
func named(all []container, names []string, from string) ([]container, error) {
	for _, name := range names {
		if !slices.ContainsFunc(all, func(c container) bool { return c.Name == name }) {
			return nil, fmt.Errorf("annotation %s: the pod has no container %q; it has %s", from, name, list(all))
		}
	}
	return slices.DeleteFunc(all, func(c container) bool { return !slices.Contains(names, c.Name) }), nil
}

func list(all []container) string {
	names := make([]string, 0, len(all))
	for _, c := range all {
		names = append(names, c.Name)
	}
	return strings.Join(names, ", ")
}
