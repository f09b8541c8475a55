package restart

import (
	"context"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/waits"
)

// Looker gathers what is judged about workloads at one moment, for whoever wants
// to know what a Controller would do and does nothing about it.
type Looker struct{ c *Controller }

// NewLooker on a snapshot. Of config, Webhook and MaxConcurrent count: what is
// remembered of Secrets and ConfigMaps of others is not looked at.
func NewLooker(snapshot *Snapshot, config Config, at time.Time) *Looker {
	c := New(Config{Clock: moment(at), Webhook: config.Webhook, MaxConcurrent: config.MaxConcurrent})
	c.gather = newGatherer(snapshot, Config{Webhook: config.Webhook})
	c.gather.rollouts = &c.rollouts
	c.rollouts.served.Store(true) // a snapshot has them, or none
	return &Looker{c}
}

// moment is a clock that stands still.
type moment time.Time

func (m moment) Now() time.Time                  { return time.Time(m) }
func (m moment) Since(t time.Time) time.Duration { return time.Time(m).Sub(t) }

// WorkloadOf says which workload an object is; none for one of a kind that is
// not restarted.
func WorkloadOf(object client.Object) (w Workload, is bool) {
	w.NamespacedName = client.ObjectKeyFromObject(object)
	switch object := object.(type) {
	case *appsv1.Deployment:
		w.Kind = "Deployment"
	case *appsv1.StatefulSet:
		w.Kind = "StatefulSet"
	case *appsv1.DaemonSet:
		w.Kind = "DaemonSet"
	case *unstructured.Unstructured:
		if isArgo(object) {
			w.Kind = kindRollout
		}
	}
	return w, w.Kind != ""
}

// TemplateOf a workload's pods; an empty one for an object that is none, or that is
// passed over, which passedOver says why.
func TemplateOf(object client.Object) (template *corev1.PodTemplateSpec, passedOver string) {
	s, err := shapeOf(object)
	if err != nil {
		return &corev1.PodTemplateSpec{}, ""
	}
	return s.template, s.passedOver
}

// Facts about a workload, with what windows hold back of it. The webhook is taken
// to answer, and whose turn it is is another question: see Candidate.
func (l *Looker) Facts(ctx context.Context, w Workload) (Facts, error) {
	s, err := l.c.gather.workload(ctx, w)
	if err != nil {
		return Facts{}, err
	}
	facts, err := l.c.gather.facts(ctx, w, s)
	if err != nil {
		return Facts{}, err
	}
	facts.Webhook.Answers = true
	facts.Hold, err = l.c.hold(ctx, w.Namespace)
	return facts, err
}

// Hold is what windows keep back of a namespace's restarts at any instant.
func (l *Looker) Hold(ctx context.Context, namespace string, at time.Time) (waits.Hold, error) {
	return l.c.gather.hold(ctx, l.c.calendars, namespace, at)
}

// Candidate is a workload that is to be restarted, as its turn is judged by.
type Candidate struct {
	Waiter Waiter
	Asker  Asker
	// Limits of its environment, which count where Limited says so.
	Limits  Limits
	Limited bool
}

// Candidate gathers how a workload stands to the others.
func (l *Looker) Candidate(ctx context.Context, w Workload, facts Facts, decision Decision) (Candidate, error) {
	bounds, err := l.c.bounds(ctx, w.Namespace)
	if err != nil {
		return Candidate{}, err
	}
	found := Candidate{Limits: bounds.limits, Limited: bounds.limited}
	found.Waiter = Waiter{Workload: w, Environment: bounds.limits.Environment, Since: facts.since(decision.Stale), Sick: sick(facts.Pods)}
	if !bounds.limited {
		return found, nil
	}
	s, err := l.c.gather.workload(ctx, w)
	if err != nil {
		return Candidate{}, err
	}
	found.Asker, err = l.c.asker(ctx, w, s, facts, decision)
	return found, err
}

// Round of the rollouts that take places now. Nobody waits in it.
func (l *Looker) Round(ctx context.Context) (Round, error) {
	homes, err := l.c.gather.homes(ctx)
	if err != nil {
		return Round{}, err
	}
	return l.c.round(ctx, homes)
}
