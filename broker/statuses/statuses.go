// Package statuses has controllers write the Secrets of many objects before the
// statuses of any, and each status once.
//
// Pods wait for Secrets and nobody for a status, and the API server needs longer
// for a status than for a Secret. So a controller that wrote a Secret notes what
// it has to tell (Owed) and has the object looked at again, behind all else that
// waits. And since its own writes wake it before the cache shows them, it goes by
// the status that it wrote last until the cache has caught up (Told).
//
// All of it is in memory alone. What is lost of it costs another look.
package statuses

import (
	"context"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// What is seen to first where many objects wait: first what somebody did just
// now, which has the queue's own priority of 0; then what is due, or was there
// when the daemon started; last the statuses that are owed.
const (
	WhatIsDue  = handler.LowPriority
	WhatIsOwed = 2 * handler.LowPriority
)

// AtOnce has an object looked at again as soon as its priority allows.
const AtOnce = time.Nanosecond

// Owed are the statuses to be written of objects whose Secret was written just
// now. The zero value is ready to use.
type Owed[Run any] struct {
	mu    sync.Mutex
	debts map[types.NamespacedName]debt[Run]
}

// debt is what a run found, for the version of the object that it was for.
type debt[Run any] struct {
	version string
	run     Run
}

// Note remembers what a run for an object found.
func (o *Owed[Run]) Note(object client.Object, run Run) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.debts == nil {
		o.debts = map[types.NamespacedName]debt[Run]{}
	}
	o.debts[client.ObjectKeyFromObject(object)] = debt[Run]{version: object.GetResourceVersion(), run: run}
}

// Take gives the run that an object is owed a status for, once. One that was
// changed meanwhile is owed none: it has to be run for again.
func (o *Owed[Run]) Take(object client.Object) (run Run, found bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	name := client.ObjectKeyFromObject(object)
	debt, found := o.debts[name]
	delete(o.debts, name)
	return debt.run, found && debt.version == object.GetResourceVersion()
}

// Forget drops an object that is gone.
func (o *Owed[Run]) Forget(name types.NamespacedName) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.debts, name)
}

// Told remembers each status that was written until the cache shows it. The
// watch on a new Secret often wakes its object before the object's own watch has
// brought the status that names the Secret; without this the work would be done
// a second time. The zero value is ready to use.
type Told[Status any] struct {
	mu    sync.Mutex
	after map[types.NamespacedName]telling[Status]
}

// telling is a status, the version of the object that it was written over, and
// the one that it made.
type telling[Status any] struct {
	over, version string
	status        Status
}

// Remember notes the status that was written over a version of an object, which
// must not be modified any more.
func (t *Told[Status]) Remember(over string, object client.Object, status Status) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.after == nil {
		t.after = map[types.NamespacedName]telling[Status]{}
	}
	t.after[client.ObjectKeyFromObject(object)] = telling[Status]{over: over, version: object.GetResourceVersion(), status: status}
}

// CatchUp gives the status that was written over just this version of an object
// out of the cache, of which a copy belongs into it, and sets the version that it
// made. Any other version is newer, and knows better.
func (t *Told[Status]) CatchUp(object client.Object) (status Status, found bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	name := client.ObjectKeyFromObject(object)
	telling, found := t.after[name]
	if found && telling.over != object.GetResourceVersion() {
		delete(t.after, name)
		found = false
	}
	if found {
		object.SetResourceVersion(telling.version)
		status = telling.status
	}
	return status, found
}

// Forget drops an object that is gone.
func (t *Told[Status]) Forget(name types.NamespacedName) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.after, name)
}

// Waking wakes objects at the priority of what is owed. It is for the watch on
// Secrets: most of what that sees is our own writes, and an object that these
// woke at once would have its status written before the next one's Secret.
func Waking(requests handler.MapFunc) handler.EventHandler {
	type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]
	wake := func(ctx context.Context, object client.Object, q queue) {
		for _, request := range requests(ctx, object) {
			if ordered, ok := q.(priorityqueue.PriorityQueue[reconcile.Request]); ok {
				ordered.AddWithOpts(priorityqueue.AddOpts{Priority: new(WhatIsOwed)}, request)
				continue
			}
			q.Add(request)
		}
	}
	return handler.Funcs{
		CreateFunc: func(ctx context.Context, e event.CreateEvent, q queue) { wake(ctx, e.Object, q) },
		UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q queue) { wake(ctx, e.ObjectNew, q) },
		DeleteFunc: func(ctx context.Context, e event.DeleteEvent, q queue) { wake(ctx, e.Object, q) },
	}
}
