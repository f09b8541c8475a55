package restart

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/annotation"
	"github.com/privyseal/privyseal/broker/foreign"
	"github.com/privyseal/privyseal/broker/reloader"
	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/broker/waits"
)

// lookAtTurns is how often a workload that waits for its turn is looked at though
// nothing seems to have happened.
const lookAtTurns = 10 * time.Second

// turns gather for budgets, and remember what the caches do not show yet.
type turns struct {
	// max rollouts in the whole cluster; 0: any number.
	max int

	mu sync.Mutex
	// begun are patches that the caches do not show yet.
	begun map[Workload]beginning
	// waiting are those that wait for a place, and nothing else.
	waiting map[Workload]Waiter
	// held are those that wait for something else.
	held map[Workload]bool
	// seen is how each rollout stood when it was last looked at.
	seen map[Workload]standpoint
}

type beginning struct {
	at          time.Time
	line        map[string]int64
	injectedFor string
	// pausedAt is the pause that it ends; "": it ends none.
	pausedAt string
}

// standpoint is what others wait for in a rollout.
type standpoint struct {
	occupies bool
	fails    string
	ready    time.Time
}

func newTurns(limit int) *turns {
	return &turns{max: limit, begun: map[Workload]beginning{}, waiting: map[Workload]Waiter{},
		held: map[Workload]bool{}, seen: map[Workload]standpoint{}}
}

// bounds are the rules for restarts in one namespace.
type bounds struct {
	homes  *homes
	limits Limits
	// limited: the environment has limits. bounded: it has, or the cluster.
	limited, bounded bool
}

// bounds of a namespace. One of which it is not known whose it is has those of
// none: windows hold it back.
func (c *Controller) bounds(ctx context.Context, namespace string) (bounds, error) {
	homes, err := c.gather.homes(ctx)
	if err != nil {
		return bounds{}, err
	}
	found := bounds{homes: homes, bounded: c.turns.max > 0}
	home, err := homes.of(ctx, namespace)
	if err != nil && !isUnclear(err) {
		return bounds{}, err
	}
	found.limits, found.limited = LimitsOf(home)
	found.bounded = found.bounded || found.limited
	return found, nil
}

// turn says what keeps a restart that is due from beginning now, and takes a
// place for it if nothing does.
func (c *Controller) turn(ctx context.Context, w Workload, s shape, facts Facts, decision Decision) (waits.Hold, error) {
	return c.turnFor(ctx, w, s, facts, decision, beginning{at: c.config.Clock.Now(), line: decision.Patch, injectedFor: decision.InjectedFor})
}

// turnFor says so of what would begin.
func (c *Controller) turnFor(ctx context.Context, w Workload, s shape, facts Facts, decision Decision, begins beginning) (waits.Hold, error) {
	bounds, err := c.bounds(ctx, w.Namespace)
	if err != nil || !bounds.bounded {
		return waits.Hold{}, err
	}
	c.turns.mu.Lock() // for the whole of it, or two could both find that nobody was first
	defer c.turns.mu.Unlock()
	delete(c.turns.waiting, w)
	delete(c.turns.held, w)
	waiter := Waiter{Workload: w, Environment: bounds.limits.Environment, Since: facts.since(decision.Stale), Sick: sick(facts.Pods)}
	if bounds.limited {
		asker, err := c.asker(ctx, w, s, facts, decision)
		if err != nil {
			return waits.Hold{}, err
		}
		var hold waits.Hold
		if hold, waiter.Untried = bounds.limits.Allows(asker, c.config.Clock.Now()); hold.Holds() {
			c.turns.held[w] = true
			return hold, nil
		}
	}
	c.turns.waiting[w] = waiter
	round, err := c.round(ctx, bounds.homes)
	if err != nil {
		return waits.Hold{}, err
	}
	if !slices.Contains(round.Grants(), w) {
		hold := bounds.limits.hold(waits.Turn, "others go first")
		hold.Until = round.spreads(waiter.Environment)
		return hold, nil
	}
	delete(c.turns.waiting, w)
	c.turns.begun[w] = begins
	return waits.Hold{}, nil
}

// heldIn are those of a namespace that wait for something other than a place.
func (t *turns) heldIn(namespace string) []Workload {
	t.mu.Lock()
	defer t.mu.Unlock()
	var held []Workload
	for w := range t.held {
		if w.Namespace == namespace {
			held = append(held, w)
		}
	}
	return held
}

// leave notes that a workload does not wait.
func (t *turns) leave(w Workload) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.waiting, w)
	delete(t.held, w)
}

// giveBack the place of a workload that was not patched.
func (t *turns) giveBack(w Workload) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.begun, w)
}

func sick(pods []Pod) bool {
	return !slices.ContainsFunc(pods, func(p Pod) bool { return !p.Ready.IsZero() })
}

// asker gathers what a workload's turn is judged by.
func (c *Controller) asker(ctx context.Context, w Workload, s shape, facts Facts, decision Decision) (Asker, error) {
	asker := Asker{Workload: w, Rollout: s.rollout(facts.Pods, c.config.Clock.Now()), First: goesFirst(s)}
	for _, pod := range facts.Pods {
		if pod.Ready.IsZero() {
			asker.Unready++
		}
	}
	for _, stale := range decision.Stale {
		if !stale.Cause {
			continue
		}
		peers, err := c.peers(ctx, w, stale)
		if err != nil {
			return Asker{}, err
		}
		asker.Stale = append(asker.Stale, stale.Target)
		asker.Peers = append(asker.Peers, peers...)
	}
	var err error
	asker.Disruptions, err = c.gather.disruptions(ctx, s)
	return asker, err
}

func goesFirst(s shape) bool { return s.GetAnnotations()[annotation.Canary] == "true" }

// peers are the other workloads that read a stale target. Of those that were not
// restarted for it nothing counts but whether one is to go first.
func (c *Controller) peers(ctx context.Context, asker Workload, stale Stale) ([]Peer, error) {
	workloads, err := c.gather.readersOf(ctx, types.NamespacedName{Namespace: asker.Namespace, Name: stale.Target})
	if err != nil {
		return nil, err
	}
	peers := make([]Peer, 0, len(workloads))
	for _, w := range workloads {
		if w == asker {
			continue
		}
		peer, err := c.peer(ctx, w, stale)
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		peers = append(peers, peer)
	}
	slices.SortFunc(peers, func(a, b Peer) int { return compareWorkloads(a.Workload, b.Workload) })
	return peers, nil
}

// readersOf are the workloads that are restarted for a target, of ours or of
// others.
func (g gatherer) readersOf(ctx context.Context, target types.NamespacedName) ([]Workload, error) {
	kind, name, is := foreign.CutTarget(target.Name)
	if !is {
		return g.consumers(ctx, target)
	}
	return g.wanting(ctx, foreign.Object{Kind: kind, NamespacedName: types.NamespacedName{Namespace: target.Namespace, Name: name}})
}

func (c *Controller) peer(ctx context.Context, w Workload, stale Stale) (Peer, error) {
	s, err := c.gather.workload(ctx, w)
	if err != nil {
		return Peer{}, err
	}
	peer := Peer{Workload: w, Target: stale.Target, First: goesFirst(s)}
	restarted, named := s.restarted()[stale.Target]
	peer.Covered = named && restarted >= stale.Sequence
	if !peer.Covered && !peer.First {
		return peer, nil
	}
	facts, err := c.gather.facts(ctx, w, s)
	if err != nil {
		return Peer{}, err
	}
	peer.Rollout = s.rollout(facts.Pods, c.config.Clock.Now())
	peer.First = peer.First && !facts.Never && slices.ContainsFunc(facts.stale(), func(other Stale) bool {
		return other.Target == stale.Target && other.Cause
	})
	return peer, nil
}

// disruptions are the PodDisruptionBudgets of a workload's pods.
func (g gatherer) disruptions(ctx context.Context, s shape) ([]Disruption, error) {
	list := &policyv1.PodDisruptionBudgetList{}
	if err := g.cache.List(ctx, list, client.InNamespace(s.GetNamespace()), client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing PodDisruptionBudgets: %w", err)
	}
	var found []Disruption
	for i := range list.Items {
		budget := &list.Items[i]
		selector, err := metav1.LabelSelectorAsSelector(budget.Spec.Selector)
		if err != nil || !selector.Matches(labels.Set(s.template.Labels)) {
			continue
		}
		found = append(found, Disruption{
			Name: budget.Name, Allowed: int(budget.Status.DisruptionsAllowed),
			Healthy: int(budget.Status.CurrentHealthy), Expected: int(budget.Status.ExpectedPods),
		})
	}
	return found, nil
}

// round gathers the rollouts that take places now. It is called with turns.mu
// held, so that no two workloads take the same place.
func (c *Controller) round(ctx context.Context, homes *homes) (Round, error) {
	round := Round{
		Now: c.config.Clock.Now(), Max: c.turns.max, Limits: map[string]Limits{},
		Rolling: map[string]map[string]int{}, Last: map[string]time.Time{},
		Trying: map[string]bool{}, Waiting: slices.Collect(maps.Values(c.turns.waiting)),
	}
	for i := range homes.environments {
		if limits, limited := LimitsOf(&homes.environments[i]); limited {
			round.Limits[limits.Environment] = limits
		}
	}
	for _, w := range c.all(ctx, "") {
		environment, err := homes.name(ctx, w.Namespace)
		if err != nil {
			return Round{}, err
		}
		if _, limited := round.Limits[environment]; !limited && round.Max == 0 {
			continue
		}
		if err := c.count(ctx, &round, environment, w); err != nil {
			return Round{}, err
		}
	}
	return round, nil
}

// count a workload among those that roll out, and when it began.
func (c *Controller) count(ctx context.Context, round *Round, environment string, w Workload) error {
	s, err := c.gather.workload(ctx, w)
	if apierrors.IsNotFound(err) {
		delete(c.turns.begun, w)
		return nil
	}
	if err != nil {
		return err
	}
	occupies, began := false, beganAt(s.Object)
	if s.underWay && s.held == Rolling {
		pods, err := c.gather.pods(ctx, w, s.GetUID())
		if err != nil {
			return err
		}
		occupies = s.rollout(pods, round.Now).occupies()
	}
	if begun, unseen := c.turns.unseen(w, s); unseen {
		occupies, began = true, begun.at
		for target := range begun.line {
			round.Trying[w.Namespace+"/"+target] = true
		}
	}
	if began.After(round.Last[environment]) {
		round.Last[environment] = began
	}
	if occupies {
		if round.Rolling[environment] == nil {
			round.Rolling[environment] = map[string]int{}
		}
		round.Rolling[environment][w.Namespace]++
	}
	return nil
}

// unseen is the beginning of a workload's restart, if the cache does not show it
// yet.
func (t *turns) unseen(w Workload, s shape) (beginning, bool) {
	begun, known := t.begun[w]
	if !known {
		return beginning{}, false
	}
	if begun.pausedAt != "" && s.GetAnnotations()[reloader.PausedAt] == begun.pausedAt {
		return begun, true
	}
	shown := s.restarted()
	if begun.injectedFor != "" && s.template.Annotations[v1alpha1.AnnotationInjectedFor] != begun.injectedFor {
		return begun, true
	}
	for target, sequence := range begun.line {
		if restarted, named := shown[target]; !named || restarted < sequence {
			return begun, true
		}
	}
	delete(t.begun, w)
	return beginning{}, false
}

// watchRollout has those looked at again that may wait for this workload, when
// its rollout ends, fails, or its pods get ready.
func (c *Controller) watchRollout(ctx context.Context, w Workload, now standpoint) error {
	c.turns.mu.Lock()
	before, known := c.turns.seen[w]
	c.turns.seen[w] = now
	if now == (standpoint{}) {
		delete(c.turns.seen, w)
	}
	someoneWaits := len(c.turns.waiting)+len(c.turns.held) > 0
	c.turns.mu.Unlock()
	if now == before || !known && !now.occupies || !someoneWaits {
		return nil
	}
	return c.wake(ctx, w.Namespace)
}

// wake those that may begin now, and those of a namespace that wait for each
// other.
func (c *Controller) wake(ctx context.Context, namespace string) error {
	queue := c.queue.Load()
	if queue == nil {
		return nil
	}
	homes, err := c.gather.homes(ctx)
	if err != nil {
		return err
	}
	for _, w := range c.turns.heldIn(namespace) {
		(*queue).Add(w)
	}
	c.turns.mu.Lock()
	defer c.turns.mu.Unlock()
	round, err := c.round(ctx, homes)
	if err != nil {
		return err
	}
	for _, w := range round.Grants() {
		(*queue).Add(w)
	}
	return nil
}
