package restart

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/broker/waits"
)

// A restart that falls into a time when an environment's windows forbid it, or
// for which it is not the workload's turn, is not put on a list. It is not made,
// and the workload stays stale; when it is looked at again, at the opening or by
// the next daemon, it is found stale and patched, once, for all that has changed
// until then.
//
// annotation.RestartNow lets it go earlier. A reason that stays where it is
// must not let the next change go too, so it is bound to what it was given for:
// the claim's status notes it with the sequence that waited when it was seen
// first (package claim), and it is good up to that sequence. A reason that is
// not noted yet lets nothing go. What is noted is not on the workload, where
// kubectl rollout undo would bring an old annotation back without it.
//
// A workload's reason is noted once for all that it reads: on whichever claim,
// the sequence is a time, and later changes of any target are later.

// letsGo is the reason for which a stale target's restart does not wait; ""
// where there is none.
func (f Facts) letsGo(stale Stale) string {
	if good, noted := f.goodUntil(); noted && good >= stale.Sequence {
		return f.AskedNow
	}
	of := f.Targets[stale.Target]
	for _, noted := range of.RestartNow {
		if noted.Workload == "" && noted.Reason == of.AskedNow && noted.Sequence >= stale.Sequence {
			return of.AskedNow
		}
	}
	return ""
}

// goodUntil is the sequence up to which the reason on the workload is good, if
// it is noted.
func (f Facts) goodUntil() (sequence int64, noted bool) {
	for _, target := range f.Targets {
		for _, one := range target.RestartNow {
			if f.AskedNow != "" && one.Workload == f.Workload && one.Reason == f.AskedNow {
				sequence, noted = max(sequence, one.Sequence), true
			}
		}
	}
	return sequence, noted
}

// passes is the reason that people give for which the workload is restarted though
// something holds it back; "" where there is none. What has to go before the windows
// open for reasons of its own is in goesEarly.
func (f Facts) passes(stale []Stale) string {
	for _, one := range stale {
		if reason := f.letsGo(one); one.Cause && reason != "" {
			return reason
		}
	}
	return ""
}

// Unnoted is a reason to go now that is given, on the workload or on the claim of
// a target that it is stale for, and that no claim's status has noted yet: that
// happens once the restart waits, and then it goes. "" where there is none.
func (f Facts) Unnoted(stale []Stale) string {
	if _, noted := f.goodUntil(); f.AskedNow != "" && !noted {
		return f.AskedNow
	}
	for _, one := range stale {
		of := f.Targets[one.Target]
		noted := slices.ContainsFunc(of.RestartNow, func(n v1alpha1.RestartNow) bool { return n.Workload == "" && n.Reason == of.AskedNow })
		if one.Cause && of.AskedNow != "" && !noted {
			return of.AskedNow
		}
	}
	return ""
}

// nameInStatus is how a claim's status names a workload.
func (w Workload) nameInStatus() string { return w.Kind + "/" + w.Name }

// decide judges a workload. Windows are looked at only where there is a restart
// to hold back, and whose turn it is only when nothing more seems to come for
// it; wait is how long that takes.
func (c *Controller) decide(ctx context.Context, w Workload, s shape, facts Facts) (judged Facts, decision Decision, wait time.Duration, err error) {
	facts.Now = c.config.Clock.Now()
	if decision = Decide(facts); decision.Patch == nil {
		return facts, decision, 0, nil
	}
	if facts.Hold, err = c.hold(ctx, w.Namespace); err != nil {
		return facts, decision, 0, err
	}
	if decision = Decide(facts); decision.Patch == nil {
		c.turns.leave(w) // or a place would be kept for it until they open
		return facts, decision, 0, nil
	}
	if wait = c.quiet.wait(w, decision.Patch); wait > 0 {
		return facts, decision, wait, nil
	}
	if facts.Turn, err = c.turn(ctx, w, s, facts, decision); err != nil {
		return facts, decision, 0, err
	}
	return facts, Decide(facts), 0, nil
}

// defers notes whether a workload waits for its windows, and says when to look
// again; 0: when something happens.
func (c *Controller) defers(w Workload, facts Facts, decision Decision) time.Duration {
	if !decision.Deferred {
		c.deferrals.note(w, deferral{})
		return 0
	}
	hold := decision.Hold
	asked := c.deferrals.note(w, deferral{facts.Turn, queueName{hold.Environment, hold.Cause}, facts.since(decision.Stale), facts.AskedNow})
	if _, noted := facts.goodUntil(); asked && !noted {
		for _, stale := range decision.Stale {
			c.settled(types.NamespacedName{Namespace: w.Namespace, Name: stale.Target})
		}
	}
	again := lookAtWindows
	if facts.Turn.Holds() && !facts.Hold.Holds() {
		again = lookAtTurns
	}
	if hold.Until.IsZero() {
		return again
	}
	return min(again, max(time.Millisecond, hold.Until.Sub(c.config.Clock.Now())))
}

// since is when the oldest change came that live pods do not hold, or the
// oldest of them that lacks a secret was made, in Unix seconds.
func (f Facts) since(stale []Stale) int64 {
	var since int64
	earlier := func(second int64) {
		if since == 0 || second < since {
			since = second
		}
	}
	for _, one := range stale {
		for _, key := range one.Keys {
			for _, pod := range f.Pods {
				if pod.Reads[one.Target].Has(key) {
					earlier(cmp.Or(f.Targets[one.Target].changedAfter(key, pod.Evidence.Of(one.Target)), one.Sequence))
				}
			}
		}
	}
	for _, pod := range f.Pods {
		if len(pod.Lacks) > 0 {
			earlier(pod.Created)
		}
	}
	return since
}

// changedAfter is the sequence of a key's first change after another, as far as
// the history goes back; 0: it has not changed.
func (t Target) changedAfter(key string, sequence int64) int64 {
	var first int64
	for _, revision := range t.Revisions.Keys[key] { // the latest first
		if revision.Sequence > sequence {
			first = revision.Sequence
		}
	}
	return first
}

// Deferred says what waits among the workloads that read a target, from the
// caches and what was last seen of turns: no request goes out.
func (c *Controller) Deferred(ctx context.Context, target types.NamespacedName) (waits.Deferral, error) {
	hold, err := c.hold(ctx, target.Namespace)
	if err != nil || !hold.Holds() && !c.deferrals.any(target.Namespace) {
		return waits.Deferral{}, err
	}
	workloads, err := c.gather.consumers(ctx, target)
	if err != nil {
		return waits.Deferral{}, err
	}
	slices.SortFunc(workloads, compareWorkloads)
	found := waits.Deferral{Asked: map[string]string{}}
	for _, w := range workloads {
		turn := c.deferrals.turn(w)
		if !hold.Holds() && !turn.Holds() {
			continue
		}
		s, err := c.gather.workload(ctx, w)
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return waits.Deferral{}, err
		}
		facts, err := c.gather.facts(ctx, w, s)
		if err != nil {
			return waits.Deferral{}, err
		}
		facts.Hold, facts.Turn = hold, turn
		addDeferred(&found, target.Name, w, facts)
	}
	return found, nil
}

// addDeferred adds a workload to what waits with a target, if it does.
func addDeferred(to *waits.Deferral, target string, w Workload, facts Facts) {
	decision := Decide(facts)
	for _, stale := range decision.Stale {
		if stale.Target != target || !stale.Standing.waits() {
			continue
		}
		if decision.Hold.Outranks(to.Hold) {
			to.Hold = decision.Hold
		}
		to.Sequence = max(to.Sequence, stale.Sequence)
		_, noted := facts.goodUntil()
		switch {
		case facts.AskedNow == "":
		case !noted:
			to.Asked[w.nameInStatus()] = facts.AskedNow
		case to.Spent == "" || facts.AskedNow < to.Spent:
			to.Spent = facts.AskedNow
		}
	}
}

// deferrals remember which workloads wait, for the metrics, and what reason was
// told of, so that it is told once.
type deferrals struct {
	mu    sync.Mutex
	known map[Workload]deferral
}

// deferral of a workload. The zero value: it does not wait.
type deferral struct {
	// hold is what its turn waits for; nothing where it waits for windows.
	hold  waits.Hold
	queue queueName
	since int64
	// asked is the reason that the workload gives for going now.
	asked string
}

func newDeferrals() *deferrals { return &deferrals{known: map[Workload]deferral{}} }

// note enters how a workload waits, and says whether it gives another reason
// than before for going now.
func (d *deferrals) note(w Workload, now deferral) (asked bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	before := d.known[w]
	d.known[w] = now
	if now == (deferral{}) {
		delete(d.known, w)
	}
	return now.asked != "" && now.asked != before.asked
}

// turn is what a workload's turn waits for, as last seen.
func (d *deferrals) turn(w Workload) waits.Hold {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.known[w].hold
}

// any says whether a workload of the namespace waits.
func (d *deferrals) any(namespace string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for w := range d.known {
		if w.Namespace == namespace {
			return true
		}
	}
	return false
}

// queues of those that wait.
func (d *deferrals) queues() map[queueName]queue {
	d.mu.Lock()
	defer d.mu.Unlock()
	queues := map[queueName]queue{}
	for _, one := range d.known {
		q, met := queues[one.queue]
		q.count++
		if !met || one.since < q.since {
			q.since = one.since
		}
		queues[one.queue] = q
	}
	return queues
}

// queueName is what workloads wait for: which environment's rules, and which of
// them.
type queueName struct {
	environment string
	cause       waits.Cause
}

// queue of workloads that wait for the same.
type queue struct {
	count int
	// since is when the oldest change came that one of them waits with, in Unix
	// seconds.
	since int64
}
