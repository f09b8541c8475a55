package claim

import (
	"errors"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/privyseal/privyseal/broker/address"
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
	if plan.store.Kind != v1alpha1.KindClusterSecretStore || plan.store.Name != "vault" || plan.identity.Namespace != "pay" || plan.identity.Environment != "prod" {
		t.Errorf("got %s as %+v", plan.store.Name, plan.identity)
	}
	if got := plan.requests; got[0].Ref.String() != "kv/prod/pay/db" || got[1].Ref.String() != "kv/prod/pay/tls" || got[1].Version != 7 {
		t.Errorf("got requests %v", got)
	}
}

func TestAClaimThatPeopleWroteIsResolvedWhateverAnnotationsMay(t *testing.T) {
	for _, policy := range []v1alpha1.AnnotationPolicy{"", v1alpha1.AnnotationsAllow, v1alpha1.AnnotationsExistingClaimsOnly, v1alpha1.AnnotationsDeny} {
		if _, err := resolve(world(func(f *facts) { f.environments[0].Spec.Annotations = policy })); err != nil {
			t.Errorf("%q: %v", policy, err)
		}
	}
}

// outside is the facts of a cluster with an environment that namespace pay is
// not in, and a claim there that names its own store and is in order.
func outside(breaks ...func(*facts)) facts {
	made := world(func(f *facts) {
		f.namespace = nil
		f.claim.Spec.StoreRef = &v1alpha1.StoreRef{Kind: v1alpha1.KindSecretStore, Name: "own"}
		f.claim.Spec.Sources[0].Path = "/kv/team/db"
		f.own = &v1alpha1.SecretStore{
			ObjectMeta: metav1.ObjectMeta{Namespace: "pay", Name: "own", UID: "uid", Generation: 3},
			Spec:       v1alpha1.SecretStoreSpec{Vault: v1alpha1.VaultStore{Address: "https://vault:8200"}},
		}
		f.allowed = addresses("https://vault:8200")
	})
	for _, breakIt := range breaks {
		breakIt(&made)
	}
	return made
}

func addresses(list ...string) address.Allowed {
	allowed, err := address.Parse(list)
	if err != nil {
		panic(err) // the test's own list
	}
	return allowed
}

func TestAClaimOutsideEnvironmentsReadsItsOwnStore(t *testing.T) {
	plan, err := resolve(outside(func(f *facts) {
		f.claim.Spec.Sources = append(f.claim.Spec.Sources, v1alpha1.Source{Path: "/anything/else", Version: 7})
	}))
	if err != nil {
		t.Fatal(err)
	}
	if got := plan.store; got.String() != "SecretStore pay/own" || got.UID != "uid" || got.Generation != 3 || got.Vault.Address != "https://vault:8200" {
		t.Errorf("got %s: %+v", got, got)
	}
	if plan.identity.Namespace != "pay" || plan.identity.Environment != "" {
		t.Errorf("got %+v", plan.identity)
	}
	if got := plan.requests; got[0].Ref.String() != "kv/team/db" || got[1].Ref.String() != "anything/else" || got[1].Version != 7 {
		t.Errorf("got requests %v", got)
	}
}

func TestWhyAClaimOutsideEnvironmentsIsRefused(t *testing.T) {
	for _, row := range []struct {
		name    string
		breaks  func(*facts)
		reason  string
		mention string
	}{
		{"it names no store", func(f *facts) { f.claim.Spec.StoreRef = nil },
			v1alpha1.ReasonNoEnvironment, "name a SecretStore of the namespace in spec.storeRef"},
		{"it names a store without its kind", func(f *facts) { f.claim.Spec.StoreRef.Kind = "" },
			v1alpha1.ReasonNoEnvironment, "with its kind"},
		{"it names a ClusterSecretStore that is there", func(f *facts) {
			f.claim.Spec.StoreRef = &v1alpha1.StoreRef{Kind: v1alpha1.KindClusterSecretStore, Name: "vault"}
		}, v1alpha1.ReasonNoEnvironment, "namespace pay is in no environment"},
		{"its store is not there", func(f *facts) { f.own = nil },
			v1alpha1.ReasonStoreNotFound, "spec.storeRef.name: there is no SecretStore own in namespace pay"},
		{"no address is allowed", func(f *facts) { f.allowed = address.Allowed{} },
			v1alpha1.ReasonStoreNotAllowed, "SecretStore own spec.vault.address: address not allowed: SecretStores are switched off"},
		{"its store's address is not allowed", func(f *facts) { f.own.Spec.Vault.Address = "http://169.254.169.254" },
			v1alpha1.ReasonStoreNotAllowed, "vault.allowedAddresses lists https://vault:8200"},
		{"a path is relative", func(f *facts) { f.claim.Spec.Sources[0].Path = "db" },
			v1alpha1.ReasonPathInvalid, "spec.sources[0].path"},
		{"a path climbs", func(f *facts) { f.claim.Spec.Sources[0].Path = "/kv/team/../db" },
			v1alpha1.ReasonPathInvalid, "spec.sources[0].path"},
		{"a path has a second slash", func(f *facts) { f.claim.Spec.Sources[0].Path = "//kv/team/db" },
			v1alpha1.ReasonPathInvalid, "empty segment"},
		{"two environments claim the namespace", func(f *facts) {
			f.namespace = labels.Set{"env": "prod"}
			f.environments = append(f.environments, *environmentNamed("other", "prod"))
		}, v1alpha1.ReasonTwoEnvironments, "other and prod"},
		{"its namespace comes into an environment", func(f *facts) { f.namespace = labels.Set{"env": "prod"} },
			v1alpha1.ReasonStoreNotAllowed, "spec.storeRef.kind: namespace pay is in environment prod, and uses only the ClusterSecretStores that this lists: vault, spare"},
	} {
		_, err := resolve(outside(row.breaks))
		var refusal *Refusal
		if !errors.As(err, &refusal) || refusal.Reason != row.reason || !strings.Contains(refusal.Message, row.mention) {
			t.Errorf("%s: got %v (%+v), want %s mentioning %q", row.name, err, refusal, row.reason, row.mention)
		}
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
		{"it names a SecretStore, though one of a listed store's name", func(f *facts) {
			f.claim.Spec.StoreRef = &v1alpha1.StoreRef{Kind: v1alpha1.KindSecretStore, Name: "vault"}
			f.own = &v1alpha1.SecretStore{ObjectMeta: metav1.ObjectMeta{Namespace: "pay", Name: "vault"}}
		}, v1alpha1.ReasonStoreNotAllowed, "spec.storeRef.kind"},
		{"it was made from an annotation, and these may name existing claims only", func(f *facts) {
			f.claim.Labels = map[string]string{v1alpha1.LabelMadeFrom: v1alpha1.MadeFromAnnotation}
			f.environments[0].Spec.Annotations = v1alpha1.AnnotationsExistingClaimsOnly
		}, v1alpha1.ReasonAnnotationNotAllowed, "environment prod takes only claims that are there"},
		{"it was made from an annotation, and these are denied", func(f *facts) {
			f.claim.Labels = map[string]string{v1alpha1.LabelMadeFrom: v1alpha1.MadeFromAnnotation}
			f.environments[0].Spec.Annotations = v1alpha1.AnnotationsDeny
		}, v1alpha1.ReasonAnnotationNotAllowed, "the last good value stays"},
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
