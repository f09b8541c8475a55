package chart

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	clientscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"
)

const (
	folder    = "../../charts/privyseal"
	namespace = "privyseal-system"
)

// sets are the values with which the chart is held to its promises.
var sets = map[string]string{
	"default": ``,
	"namespaced": `
namespaces: [payments, orders]
serviceAccountNames: [privyseal, vault-login]
`,
	"all off": `
crds: {enabled: false}
webhook: {enabled: false}
sealedSecrets: {enabled: false}
admissionPolicies: {enabled: false}
podDisruptionBudget: {enabled: false}
rotation: {jobs: false}
networkPolicy: {enabled: false}
`,
	"all given": `
image: {repository: registry.internal/team/privyseal, tag: v1, pullPolicy: Always}
imagePullSecrets: [{name: pull}]
namespaces: [payments]
logLevel: debug
devAllowHTTP: true
vault: {allowedAddresses: ["https://vault.vault.svc:8200", "https://[2001:db8::1]:443"]}
sealedSecrets: {keyNamespace: sealing, keyRenewal: 24h, keyCutoff: "2026-01-31T00:00:00Z", mayRecreate: true}
reloader: {enabled: true, autoReloadAll: true}
argoRollouts: {enabled: true}
restarts: {maxConcurrent: 7}
serve: {replicas: 2, extraArgs: [--one=1, "--two=a b"]}
webhook: {replicas: 3, extraArgs: [--three]}
networkPolicy:
  apiServer: {cidrs: [10.0.0.1/32, "2001:db8::1/128"], ports: [6443]}
  vault: {cidrs: [10.1.0.0/16, 10.2.0.0/16], ports: [8200, 443]}
  webhook: {cidrs: [10.0.0.1/32]}
  metrics: {from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}}]}
podAnnotations: {example.org/a: "b"}
userNamespaces: true
priorityClassName: system-cluster-critical
nodeSelector: {kubernetes.io/os: linux}
tolerations: [{key: a, operator: Exists}]
affinity: {podAntiAffinity: {}}
`,
}

// eachSet runs a test on what the chart renders for each set of values.
func eachSet(t *testing.T, test func(t *testing.T, objects []object)) {
	for name, values := range sets {
		t.Run(name, func(t *testing.T) { test(t, rendered(t, values)) })
	}
}

// Typed and Named are the two sides of an object.
type (
	Typed = runtime.Object
	Named = metav1.Object
)

// object is one rendered object, beside its text.
type object struct {
	Typed
	Named
	kind string
	text string
}

func (o object) String() string {
	return strings.TrimPrefix(fmt.Sprintf("%s %s/%s", o.kind, o.GetNamespace(), o.GetName()), " ")
}

// of returns the objects of one type.
func of[T runtime.Object](objects []object) []T {
	var some []T
	for _, o := range objects {
		if typed, ok := o.Typed.(T); ok {
			some = append(some, typed)
		}
	}
	return some
}

// rendered is what a release of the chart with these values consists of.
func rendered(t *testing.T, values string) []object {
	t.Helper()
	files, err := render(t, values)
	if err != nil {
		t.Fatal(err)
	}
	var objects []object
	for name, content := range files {
		if path.Ext(name) != ".yaml" {
			continue
		}
		for _, text := range strings.Split("\n"+content, "\n---") {
			if isBlank(text) {
				continue
			}
			objects = append(objects, decode(t, name, text))
		}
	}
	if len(objects) == 0 {
		t.Fatal("nothing was rendered")
	}
	return objects
}

// render returns the rendered templates, or the error with which the schema or
// a template refuses the values.
func render(t *testing.T, values string) (map[string]string, error) {
	t.Helper()
	privyseal := load(t)
	given := map[string]any{}
	if err := yaml.Unmarshal([]byte(values), &given); err != nil {
		t.Fatal(err)
	}
	capabilities := chartutil.DefaultCapabilities.Copy()
	capabilities.KubeVersion = chartutil.KubeVersion{Version: "v1.34.0", Major: "1", Minor: "34"}
	release := chartutil.ReleaseOptions{Name: "release", Namespace: namespace, IsInstall: true, Revision: 1}
	all, err := chartutil.ToRenderValues(privyseal, given, release, capabilities)
	if err != nil {
		return nil, err
	}
	return engine.Engine{Strict: true}.Render(privyseal, all)
}

func load(t *testing.T) *chart.Chart {
	t.Helper()
	privyseal, err := loader.Load(folder)
	if err != nil {
		t.Fatal(err)
	}
	return privyseal
}

// isBlank says whether a document holds nothing but comments.
func isBlank(text string) bool {
	return !slices.ContainsFunc(strings.Split(text, "\n"), func(line string) bool {
		line = strings.TrimSpace(line)
		return line != "" && !strings.HasPrefix(line, "#")
	})
}

// decode reads an object as strictly as an API server with
// fieldValidation=Strict: no unknown kind, no unknown field, no field twice.
func decode(t *testing.T, file, text string) object {
	t.Helper()
	known := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientscheme.AddToScheme, apiextensionsv1.AddToScheme} {
		if err := add(known); err != nil {
			t.Fatal(err)
		}
	}
	decoder := serializer.NewCodecFactory(known, serializer.EnableStrict).UniversalDeserializer()
	decoded, gvk, err := decoder.Decode([]byte(text), nil, nil)
	if err != nil {
		t.Fatalf("%s: %v:\n%s", file, err, text)
	}
	named, err := meta.Accessor(decoded)
	if err != nil {
		t.Fatal(err)
	}
	return object{Typed: decoded, kind: gvk.Kind, text: text, Named: named}
}
