package inject_test

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/privyseal/privyseal/broker/annotation"
	"github.com/privyseal/privyseal/broker/inject"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// update is a flag of the test binary: go test ./broker/inject -update.
var update = flag.Bool("update", false, "write testdata/*.patch.json and *.out.yaml anew")

// podOf makes a pod with annotations "key: value" under privyseal.io/ and one
// container, app.
func podOf(annotations ...string) *corev1.Pod {
	pod := &corev1.Pod{}
	pod.GenerateName = "app-"
	pod.Annotations = map[string]string{}
	for _, line := range annotations {
		key, value, _ := strings.Cut(line, ": ")
		pod.Annotations[annotation.Prefix+key] = value
	}
	pod.Spec.Containers = []corev1.Container{{Name: "app", Image: "app"}}
	return pod
}

type change func(*corev1.Pod)

func (c change) of(pod *corev1.Pod) *corev1.Pod { c(pod); return pod }

func withContainers(names ...string) change {
	return func(pod *corev1.Pod) {
		pod.Spec.Containers = nil
		for _, name := range names {
			pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: name})
		}
	}
}

func withInit(name string, policy corev1.ContainerRestartPolicy) change {
	return func(pod *corev1.Pod) {
		c := corev1.Container{Name: name}
		if policy != "" {
			c.RestartPolicy = &policy
		}
		pod.Spec.InitContainers = append(pod.Spec.InitContainers, c)
	}
}

func withEnv(name string) change {
	return func(pod *corev1.Pod) {
		pod.Spec.Containers[0].Env = append(pod.Spec.Containers[0].Env, corev1.EnvVar{Name: name, Value: "x"})
	}
}

func withMount(path string) change {
	return func(pod *corev1.Pod) {
		pod.Spec.Containers[0].VolumeMounts = append(pod.Spec.Containers[0].VolumeMounts, corev1.VolumeMount{Name: "own", MountPath: path})
	}
}

func withVolume(name string) change {
	return func(pod *corev1.Pod) {
		pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: name})
	}
}

func withAnnotation(key, value string) change {
	return func(pod *corev1.Pod) { pod.Annotations[key] = value }
}

func withFSGroup(pod *corev1.Pod) {
	group := int64(1000)
	pod.Spec.SecurityContext = &corev1.PodSecurityContext{FSGroup: &group}
}

func all(changes ...change) change {
	return func(pod *corev1.Pod) {
		for _, change := range changes {
			change(pod)
		}
	}
}

// facts as the handler gathers them: no claim is there yet, but those whose
// sequences are given.
func factsOf(t testing.TB, pod *corev1.Pod, sequences map[string]int64) inject.Facts {
	t.Helper()
	parsed, err := annotation.Parse(pod.Annotations)
	if err != nil {
		t.Fatal(err)
	}
	facts := inject.Facts{Wanted: parsed, Targets: map[string]inject.Target{}}
	for _, request := range parsed.Requests {
		target := inject.Target{Secret: request.ClaimName()}
		if sequence, synced := sequences[target.Secret]; synced {
			target.Sequence = &sequence
		}
		facts.Targets[request.Name] = target
	}
	return facts
}

// injected applies the patch as the API server would.
func injected(t testing.TB, pod *corev1.Pod, sequences map[string]int64) *corev1.Pod {
	t.Helper()
	operations, err := inject.Pod(pod, factsOf(t, pod, sequences))
	if err != nil {
		t.Fatalf("refused: %v", err)
	}
	return applied(t, pod, operations)
}

func applied(t testing.TB, pod *corev1.Pod, operations any) *corev1.Pod {
	t.Helper()
	patch, err := jsonpatch.DecodePatch(mustJSON(t, operations))
	if err != nil {
		t.Fatal(err)
	}
	out, err := patch.Apply(mustJSON(t, pod))
	if err != nil {
		t.Fatalf("the patch does not apply: %v\n%s", err, mustJSON(t, operations))
	}
	var result corev1.Pod
	if err := json.Unmarshal(out, &result); err != nil {
		t.Fatal(err)
	}
	return &result
}

func mustJSON(t testing.TB, value any) []byte {
	t.Helper()
	out, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// getsFiles lists the containers that mount the secret db.
func getsFiles(pod *corev1.Pod) string {
	var names []string
	for _, c := range append(append([]corev1.Container{}, pod.Spec.InitContainers...), pod.Spec.Containers...) {
		for _, mount := range c.VolumeMounts {
			if mount.Name == "privyseal-db" && mount.ReadOnly {
				names = append(names, c.Name)
			}
		}
	}
	return strings.Join(names, ",")
}

func TestWhichContainersGetIt(t *testing.T) {
	for sentence, row := range map[string]struct {
		pod  *corev1.Pod
		want string
	}{
		"all containers and init containers": {
			all(withContainers("app", "worker"), withInit("migrate", "")).of(podOf("secret.db: db")), "migrate,app,worker"},
		"but no native sidecar": {
			withInit("logs", corev1.ContainerRestartPolicyAlways).of(podOf("secret.db: db")), "app"},
		"and no mesh's sidecar": {
			all(withContainers("istio-proxy", "app", "vault-agent"), withInit("istio-init", "")).of(podOf("secret.db: db")), "app"},
		"the one that the pod is about, where it says so": {
			all(withContainers("app", "worker"), withInit("migrate", ""), withAnnotation("kubectl.kubernetes.io/default-container", "worker")).
				of(podOf("secret.db: db")), "worker"},
		"those that are named, whatever else holds": {
			all(withContainers("app", "istio-proxy"), withInit("logs", corev1.ContainerRestartPolicyAlways), withAnnotation("kubectl.kubernetes.io/default-container", "app")).
				of(podOf("secret.db: db", "containers: istio-proxy,logs")), "logs,istio-proxy"},
	} {
		t.Run(sentence, func(t *testing.T) {
			out := injected(t, row.pod, nil)
			if got := getsFiles(out); got != row.want {
				t.Errorf("mounted by %q, not %q", got, row.want)
			}
			if got := out.Annotations[annotation.InjectedContainers]; got != row.want {
				t.Errorf("injected-containers is %q, not %q", got, row.want)
			}
		})
	}
}

func TestFileModes(t *testing.T) {
	for sentence, row := range map[string]struct {
		pod  *corev1.Pod
		want int32
	}{
		"files are readable by all where there is no group":   {podOf("secret.db: db"), 0o444},
		"files are readable by the group where there is one":  {change(withFSGroup).of(podOf("secret.db: db")), 0o440},
		"files have the mode that is asked for":               {podOf("secret.db: db", "mode.db: 0400"), 0o400},
		"files have the mode that is asked for, group or not": {change(withFSGroup).of(podOf("secret.db: db", "mode.db: 0444")), 0o444},
	} {
		if got := *injected(t, row.pod, nil).Spec.Volumes[0].Secret.DefaultMode; got != row.want {
			t.Errorf("%s: %#o", sentence, got)
		}
	}
}

func TestStartedWith(t *testing.T) {
	const db, tls = "db-4452e219", "tls"
	for sentence, row := range map[string]struct {
		sequences map[string]int64
		want      string
	}{
		"lists the targets, sorted":         {map[string]int64{tls: 0, db: 1763800000}, "db-4452e219=1763800000,tls=0"},
		"leaves out a claim not synced yet": {map[string]int64{tls: 7}, "tls=7"},
		"is absent where none is":           {nil, ""},
	} {
		out := injected(t, podOf("secret.db: db", "secret.ca: claim:tls"), row.sequences)
		got, there := out.Annotations[v1alpha1.AnnotationStartedWith]
		if got != row.want || there != (row.want != "") {
			t.Errorf("started-with %s: got %q", sentence, got)
		}
	}
}

func TestRefusals(t *testing.T) {
	for sentence, row := range map[string]struct {
		pod  *corev1.Pod
		says string
	}{
		"a container that is not there": {
			podOf("secret.db: db", "containers: app,web"), `privyseal.io/containers: the pod has no container "web"; it has app`},
		"a default container that is not there": {
			withAnnotation("kubectl.kubernetes.io/default-container", "web").of(podOf("secret.db: db")), "kubectl.kubernetes.io/default-container: the pod has no container"},
		"a pod of sidecars alone": {
			withContainers("istio-proxy").of(podOf("secret.db: db")), "privyseal.io/containers: it is needed here"},
		"a variable that is set already": {
			withEnv("USER").of(podOf("secret.db: db", "env.db: user=USER")), "privyseal.io/env.db: container app already sets USER"},
		"a template's variable that is set already": {
			withEnv("X_db").of(podOf("secret.db: db", "template.db: t", "env.db: X_*")), "privyseal.io/env.db: container app already sets X_db"},
		"a directory that is mounted already": {
			withMount("/etc/secrets/db").of(podOf("secret.db: db")), "privyseal.io/volume.db: container app already mounts something at /etc/secrets/db"},
		"a directory that is mounted already, written otherwise": {
			withMount("/etc//secrets/db/").of(podOf("secret.db: db")), "already mounts something"},
		"a volume of our name": {
			withVolume("privyseal-db").of(podOf("secret.db: db")), "privyseal.io/secret.db: the pod has a volume privyseal-db of its own"},
		"the second of two obstacles too": {
			all(withEnv("USER"), withMount("/s")).of(podOf("secret.db: db", "env.db: user=USER", "volume.db: /s")), "already mounts"},
		"a forged mark": {
			podOf("secret.db: db", "injected-containers: app"), "privyseal.io/secret.db: the pod does not have Secret db-4452e219"},
		"a forged mark and a volume of something else": {
			withVolume("privyseal-db").of(podOf("secret.db: db", "injected-containers: app")), "which only Privyseal writes: remove that one"},
	} {
		t.Run(sentence, func(t *testing.T) {
			operations, err := inject.Pod(row.pod, factsOf(t, row.pod, nil))
			if err == nil {
				t.Fatalf("taken: %s", mustJSON(t, operations))
			}
			if !strings.Contains(err.Error(), row.says) {
				t.Errorf("says %q, not %q", err, row.says)
			}
		})
	}
}

func TestWhatAnotherContainerHasIsNoObstacle(t *testing.T) {
	pod := all(withContainers("proxy", "app"), withEnv("USER"), withMount("/etc/secrets/db")).
		of(podOf("secret.db: db", "env.db: user=USER", "volume.db: /etc/secrets/db", "containers: app"))
	if got := getsFiles(injected(t, pod, nil)); got != "app" {
		t.Errorf("mounted by %q", got)
	}
}

func TestAPodThatAsksForNothingStaysAsItIs(t *testing.T) {
	pod := podOf("restart: never")
	if operations, err := inject.Pod(pod, factsOf(t, pod, nil)); err != nil || operations != nil {
		t.Errorf("got %v, %v", operations, err)
	}
}

// Each testdata/NAME.pod.yaml gives the patch NAME.patch.json and the pod
// NAME.out.yaml.
func TestGoldenPatches(t *testing.T) {
	inputs, err := filepath.Glob("testdata/*.pod.yaml")
	if err != nil || len(inputs) == 0 {
		t.Fatalf("no pods in testdata: %v", err)
	}
	for _, input := range inputs {
		name := strings.TrimSuffix(input, ".pod.yaml")
		t.Run(filepath.Base(name), func(t *testing.T) {
			text, err := os.ReadFile(input)
			if err != nil {
				t.Fatal(err)
			}
			var pod corev1.Pod
			if err := yaml.UnmarshalStrict(text, &pod); err != nil {
				t.Fatal(err)
			}
			before := mustJSON(t, pod)
			facts := factsOf(t, &pod, map[string]int64{"db-4452e219": 1763800000, "payments-tls": 0})
			operations, err := inject.Pod(&pod, facts)
			if err != nil {
				t.Fatal(err)
			}
			if string(mustJSON(t, pod)) != string(before) {
				t.Error("the pod that came in was changed")
			}
			golden(t, name+".patch.json", append(mustJSON(t, operations), '\n'))
			out := applied(t, &pod, operations)
			outYAML, err := yaml.Marshal(out)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, name+".out.yaml", outYAML)
			if again, err := inject.Pod(out, facts); err != nil || again != nil {
				t.Errorf("a second call gives %s, %v", mustJSON(t, again), err)
			}
		})
	}
}

func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("%s differs; got\n%s", file, got)
	}
}

// Whatever the pod: no panic, only additions, a patch that applies, all that
// was there still there, and nothing to do the second time.
func FuzzPod(f *testing.F) {
	f.Add([]byte(`{"metadata":{"annotations":{}},"spec":{"containers":[{"name":"app","env":[{"name":"A"}]}]}}`), "db", "*", "/run/db", "app")
	f.Add([]byte(`{"spec":{"initContainers":[{"name":"i","restartPolicy":"Always"}],"containers":[{"name":"app"},{"name":"app"}]}}`), "/kv/db", "user=USER,password", "", "")
	f.Add([]byte(`{"spec":{"containers":[{"name":"app","volumeMounts":[{"name":"x","mountPath":"/x"}]}],"volumes":[{"name":"x"}]}}`), "claim:db", "DB_*", "/s", "")
	f.Fuzz(func(t *testing.T, raw []byte, path, env, dir, names string) {
		var pod corev1.Pod
		if json.Unmarshal(raw, &pod) != nil {
			return
		}
		wanted := map[string]string{annotation.SecretPrefix + "db": path}
		for key, value := range map[string]string{annotation.EnvPrefix + "db": env, annotation.VolumePrefix + "db": dir, annotation.Containers: names} {
			if value != "" {
				wanted[key] = value
			}
		}
		parsed, err := annotation.Parse(wanted)
		if err != nil {
			return
		}
		facts := inject.Facts{Wanted: parsed, Targets: map[string]inject.Target{"db": {Secret: parsed.Requests[0].ClaimName()}}}
		operations, err := inject.Pod(&pod, facts)
		if err != nil || operations == nil {
			return
		}
		for _, operation := range operations {
			if operation.Operation != "add" {
				t.Errorf("not an addition: %s", operation.Json())
			}
		}
		out := applied(t, &pod, operations)
		if again, err := inject.Pod(out, facts); err != nil || again != nil {
			t.Errorf("a second call gives %s, %v", mustJSON(t, again), err)
		}
		if !keeps(mustAny(t, pod), mustAny(t, out)) {
			t.Errorf("something was lost:\n%s\n%s", mustJSON(t, pod), mustJSON(t, out))
		}
	})
}

func mustAny(t testing.TB, value any) any {
	t.Helper()
	var out any
	if err := json.Unmarshal(mustJSON(t, value), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// keeps: all of before is in after, lists in their order.
func keeps(before, after any) bool {
	switch before := before.(type) {
	case map[string]any:
		after, same := after.(map[string]any)
		for key, value := range before {
			if key == annotation.InjectedContainers || key == v1alpha1.AnnotationStartedWith {
				continue
			}
			same = same && keeps(value, after[key])
		}
		return same
	case []any:
		after, same := after.([]any)
		next := 0
		for _, item := range after {
			if next < len(before) && keeps(before[next], item) {
				next++
			}
		}
		return same && next == len(before)
	}
	return before == after
}
