package restart

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/privyseal/privyseal/broker/foreign"
	"github.com/privyseal/privyseal/broker/reloader"
)

// Reads says what a pod reads of Secrets, by the Secret's name, and of
// ConfigMaps, by their names in package foreign, which no Secret can have.
type Reads map[string]Keys

// Keys are those that a pod reads of one Secret.
type Keys struct {
	// All: the whole Secret, by envFrom or by a volume without items. Keys
	// that appear later are read too.
	All bool
	// Names are the keys read one by one.
	Names map[string]bool
	// Not are keys that do not count whatever the others say.
	Not map[string]bool
}

// Has says whether the key is among them.
func (k Keys) Has(key string) bool { return (k.All || k.Names[key]) && !k.Not[key] }

// rootCA is the ConfigMap that the API server gives to every pod.
const rootCA = "kube-root-ca.crt"

// ReadsOf is what a pod of this spec reads into its containers' environment
// and files: env, envFrom, volumes of Secrets and ConfigMaps and those sources
// of projected volumes, in init containers as in others, optional or not.
//
// Image pull secrets and the secrets of CSI and other drivers are not among
// them, for they are used by kubelet and drivers and no running container
// holds them. Ephemeral containers come and go by a person's hand.
func ReadsOf(spec *corev1.PodSpec) Reads {
	reads := Reads{}
	for _, containers := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range containers {
			reads.addContainer(&containers[i])
		}
	}
	for i := range spec.Volumes {
		reads.addVolume(&spec.Volumes[i])
	}
	return reads
}

func (r Reads) addContainer(container *corev1.Container) {
	for _, env := range container.Env {
		switch from := env.ValueFrom; {
		case from == nil:
		case from.SecretKeyRef != nil:
			r.addKey(from.SecretKeyRef.Name, from.SecretKeyRef.Key)
		case from.ConfigMapKeyRef != nil:
			r.addKey(configMap(from.ConfigMapKeyRef.Name), from.ConfigMapKeyRef.Key)
		}
	}
	for _, from := range container.EnvFrom {
		if from.SecretRef != nil {
			r.addAll(from.SecretRef.Name)
		}
		if from.ConfigMapRef != nil {
			r.addAll(configMap(from.ConfigMapRef.Name))
		}
	}
}

func (r Reads) addVolume(volume *corev1.Volume) {
	if volume.Secret != nil {
		r.addItems(volume.Secret.SecretName, volume.Secret.Items)
	}
	if volume.ConfigMap != nil {
		r.addItems(configMap(volume.ConfigMap.Name), volume.ConfigMap.Items)
	}
	if volume.Projected == nil {
		return
	}
	for _, source := range volume.Projected.Sources {
		if source.Secret != nil {
			r.addItems(source.Secret.Name, source.Secret.Items)
		}
		if source.ConfigMap != nil {
			r.addItems(configMap(source.ConfigMap.Name), source.ConfigMap.Items)
		}
	}
}

// configMap is what a ConfigMap is called here; "" for none.
func configMap(name string) string {
	if name == "" || name == rootCA {
		return ""
	}
	return foreign.Target(reloader.ConfigMap, name)
}

// addItems: kubelet takes no items for all keys.
func (r Reads) addItems(secret string, items []corev1.KeyToPath) {
	if len(items) == 0 {
		r.addAll(secret)
	}
	for _, item := range items {
		r.addKey(secret, item.Key)
	}
}

func (r Reads) addAll(secret string) {
	if secret != "" {
		r[secret] = Keys{All: true}
	}
}

func (r Reads) addKey(secret, key string) {
	keys := r[secret]
	if secret == "" || keys.All {
		return
	}
	if keys.Names == nil {
		keys.Names = map[string]bool{}
	}
	keys.Names[key] = true
	r[secret] = keys
}

// names of what is read, sorted.
func (r Reads) names() []string { return slices.Sorted(maps.Keys(r)) }

// secrets are the names of the Secrets read, sorted.
func (r Reads) secrets() []string {
	return slices.DeleteFunc(r.names(), foreign.IsTarget)
}

// spec is the smallest pod spec that reads the same; see KeepPod.
func (r Reads) spec() corev1.PodSpec {
	if len(r) == 0 {
		return corev1.PodSpec{}
	}
	var container corev1.Container
	for _, name := range r.names() {
		if r[name].All {
			container.EnvFrom = append(container.EnvFrom, allOf(name))
			continue
		}
		for _, key := range slices.Sorted(maps.Keys(r[name].Names)) {
			container.Env = append(container.Env, corev1.EnvVar{ValueFrom: keyOf(name, key)})
		}
	}
	return corev1.PodSpec{Containers: []corev1.Container{container}}
}

func allOf(name string) corev1.EnvFromSource {
	if _, settings, is := foreign.CutTarget(name); is {
		return corev1.EnvFromSource{ConfigMapRef: &corev1.ConfigMapEnvSource{
			LocalObjectReference: corev1.LocalObjectReference{Name: settings}}}
	}
	return corev1.EnvFromSource{SecretRef: &corev1.SecretEnvSource{
		LocalObjectReference: corev1.LocalObjectReference{Name: name}}}
}

func keyOf(name, key string) *corev1.EnvVarSource {
	if _, settings, is := foreign.CutTarget(name); is {
		return &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{
			LocalObjectReference: corev1.LocalObjectReference{Name: settings}, Key: key}}
	}
	return &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
		LocalObjectReference: corev1.LocalObjectReference{Name: name}, Key: key}}
}
