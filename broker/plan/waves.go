package plan

import (
	"context"
	"slices"
	"time"

	"github.com/privyseal/privyseal/broker/restart"
	"github.com/privyseal/privyseal/broker/waits"
)

// Budgets bound how many workloads roll out at once. How long a rollout takes is
// not known before, so it is taken to take no time and to end well: what comes of
// it is the order, who goes together, and for each the time before which it does
// not go.

// due is a workload that is to be restarted.
type due struct {
	restart.Candidate
	entry *Entry
	// passes: somebody gave a reason not to wait.
	passes bool
	// began is when it did; zero: not yet.
	began time.Time
	// stopped: it does not go until somebody does something.
	stopped bool
	// cleared: nothing holds it back but windows and places. It stays so, since
	// every rollout ends well.
	cleared bool
	// again is when it is worth another look.
	again time.Time
}

func (d *due) waits() bool { return d.began.IsZero() && !d.stopped }

// rules that bound its restart, in words.
func (d *due) rules() string {
	if d.Limited {
		return d.Limits.String()
	}
	return "the whole cluster has a limit"
}

// turns plays what a Controller would do, from a moment on.
type turns struct {
	due   []*due
	named map[restart.Workload]*due
	round restart.Round
	hold  func(ctx context.Context, namespace string, at time.Time) (waits.Hold, error)
	wave  int
	order int
}

// play until everybody went who can. Each step lets some go or looks at a later
// time.
func (t *turns) play(ctx context.Context) error {
	settled := false
	for t.someoneWaits() {
		went, err := t.step(ctx)
		if err != nil {
			return err
		}
		if went || !settled {
			t.settle()
			settled = true
			continue
		}
		next := t.next()
		if next.IsZero() {
			break
		}
		t.round.Now = next
	}
	for _, d := range t.due {
		if d.waits() {
			d.entry.Outcome, d.entry.At = Blocked, time.Time{}
		}
	}
	return nil
}

func (t *turns) someoneWaits() bool {
	return slices.ContainsFunc(t.due, func(d *due) bool { return d.waits() })
}

// step lets those go that may at the round's time, and says whether any did.
func (t *turns) step(ctx context.Context) (went bool, err error) {
	t.round.Waiting = nil
	var passing []restart.Workload
	for _, d := range t.due {
		if !d.waits() {
			continue
		}
		if d.passes {
			passing = append(passing, d.Waiter.Workload)
			continue
		}
		if err := t.ask(ctx, d); err != nil {
			return false, err
		}
	}
	granted := append(passing, t.round.Grants()...)
	for _, waiter := range t.round.Waiting {
		if !slices.Contains(granted, waiter.Workload) {
			d := t.named[waiter.Workload]
			d.entry.hold(waits.Hold{Environment: waiter.Environment, Cause: waits.Turn, Why: d.rules()})
		}
	}
	if len(granted) == 0 {
		return false, nil
	}
	t.wave++
	for _, w := range granted {
		t.begin(w)
	}
	return true, nil
}

// ask whether a workload may wait for a place, which windows and its peers say.
func (t *turns) ask(ctx context.Context, d *due) error {
	now := t.round.Now
	hold, err := t.hold(ctx, d.Waiter.Namespace, now)
	if err != nil {
		return err
	}
	d.again = time.Time{}
	untried := []string(nil)
	if !hold.Holds() && d.Limited && !d.cleared {
		hold, untried = d.Limits.Allows(t.asker(d), now)
		d.cleared = !hold.Holds() && len(untried) == 0
	}
	switch {
	case !hold.Holds():
		d.Waiter.Untried = untried
		t.round.Waiting = append(t.round.Waiting, d.Waiter)
		return nil
	case hold.Cause == waits.Closed, hold.Cause == waits.Turn:
		d.again = hold.Until
	default:
		d.stopped, d.entry.Outcome, d.entry.At = true, Blocked, time.Time{}
	}
	d.entry.hold(hold)
	return nil
}

// asker is a workload as it stands to the others by now.
func (t *turns) asker(d *due) restart.Asker {
	asker := d.Asker
	asker.Peers = slices.Clone(asker.Peers)
	for i := range asker.Peers {
		peer := &asker.Peers[i]
		other := t.named[peer.Workload]
		if other == nil {
			continue
		}
		peer.First = other.Asker.First && other.waits() && slices.Contains(other.Asker.Stale, peer.Target)
		if !other.began.IsZero() {
			peer.Covered, peer.Rollout = true, restart.Rollout{Ready: other.began, Live: 1}
		}
	}
	return asker
}

func (t *turns) begin(w restart.Workload) {
	d := t.named[w]
	t.order++
	d.began = t.round.Now
	d.entry.At, d.entry.Wave, d.entry.Order = t.round.Now.UTC(), t.wave, t.order
	t.round.Last[d.Waiter.Environment] = t.round.Now
}

// settle: what rolls out now is through.
func (t *turns) settle() {
	t.round.Rolling = nil
	for _, d := range t.due {
		d.Asker.Rollout = restart.Rollout{}
		for i := range d.Asker.Peers {
			peer := &d.Asker.Peers[i]
			if !peer.Covered || peer.Fails != "" {
				continue
			}
			peer.UnderWay = false
			if peer.Ready.IsZero() && peer.Live > 0 {
				peer.Ready = t.round.Now
			}
		}
	}
}

// next time at which something may have changed; zero: there is none.
func (t *turns) next() time.Time {
	var next time.Time
	sooner := func(at time.Time) {
		if at.After(t.round.Now) && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	for _, d := range t.due {
		if !d.waits() {
			continue
		}
		sooner(d.again)
		sooner(t.round.Last[d.Waiter.Environment].Add(d.Limits.Spread))
	}
	return next
}

// takeTurns finds order, wave and time of those that are due.
func takeTurns(ctx context.Context, looker *restart.Looker, all []*due, at time.Time) error {
	round, err := looker.Round(ctx)
	if err != nil {
		return err
	}
	round.Now = at
	t := &turns{due: all, named: map[restart.Workload]*due{}, round: round, hold: looker.Hold}
	for _, d := range all {
		t.named[d.Waiter.Workload] = d
	}
	return t.play(ctx)
}
