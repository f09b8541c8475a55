package claim

import (
	"sync"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// told remembers each status that was written until the cache shows it. The
// watch on a new Secret often wakes its claim before the claim's own watch has
// brought the status that names the Secret; without this the line would run,
// and the store be read, a second time for every first sync.
type told struct {
	mu    sync.Mutex
	after map[types.NamespacedName]telling
}

// telling is a status and the version of the claim that it was written over.
type telling struct {
	over    string
	version string
	status  v1alpha1.SecretClaimStatus
}

func newTold() *told { return &told{after: map[types.NamespacedName]telling{}} }

func (t *told) remember(over string, claim *v1alpha1.SecretClaim) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.after[client.ObjectKeyFromObject(claim)] = telling{over: over, version: claim.ResourceVersion, status: *claim.Status.DeepCopy()}
}

// catchUp gives a claim out of the cache the status that was written over just
// this version of it. Any other version is newer, and knows better.
func (t *told) catchUp(claim *v1alpha1.SecretClaim) {
	t.mu.Lock()
	defer t.mu.Unlock()
	name := client.ObjectKeyFromObject(claim)
	telling, found := t.after[name]
	if !found {
		return
	}
	if telling.over != claim.ResourceVersion {
		delete(t.after, name)
		return
	}
	claim.Status = *telling.status.DeepCopy()
	claim.ResourceVersion = telling.version
}

func (t *told) forget(claim types.NamespacedName) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.after, claim)
}
