package claim

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

	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// What is seen to first where many claims wait: first what somebody did just
// now, which has the queue's own priority of 0; then what is due, or was there
// when the daemon started; last the statuses that are owed. Pods wait for
// Secrets and nobody for a status, and the API server needs longer for a
// status than for a Secret.
const (
	whatIsDue  = handler.LowPriority
	whatIsOwed = 2 * handler.LowPriority
)

// atOnce has a claim looked at again as soon as its priority allows.
const atOnce = time.Nanosecond

// owed are the statuses to be written of claims whose Secret was written just
// now. They are kept in memory alone: one that is lost costs another look at
// the claim, as does a crash between the two writes.
type owed struct {
	mu    sync.Mutex
	debts map[types.NamespacedName]debt
}

// debt is a run of the line, for the version of the claim that it was for.
type debt struct {
	version string
	synced  Synced
}

func newOwed() *owed { return &owed{debts: map[types.NamespacedName]debt{}} }

func (o *owed) note(claim *v1alpha1.SecretClaim, synced Synced) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.debts[client.ObjectKeyFromObject(claim)] = debt{version: claim.ResourceVersion, synced: synced}
}

// take gives the run that the claim is owed a status for. A claim that was
// changed meanwhile is owed none: the line has to run for it again.
func (o *owed) take(claim *v1alpha1.SecretClaim) (synced Synced, found bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	name := client.ObjectKeyFromObject(claim)
	debt, found := o.debts[name]
	delete(o.debts, name)
	return debt.synced, found && debt.version == claim.ResourceVersion
}

func (o *owed) forget(claim types.NamespacedName) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.debts, claim)
}

// asOwed wakes claims at the priority of what is owed. It is for the watch on
// Secrets: most of what that sees is our own writes, and a claim that these
// woke at once would have its status written before the next one's Secret.
func asOwed(requests handler.MapFunc) handler.EventHandler {
	wake := func(ctx context.Context, object client.Object, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) {
		for _, request := range requests(ctx, object) {
			if ordered, ok := queue.(priorityqueue.PriorityQueue[reconcile.Request]); ok {
				ordered.AddWithOpts(priorityqueue.AddOpts{Priority: new(whatIsOwed)}, request)
				continue
			}
			queue.Add(request)
		}
	}
	type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]
	return handler.Funcs{
		CreateFunc: func(ctx context.Context, e event.CreateEvent, q queue) { wake(ctx, e.Object, q) },
		UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q queue) { wake(ctx, e.ObjectNew, q) },
		DeleteFunc: func(ctx context.Context, e event.DeleteEvent, q queue) { wake(ctx, e.Object, q) },
	}
}
