package claim

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/broker/target"
	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/providers"
)

func labelled(key, value string) func(*facts) {
	return func(f *facts) {
		f.claim.Spec.Template = &v1alpha1.Template{Metadata: &v1alpha1.TemplateMetadata{
			Labels: map[string]v1alpha1.LabelValue{key: v1alpha1.LabelValue(value)}}}
	}
}

func annotated(key string) func(*facts) {
	return func(f *facts) {
		f.claim.Spec.Template = &v1alpha1.Template{Metadata: &v1alpha1.TemplateMetadata{
			Annotations: map[string]v1alpha1.AnnotationValue{key: "any text: at all"}}}
	}
}

func TestWhichMetadataAClaimMayAskFor(t *testing.T) {
	listed := func(then func(*facts)) func(*facts) {
		return func(f *facts) {
			f.environments[0].Spec.TargetMetadata = []string{"argocd.argoproj.io/", "privyseal.io/"}
			then(f)
		}
	}
	for _, row := range []struct {
		name, reason, mention string
		breaks                func(*facts)
	}{
		{"a label of its own", "", "", labelled("team", "pay")},
		{"an annotation of its own", "", "", annotated("example.com/note")},
		{"a label that others trust", v1alpha1.ReasonMetadataNotAllowed, "spec.template.metadata.labels[argocd.argoproj.io/secret-type]", labelled("argocd.argoproj.io/secret-type", "cluster")},
		{"an annotation that others trust", v1alpha1.ReasonMetadataNotAllowed, "spec.template.metadata.annotations[k8s.io/x]", annotated("k8s.io/x")},
		{"a label that others trust, where the environment lists it", "", "", listed(labelled("argocd.argoproj.io/secret-type", "cluster"))},
		{"a mark of ours, whatever is listed", v1alpha1.ReasonMetadataNotAllowed, "privyseal.io/claim-uid", listed(labelled(v1alpha1.LabelClaimUID, "x"))},
		{"a value that no label can have", v1alpha1.ReasonMetadataInvalid, "spec.template.metadata.labels[team]", labelled("team", "the pay team")},
		{"a key that no label can have", v1alpha1.ReasonMetadataInvalid, "spec.template.metadata.labels[the team]", labelled("the team", "pay")},
		{"a key that no annotation can have", v1alpha1.ReasonMetadataInvalid, "spec.template.metadata.annotations[/x]", annotated("/x")},
	} {
		_, err := resolve(world(row.breaks))
		var refusal *Refusal
		switch {
		case row.reason == "" && err != nil:
			t.Errorf("%s: got %v", row.name, err)
		case row.reason != "" && (!errors.As(err, &refusal) || refusal.Reason != row.reason || !strings.Contains(refusal.Message, row.mention)):
			t.Errorf("%s: got %v, want %s mentioning %q", row.name, err, row.reason, row.mention)
		}
	}
}

func TestATemplateOfMetadataLeavesTheContentAsItIs(t *testing.T) {
	spec := world(labelled("team", "pay")).claim.Spec
	got, err := render(spec, []providers.Document{document("a", "1", "b", "2")})
	if err != nil || shown(got) != "a=1 b=2" {
		t.Errorf("got %s, %v", shown(got), err)
	}
}

func TestWhatAClaimWantsOfItsTarget(t *testing.T) {
	claim := world(labelled("team", "pay")).claim
	if wanted := desired(claim, nil); wanted.Merge || wanted.Metadata.Labels["team"] != "pay" {
		t.Errorf("an own target: %+v", wanted)
	}
	claim.Spec.Template, claim.Spec.Target = nil, &v1alpha1.Target{Name: "theirs", Mode: v1alpha1.MergeTarget}
	if wanted := desired(claim, nil); !wanted.Merge || wanted.Name != "theirs" || wanted.Metadata.String() != "" {
		t.Errorf("a merged target: %+v", wanted)
	}
	for fact, reason := range map[error]string{
		target.ErrMissing: v1alpha1.ReasonTargetNotFound, target.ErrConflict: v1alpha1.ReasonTargetConflict,
	} {
		var refusal *Refusal
		if err := refuseTarget(fmt.Errorf("applying: %w", fact)); !errors.As(err, &refusal) || refusal.Reason != reason {
			t.Errorf("%v is refused as %v", fact, err)
		}
	}
}
