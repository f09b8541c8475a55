package claim_test

import (
	"errors"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/privyseal/privyseal/broker/claim"
	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/providers/memory"
)

func TestOthersFindAPathAsClaimsDo(t *testing.T) {
	b := newBench(t)
	b.namespace("pay")
	b.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "out"}})
	gatherer := claim.Gatherer{Cache: b.client}
	place, err := gatherer.Place(t.Context(), "pay", nil, "spec.path", "db")
	if err != nil || place.Ref.String() != "kv/prod/pay/db" || place.Store.Name != "store" || place.Identity.Environment != "prod" {
		t.Fatalf("it is %+v, %v", place, err)
	}
	named, err := gatherer.Place(t.Context(), "pay", &v1alpha1.StoreRef{Name: "store"}, "spec.path", "db")
	if err != nil || named.Store.Name != "store" || named.Ref != place.Ref {
		t.Errorf("by the store's name it is %+v, %v", named, err)
	}
	for _, row := range []struct {
		namespace          string
		ref                *v1alpha1.StoreRef
		path, reason, says string
	}{
		{"pay", nil, "/kv/prod/other/db", v1alpha1.ReasonPathNotAllowed, "spec.path: "},
		{"pay", nil, "../db", v1alpha1.ReasonPathInvalid, "spec.path: "},
		{"out", nil, "db", v1alpha1.ReasonNoEnvironment, "namespace out is in no environment"},
		{"pay", &v1alpha1.StoreRef{Name: "theirs"}, "db", v1alpha1.ReasonStoreNotAllowed, "spec.storeRef.name: environment prod does not list the store theirs"},
		{"pay", &v1alpha1.StoreRef{Name: "torn-down"}, "db", v1alpha1.ReasonStoreNotFound, "spec.storeRef.name: there is no ClusterSecretStore torn-down"},
		{"pay", &v1alpha1.StoreRef{Kind: v1alpha1.KindSecretStore, Name: "own"}, "db", v1alpha1.ReasonStoreNotAllowed, "spec.storeRef.kind: "},
	} {
		_, err := gatherer.Place(t.Context(), row.namespace, row.ref, "spec.path", row.path)
		var refusal *claim.Refusal
		if !errors.As(err, &refusal) || refusal.Reason != row.reason || !strings.HasPrefix(refusal.Message, row.says) {
			t.Errorf("%s in %s: %v", row.path, row.namespace, err)
		}
	}
}

func TestWhoFollowsADocumentAndHowFarTheyAre(t *testing.T) {
	b := newBench(t)
	b.namespace("pay")
	store := &memory.Store{}
	place, err := claim.Gatherer{Cache: b.client}.Place(t.Context(), "pay", nil, "spec.path", "db")
	if err != nil {
		t.Fatal(err)
	}
	store.Set(place.Ref, map[string]any{"password": "first"})
	asks := func(name string, spec v1alpha1.SecretClaimSpec) {
		b.create(&v1alpha1.SecretClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "pay", Name: name}, Spec: spec})
	}
	asks("db", v1alpha1.SecretClaimSpec{Sources: []v1alpha1.Source{{Path: "db"}}, Target: &v1alpha1.Target{Name: "there"}})
	asks("pinned", v1alpha1.SecretClaimSpec{Sources: []v1alpha1.Source{{Path: "db", Version: 1}}})
	asks("once", v1alpha1.SecretClaimSpec{Sources: []v1alpha1.Source{{Path: "db"}}, Refresh: &v1alpha1.Refresh{Policy: v1alpha1.RefreshOnce}})
	asks("elsewhere", v1alpha1.SecretClaimSpec{Sources: []v1alpha1.Source{{Path: "queue"}}})
	asks("outside", v1alpha1.SecretClaimSpec{Sources: []v1alpha1.Source{{Path: "db"}, {Path: "/kv/other"}}})
	claims := claim.New(claim.Config{
		Line:   line(b.client, b.client, b.client, store, clock.RealClock{}),
		Client: b.client, Live: b.client, Metadata: b.client, Events: &events.FakeRecorder{}, Clock: clock.RealClock{},
	})
	reads := func() {
		t.Helper()
		for range 2 { // the Secret, and the status that it is owed
			request := reconcile.Request{NamespacedName: client.ObjectKey{Namespace: "pay", Name: "db"}}
			if _, err := claims.Reconcile(t.Context(), request); err != nil {
				t.Fatal(err)
			}
		}
	}
	is := func(version int64) {
		t.Helper()
		all, err := claims.ReadingOf(t.Context(), place)
		if err != nil || len(all) != 1 || all[0].Claim.Name != "db" || all[0].Target.Name != "there" || all[0].Version != version {
			t.Errorf("they are %+v, %v; want db of version %d", all, err, version)
		}
	}
	is(0)
	reads()
	is(1)
	store.Set(place.Ref, map[string]any{"password": "second"})
	reads() // it is not due
	is(1)
	claims.Reread(t.Context(), client.ObjectKey{Namespace: "pay", Name: "db"})
	reads()
	is(2)
}
