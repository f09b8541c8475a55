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

// set notes news, and says whether they are, and whether the condition is
// another.
func (t *told) set(claim types.NamespacedName, now news, at time.Time) (changed, another bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	before, known := t.claims[claim]
	t.claims[claim] = now
	if now.is != metav1.ConditionFalse {
		delete(t.owed, claim)
	} else if _, owed := t.owed[claim]; !owed {
		t.owed[claim] = at
	}
	return !known || before != now, !known || before.condition != now.condition
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
	here := map[types.NamespacedName]wanted{}
	for _, wanted := range gathered.wanted {
		here[wanted.claim()] = wanted
	}
	for claim, says := range made.tell {
		about, found := here[claim]
		if !found {
			about.Claim, about.Secret = claim.Name, claim
		}
		k.tellOne(about, says)
	}
	// Those that get a copy later are judged then.
	k.told.keepOnly(func(claim types.NamespacedName) bool {
		_, elsewhere := gathered.others[claim]
		_, wanted := here[claim]
		return wanted || elsewhere
	})
}

func (k *Keeper) tellOne(about wanted, now condition) {
	changed, another := k.told.set(about.claim(), news{now, about.Sequence}, k.config.Clock.Now())
	if another {
		k.announceTrouble(about, now)
	}
	if changed && k.config.Told != nil {
		k.config.Told(about.Secret)
	}
}

// fail tells claims whose copy is not known to be current why, and gives the
// error back.
func (k *Keeper) fail(gathered facts, err error) error {
	k.metrics.failed(err)
	says := failed(gathered.environment.Name, err)
	for _, wanted := range gathered.wanted {
		// What the claim says of a copy that it has is as true as before.
		current := wanted.was == inGit(gathered.environment, wanted)
		if !wanted.ready || current && says.reason == v1alpha1.ReasonRepositoryUnavailable {
			continue
		}
		k.tellOne(wanted, says)
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
		about := wanted{was: wasOf(claim)}
		about.Claim, about.ClaimUID, about.Secret = claim.Name, string(claim.UID), claim.TargetName()
		k.tellOne(about, says)
	}
	return nil
}
