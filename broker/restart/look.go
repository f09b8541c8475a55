package restart

import (
	"context"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Looker gathers what is judged about workloads, for whoever wants to know what
// Decide would say and does nothing about it.
type Looker struct {
	gather    gatherer
	calendars *calendars
}

// NewLooker on a snapshot. webhook is as Config.Webhook.
func NewLooker(snapshot *Snapshot, webhook string) *Looker {
	return &Looker{gatherer{snapshot, webhook}, newCalendars()}
}

// WorkloadOf says which workload an object is; none for one of a kind that is
// not restarted.
func WorkloadOf(object client.Object) (w Workload, is bool) {
	w.NamespacedName = client.ObjectKeyFromObject(object)
	switch object.(type) {
	case *appsv1.Deployment:
		w.Kind = "Deployment"
	case *appsv1.StatefulSet:
		w.Kind = "StatefulSet"
	case *appsv1.DaemonSet:
		w.Kind = "DaemonSet"
	}
	return w, w.Kind != ""
}

// Facts about a workload, with what keeps its restart back at an instant. The
// webhook is taken to answer.
func (l *Looker) Facts(ctx context.Context, w Workload, at time.Time) (Facts, error) {
	s, err := l.gather.workload(ctx, w)
	if err != nil {
		return Facts{}, err
	}
	facts, err := l.gather.facts(ctx, w, s)
	if err != nil {
		return Facts{}, err
	}
	facts.Webhook.Answers = true
	facts.Hold, err = l.gather.hold(ctx, l.calendars, w.Namespace, at)
	return facts, err
}
