package statuses_test

import (
	"context"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/privyseal/privyseal/broker/statuses"
)

func at(name, version string) client.Object {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "pay", Name: name, ResourceVersion: version}}
}

func TestAStatusIsOwedOnceAndToTheVersionThatItIsOf(t *testing.T) {
	var owed statuses.Owed[string]
	owed.Note(at("db", "7"), "created")
	if _, found := owed.Take(at("tls", "7")); found {
		t.Error("a status is owed to another object")
	}
	if run, found := owed.Take(at("db", "7")); !found || run != "created" {
		t.Errorf("found %v: %q", found, run)
	}
	if _, found := owed.Take(at("db", "7")); found {
		t.Error("it is owed twice")
	}
	owed.Note(at("db", "7"), "created")
	if _, found := owed.Take(at("db", "8")); found {
		t.Error("a status is owed to an object that changed after its run")
	}
	owed.Note(at("db", "7"), "created")
	owed.Forget(types.NamespacedName{Namespace: "pay", Name: "db"})
	if _, found := owed.Take(at("db", "7")); found {
		t.Error("a status is owed to an object that is gone")
	}
}

func TestAStatusThatWasWrittenCountsUntilTheCacheHasIt(t *testing.T) {
	var told statuses.Told[string]
	if _, found := told.CatchUp(at("db", "7")); found {
		t.Error("found what was never written")
	}
	told.Remember("7", at("db", "8"), "ready")
	late := at("db", "7")
	if status, found := told.CatchUp(late); !found || status != "ready" || late.GetResourceVersion() != "8" {
		t.Errorf("found %v: %q, version %s", found, status, late.GetResourceVersion())
	}
	if _, found := told.CatchUp(at("db", "9")); found {
		t.Error("an old status counts for a newer version")
	}
	if _, found := told.CatchUp(at("db", "7")); found {
		t.Error("it counts again after the cache had a newer version")
	}
}

// What the watch on Secrets sees is mostly our own writes.
func TestSecretsWakeAfterAllThatIsDue(t *testing.T) {
	queue := priorityqueue.New[reconcile.Request]("objects")
	defer queue.ShutDown()
	request := func(name string) reconcile.Request {
		return reconcile.Request{NamespacedName: types.NamespacedName{Namespace: "pay", Name: name}}
	}
	wake := statuses.Waking(func(_ context.Context, secret client.Object) []reconcile.Request {
		return []reconcile.Request{request(secret.GetName())}
	})
	wake.Create(t.Context(), event.CreateEvent{Object: at("written", "1")}, queue)
	queue.AddWithOpts(priorityqueue.AddOpts{Priority: new(statuses.WhatIsDue)}, request("due"))
	queue.Add(request("asked"))
	for _, want := range []string{"asked", "due", "written"} {
		if got, _ := queue.Get(); got != request(want) {
			t.Errorf("%s is seen to where %s should be", got, want)
		}
	}
}
