package copies

import (
	"context"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/privyseal/privyseal/broker/recovery"
)

// skew is by how much the clock of whoever proved a key may be ahead of ours.
const skew = 5 * time.Minute

// readProofs reads when which recovery key was last shown to open copies. That
// is told to whoever watches, and keeps nothing from being done.
func (k *Keeper) readProofs(ctx context.Context) {
	proofs, err := recovery.Proofs(ctx, k.config.Live, k.config.Namespace)
	if err != nil {
		log.FromContext(ctx).Error(err, "reading when recovery keys were last proven")
	}
	if proofs == nil {
		return // what was known is as true as before
	}
	proven := map[string]time.Time{}
	for key, proof := range proofs {
		// One that is still to come would say for ever that all is well.
		if !proof.At.After(k.config.Clock.Now().Add(skew)) {
			proven[key] = proof.At
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.proven = proven
}
