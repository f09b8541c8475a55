package restart

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// The tests are outside the package. These are the parts that they look at
// one by one.

// NewOn is a Controller without a manager: what it knows comes from the cache
// given, and what it does goes to the API server given.
func NewOn(config Config, cache client.Reader, server client.Client) *Controller {
	c := New(config)
	c.gather, c.client, c.live, c.events = newGatherer(cache, config), server, server, &events.FakeRecorder{}
	return c
}

// AddIndexes adds those that a cache given to NewOn needs.
func AddIndexes(ctx context.Context, indexer client.FieldIndexer) error {
	return addIndexes(ctx, indexer)
}

// PatchFor is the patch that restarts a workload as it was read.
func PatchFor(object client.Object, line map[string]int64) (client.Patch, error) {
	s, err := shapeOf(object)
	return patchFor(s, line, "", "", time.Time{}), err
}

// InjectionPatch is the patch that restarts a workload as it was read for pods
// that lack a secret.
func InjectionPatch(object client.Object, line map[string]int64, injectedFor string) (client.Patch, error) {
	s, err := shapeOf(object)
	return patchFor(s, line, injectedFor, "", time.Time{}), err
}

// Holding says what keeps a workload from replacing its pods.
func Holding(object client.Object) Standing {
	s, err := shapeOf(object)
	if err != nil {
		panic(err)
	}
	return s.held
}

// Quiet is a quiet period for each workload.
type Quiet struct{ quiet }

func NewQuiet(clock clock.PassiveClock) *Quiet {
	return &Quiet{quiet{clock: clock, waiting: map[Workload]waiting{}}}
}

func (q *Quiet) Wait(w Workload, line map[string]int64) time.Duration { return q.wait(w, line) }
func (q *Quiet) Done(w Workload)                                      { q.done(w) }

// Ledger notes standings.
type Ledger struct{ *ledger }

func NewLedger(clock clock.PassiveClock) Ledger { return Ledger{newLedger(clock)} }

// Note gives the names of the targets to tell of.
func (l Ledger) Note(w Workload, now map[string]Standing) (settled []string, next time.Duration) {
	targets, next := l.note(w, now)
	for _, target := range targets {
		settled = append(settled, target.Name)
	}
	return settled, next
}

// RolloutOf says how far a workload's rollout is.
func RolloutOf(object client.Object, pods []Pod, now time.Time) Rollout {
	s, err := shapeOf(object)
	if err != nil {
		panic(err)
	}
	return s.rollout(pods, now)
}

// WaitingForPlaces is how many workloads wait for nothing but a place.
func WaitingForPlaces(c *Controller) int {
	c.turns.mu.Lock()
	defer c.turns.mu.Unlock()
	return len(c.turns.waiting)
}

// TroubleOf says why a pod does not get ready.
func TroubleOf(pod *corev1.Pod) string { return troubleOf(pod) }

// WorkloadsOfSet are those that a ReplicaSet leads to.
func WorkloadsOfSet(set client.Object) []Workload {
	meta := replicaSetMeta()
	meta.OwnerReferences = set.GetOwnerReferences()
	return ofReplicaSet(context.Background(), meta)
}

// FollowerOf says how far a workload is in taking up a target.
func FollowerOf(object client.Object, facts Facts, target string, now time.Time) Follower {
	s, err := shapeOf(object)
	if err != nil {
		panic(err)
	}
	return follow(Workload{}, facts, target, s, now)
}
