package claim_test

import (
	"context"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/privyseal/privyseal/broker/claim"
	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/providers"
	"github.com/privyseal/privyseal/providers/memory"
)

// late is a client whose cache has not heard of the end of a claim.
type late struct {
	client.Client
	claim *v1alpha1.SecretClaim
}

func (l late) Get(ctx context.Context, key client.ObjectKey, object client.Object, options ...client.GetOption) error {
	if into, ok := object.(*v1alpha1.SecretClaim); ok {
		l.claim.DeepCopyInto(into)
		return nil
	}
	return l.Client.Get(ctx, key, object, options...)
}

func TestTheSecretOfAClaimThatWasDeletedIsNotMadeAgain(t *testing.T) {
	b := newBench(t)
	b.namespace("pay")
	store := &memory.Store{}
	path, err := providers.ParseRef("kv/prod/pay/db")
	if err != nil {
		t.Fatal(err)
	}
	store.Set(path, map[string]any{"password": "first"})
	made := &v1alpha1.SecretClaim{}
	made.Namespace, made.Name = "pay", "db"
	made.Spec.Sources = []v1alpha1.Source{{Path: "db"}}
	b.create(made)
	key := client.ObjectKeyFromObject(made)
	reconcileOnce := func(with client.Client) {
		t.Helper()
		claims := claim.New(claim.Config{
			Line:   line(b.client, b.client, b.client, store, clock.RealClock{}),
			Client: with, Live: b.client, Metadata: b.client, Events: &events.FakeRecorder{}, Clock: clock.RealClock{},
		})
		for range 2 { // the Secret, and the status that it is owed
			if _, err := claims.Reconcile(t.Context(), reconcile.Request{NamespacedName: key}); err != nil {
				t.Fatal(err)
			}
		}
	}
	reconcileOnce(b.client)
	if err := b.client.Get(t.Context(), key, made); err != nil || made.Status.Target == nil {
		t.Fatalf("the claim has no Secret: %v", err)
	}

	// A Secret alone that somebody deletes comes back.
	remove := func(object client.Object) {
		t.Helper()
		if err := b.client.Delete(t.Context(), object); err != nil {
			t.Fatal(err)
		}
	}
	remove(b.secret(key))
	reconcileOnce(late{b.client, made.DeepCopy()})
	secret := b.secret(key)

	// With its claim it does not.
	if err := b.client.Get(t.Context(), key, made); err != nil {
		t.Fatal(err)
	}
	cached := made.DeepCopy()
	remove(made)
	remove(secret)
	reconcileOnce(late{b.client, cached})
	if err := b.client.Get(t.Context(), key, &corev1.Secret{}); !apierrors.IsNotFound(err) {
		t.Errorf("the Secret came back: %v", err)
	}
}
