package restart_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/privyseal/privyseal/broker/restart"
)

// A part is one thing in a pod spec.
type part func(*corev1.PodSpec)

func envKey(secret, key string) part {
	return func(spec *corev1.PodSpec) {
		spec.Containers = append(spec.Containers, corev1.Container{Env: []corev1.EnvVar{{
			Name: "X", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: keyRef(secret, key)}}}})
	}
}

func envFrom(secret string) part {
	return func(spec *corev1.PodSpec) {
		spec.Containers = append(spec.Containers, corev1.Container{EnvFrom: []corev1.EnvFromSource{{
			SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: secret}}}}})
	}
}

func volume(secret string, keys ...string) part {
	return func(spec *corev1.PodSpec) {
		spec.Volumes = append(spec.Volumes, corev1.Volume{VolumeSource: corev1.VolumeSource{
			Secret: &corev1.SecretVolumeSource{SecretName: secret, Items: items(keys)}}})
	}
}

func projected(secret string, keys ...string) part {
	return func(spec *corev1.PodSpec) {
		spec.Volumes = append(spec.Volumes, corev1.Volume{VolumeSource: corev1.VolumeSource{
			Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{{
				Secret: &corev1.SecretProjection{
					LocalObjectReference: corev1.LocalObjectReference{Name: secret}, Items: items(keys)}}}}}})
	}
}

func items(keys []string) []corev1.KeyToPath {
	var items []corev1.KeyToPath
	for _, key := range keys {
		items = append(items, corev1.KeyToPath{Key: key, Path: "at/" + key})
	}
	return items
}

func keyRef(secret, key string) *corev1.SecretKeySelector {
	return &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: secret}, Key: key}
}

func spec(parts ...part) *corev1.PodSpec {
	spec := &corev1.PodSpec{}
	for _, add := range parts {
		add(spec)
	}
	return spec
}

// all and only are what of a Secret is read.
func all() restart.Keys { return restart.Keys{All: true} }

func only(keys ...string) restart.Keys {
	names := map[string]bool{}
	for _, key := range keys {
		names[key] = true
	}
	return restart.Keys{Names: names}
}

func TestAPodReads(t *testing.T) {
	inInit := func(add part) part {
		return func(spec *corev1.PodSpec) {
			add(spec)
			spec.InitContainers, spec.Containers = append(spec.InitContainers, spec.Containers...), nil
		}
	}
	sidecar := func(spec *corev1.PodSpec) {
		for i := range spec.InitContainers {
			spec.InitContainers[i].RestartPolicy = new(corev1.ContainerRestartPolicyAlways)
		}
	}
	optional := func(spec *corev1.PodSpec) {
		spec.Containers[0].Env[0].ValueFrom.SecretKeyRef.Optional = new(true)
	}
	for name, test := range map[string]struct {
		spec *corev1.PodSpec
		want restart.Reads
	}{
		"nothing without references":                  {spec(), restart.Reads{}},
		"one key by env":                              {spec(envKey("db", "password")), restart.Reads{"db": only("password")}},
		"every key by envFrom":                        {spec(envFrom("db")), restart.Reads{"db": all()}},
		"every key by a volume without items":         {spec(volume("db")), restart.Reads{"db": all()}},
		"the items of a volume":                       {spec(volume("db", "user", "password")), restart.Reads{"db": only("user", "password")}},
		"every key by a projected volume":             {spec(projected("db")), restart.Reads{"db": all()}},
		"the items of a projected volume":             {spec(projected("db", "ca")), restart.Reads{"db": only("ca")}},
		"keys from several places together":           {spec(envKey("db", "a"), volume("db", "b")), restart.Reads{"db": only("a", "b")}},
		"all, when one place reads all":               {spec(envKey("db", "a"), envFrom("db"), volume("db", "b")), restart.Reads{"db": all()}},
		"several Secrets apart":                       {spec(envKey("db", "a"), envFrom("tls")), restart.Reads{"db": only("a"), "tls": all()}},
		"what an init container reads":                {spec(inInit(envKey("db", "a"))), restart.Reads{"db": only("a")}},
		"what a native sidecar reads":                 {spec(inInit(envFrom("db")), sidecar), restart.Reads{"db": all()}},
		"an optional key":                             {spec(envKey("db", "a"), optional), restart.Reads{"db": only("a")}},
		"ConfigMaps, under names of their own":        {spec(configMaps), restart.Reads{"configmap/db": all()}},
		"no image pull secret":                        {spec(pullSecret), restart.Reads{}},
		"nothing for a debug container":               {spec(debugger), restart.Reads{}},
		"nothing for what a driver or kubelet fetch":  {spec(drivers), restart.Reads{}},
		"nothing for a reference that names nothing":  {spec(envFrom(""), volume(""), envKey("", "a")), restart.Reads{}},
		"a volume that no container mounts, all same": {spec(volume("db", "a")), restart.Reads{"db": only("a")}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, restart.ReadsOf(test.spec)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func configMaps(spec *corev1.PodSpec) {
	name := corev1.LocalObjectReference{Name: "db"}
	spec.Containers = []corev1.Container{{
		Env: []corev1.EnvVar{{Name: "X", Value: "db"}, {Name: "Y", ValueFrom: &corev1.EnvVarSource{
			ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: name, Key: "a"}}}},
		EnvFrom: []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: name}}},
	}}
	spec.Volumes = []corev1.Volume{{VolumeSource: corev1.VolumeSource{
		Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{{
			ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: name}}}}}}}
}

func pullSecret(spec *corev1.PodSpec) {
	spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "registry"}}
}

func debugger(spec *corev1.PodSpec) {
	spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{
		Env: []corev1.EnvVar{{Name: "X", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: keyRef("db", "a")}}}}}}
}

func drivers(spec *corev1.PodSpec) {
	name := &corev1.LocalObjectReference{Name: "driver"}
	spec.Volumes = []corev1.Volume{
		{VolumeSource: corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{NodePublishSecretRef: name}}},
		{VolumeSource: corev1.VolumeSource{CephFS: &corev1.CephFSVolumeSource{SecretRef: name}}},
	}
}
