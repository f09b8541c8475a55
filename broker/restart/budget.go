package restart

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/broker/waits"
)

// A budget is kept without a book. Which rollouts are under way, which fail, and
// when the last one began is read off the workloads and their pods; so it is the
// same for the next daemon. What is remembered is only what the caches cannot
// show yet (turns.begun), and who else waits, so that the next place goes to the
// namespace that has the fewest.

// Limits are an environment's restarts, as its spec has them.
type Limits struct {
	Environment string
	// Max rollouts at once; 0: any number.
	Max int
	// Spread is the least time between two beginnings.
	Spread time.Duration
	// Canary: one goes first, and is watched for Soak.
	Canary bool
	Soak   time.Duration
}

// LimitsOf an environment; limited is false where its restarts are not bounded.
func LimitsOf(e *v1alpha1.Environment) (limits Limits, limited bool) {
	if e == nil || e.Spec.Restarts == nil {
		return Limits{}, false
	}
	spec := e.Spec.Restarts
	limits = Limits{Environment: e.Name}
	if spec.MaxConcurrent != nil {
		limits.Max = int(*spec.MaxConcurrent)
	}
	if spec.Spread != nil {
		limits.Spread = spec.Spread.Duration
	}
	if spec.Canary != nil {
		limits.Canary, limits.Soak = true, spec.Canary.Soak.Duration
	}
	return limits, true
}

// String completes "restarts wait for their turn:".
func (l Limits) String() string {
	var rules []string
	if l.Canary {
		rules = append(rules, fmt.Sprintf("one workload goes first and has to be ready for %s", l.Soak))
	}
	if l.Max > 0 {
		rules = append(rules, fmt.Sprintf("at most %d at once", l.Max))
	}
	if l.Spread > 0 {
		rules = append(rules, fmt.Sprintf("one every %s", l.Spread))
	}
	return strings.Join(append(rules, "none while its own rollout is under way"), ", ")
}

func (l Limits) hold(cause waits.Cause, now string) waits.Hold {
	hold := waits.Hold{Environment: l.Environment, Cause: cause, Why: l.String(), Now: now}
	if cause != waits.Turn {
		hold.Why, hold.Now = now, ""
	}
	return hold
}

// Peer is another workload that reads a target which the asker is stale for.
type Peer struct {
	Workload
	Rollout
	Target string
	// Covered: it was restarted for the change that the asker is stale for.
	Covered bool
	// First: it was chosen to go first, and is due.
	First bool
}

// Asker is a workload that is to be restarted.
type Asker struct {
	Workload
	Rollout Rollout
	// Unready is how many of its live pods are not ready.
	Unready int
	// First: it is chosen to go first.
	First bool
	// Stale are the targets that it is to be restarted for, sorted.
	Stale []string
	// Peers are the other workloads that read them.
	Peers []Peer
	// Disruptions are the PodDisruptionBudgets of its pods.
	Disruptions []Disruption
}

// Disruption is a PodDisruptionBudget, as its status has it.
type Disruption struct {
	Name                       string
	Allowed, Healthy, Expected int
}

// spent says that a pod more away is one too many, and that it is not the
// asker's own that are: those a restart may well cure. A budget that allows no
// disruption even when all is well forbids evictions, and no rollouts.
func (d Disruption) spent(own int) bool {
	away := d.Expected - d.Healthy
	return d.Allowed == 0 && away > 0 && away > own
}

// Allows says what holds the asker back of itself and its peers; and if nothing
// does, the targets that nobody was restarted for yet, of which one workload may
// be.
func (l Limits) Allows(asker Asker, now time.Time) (hold waits.Hold, untried []string) {
	for _, peer := range asker.Peers {
		if peer.Covered && peer.Fails != "" {
			return l.hold(waits.Stopped, fmt.Sprintf("%s was restarted for the same change, and its rollout fails (%s): mend it, or change the secret again",
				peer.nameInStatus(), peer.Fails)), nil
		}
	}
	if asker.Rollout.occupies() {
		return l.hold(waits.Turn, "its own rollout is under way"), nil
	}
	for _, disruption := range asker.Disruptions {
		if disruption.spent(asker.Unready) {
			return l.hold(waits.Disrupted, fmt.Sprintf("PodDisruptionBudget %s has %d of %d pods ready, and allows no more to be away",
				disruption.Name, disruption.Healthy, disruption.Expected)), nil
		}
	}
	if !l.Canary {
		return waits.Hold{}, nil
	}
	targets := byTarget(asker.Peers)
	for _, target := range asker.Stale {
		held, tried := l.tried(targets[target], asker.First, now)
		if held.Holds() {
			return held, nil
		}
		if !tried {
			untried = append(untried, asker.Namespace+"/"+target)
		}
	}
	return waits.Hold{}, untried
}

func byTarget(peers []Peer) map[string][]Peer {
	targets := map[string][]Peer{}
	for _, peer := range peers {
		targets[peer.Target] = append(targets[peer.Target], peer)
	}
	return targets
}

// tried says whether a peer has shown that the change is good. Where one is at
// it, or is to go first, the asker waits.
func (l Limits) tried(peers []Peer, first bool, now time.Time) (hold waits.Hold, tried bool) {
	for _, peer := range peers {
		switch {
		case !peer.Covered:
		case !peer.UnderWay && !peer.Ready.IsZero() && now.Sub(peer.Ready) >= l.Soak:
			return waits.Hold{}, true
		case !peer.UnderWay && !peer.Ready.IsZero():
			hold = l.hold(waits.Turn, fmt.Sprintf("%s went first, and is ready since %s", peer.nameInStatus(), peer.Ready.UTC().Format(time.RFC3339)))
			hold.Until = peer.Ready.Add(l.Soak)
		case peer.UnderWay || peer.Live > 0:
			hold = l.hold(waits.Turn, peer.nameInStatus()+" goes first, and is not ready yet")
		}
	}
	if hold.Holds() || first {
		return hold, false
	}
	for _, peer := range peers {
		if peer.First && !peer.Covered {
			return l.hold(waits.Turn, peer.nameInStatus()+" is to go first"), false
		}
	}
	return hold, false
}

// Waiter is a workload that waits for a place.
type Waiter struct {
	Workload
	Environment string
	// Since is when the oldest change came that it waits with, in Unix seconds.
	Since int64
	// Sick: none of its pods is ready, so that it would not show whether a change
	// is good. It goes after the others.
	Sick bool
	// Untried are targets of which one workload may go, and the rest may not yet.
	Untried []string
}

// Round is what the next places are given by.
type Round struct {
	Now time.Time
	// Max is how many rollouts the cluster has at once; 0: any number.
	Max int
	// Limits by environment; "" stands for namespaces in none.
	Limits map[string]Limits
	// Rolling are the rollouts that take a place, by environment and namespace.
	Rolling map[string]map[string]int
	// Last is when the last restart began, by environment.
	Last map[string]time.Time
	// Trying are targets of which a workload is being restarted, by a patch that
	// the caches do not show yet.
	Trying map[string]bool
	// Waiting for a place, in any order.
	Waiting []Waiter
}

// Grants are those that may begin now, in order. The next place goes to the
// namespace that has the fewest rollouts, then to who waits for the oldest
// change. One who waits for a place in its own environment keeps nobody of
// another from going.
func (r Round) Grants() []Workload {
	var granted []Workload
	left := newPlaces(r)
	for queues := queuesOf(r.Waiting); len(queues) > 0 && left.some(); {
		at := left.next(queues)
		waiter := queues[at][0]
		if queues[at] = queues[at][1:]; len(queues[at]) == 0 {
			queues = slices.Delete(queues, at, at+1)
		}
		if left.none(waiter.Environment) {
			queues = slices.DeleteFunc(queues, func(q []Waiter) bool { return q[0].Environment == waiter.Environment })
			continue
		}
		if left.take(waiter) {
			granted = append(granted, waiter.Workload)
		}
	}
	return granted
}

// queuesOf are those that wait, in the order of each namespace.
func queuesOf(waiting []Waiter) [][]Waiter {
	byNamespace := map[string][]Waiter{}
	for _, waiter := range waiting {
		byNamespace[waiter.Namespace] = append(byNamespace[waiter.Namespace], waiter)
	}
	queues := make([][]Waiter, 0, len(byNamespace))
	for _, queue := range byNamespace {
		slices.SortFunc(queue, Waiter.before)
		queues = append(queues, queue)
	}
	return queues
}

// before orders waiters of one namespace.
func (w Waiter) before(other Waiter) int {
	return cmp.Or(
		cmp.Compare(number(w.Sick), number(other.Sick)),
		cmp.Compare(w.Since, other.Since),
		compareWorkloads(w.Workload, other.Workload),
	)
}

func number(yes bool) int {
	if yes {
		return 1
	}
	return 0
}

// places that are left while grants are made.
type places struct {
	round   Round
	all     int
	rolling map[string]map[string]int
	begun   map[string]bool // environments where one began in this round
	tried   map[string]bool // targets for which one does
}

func newPlaces(r Round) *places {
	p := &places{round: r, rolling: map[string]map[string]int{}, begun: map[string]bool{}, tried: map[string]bool{}}
	maps.Copy(p.tried, r.Trying)
	for environment, namespaces := range r.Rolling {
		p.rolling[environment] = maps.Clone(namespaces)
		p.all += count(namespaces)
	}
	return p
}

func count(namespaces map[string]int) (n int) {
	for _, rolling := range namespaces {
		n += rolling
	}
	return n
}

// some says whether the cluster has a place.
func (p *places) some() bool { return p.round.Max == 0 || p.all < p.round.Max }

// none says that an environment has no place, nor gets one in this round.
func (p *places) none(environment string) bool {
	limits := p.round.Limits[environment]
	if limits.Max > 0 && count(p.rolling[environment]) >= limits.Max {
		return true
	}
	return limits.Spread > 0 && (p.begun[environment] || p.round.Now.Before(p.round.Last[environment].Add(limits.Spread)))
}

// next is the queue whose first is to be asked first.
func (p *places) next(queues [][]Waiter) int {
	first := 0
	for i := range queues {
		if p.before(queues[i][0], queues[first][0]) < 0 {
			first = i
		}
	}
	return first
}

func (p *places) before(a, b Waiter) int {
	return cmp.Or(
		cmp.Compare(number(a.Sick), number(b.Sick)),
		cmp.Compare(p.rolling[a.Environment][a.Namespace], p.rolling[b.Environment][b.Namespace]),
		a.before(b),
	)
}

// take a place for a waiter, unless another tries the change for it.
func (p *places) take(w Waiter) bool {
	if slices.ContainsFunc(w.Untried, func(target string) bool { return p.tried[target] }) {
		return false
	}
	for _, target := range w.Untried {
		p.tried[target] = true
	}
	if p.rolling[w.Environment] == nil {
		p.rolling[w.Environment] = map[string]int{}
	}
	p.rolling[w.Environment][w.Namespace]++
	p.begun[w.Environment] = true
	p.all++
	return true
}

// spreads is when the environment lets the next one begin; zero: now, as far as
// that goes.
func (r Round) spreads(environment string) time.Time {
	if next := r.Last[environment].Add(r.Limits[environment].Spread); r.Now.Before(next) {
		return next
	}
	return time.Time{}
}
