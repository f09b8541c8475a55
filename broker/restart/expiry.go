package restart

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/privyseal/privyseal/broker/target"
	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/broker/waits"
)

// What pods hold may end: values that a store has lent, of which there are others
// by now. Windows are a guard rail and a credential that is no more is an outage,
// so a restart goes ahead of its window if it would come too late otherwise.
const (
	// expiryMargin is how long before such an end windows have to open, for the
	// restart to wait for them: budgets, canaries and rollouts take their time.
	// What cannot wait goes at once, since waiting gains nothing then.
	expiryMargin = time.Hour

	// lastMoment is how long before such an end a restart waits no more for its
	// turn either. Until then budgets hold, for those who go early too.
	lastMoment = 10 * time.Minute
)

// ReasonRestartedEarly is of the event that a workload is restarted in spite of
// what holds it back, since what its pods hold ends.
const ReasonRestartedEarly = "RestartedBeforeExpiry"

// ends is when the first of what live pods hold of the stale targets ends; zero:
// none of it does, or nobody knows.
func (f Facts) ends(stale []Stale) time.Time {
	var first time.Time
	for _, one := range stale {
		if !one.Cause {
			continue
		}
		of := f.Targets[one.Target]
		for _, lease := range of.Leases {
			if lease.PreviousExpiry == nil || !f.holdsBefore(one.Target, of.Revisions, lease) {
				continue
			}
			if at := lease.PreviousExpiry.Time; first.IsZero() || at.Before(first) {
				first = at
			}
		}
	}
	return first
}

// holdsBefore says whether a live pod may hold what was there before a lease.
func (f Facts) holdsBefore(name string, revisions target.Revisions, lease v1alpha1.Lease) bool {
	for _, pod := range f.Pods {
		reads, reading := pod.Reads[name]
		if reading && revisions.ChangedSince(pod.Evidence.Of(name), lease.Sequence, counting(name, reads)) {
			return true
		}
	}
	return false
}

// goesEarly is when what pods hold ends, if that is why the restart waits no more;
// zero: it waits, or would not have to. keeps is what it waits for then.
func (f Facts) goesEarly(stale []Stale) (ends time.Time, keeps waits.Hold) {
	if ends = f.ends(stale); ends.IsZero() {
		return time.Time{}, f.holds()
	}
	inTime := !f.Hold.Until.IsZero() && !f.Hold.Until.Add(expiryMargin).After(ends)
	switch {
	case f.Hold.Holds() && inTime:
		return time.Time{}, f.Hold
	case f.Turn.Holds() && f.Now.Add(lastMoment).Before(ends):
		return time.Time{}, f.Turn
	}
	return ends, waits.Hold{}
}

// announceEarly tells people that a workload is restarted in spite of what holds it
// back, and why.
func (c *Controller) announceEarly(s shape, decision Decision) {
	c.events.Eventf(s.Object, nil, corev1.EventTypeWarning, ReasonRestartedEarly, "Restart", "%s", cut(
		"restarting though "+forbidden(decision.Hold.Cause)+", since what its pods hold ends at "+
			decision.Ends.UTC().Format(time.RFC3339)+", for "+decision.Causes()))
}
