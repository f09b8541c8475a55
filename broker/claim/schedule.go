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

// nextSlot is the first time after t at which a claim is due: its UID's own
// phase of the interval. No time has to be written down for this, and claims
// spread over the interval by themselves.
func nextSlot(uid types.UID, interval time.Duration, t time.Time) time.Time {
	phase := time.Duration(phaseOf(uid) % uint64(interval))
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
func firstSlot(uid types.UID, interval time.Duration, lastAlive, now time.Time) time.Time {
	next := nextSlot(uid, interval, now)
	if missed := next.Add(-interval); lastAlive.IsZero() || !missed.After(lastAlive) {
		return next
	}
	spread := min(interval, maxCatchUp)
	return now.Add(time.Duration(phaseOf(uid) % uint64(spread)))
}

func phaseOf(uid types.UID) uint64 {
	hash := fnv.New64a()
	_, _ = hash.Write([]byte(uid)) // a hash.Hash never returns an error
	return hash.Sum64()
}

// schedule remembers when each claim is due, and which were woken before. It
// is a convenience, not a record: after a crash it is made again from the
// claims' status and UIDs.
type schedule struct {
	mu    sync.Mutex
	due   map[types.NamespacedName]time.Time
	woken map[types.NamespacedName]bool
}

func newSchedule() *schedule {
	return &schedule{due: map[types.NamespacedName]time.Time{}, woken: map[types.NamespacedName]bool{}}
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
}

// wake makes a claim due at once: something that it depends on changed.
func (s *schedule) wake(claim types.NamespacedName) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.woken[claim] = true
}

// forget drops a claim that is gone.
func (s *schedule) forget(claim types.NamespacedName) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.due, claim)
	delete(s.woken, claim)
}
