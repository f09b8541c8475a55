package copies

import (
	"context"
	"fmt"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// told remembers what claims are to be told, and since when copies are owed.
// It is in memory alone: a daemon that starts judges all anew.
type told struct {
	mu     sync.Mutex
	claims map[types.NamespacedName]news
	owed   map[types.NamespacedName]time.Time
}

// news is a condition, for the sequence that it speaks of.
type news struct {
	condition
	sequence int64
}

func newTold() *told {
	return &told{claims: map[types.NamespacedName]news{}, owed: map[types.NamespacedName]time.Time{}}
}

func (t *told) of(claim types.NamespacedName) (metav1.Condition, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	found, known := t.claims[claim]
	return metav1.Condition{Status: found.is, Reason: found.reason, Message: found.message}, known
}

// current says that nothing need be done for a claim with this sequence: it
// has that copy, or it is known to get none.
func (t *told) current(claim types.NamespacedName, sequence int64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	found, known := t.claims[claim]
	return known && (found.is == "" || found.is == metav1.ConditionTrue && found.sequence == sequence)
}

// set notes news, and says whether they are.
func (t *told) set(claim types.NamespacedName, now news, at time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	before, known := t.claims[claim]
	t.claims[claim] = now
	if now.is != metav1.ConditionFalse {
		delete(t.owed, claim)
	} else if _, owed := t.owed[claim]; !owed {
		t.owed[claim] = at
	}
	return !known || before != now
}

// pending is how many copies are owed, and since when the oldest.
func (t *told) pending() (count int, since time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, at := range t.owed {
		if count++; since.IsZero() || at.Before(since) {
			since = at
		}
	}
	return count, since
}

// keepOnly forgets claims that are no more.
func (t *told) keepOnly(is func(types.NamespacedName) bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for claim := range t.claims {
		if !is(claim) {
			delete(t.claims, claim)
			delete(t.owed, claim)
		}
	}
}

// tell has claims know what was decided.
func (k *Keeper) tell(gathered facts, made decision) {
	sequences, targets := map[types.NamespacedName]int64{}, map[types.NamespacedName]types.NamespacedName{}
	for _, wanted := range gathered.wanted {
		sequences[wanted.claim()], targets[wanted.claim()] = wanted.Sequence, wanted.Secret
	}
	for claim, says := range made.tell {
		k.tellOne(claim, targets[claim], news{says, sequences[claim]})
	}
	// Those that get a copy later are judged then.
	k.told.keepOnly(func(claim types.NamespacedName) bool {
		_, elsewhere := gathered.others[claim]
		_, here := sequences[claim]
		return here || elsewhere
	})
}

func (k *Keeper) tellOne(claim, target types.NamespacedName, now news) {
	if !k.told.set(claim, now, k.config.Clock.Now()) || k.config.Told == nil {
		return
	}
	if target.Name == "" {
		target = claim
	}
	k.config.Told(target)
}

// fail tells claims whose copy is not known to be current why, and gives the
// error back.
func (k *Keeper) fail(gathered facts, err error) error {
	k.metrics.failed(err)
	says := failed(gathered.environment.Name, err)
	for _, wanted := range gathered.wanted {
		// What the claim says of a copy that it has is as true as before.
		current := wanted.says == inGit(gathered.environment, wanted).message
		if !wanted.ready || current && says.reason == v1alpha1.ReasonRepositoryUnavailable {
			continue
		}
		k.tellOne(wanted.claim(), wanted.Secret, news{says, wanted.Sequence})
	}
	return err
}

// tellWithout tells claims of namespaces whose environment keeps no copies, or
// that are in none.
func (k *Keeper) tellWithout(ctx context.Context) error {
	homes, err := k.homes(ctx)
	if err != nil {
		return err
	}
	var claims v1alpha1.SecretClaimList
	if err := k.config.Cache.List(ctx, &claims, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("listing claims: %w", err)
	}
	for i := range claims.Items {
		claim := &claims.Items[i]
		home := homes[claim.Namespace]
		says := condition{}
		switch {
		case home != nil && home.Spec.Sealing != nil:
			continue // its own environment's round tells it
		case claim.Spec.Seal && home == nil:
			says = notConfigured("namespace " + claim.Namespace + " is in no environment")
		case claim.Spec.Seal:
			says = notConfigured("environment " + home.Name + " keeps no sealed copies")
		}
		k.tellOne(client.ObjectKeyFromObject(claim), targetOf(claim), news{condition: says})
	}
	return nil
}

func targetOf(claim *v1alpha1.SecretClaim) types.NamespacedName {
	name := types.NamespacedName{Namespace: claim.Namespace, Name: claim.Name}
	if spec := claim.Spec.Target; spec != nil && spec.Name != "" {
		name.Name = spec.Name
	}
	return name
}
