// Command crds turns the CustomResourceDefinitions of controller-gen into
// templates of the chart.
//
// They are templates, and not files in the chart's crds folder, because Helm
// never upgrades what lies there. What they need beyond what controller-gen
// writes is little: a switch to leave them out, the annotation that has Helm
// keep them when the release goes (with them would go every claim), and an
// escape around the template syntax that the descriptions of fields show to
// people, which Helm would otherwise fill in.
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("crds: ")
	from := flag.String("from", "", "folder with the output of controller-gen")
	to := flag.String("to", "", "folder of the chart's templates; what else lies there is removed")
	flag.Parse()
	if err := run(*from, *to); err != nil {
		log.Fatal(err)
	}
}

func run(from, to string) error {
	files, err := filepath.Glob(filepath.Join(from, "*.yaml"))
	if err != nil {
		return fmt.Errorf("listing %s: %w", from, err)
	}
	if len(files) == 0 {
		return fmt.Errorf("listing %s: no definitions there", from)
	}
	if err := os.RemoveAll(to); err != nil {
		return fmt.Errorf("emptying %s: %w", to, err)
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		return fmt.Errorf("making %s: %w", to, err)
	}
	for _, file := range files {
		definition, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("reading a definition: %w", err)
		}
		template, err := wrap(string(definition))
		if err != nil {
			return fmt.Errorf("wrapping %s: %w", file, err)
		}
		// privyseal.io_secretclaims.yaml: the group says nothing among its own.
		_, name, _ := strings.Cut(filepath.Base(file), "_")
		if err := os.WriteFile(filepath.Join(to, name), []byte(template), 0o644); err != nil {
			return fmt.Errorf("writing a template: %w", err)
		}
	}
	return nil
}

const (
	ours        = "{{- /* Generated from broker/v1alpha1 by make generate. Do not edit. */ -}}\n{{- if .Values.crds.enabled }}\n"
	footer      = "{{- end }}\n"
	annotations = "\n  annotations:\n"
	keep        = "    helm.sh/resource-policy: keep\n"
)

// theirs begins the template of a kind that another controller may have brought
// already, which Helm refuses to take over: then theirs stays.
func theirs(name string) string {
	return `{{- /* Generated from the kinds of Sealed Secrets by make generate. Do not edit. */ -}}
{{- $there := lookup "apiextensions.k8s.io/v1" "CustomResourceDefinition" "" "` + name + `" }}
{{- $release := dig "metadata" "annotations" "meta.helm.sh/release-name" "" $there }}
{{- $namespace := dig "metadata" "annotations" "meta.helm.sh/release-namespace" "" $there }}
{{- $ours := and (eq $release .Release.Name) (eq $namespace .Release.Namespace) }}
{{- if and .Values.crds.enabled .Values.sealedSecrets.enabled (or $ours (not $there)) }}
`
}

// wrap makes a template of one definition that renders to the same definition,
// with the annotation to keep it.
func wrap(definition string) (string, error) {
	body := strings.TrimPrefix(definition, "---\n")
	header := ours
	if name := "sealedsecrets.bitnami.com"; strings.Contains(body, "\n  name: "+name+"\n") {
		header = theirs(name)
	}
	before, after, found := strings.Cut(body, annotations)
	if !found {
		return "", fmt.Errorf("no annotations to add to")
	}
	// Only the opening braces begin an action; closing ones are plain text.
	escape := func(text string) string { return strings.ReplaceAll(text, "{{", `{{ "{{" }}`) }
	return header + escape(before) + annotations + keep + escape(after) + footer, nil
}
