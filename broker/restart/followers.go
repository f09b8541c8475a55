package restart

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/annotation"
)

// recovers is how long a pod with a new value may be in trouble before its rollout
// counts as failed: many a program ends once or twice while what it needs is not
// there yet.
const recovers = time.Minute

// Follower is how far a workload is in taking up a target's content.
type Follower struct {
	Workload Workload
	// Behind says what is still missing, in a few words; empty: all its pods have
	// the content, and are ready.
	Behind string
	// Fails says why it does not get on; empty where it does.
	Fails string
	// Held: windows hold its restart back.
	Held bool
}

// Followers are the workloads that read a target, sorted: those of which a live pod
// does, and those whose template does, since between two pods there may be none.
// known is false while the caches do not show the content of that sequence yet.
func (c *Controller) Followers(ctx context.Context, target types.NamespacedName, sequence int64) (followers []Follower, known bool, err error) {
	shown, ours, err := c.gather.target(ctx, target)
	if err != nil || !ours || shown.Revisions.Sequence() < sequence {
		return nil, false, err
	}
	workloads, err := c.gather.followers(ctx, target, shown.Claim)
	if err != nil {
		return nil, false, err
	}
	for _, w := range workloads {
		follower, there, err := c.follower(ctx, w, target.Name)
		if err != nil {
			return nil, false, err
		}
		if there {
			followers = append(followers, follower)
		}
	}
	return followers, true, nil
}

// followers are the workloads that read a target of a claim.
func (g gatherer) followers(ctx context.Context, target types.NamespacedName, claim string) ([]Workload, error) {
	reading, err := g.consumers(ctx, target)
	if err != nil {
		return nil, err
	}
	found := map[Workload]bool{}
	for _, w := range reading {
		found[w] = true
	}
	err = g.each(ctx, target.Namespace, func(w Workload, object client.Object) error {
		s, err := shapeOf(object)
		if err == nil && object.GetDeletionTimestamp() == nil && s.wants(target.Name, claim) {
			found[w] = true
		}
		return err
	})
	return slices.SortedFunc(maps.Keys(found), compareWorkloads), err
}

// wants says whether pods made of the template read a target, by its own references
// or by annotations that ask for its claim.
func (s shape) wants(target, claim string) bool {
	if _, reads := ReadsOf(&s.template.Spec)[target]; reads {
		return true
	}
	if !annotation.Asks(s.template.Annotations) {
		return false
	}
	parsed, err := annotation.Parse(s.template.Annotations)
	return err == nil && slices.ContainsFunc(parsed.Requests, func(r annotation.Request) bool { return r.ClaimName() == claim })
}

func (c *Controller) follower(ctx context.Context, w Workload, target string) (found Follower, there bool, err error) {
	s, err := c.gather.workload(ctx, w)
	if apierrors.IsNotFound(err) {
		return Follower{}, false, nil
	}
	if err != nil {
		return Follower{}, false, err
	}
	facts, err := c.gather.facts(ctx, w, s)
	if err != nil {
		return Follower{}, false, err
	}
	if facts.Hold, err = c.hold(ctx, w.Namespace); err != nil {
		return Follower{}, false, err
	}
	return follow(w, facts, target, s, c.config.Clock.Now()), true, nil
}

// follow judges one workload. What waits for its turn is behind, and nothing else.
func follow(w Workload, facts Facts, target string, s shape, now time.Time) Follower {
	follower := Follower{Workload: w}
	rollout := s.rollout(facts.Pods, now)
	for _, stale := range Decide(facts).Stale {
		if stale.Target == target {
			follower.Behind = fmt.Sprintf("pods with an old value (%s)", stale.Standing)
			follower.Held = stale.Standing == HeldByWindow
		}
	}
	if follower.Held {
		return follower
	}
	switch {
	case follower.Behind != "":
	case rollout.UnderWay:
		follower.Behind = "its rollout is under way"
	case len(facts.Pods) == 0 && s.wantsPods:
		follower.Behind = "it has no pods"
	case len(facts.Pods) > 0 && rollout.Ready.IsZero():
		follower.Behind = "not all pods are ready"
	}
	if follower.Behind != "" && (rollout.UnderWay && s.overdue || troubled(facts.Pods, s, now)) {
		follower.Fails = rollout.Fails
	}
	return follower
}

// troubled says whether a pod of the last restart has been in trouble for longer
// than it takes to recover.
func troubled(pods []Pod, s shape, now time.Time) bool {
	return slices.ContainsFunc(pods, func(p Pod) bool {
		return s.madeFor(p) && p.Trouble != "" && now.Sub(time.Unix(p.Created, 0)) > recovers
	})
}
