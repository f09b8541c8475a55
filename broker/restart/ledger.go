package restart

import (
	"maps"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
)

// patience is how long a rollout may take before the workload no longer counts
// as rolling: Kubernetes' own default for a Deployment's progress deadline.
const patience = 10 * time.Minute

// ledger remembers how each workload stood to each target when it was last
// judged. It is for telling others about turns, and nothing is decided by it:
// a daemon that starts with an empty one does nothing differently.
type ledger struct {
	clock clock.PassiveClock

	mu        sync.Mutex
	standings map[Workload]map[string]entry // by target's name
	rolling   map[types.NamespacedName]int  // target → workloads that roll for it
	queued    map[types.NamespacedName]int  // target → workloads that wait for their turn
}

type entry struct {
	Standing
	since time.Time
}

func newLedger(clock clock.PassiveClock) *ledger {
	return &ledger{
		clock:     clock,
		standings: map[Workload]map[string]entry{},
		rolling:   map[types.NamespacedName]int{},
		queued:    map[types.NamespacedName]int{},
	}
}

// note enters how a workload stands to each target that it reads; none for a
// workload that is gone. It returns the targets whose counts are worth telling
// about now, sorted: consumers came or went, the first one began to roll, the
// last one ended, or one is held. In between, while one after another is
// replaced, it is silent, so that a claim's status moves twice for a change
// however many consumers there are. next says when to judge again though
// nothing happens; 0: never.
func (l *ledger) note(w Workload, now map[string]Standing) (settled []types.NamespacedName, next time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before := l.standings[w]
	after := make(map[string]entry, len(now))
	for name, standing := range now {
		after[name] = l.enter(before[name], standing)
		if after[name].Standing == Rolling {
			next = patience - l.clock.Since(after[name].since)
		}
	}
	names := slices.Concat(slices.Collect(maps.Keys(before)), slices.Collect(maps.Keys(after)))
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		target := types.NamespacedName{Namespace: w.Namespace, Name: name}
		if l.turn(target, before[name].Standing, after[name].Standing) {
			settled = append(settled, target)
		}
	}
	l.standings[w] = after
	if len(after) == 0 {
		delete(l.standings, w)
	}
	return settled, next
}

// enter is the entry after another look: one that rolls for too long is stuck,
// and stays so until it is current again.
func (l *ledger) enter(before entry, standing Standing) entry {
	if standing == Rolling && before.Standing == Stuck {
		return before
	}
	if standing != before.Standing {
		return entry{standing, l.clock.Now()}
	}
	if standing == Rolling && l.clock.Since(before.since) >= patience {
		return entry{Stuck, l.clock.Now()}
	}
	return before
}

// turn counts one change of standing and says whether to tell of it. While some
// roll, others that begin or end are passed over; so are those that join a queue
// or leave it, but the first and the last.
func (l *ledger) turn(target types.NamespacedName, before, after Standing) bool {
	if before == after {
		return false
	}
	was := l.rolling[target]
	rolling := step(l.rolling, target, before == Rolling, after == Rolling)
	wasQueued := l.queued[target]
	queued := step(l.queued, target, before == HeldByTurn, after == HeldByTurn)
	if queued != wasQueued && moves(before) && moves(after) {
		return (wasQueued == 0) != (queued == 0)
	}
	amongOthers := was > 0 && rolling > 0
	steps := (before == Rolling && after == Current) || (before == Current && after == Rolling)
	return !steps || !amongOthers
}

// moves: a workload gets out of this standing by itself before long.
func moves(s Standing) bool { return s == Current || s == Rolling || s == HeldByTurn }

// step counts one more or less of a target, and says how many there are.
func step(counts map[types.NamespacedName]int, target types.NamespacedName, before, after bool) int {
	switch {
	case before && !after:
		counts[target]--
	case after && !before:
		counts[target]++
	}
	now := counts[target]
	if now == 0 {
		delete(counts, target)
	}
	return now
}

// tally is a line of the gauge of stale workloads.
type tally struct {
	namespace string
	standing  Standing
}

// tallies counts the workloads that are stale, by what becomes of it. One that
// is stale for two targets counts once, unless they stand differently.
func (l *ledger) tallies() map[tally]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	tallies := map[tally]int{}
	for workload, entries := range l.standings {
		seen := map[Standing]bool{Current: true}
		for _, entry := range entries {
			if !seen[entry.Standing] {
				seen[entry.Standing] = true
				tallies[tally{workload.Namespace, entry.Standing}]++
			}
		}
	}
	return tallies
}
