package restart

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/privyseal/privyseal/broker/annotation"
	"github.com/privyseal/privyseal/broker/foreign"
	"github.com/privyseal/privyseal/broker/reloader"
	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/broker/waits"
)

// name of the controller, in logs, metrics and events.
const name = "privyseal-restart"

// Reasons of the event on a workload that is restarted.
const (
	ReasonRestarted = "Restarted"
	// ReasonRestartedNow: the environment's windows forbade it, and somebody
	// gave a reason to do it all the same.
	ReasonRestartedNow = "RestartedNow"
)

const (
	// lookAgain is how long caches get to show what a refused patch met.
	lookAgain = 200 * time.Millisecond
	// maxNote is what the events API takes, less some room.
	maxNote = 1000
	// defaultWorkers keeps the API server busy with patches, which are all
	// that a worker waits for.
	defaultWorkers = 8
)

// Config is what a Controller is made of.
type Config struct {
	// Clock measures quiet periods and rollouts. Nil: the wall clock.
	Clock clock.PassiveClock

	// Settled is told of each target whose consumer counts are worth writing
	// down now: consumers came or went, rollouts began, or ended, or one is
	// held up. While rollouts run, it is silent. It must not block. At the
	// start it is called for every target that is read. Nil: nobody is told.
	Settled func(target types.NamespacedName)

	// Webhook is the name of the MutatingWebhookConfiguration by which pods get
	// the secrets that they ask for. Empty: there is none, and no pod is
	// replaced for lacking one.
	Webhook string

	// Registerer takes the metrics, once: give each Controller its own, or
	// none. Nil: no metrics.
	Registerer prometheus.Registerer

	// Foreign remembers Secrets and ConfigMaps of others, for which workloads are
	// restarted that ask for it by Reloader's annotations. Nil: nobody is.
	Foreign *foreign.Keeper

	// Reloader are the options with which those annotations are read.
	Reloader reloader.Options

	// Workers is how many workloads are looked at at once. 0: 8.
	Workers int

	// MaxConcurrent is how many workloads of the whole cluster roll out at once,
	// beside what each environment allows. 0: any number.
	MaxConcurrent int
}

// Controller restarts stale workloads. It holds no state that matters.
type Controller struct {
	config    Config
	quiet     *quiet
	ledger    *ledger
	without   *without
	calendars *calendars
	deferrals *deferrals
	turns     *turns
	reach     reach
	rollouts  rollouts
	metrics   *metrics

	// From the manager:
	gather gatherer
	client client.Client
	live   client.Reader // past the caches
	events events.EventRecorder

	queue atomic.Pointer[workqueue.TypedRateLimitingInterface[Workload]] // nil: we do not lead
}

// New makes a Controller; SetupWithManager makes it work.
func New(config Config) *Controller {
	if config.Clock == nil {
		config.Clock = clock.RealClock{}
	}
	c := &Controller{
		config:  config,
		quiet:   &quiet{clock: config.Clock, waiting: map[Workload]waiting{}},
		ledger:  newLedger(config.Clock),
		without: &without{known: map[Workload]standing{}},

		calendars: newCalendars(),
		deferrals: newDeferrals(),
		turns:     newTurns(config.MaxConcurrent),
	}
	c.metrics = newMetrics(c)
	return c
}

// SetupWithManager adds the controller, its watches and its indexes to a
// manager that was not started, whose cache has ByObject's transforms and
// whose scheme knows v1alpha1, core and apps.
func (c *Controller) SetupWithManager(mgr manager.Manager) error {
	if err := addIndexes(context.Background(), mgr.GetFieldIndexer()); err != nil {
		return err
	}
	if err := c.metrics.register(c.config.Registerer); err != nil {
		return fmt.Errorf("registering the metrics of restarts: %w", err)
	}
	c.gather = newGatherer(mgr.GetCache(), c.config)
	c.gather.rollouts = &c.rollouts
	c.client, c.live = mgr.GetClient(), mgr.GetAPIReader()
	c.events = mgr.GetEventRecorder(name)
	b := builder.TypedControllerManagedBy[Workload](mgr).Named(name).
		WithOptions(controller.TypedOptions[Workload]{MaxConcurrentReconciles: cmp.Or(c.config.Workers, defaultWorkers)}).
		WithLogConstructor(func(w *Workload) logr.Logger { return logFor(mgr.GetLogger(), w) })
	for _, source := range c.sources(mgr.GetCache()) {
		b = b.WatchesRawSource(source)
	}
	var err error
	if c.rollouts.restarts, err = b.Build(c); err != nil {
		return fmt.Errorf("setting up %s: %w", name, err)
	}
	if c.config.Foreign != nil {
		if err := (&foreigners{c}).setup(mgr); err != nil {
			return err
		}
	}
	status := &windowsStatus{client: mgr.GetClient(), calendars: c.calendars, clock: c.config.Clock}
	return status.setup(mgr)
}

func logFor(logger logr.Logger, w *Workload) logr.Logger {
	logger = logger.WithValues("controller", name)
	if w != nil {
		logger = logger.WithValues("kind", w.Kind, "namespace", w.Namespace, "name", w.Name)
	}
	return logger
}

// Reconcile looks at one workload: gather, judge, act, tell.
func (c *Controller) Reconcile(ctx context.Context, w Workload) (reconcile.Result, error) {
	s, err := c.gather.workload(ctx, w)
	if apierrors.IsNotFound(err) {
		c.quiet.done(w)
		c.tell(w, nil)
		c.without.note(w, standing{})
		c.deferrals.note(w, deferral{})
		c.gather.selections.forget(w)
		c.turns.leave(w)
		return reconcile.Result{}, c.watchRollout(ctx, w, standpoint{})
	}
	if err != nil {
		return reconcile.Result{}, err
	}
	facts, err := c.gather.facts(ctx, w, s)
	if err != nil {
		return reconcile.Result{}, err
	}
	if facts.injection() == InjectionWaits { // for an answer, as far as the caches can tell
		if facts.Webhook.Answers, err = c.answers(ctx, facts.Webhook); err != nil {
			return reconcile.Result{}, err
		}
	}
	facts, decision, quiet, err := c.decide(ctx, w, s, facts)
	if err != nil {
		return reconcile.Result{}, err
	}
	c.tellLacks(w, s, facts, decision)
	c.tellProblem(w, s, errors.Join(facts.Misread, facts.unheard(decision)))
	var next time.Duration
	if between := len(facts.Pods) == 0 && s.wantsPods; !between {
		next = c.tell(w, standings(facts, decision))
	}
	wait := quiet
	if quiet == 0 {
		if wait, err = c.act(ctx, w, s, decision); err != nil {
			return reconcile.Result{}, err
		}
	}
	goesOn, err := c.resume(ctx, w, s, facts, decision)
	if err != nil {
		return reconcile.Result{}, err
	}
	wait = sooner(wait, goesOn)
	if decision.Injection == InjectionWaits {
		wait = sooner(wait, askAgain)
	}
	wait = sooner(wait, c.defers(w, facts, decision))
	rollout := s.rollout(facts.Pods, c.config.Clock.Now())
	err = c.watchRollout(ctx, w, standpoint{rollout.occupies(), rollout.Fails, rollout.Ready})
	return reconcile.Result{RequeueAfter: sooner(wait, next)}, err
}

// act restarts the workload if that is due, and says when to look again; 0:
// when something happens.
func (c *Controller) act(ctx context.Context, w Workload, s shape, decision Decision) (time.Duration, error) {
	if decision.Deferred {
		return 0, nil
	}
	c.turns.leave(w)
	if decision.Patch == nil {
		c.quiet.done(w)
		return 0, nil
	}
	err := c.roll(ctx, w, s, decision)
	if err != nil {
		c.turns.giveBack(w)
	}
	if errors.Is(err, errMoved) {
		return lookAgain, nil
	}
	if err != nil {
		return 0, err
	}
	c.quiet.done(w)
	c.metrics.restarts.WithLabelValues(w.Kind).Inc()
	c.announce(ctx, s, decision)
	return 0, nil
}

// announce tells people that a workload is restarted, and who wanted it though
// windows forbade it.
func (c *Controller) announce(ctx context.Context, s shape, decision Decision) {
	causes := decision.Causes()
	log.FromContext(ctx).Info("Restarted", "for", causes, "now", decision.RestartNow)
	if !decision.Ends.IsZero() {
		c.metrics.early.Inc()
		c.announceEarly(s, decision)
		return
	}
	if decision.RestartNow == "" {
		c.events.Eventf(s.Object, nil, corev1.EventTypeNormal, ReasonRestarted, "Restart", "restarting for %s", cut(causes))
		return
	}
	note := fmt.Sprintf("restarting though %s, since %s says %q, for %s",
		forbidden(decision.Hold.Cause), annotation.RestartNow, decision.RestartNow, causes)
	c.events.Eventf(s.Object, nil, corev1.EventTypeWarning, ReasonRestartedNow, "Restart", "%s", cut(note))
}

// cut to what the events API takes, between two characters.
func cut(note string) string { return strings.ToValidUTF8(note[:min(len(note), maxNote)], "") }

// forbidden says what a restart was made in spite of.
func forbidden(cause waits.Cause) string {
	switch cause {
	case waits.Turn:
		return "it is not its turn in the environment"
	case waits.Stopped:
		return "the rollout of another fails for the same change"
	case waits.Disrupted:
		return "a PodDisruptionBudget has no pod to spare"
	case waits.Nothing, waits.Closed, waits.Unknown, waits.NeverOpen:
	}
	return "the environment's windows forbid it"
}

// tell enters a workload's standings, and tells of the targets whose counts
// they settle. It says when to look again; 0: when something happens.
func (c *Controller) tell(w Workload, standings map[string]Standing) time.Duration {
	settled, next := c.ledger.note(w, standings)
	for _, target := range settled {
		c.settled(target)
	}
	return next
}

// settled tells of a target, if it is one that somebody counts for.
func (c *Controller) settled(target types.NamespacedName) {
	if c.config.Settled != nil && !foreign.IsTarget(target.Name) {
		c.config.Settled(target)
	}
}

// standings of a workload to each target that its live pods read.
func standings(facts Facts, decision Decision) map[string]Standing {
	all := map[string]Standing{}
	for _, pod := range facts.Pods {
		for name := range pod.Reads {
			if _, ours := facts.Targets[name]; ours {
				all[name] = Current
			}
		}
	}
	for _, stale := range decision.Stale {
		all[stale.Target] = stale.Standing
	}
	return all
}

// sooner of two waits, of which 0 is none.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}

// Consumers counts the workloads whose live pods read the target, from the
// caches: no request goes out. It counts what is at this moment; Settled says
// when that is worth writing down.
func (c *Controller) Consumers(ctx context.Context, target types.NamespacedName) (v1alpha1.Consumers, error) {
	var counts v1alpha1.Consumers
	workloads, err := c.gather.consumers(ctx, target)
	if err != nil {
		return counts, err
	}
	for _, w := range workloads {
		s, err := c.gather.workload(ctx, w)
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return v1alpha1.Consumers{}, err
		}
		facts, err := c.gather.facts(ctx, w, s)
		if err != nil {
			return v1alpha1.Consumers{}, err
		}
		switch standings(facts, Decide(facts))[target.Name] {
		case "":
		case Current:
			counts.Current++
		default:
			counts.Stale++
		}
	}
	return counts, nil
}

// Roll has the target's consumers looked at right away. The watch on targets
// does so too, as soon as it has seen the change; before that, a look finds
// nothing to do. On a daemon that does not lead, and on one without consumers
// of the target, it does nothing.
func (c *Controller) Roll(ctx context.Context, target types.NamespacedName) error {
	queue := c.queue.Load()
	if queue == nil {
		return nil
	}
	workloads, err := c.gather.consumers(ctx, target)
	if err != nil {
		return err
	}
	for _, w := range workloads {
		(*queue).Add(w)
	}
	return nil
}
