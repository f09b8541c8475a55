package main

import (
	"strings"
	"testing"
	"text/template"
)

const definition = `---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  annotations:
    controller-gen.kubebuilder.io/version: v0.0.0
  name: claims.example.org
spec:
  description: 'a path such as kv/{{ .Environment }}/{{ .Namespace | lower }}'
`

func render(t *testing.T, text string, enabled bool) string {
	t.Helper()
	parsed, err := template.New("crd").Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	values := map[string]any{"Values": map[string]any{"crds": map[string]any{"enabled": enabled}}}
	if err := parsed.Execute(&out, values); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestATemplateRendersToTheDefinitionWithTheAnnotationThatKeepsIt(t *testing.T) {
	wrapped, err := wrap(definition)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.TrimPrefix(definition, "---\n")
	want = strings.Replace(want, "  annotations:\n", "  annotations:\n    helm.sh/resource-policy: keep\n", 1)
	if got := strings.TrimLeft(render(t, wrapped, true), "\n"); got != want {
		t.Errorf("rendered:\n%s\nwant:\n%s", got, want)
	}
}

func TestATemplateRendersToNothingWhenSwitchedOff(t *testing.T) {
	wrapped, err := wrap(definition)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSpace(render(t, wrapped, false)); got != "" {
		t.Errorf("rendered %q, want nothing", got)
	}
}

func TestADefinitionWithoutAnnotationsIsRefused(t *testing.T) {
	if _, err := wrap("kind: CustomResourceDefinition\n"); err == nil {
		t.Error("wrapped, want an error")
	}
}
