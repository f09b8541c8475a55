package claim

import (
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/privyseal/privyseal/broker/environment"
	"github.com/privyseal/privyseal/broker/target"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// checkTarget refuses what a claim may not ask of its target. The rules on the
// spec alone are those of the CRD over again, for an API server whose CRD is an
// older one.
func checkTarget(spec v1alpha1.SecretClaimSpec, home *v1alpha1.Environment) *Refusal {
	merges := spec.Target != nil && spec.Target.Mode == v1alpha1.MergeTarget
	if merges && spec.Target.OnClaimDeleted == v1alpha1.DeleteTarget {
		return refuse(v1alpha1.ReasonTargetRefused,
			"spec.target.onClaimDeleted: with mode Merge the Secret is not the claim's to delete, and its keys stay; set it to Retain")
	}
	if merges && spec.Seal {
		return refuse(v1alpha1.ReasonTargetRefused,
			"spec.seal: it is for a Secret of the claim's own; leave it out, or set target.mode to Own")
	}
	if spec.Template == nil {
		return nil
	}
	if len(spec.Template.Data) == 0 && spec.Template.Metadata == nil {
		return refuse(v1alpha1.ReasonTemplateInvalid, "spec.template: give data, metadata or both")
	}
	if merges && spec.Template.Metadata != nil {
		return refuse(v1alpha1.ReasonTargetRefused,
			"spec.template.metadata: it is for a Secret of the claim's own; leave it out, or set target.mode to Own")
	}
	return checkMetadata(metadata(spec.Template), home)
}

// checkMetadata refuses labels and annotations that a Secret cannot have, and
// those that other controllers trust where the environment does not list them.
func checkMetadata(wanted target.Metadata, home *v1alpha1.Environment) *Refusal {
	for _, kind := range []struct {
		field string
		pairs map[string]string
		value func(string) []string
	}{
		{"spec.template.metadata.labels", wanted.Labels, validation.IsValidLabelValue},
		{"spec.template.metadata.annotations", wanted.Annotations, func(string) []string { return nil }},
	} {
		for _, key := range slices.Sorted(maps.Keys(kind.pairs)) {
			field := kind.field + "[" + key + "]"
			if problems := slices.Concat(validation.IsQualifiedName(key), kind.value(kind.pairs[key])); len(problems) > 0 {
				return refuse(v1alpha1.ReasonMetadataInvalid, "%s: %s", field, strings.Join(problems, "; "))
			}
			if !environment.MayLabel(key, home) {
				return refuse(v1alpha1.ReasonMetadataNotAllowed,
					"%s: other controllers trust this key; choose another, or have the environment list it in spec.targetMetadata (keys of privyseal.io never)", field)
			}
		}
	}
	return nil
}

// metadata is what a template puts on the target.
func metadata(template *v1alpha1.Template) target.Metadata {
	var wanted target.Metadata
	if template == nil || template.Metadata == nil {
		return wanted
	}
	if given := template.Metadata.Labels; len(given) > 0 {
		wanted.Labels = make(map[string]string, len(given))
		for key, value := range given {
			wanted.Labels[key] = string(value)
		}
	}
	if given := template.Metadata.Annotations; len(given) > 0 {
		wanted.Annotations = make(map[string]string, len(given))
		for key, value := range given {
			wanted.Annotations[key] = string(value)
		}
	}
	return wanted
}
