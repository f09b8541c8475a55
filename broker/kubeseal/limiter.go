package kubeseal

import (
	"math"
	"sync"
	"time"

	"golang.org/x/time/rate"
	"k8s.io/utils/clock"
)

// limiter bounds the requests of one path: of each client, and of all.
type limiter struct {
	clock   clock.PassiveClock
	each    pace
	all     *rate.Limiter
	mu      sync.Mutex
	clients map[string]*rate.Limiter
}

func newLimiter(clock clock.PassiveClock, each, all pace) *limiter {
	return &limiter{clock: clock, each: each, all: all.limiter(), clients: map[string]*rate.Limiter{}}
}

func (p pace) limiter() *rate.Limiter { return rate.NewLimiter(rate.Limit(p.perSecond), p.burst) }

// wait is 0 for a request that may go on, else the seconds until it may come
// again.
func (l *limiter) wait(client string) int {
	now := l.clock.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if seconds := reserve(l.client(client, now), now); seconds > 0 {
		return seconds
	}
	return reserve(l.all, now)
}

// client's limiter. A full table loses those that are idle, or all of them: who
// claims to be thousands is held by the bound for all.
func (l *limiter) client(name string, now time.Time) *rate.Limiter {
	if known, there := l.clients[name]; there {
		return known
	}
	if len(l.clients) >= maxClients {
		for other, limiter := range l.clients {
			if limiter.TokensAt(now) >= float64(l.each.burst) {
				delete(l.clients, other)
			}
		}
		if len(l.clients) >= maxClients {
			clear(l.clients)
		}
	}
	made := l.each.limiter()
	l.clients[name] = made
	return made
}

func reserve(limiter *rate.Limiter, now time.Time) int {
	reservation := limiter.ReserveN(now, 1)
	delay := reservation.DelayFrom(now)
	if delay <= 0 {
		return 0
	}
	reservation.CancelAt(now)
	return int(math.Ceil(delay.Seconds()))
}
