package claim_test

import (
	"fmt"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/privyseal/privyseal/broker/claim"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// What the API server refuses by the CRD's rules, this package refuses too, and
// what one takes the other does.
func TestTheRulesOnTargetsAreTheSameOnBothSides(t *testing.T) {
	_, api := apiServer(t)
	text := map[string]v1alpha1.TemplateText{"DSN": "x"}
	some := &v1alpha1.TemplateMetadata{Labels: map[string]v1alpha1.LabelValue{"team": "pay"}}
	for i, row := range []struct {
		name  string
		spec  v1alpha1.SecretClaimSpec
		fails bool
	}{
		{"nothing said", v1alpha1.SecretClaimSpec{}, false},
		{"own and deleted with the claim", v1alpha1.SecretClaimSpec{Target: &v1alpha1.Target{Mode: v1alpha1.OwnTarget, OnClaimDeleted: v1alpha1.DeleteTarget}}, false},
		{"deleted with the claim, by a mode that is not given", v1alpha1.SecretClaimSpec{Target: &v1alpha1.Target{OnClaimDeleted: v1alpha1.DeleteTarget}}, false},
		{"merged", v1alpha1.SecretClaimSpec{Target: &v1alpha1.Target{Mode: v1alpha1.MergeTarget}}, false},
		{"merged and retained", v1alpha1.SecretClaimSpec{Target: &v1alpha1.Target{Mode: v1alpha1.MergeTarget, OnClaimDeleted: v1alpha1.RetainTarget}}, false},
		{"merged and deleted with the claim", v1alpha1.SecretClaimSpec{Target: &v1alpha1.Target{Mode: v1alpha1.MergeTarget, OnClaimDeleted: v1alpha1.DeleteTarget}}, true},
		{"a template of data", v1alpha1.SecretClaimSpec{Template: &v1alpha1.Template{Data: text}}, false},
		{"a template of metadata", v1alpha1.SecretClaimSpec{Template: &v1alpha1.Template{Metadata: some}}, false},
		{"a template of both", v1alpha1.SecretClaimSpec{Template: &v1alpha1.Template{Data: text, Metadata: some}}, false},
		{"a template of nothing", v1alpha1.SecretClaimSpec{Template: &v1alpha1.Template{}}, true},
		{"a template of data, merged", v1alpha1.SecretClaimSpec{Template: &v1alpha1.Template{Data: text}, Target: &v1alpha1.Target{Mode: v1alpha1.MergeTarget}}, false},
		{"a template of metadata, merged", v1alpha1.SecretClaimSpec{Template: &v1alpha1.Template{Metadata: some}, Target: &v1alpha1.Target{Mode: v1alpha1.MergeTarget}}, true},
		{"a template of metadata, own", v1alpha1.SecretClaimSpec{Template: &v1alpha1.Template{Metadata: some}, Target: &v1alpha1.Target{Mode: v1alpha1.OwnTarget}}, false},
		{"sealed", v1alpha1.SecretClaimSpec{Seal: true}, false},
		{"sealed, own", v1alpha1.SecretClaimSpec{Seal: true, Target: &v1alpha1.Target{Mode: v1alpha1.OwnTarget}}, false},
		{"sealed, merged", v1alpha1.SecretClaimSpec{Seal: true, Target: &v1alpha1.Target{Mode: v1alpha1.MergeTarget}}, true},
	} {
		row.spec.Sources = []v1alpha1.Source{{Path: "db"}}
		asked := &v1alpha1.SecretClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprint("claim-", i)}, Spec: row.spec}
		err := api.Create(t.Context(), asked)
		if err != nil && !apierrors.IsInvalid(err) {
			t.Fatal(err)
		}
		refusal := claim.CheckTarget(row.spec, nil)
		if (err != nil) != row.fails || (refusal != nil) != row.fails {
			t.Errorf("%s: the API server says %v, the line %v", row.name, err, refusal)
		}
	}

	// Our own keys cannot be listed, and are refused though they were.
	for i, row := range []struct {
		listed, key string
		fails       bool
	}{
		{"argocd.argoproj.io/", "argocd.argoproj.io/secret-type", false},
		{"notprivyseal.io/", "notprivyseal.io/claim", false},
		{"privyseal.io/", "privyseal.io/claim", true},
		{"privyseal.io/claim", "privyseal.io/claim", true},
		{"x.privyseal.io/", "x.privyseal.io/claim", true},
	} {
		home := &v1alpha1.Environment{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("environment-", i)},
			Spec: v1alpha1.EnvironmentSpec{
				Stores: []string{"vault"}, Root: "kv", Paths: []string{"kv/**"}, TargetMetadata: []string{row.listed}},
		}
		err := api.Create(t.Context(), home)
		if err != nil && !apierrors.IsInvalid(err) {
			t.Fatal(err)
		}
		refusal := claim.CheckTarget(v1alpha1.SecretClaimSpec{Template: &v1alpha1.Template{Metadata: &v1alpha1.TemplateMetadata{
			Labels: map[string]v1alpha1.LabelValue{row.key: "x"}}}}, home)
		if (err != nil) != row.fails || (refusal != nil) != row.fails {
			t.Errorf("%s: the API server says %v, the line %v", row.listed, err, refusal)
		}
	}
}
