package sealedsecret

import (
	"sync"
	"time"

	ssv1alpha1 "github.com/bitnami-labs/sealed-secrets/pkg/apis/sealedsecrets/v1alpha1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"

	"github.com/privyseal/privyseal/broker/target"
)

// whatIsOwed is the priority of statuses that are owed: after everything else,
// since pods wait for Secrets and nobody for a status.
const whatIsOwed = 2 * handler.LowPriority

// atOnce has a SealedSecret looked at again as soon as its priority allows.
const atOnce = time.Nanosecond

// owed are the statuses to be written of SealedSecrets whose Secret was written
// just now. One that is lost costs another look.
type owed struct {
	mu    sync.Mutex
	debts map[types.NamespacedName]debt
}

// debt is a run of the line, for the version of the SealedSecret that it was for.
type debt struct {
	version string
	applied target.Applied
}

func newOwed() *owed { return &owed{debts: map[types.NamespacedName]debt{}} }

func (o *owed) note(sealed *ssv1alpha1.SealedSecret, applied target.Applied) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.debts[client.ObjectKeyFromObject(sealed)] = debt{version: sealed.ResourceVersion, applied: applied}
}

// take gives the run that a status is owed for; none if it was changed since.
func (o *owed) take(sealed *ssv1alpha1.SealedSecret) (applied target.Applied, found bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	name := client.ObjectKeyFromObject(sealed)
	debt, found := o.debts[name]
	delete(o.debts, name)
	return debt.applied, found && debt.version == sealed.ResourceVersion
}

func (o *owed) forget(sealed types.NamespacedName) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.debts, sealed)
}

// told remembers each status that was written until the cache shows it: else the
// next look, which our own write of the Secret brings, would write it again.
type told struct {
	mu    sync.Mutex
	after map[types.NamespacedName]telling
}

// telling is a status, and the version that it was written over.
type telling struct {
	over, version string
	status        *ssv1alpha1.SealedSecretStatus
}

func newTold() *told { return &told{after: map[types.NamespacedName]telling{}} }

func (t *told) remember(over string, sealed *ssv1alpha1.SealedSecret) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.after[client.ObjectKeyFromObject(sealed)] = telling{over: over, version: sealed.ResourceVersion, status: sealed.Status.DeepCopy()}
}

// catchUp gives a SealedSecret out of the cache the status that was written over
// just this version of it. Any other version is newer, and knows better.
func (t *told) catchUp(sealed *ssv1alpha1.SealedSecret) {
	t.mu.Lock()
	defer t.mu.Unlock()
	name := client.ObjectKeyFromObject(sealed)
	telling, found := t.after[name]
	if !found {
		return
	}
	if telling.over != sealed.ResourceVersion {
		delete(t.after, name)
		return
	}
	sealed.Status, sealed.ResourceVersion = telling.status.DeepCopy(), telling.version
}

func (t *told) forget(sealed types.NamespacedName) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.after, sealed)
}
