package claim

import (
	"context"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/privyseal/privyseal/broker/target"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

func claimAt(name, version string) *v1alpha1.SecretClaim {
	return &v1alpha1.SecretClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "pay", Name: name, ResourceVersion: version}}
}

func TestAStatusIsOwedOnceAndToTheVersionThatItIsOf(t *testing.T) {
	owed := newOwed()
	owed.note(claimAt("db", "7"), Synced{Applied: target.Applied{Outcome: target.Created}})
	if _, found := owed.take(claimAt("tls", "7")); found {
		t.Error("a status is owed to another claim")
	}
	synced, found := owed.take(claimAt("db", "7"))
	if !found || synced.Applied.Outcome != target.Created {
		t.Errorf("found %v: %+v", found, synced)
	}
	if _, found := owed.take(claimAt("db", "7")); found {
		t.Error("it is owed twice")
	}
	owed.note(claimAt("db", "7"), Synced{})
	if _, found := owed.take(claimAt("db", "8")); found {
		t.Error("a status is owed to a claim that changed after its run")
	}
}

// What the watch on Secrets sees is mostly our own writes.
func TestSecretsWakeTheirClaimsAfterAllThatIsDue(t *testing.T) {
	queue := priorityqueue.New[reconcile.Request]("claims")
	defer queue.ShutDown()
	request := func(name string) reconcile.Request {
		return reconcile.Request{NamespacedName: types.NamespacedName{Namespace: "pay", Name: name}}
	}
	wake := asOwed(func(_ context.Context, secret client.Object) []reconcile.Request {
		return []reconcile.Request{request(secret.GetName())}
	})
	wake.Create(t.Context(), event.CreateEvent{Object: claimAt("written", "1")}, queue)
	queue.AddWithOpts(priorityqueue.AddOpts{Priority: new(whatIsDue)}, request("due"))
	queue.Add(request("asked"))
	for _, want := range []string{"asked", "due", "written"} {
		if got, _ := queue.Get(); got != request(want) {
			t.Errorf("%s is seen to where %s should be", got, want)
		}
	}
}
