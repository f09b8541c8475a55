package main

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// slowness has a server answer late. The server itself is not touched: it is
// paused for a time, then works for long enough to answer what came meanwhile,
// and so on. Who asks waits for up to that time, whatever is asked.
type slowness struct {
	mu  sync.Mutex
	end context.CancelFunc // nil: as fast as ever
	out chan struct{}      // closed when it works as ever
}

// awake is how long a slow server works in between.
const awake = 200 * time.Millisecond

// slow has a server answer up to a time late, or as ever with "off"; life is
// the lab's.
func (s *supervisor) slow(life context.Context, name, late string) error {
	p := s.fleet.get(name)
	if p == nil {
		return fmt.Errorf("%s: this lab has no such server", name)
	}
	pause := time.Duration(0)
	if late != "off" {
		var err error
		if pause, err = time.ParseDuration(late); err != nil || pause <= 0 {
			return fmt.Errorf("%s: want a time such as 3s, or off", late)
		}
	}
	s.slowness.mu.Lock()
	defer s.slowness.mu.Unlock()
	if s.slowness.end != nil {
		s.slowness.end()
		<-s.slowness.out
		s.slowness.end = nil
	}
	if pause > 0 {
		ctx, end := context.WithCancel(life)
		s.slowness.end, s.slowness.out = end, make(chan struct{})
		go func() {
			defer close(s.slowness.out)
			p.doze(ctx, life, pause)
		}()
	}
	return nil
}

// doze pauses a server again and again until ctx ends, and leaves it working.
func (p *process) doze(ctx, life context.Context, pause time.Duration) {
	for ctx.Err() == nil {
		_ = p.obey(life, "pause") // it fails only when the lab ends
		rest(ctx, pause)
		_ = p.obey(life, "resume")
		rest(ctx, awake)
	}
}

// obey hands an order to the server's keeper and waits until it is done.
func (p *process) obey(ctx context.Context, verb string) error {
	o := order{verb: verb, done: make(chan struct{})}
	select {
	case p.orders <- o:
		<-o.done
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func rest(ctx context.Context, long time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(long):
	}
}
