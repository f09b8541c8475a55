package lease

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// tell has a claim told that what is lent to it nears its end, or does no more.
func (k *Keeper) tell(claim *v1alpha1.SecretClaim) {
	if claim == nil {
		return
	}
	name := client.ObjectKeyFromObject(claim)
	before, _, _ := k.Told(name)
	k.judge(name)
	now, _, _ := k.Told(name)
	if now.Message == before.Message {
		return
	}
	if now.Message != "" {
		k.config.Events.Eventf(claim, nil, corev1.EventTypeWarning, v1alpha1.ConditionLeaseExpiring, "Lease", "%s", now.Message)
	}
	if k.config.Settled != nil {
		k.config.Settled(claim.TargetName())
	}
}

// judge what the leases of a claim give it to tell.
func (k *Keeper) judge(claim types.NamespacedName) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.config.Clock.Now()
	for id, one := range k.memory {
		if one.claim == claim && one.inUse {
			one.condition = k.conditionOf(id, one, now)
		}
	}
}

// conditionOf one loan; the lock is held.
func (k *Keeper) conditionOf(of key, one *memory, now time.Time) metav1.Condition {
	is, ends, renewal := one.facts(now).Expiring()
	if !is {
		return metav1.Condition{}
	}
	condition := metav1.Condition{Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonNotReissued}
	what := "and no other could be issued: see the claim's other conditions and the store"
	if renewal {
		condition.Reason, what = v1alpha1.ReasonNotRenewed, "and could not be renewed: is the store up, and what it asks?"
	}
	condition.Message = fmt.Sprintf("%s: what the store has lent ends at %s, %s", of.place.Path, ends.UTC().Format(time.RFC3339), what)
	return condition
}

// facts that a condition is made of.
func (m *memory) facts(now time.Time) Facts {
	return Facts{
		Now: now, Standing: Current, Issued: m.issued, Max: m.max, Life: m.life,
		Renewable: true, Renewed: m.renewed, Expires: m.expires, Failed: m.failed,
	}
}
