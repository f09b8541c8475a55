package claim

import (
	"hash/fnv"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// maxCatchUp is the time over which slots that were missed while no daemon ran
// are spread, so that a restart is no stampede.
const maxCatchUp = time.Minute

// nextSlot is the first time after t at which the claims of a namespace with
// this interval are due: the namespace's own phase of it. No time has to be
// written down for this, and namespaces spread over the interval by themselves.
//
// All of them are due together, so that claims on the same document share one
// read, and what changed since the last time reaches the pods in one restart.
func nextSlot(namespace string, interval time.Duration, t time.Time) time.Time {
	phase := time.Duration(phaseOf(namespace) % uint64(interval))
	into := time.Duration(t.UnixNano()) % interval
	wait := phase - into
	if wait <= 0 {
		wait += interval
	}
	return t.Add(wait)
}

// firstSlot is when a claim that was in order before this daemon started is
// due: at its next slot, or soon if it missed one since lastAlive, the last
// time that a daemon was seen alive (zero: unknown, so none was missed).
func firstSlot(namespace string, interval time.Duration, lastAlive, now time.Time) time.Time {
	next := nextSlot(namespace, interval, now)
	if missed := next.Add(-interval); lastAlive.IsZero() || !missed.After(lastAlive) {
		return next
	}
	spread := min(interval, maxCatchUp)
	return now.Add(time.Duration(phaseOf(namespace) % uint64(spread)))
}

func phaseOf(name string) uint64 {
	hash := fnv.New64a()
	_, _ = hash.Write([]byte(name)) // a hash.Hash never returns an error
	return hash.Sum64()
}

// schedule remembers when each claim is due, which were woken before, and
// since when one waits that is new, changed or woken. It is a convenience, not
// a record: after a crash it is made again from the claims' status and names.
type schedule struct {
	now   func() time.Time
	mu    sync.Mutex
	due   map[types.NamespacedName]time.Time
	woken map[types.NamespacedName]bool
	since map[types.NamespacedName]time.Time
}

func newSchedule(now func() time.Time) *schedule {
	return &schedule{
		now: now, due: map[types.NamespacedName]time.Time{},
		woken: map[types.NamespacedName]bool{}, since: map[types.NamespacedName]time.Time{},
	}
}

// dueAt is when a claim is due; firstSeen says when that is for one that the
// schedule has not met before.
func (s *schedule) dueAt(claim types.NamespacedName, firstSeen func() time.Time) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.woken[claim] {
		return time.Time{}
	}
	if _, met := s.due[claim]; !met {
		s.due[claim] = firstSeen()
	}
	return s.due[claim]
}

// set says when a claim is due next, and that it was seen to.
func (s *schedule) set(claim types.NamespacedName, due time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.due[claim] = due
	delete(s.woken, claim)
	delete(s.since, claim)
}

// wake makes a claim due at once: something that it depends on changed.
func (s *schedule) wake(claim types.NamespacedName) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.woken[claim] = true
	s.since[claim] = s.now()
}

// notice keeps that a claim is new or was changed, and waits from now on.
func (s *schedule) notice(claim types.NamespacedName) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.since[claim] = s.now()
}

// waitingSince is since when a claim has waited that is seen to now. Where
// that is not known, it is now; and what is tried again waits anew.
func (s *schedule) waitingSince(claim types.NamespacedName, now time.Time) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	since, known := s.since[claim]
	if !known {
		return now
	}
	delete(s.since, claim)
	return since
}

// forget drops a claim that is gone.
func (s *schedule) forget(claim types.NamespacedName) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.due, claim)
	delete(s.woken, claim)
	delete(s.since, claim)
}
