package rotate

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/annotation"
	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/broker/window"
	"github.com/privyseal/privyseal/providers"
	"github.com/privyseal/privyseal/rotation"
	"github.com/privyseal/privyseal/rotation/schedule"
)

// run that is due, or was begun.
type run struct {
	id string
	at time.Time
}

// look is all that was seen of a rotation at one moment.
type look struct {
	of    *v1alpha1.SecretRotation
	state rotation.State
	asked admitted
	// plan and place are those of the record where there is one, else the spec's.
	plan  rotation.Plan
	place Place
	// engine that is asked, of the attempt or of the spec; zero: none.
	engine providers.Engine
	// record of the attempt; nil: there is none.
	record *record
	// hook that has something to do; nil: none has.
	hook *seen
	// due is the run that is, and verdict what the schedule says.
	due     run
	verdict schedule.Verdict
	// document at the place, and why it could not be read.
	document providers.Document
	unread   error
	readings []Reading
	// left are the keys of values before that are still there, and ours those that a
	// rotation left so; looked at while they are being dropped.
	left, ours []string
	// missed: that a run was is news.
	missed bool
	facts  rotation.Facts
}

// clear all values.
func (l *look) clear() {
	l.record.clear()
	l.document.Clear()
	l.hook.clear()
}

// glance looks at what is asked for, and whether it is time for it.
func (r *Reconciler) glance(ctx context.Context, of *v1alpha1.SecretRotation) (*look, error) {
	l := &look{of: of, state: stateOf(of.Status)}
	l.facts = rotation.Facts{Now: r.config.Clock.Now(), LeadsSince: r.leadsSince()}
	var err error
	if l.asked, err = r.admit(ctx, of); err != nil {
		return l, err
	}
	l.plan, l.place, l.facts.Engine = l.asked.plan, l.asked.place, l.asked.engine.String()
	l.judge()
	return l, nil
}

// gather looks at everything that the next step is decided by.
func (r *Reconciler) gather(ctx context.Context, of *v1alpha1.SecretRotation) (*look, error) {
	l, err := r.glance(ctx, of)
	if err != nil {
		return l, err
	}
	if l.record, err = r.kept(ctx, of.UID); err != nil {
		return l, err
	}
	if l.record != nil {
		l.facts.Record = rotation.Record{There: true, ID: string(l.record.uid), Attempt: l.record.attempt, From: l.record.from}
		if string(l.record.uid) == l.state.Record {
			l.plan = l.record.plan
			if l.place, err = r.placeOf(ctx, l.record); err != nil {
				return l, err
			}
		}
	}
	if err := r.seeHook(ctx, l); err != nil {
		return l, err
	}
	l.facts.Order = order(of, l.state)
	switch {
	case l.state.ByEngine(l.facts):
		if err := r.readTurn(ctx, l); err != nil {
			return l, err
		}
	case l.needsStore():
		r.readStore(ctx, l)
	}
	return l, r.follow(ctx, l)
}

// placeOf is where an attempt began, wherever the spec, or the environment, points by
// now. A store that is gone is one that cannot be asked.
func (r *Reconciler) placeOf(ctx context.Context, kept *record) (Place, error) {
	store := &v1alpha1.ClusterSecretStore{}
	err := r.config.Client.Get(ctx, client.ObjectKey{Name: kept.store}, store)
	if client.IgnoreNotFound(err) != nil {
		return Place{}, fmt.Errorf("looking up ClusterSecretStore %s: %w", kept.store, err)
	}
	place := Place{Identity: kept.identity, Ref: kept.ref}
	if err == nil {
		place.Store = store.Store()
	}
	return place, nil
}

// judge says which run is due, and whether any may begin.
func (l *look) judge() {
	if l.asked.refusal != nil {
		l.facts.Hold = "it cannot be carried out: " + l.asked.refusal.Message
		return
	}
	open := opening(l.asked.place.Windows)
	l.verdict = l.scheduled(open, l.of.Status)
	word := annotation.Word(l.of.Annotations, annotation.RotateNow)
	switch {
	case word != "" && word != l.of.Status.RotatedNow:
		l.due = run{id: nowPrefix + word, at: l.facts.Now}
	case l.verdict.Due:
		l.due = run{id: l.verdict.Run.ID, at: l.verdict.Run.At}
	}
	l.facts.Run = l.due.id
	begins := l.state.Run
	if l.state.Phase.Ended() {
		begins = l.due.id
	}
	l.facts.Hold = l.hold(begins, open)
}

// scheduled is what the schedule says, given the runs that began.
func (l *look) scheduled(open schedule.Windows, status v1alpha1.SecretRotationStatus) schedule.Verdict {
	return l.asked.schedule.Judge(schedule.Facts{
		Now: l.facts.Now, Since: l.scheduledSince(), Name: l.of.Namespace + "/" + l.of.Name,
		Ran: ran(status), Suspended: l.of.Spec.Suspend, Windows: open,
	})
}

// hold is why a run may not begin now; empty: it may.
func (l *look) hold(begins string, open schedule.Windows) string {
	switch {
	case l.of.Spec.Suspend:
		return "it is suspended"
	case l.asked.unasked != nil:
		return "the store cannot be asked whether the path may be written"
	case strings.HasPrefix(begins, nowPrefix):
		return "" // whoever said so has a reason
	}
	opens, err := open.Opens(l.facts.Now)
	switch {
	case err != nil:
		return "windows hold it back: " + err.Error()
	case opens.After(l.facts.Now):
		return "windows hold it back until " + opens.UTC().Format(time.RFC3339)
	}
	return ""
}

// scheduledSince is since when the schedule counts: from now on, if it is another
// than it was.
func (l *look) scheduledSince() time.Time {
	if known := l.of.Status.Schedule; known != nil && known.Cron == l.of.Spec.Schedule && known.TimeZone == l.of.Spec.TimeZone {
		return known.Since.Time
	}
	return l.facts.Now
}

func ran(status v1alpha1.SecretRotationStatus) []schedule.Run {
	runs := make([]schedule.Run, 0, len(status.Runs))
	for _, begun := range status.Runs {
		runs = append(runs, schedule.Run{ID: begun.ID, At: begun.At.Time})
	}
	return runs
}

// unreadable windows let nothing begin until somebody mends them.
type unreadable struct{ problem error }

// Opens implements schedule.Windows.
func (u unreadable) Opens(time.Time) (time.Time, error) { return time.Time{}, u.problem }

// Closes implements schedule.Windows.
func (u unreadable) Closes(from time.Time) (time.Time, bool) { return from, true }

func opening(windows []window.Window) schedule.Windows {
	calendar, err := window.Parse(windows)
	if err != nil {
		return unreadable{err}
	}
	return calendar
}

// order that somebody gives for a rotation that halted; none where it is not one
// that is known.
func order(of *v1alpha1.SecretRotation, state rotation.State) rotation.Order {
	word := annotation.Word(of.Annotations, annotation.RotationOrder)
	what, _, _ := strings.Cut(word, " ")
	switch known := rotation.What(what); known {
	case rotation.Retry, rotation.TakeBack, rotation.Accept:
		if state.Phase == rotation.Halted && word != state.Obeyed {
			return rotation.Order{ID: word, What: known}
		}
	}
	return rotation.Order{}
}

// needsStore says whether the store has a say in what comes next.
func (l *look) needsStore() bool {
	switch l.state.Phase {
	case rotation.Due, rotation.Prepared:
		return l.facts.Hold == ""
	case rotation.Halted:
		return l.facts.Order.ID != ""
	case rotation.Verified, rotation.Restored, rotation.Released:
		return false
	}
	return !l.state.Phase.Ended() || l.state.Dropping
}

// early says that nothing has happened outside yet, so that it can be held back.
func (l *look) early() bool {
	return l.state.Phase == rotation.Due || l.state.Phase == rotation.Prepared
}

// readStore reads the document anew.
func (r *Reconciler) readStore(ctx context.Context, l *look) {
	if l.place.Ref.IsZero() || l.place.Store.Name == "" {
		l.unread = fmt.Errorf("%w: there is no such store any more", providers.ErrUnavailable)
		return
	}
	l.document, l.unread = r.config.Store.Read(ctx, l.place.Store, l.place.Identity, providers.Request{Ref: l.place.Ref})
	gone := errors.Is(l.unread, providers.ErrNotFound) || errors.Is(l.unread, providers.ErrDeleted)
	if l.unread != nil && !gone {
		return
	}
	l.unread = nil
	l.facts.Store = rotation.Store{Known: true, Version: l.document.Version}
	if l.record != nil {
		l.facts.Store.Holds = l.record.change.Held(l.document.Values)
	}
	if l.state.Dropping {
		r.readPrevious(ctx, l)
	}
}

// follow looks at those who read the document: at the claims once it is written, and
// at the workloads once the claims have it. On the way back the two are one phase.
func (r *Reconciler) follow(ctx context.Context, l *look) error {
	switch l.state.Phase {
	case rotation.Written, rotation.Rolling, rotation.Returning, rotation.Restored:
	default:
		return nil
	}
	var err error
	if l.readings, err = r.config.Claims.ReadingOf(ctx, l.place); err != nil {
		return err
	}
	if l.state.Phase == rotation.Rolling {
		return r.followWorkloads(ctx, l)
	}
	var behind []string
	for _, reading := range l.readings {
		if reading.Version < l.facts.Store.Version {
			behind = append(behind, "claim "+reading.Claim.String())
		}
	}
	l.facts.Behind = few(behind)
	l.facts.Synced = l.facts.Store.Known && len(behind) == 0
	if l.state.Phase == rotation.Returning && l.facts.Synced {
		return r.followWorkloads(ctx, l)
	}
	return nil
}

func (r *Reconciler) followWorkloads(ctx context.Context, l *look) error {
	var behind []string
	consumers := rotation.Consumers{Ready: true}
	seen := map[types.NamespacedName]bool{}
	for _, reading := range l.readings {
		if seen[reading.Target] {
			continue
		}
		seen[reading.Target] = true
		followers, known, err := r.config.Workloads.Followers(ctx, reading.Target, reading.Sequence)
		if err != nil {
			return err
		}
		if !known {
			behind = append(behind, "Secret "+reading.Target.String())
		}
		for _, follower := range followers {
			if follower.Behind != "" {
				behind = append(behind, follower.Workload+": "+follower.Behind)
			}
			if follower.Fails != "" && consumers.Failed == "" {
				consumers.Failed = fmt.Sprintf("%s (%s)", follower.Workload, follower.Fails)
			}
			consumers.Held = consumers.Held || follower.Held
		}
	}
	consumers.Ready = len(behind) == 0
	l.facts.Behind = few(behind)
	kept := r.remembered(l.of, func(m *memory) {
		if consumers.Held {
			m.held = l.facts.Now
		}
	})
	if !consumers.Held {
		consumers.OpenSince = kept.held
	}
	l.facts.Consumers = consumers
	return nil
}

// few lists the first of some names, and how many there are more.
func few(names []string) string {
	const shown = 3
	if more := len(names) - shown; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:shown], ", "), more)
	}
	return strings.Join(names, ", ")
}
