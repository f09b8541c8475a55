package restart

import (
	"maps"
	"sync"
	"time"

	"k8s.io/utils/clock"
)

// A change seldom comes alone: one claim's refresh after another touches the
// targets of one workload, and one rollout should serve them all. Waiting a
// little also lets kubelets' own watches see the new content before they start
// a pod.
const (
	// quietAfterLast is how long the patch to make must have stayed the same.
	quietAfterLast = 500 * time.Millisecond
	// quietAtMost is how long one that keeps changing is put off.
	quietAtMost = time.Second
)

// quiet holds patches back until nothing more seems to come. It forgets
// everything when the daemon ends, which costs another half second.
type quiet struct {
	clock clock.PassiveClock

	mu      sync.Mutex
	waiting map[Workload]waiting
}

type waiting struct {
	line        map[string]int64
	first, last time.Time
}

// wait says how much longer the workload's patch is to be held back; 0: send
// it now. Since the wait goes by the patch and not by events, it is the same
// whatever the order is in which caches tell of one change.
func (q *quiet) wait(w Workload, line map[string]int64) time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.clock.Now()
	held, known := q.waiting[w]
	if !known {
		held = waiting{first: now}
	}
	if !known || !maps.Equal(held.line, line) {
		held.line, held.last = line, now
	}
	q.waiting[w] = held
	due := held.last.Add(quietAfterLast)
	if latest := held.first.Add(quietAtMost); latest.Before(due) {
		due = latest
	}
	return max(0, due.Sub(now))
}

// done ends the workload's wait: the patch is made, or no longer needed.
func (q *quiet) done(w Workload) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.waiting, w)
}
