package claim

import (
	"errors"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// world is the facts of a cluster with one environment, one store and a claim
// in namespace pay that is in order; each row of the tests breaks one thing.
func world(breaks ...func(*facts)) facts {
	made := facts{
		claim: &v1alpha1.SecretClaim{
			ObjectMeta: metav1.ObjectMeta{Namespace: "pay", Name: "db"},
			Spec:       v1alpha1.SecretClaimSpec{Sources: []v1alpha1.Source{{Path: "db"}}},
		},
		namespace:    labels.Set{"env": "prod"},
		environments: []v1alpha1.Environment{*environmentNamed("prod", "prod")},
		stores:       map[string]*v1alpha1.ClusterSecretStore{"vault": {ObjectMeta: metav1.ObjectMeta{Name: "vault"}}},
	}
	for _, breakIt := range breaks {
		breakIt(&made)
	}
	return made
}

func environmentNamed(name, label string) *v1alpha1.Environment {
	return &v1alpha1.Environment{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: v1alpha1.EnvironmentSpec{
			NamespaceSelector: metav1.LabelSelector{MatchLabels: map[string]string{"env": label}},
			Stores:            []string{"vault", "spare"},
			Root:              "kv/{{ .Environment }}/{{ .Namespace }}",
			Paths:             []string{"kv/{{ .Environment }}/{{ .Namespace }}/**"},
		},
	}
}

func TestAClaimInOrderIsResolved(t *testing.T) {
	plan, err := resolve(world(func(f *facts) {
		f.claim.Spec.Sources = append(f.claim.Spec.Sources, v1alpha1.Source{Path: "/kv/prod/pay/tls", Version: 7})
	}))
	if err != nil {
		t.Fatal(err)
	}
	if plan.store.Name != "vault" || plan.identity.Namespace != "pay" || plan.identity.Environment != "prod" {
		t.Errorf("got %s as %+v", plan.store.Name, plan.identity)
	}
	if got := plan.requests; got[0].Ref.String() != "kv/prod/pay/db" || got[1].Ref.String() != "kv/prod/pay/tls" || got[1].Version != 7 {
		t.Errorf("got requests %v", got)
	}
}

func TestWhyAClaimIsRefused(t *testing.T) {
	for _, row := range []struct {
		name    string
		breaks  func(*facts)
		reason  string
		mention string
	}{
		{"its namespace is in no environment", func(f *facts) { f.namespace = nil },
			v1alpha1.ReasonNoEnvironment, "spec.namespaceSelector"},
		{"an environment that selects everything selects nothing", func(f *facts) {
			f.environments[0].Spec.NamespaceSelector = metav1.LabelSelector{}
		}, v1alpha1.ReasonNoEnvironment, "namespace pay"},
		{"its namespace is in two environments", func(f *facts) {
			f.environments = append(f.environments, *environmentNamed("other", "prod"))
		}, v1alpha1.ReasonTwoEnvironments, "other and prod"},
		{"it names a store that the environment does not list", func(f *facts) {
			f.claim.Spec.StoreRef = &v1alpha1.StoreRef{Name: "foreign"}
			f.stores["foreign"] = &v1alpha1.ClusterSecretStore{}
		}, v1alpha1.ReasonStoreNotAllowed, "spec.storeRef.name"},
		{"its store is not there", func(f *facts) { f.claim.Spec.StoreRef = &v1alpha1.StoreRef{Name: "spare"} },
			v1alpha1.ReasonStoreNotFound, "spare"},
		{"its store does not admit the namespace", func(f *facts) {
			f.stores["vault"].Spec.Namespaces = &v1alpha1.NamespaceSelector{
				Selector: metav1.LabelSelector{MatchLabels: map[string]string{"team": "x"}},
			}
		}, v1alpha1.ReasonStoreNotAllowed, "spec.namespaces"},
		{"a path is a neighbour's", func(f *facts) { f.claim.Spec.Sources[0].Path = "/kv/prod/pay-ments/db" },
			v1alpha1.ReasonPathNotAllowed, "spec.sources[0].path"},
		{"a path climbs", func(f *facts) { f.claim.Spec.Sources[0].Path = "../pay-ments/db" },
			v1alpha1.ReasonPathInvalid, "spec.sources[0].path"},
		{"the environment's paths are malformed", func(f *facts) { f.environments[0].Spec.Paths = []string{"kv/**/x"} },
			v1alpha1.ReasonPathInvalid, "spec.paths[0]"},
	} {
		_, err := resolve(world(row.breaks))
		var refusal *Refusal
		if !errors.As(err, &refusal) || refusal.Reason != row.reason || !strings.Contains(refusal.Message, row.mention) {
			t.Errorf("%s: got %v (%+v), want %s mentioning %q", row.name, err, refusal, row.reason, row.mention)
		}
	}
}
