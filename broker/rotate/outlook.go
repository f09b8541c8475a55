package rotate

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/broker/window"
	"github.com/privyseal/privyseal/rotation"
	"github.com/privyseal/privyseal/rotation/schedule"
)

// Outlook is what comes of a rotation, by what is written down of it: for people who
// ask before it happens. No store is asked.
type Outlook struct {
	// State of the last run, or of the one under way.
	State rotation.State
	// Run that is under way, or comes next; empty where none does.
	Run string
	// Begins is when at the earliest; zero: it has begun, or nobody can say.
	Begins time.Time
	// Refusal is why it cannot be carried out; nil: nothing in its spec forbids it.
	Refusal *Refusal
	// Hold is why the run does not begin now, though it is due; or that nothing
	// does. Empty: nothing holds it back.
	Hold string
}

// LookAhead says which run is next, given the windows of the rotation's environment.
func LookAhead(of *v1alpha1.SecretRotation, windows []window.Window, now time.Time) Outlook {
	l := ahead(of, windows, now)
	l.judge()
	found := Outlook{State: l.state, Refusal: l.asked.refusal, Run: l.verdict.Run.ID, Begins: l.verdict.Begins}
	if found.Refusal != nil {
		return found
	}
	if due := l.due.id; due != "" {
		found.Run, found.Begins = due, now
	}
	if !l.state.Phase.Ended() {
		found.Run, found.Begins = l.state.Run, time.Time{}
	}
	switch {
	case l.early(), l.state.Phase.Ended() && l.due.id != "", of.Spec.Suspend:
		found.Hold = l.facts.Hold
	}
	if found.Hold != "" && found.Begins.Equal(now) {
		found.Begins = time.Time{}
	}
	if problem := unopened(windows, now); problem != nil && found.Hold == "" && found.Begins.IsZero() && l.state.Phase.Ended() {
		found.Hold = problem.Error()
	}
	return found
}

// ahead is a look at a rotation without its store.
func ahead(of *v1alpha1.SecretRotation, windows []window.Window, now time.Time) *look {
	l := &look{of: of, state: stateOf(of.Status), facts: rotation.Facts{Now: now}}
	asked, err := parse(of.Spec)
	l.asked = admitted{setup: asked, place: Place{Windows: windows}}
	if err != nil {
		l.asked.refusal = refuse(v1alpha1.ReasonRotationInvalid, "%s", err)
	}
	return l
}

func unopened(windows []window.Window, now time.Time) error {
	_, err := opening(windows).Opens(now)
	return err
}

// Start of a run.
type Start struct {
	Run string
	At  time.Time
}

// ErrMany: there are more runs than anybody looks through.
var ErrMany = errors.New("too many runs")

const (
	maxStarts = 10000
	// foresight is for how long before what is asked for a run may have been due
	// that begins only then.
	foresight = 31 * 24 * time.Hour
)

// Timetable gives the runs that begin from one time until another, with jitter and
// windows applied, as if each ended before the next. Before now it is what the schedule
// says, whatever happened. Errors wrap ErrMany, or say why none can begin.
func Timetable(of *v1alpha1.SecretRotation, windows []window.Window, now, from, until time.Time) ([]Start, error) {
	l := ahead(of, windows, now)
	if l.asked.refusal != nil {
		return nil, l.asked.refusal
	}
	open := opening(windows)
	facts := schedule.Facts{
		Now: now, Since: l.scheduledSince(), Name: of.Namespace + "/" + of.Name,
		Ran: ran(of.Status), Suspended: of.Spec.Suspend, Windows: open,
	}
	if first := from.Add(-foresight); from.Before(now) || first.After(now) {
		facts.Now, facts.Ran = first, nil
		facts.Since = first
	}
	return starts(l.asked.schedule, facts, from, until)
}

func starts(plan schedule.Plan, facts schedule.Facts, from, until time.Time) ([]Start, error) {
	var found []Start
	for range 4 * maxStarts {
		verdict := plan.Judge(facts)
		switch {
		case verdict.Due:
			if !facts.Now.Before(from) {
				found = append(found, Start{verdict.Run.ID, facts.Now})
			}
			facts.Ran = []schedule.Run{verdict.Run}
		case verdict.Begins.IsZero():
			return found, errors.New(verdict.Why)
		case !verdict.Begins.Before(until):
			return found, nil
		default:
			facts.Now = verdict.Begins
		}
		if len(found) > maxStarts {
			break
		}
	}
	return nil, fmt.Errorf("%w: more than %d until %s", ErrMany, maxStarts, until.UTC().Format(time.RFC3339))
}

// MadeBefore says which of two rotations of one path is carried out: the one that was
// made first.
func MadeBefore(a, b *v1alpha1.SecretRotation) bool { return before(a, b) }

// keyOfRole is what a database engine has the password of a static role under.
const keyOfRole = "password"

// KeysOf the document that change with a rotation, sorted: those that are generated,
// what belongs to them, and what its strategy writes beside them. Of an engine it is the
// one of a role with a password, which is what most are; none where no claim reads what
// it makes.
func KeysOf(of *v1alpha1.SecretRotation) []string {
	spec := of.Spec
	if spec.Engine != nil {
		if engine, err := engineOf(spec); err != nil || !engine.Read() {
			return []string{}
		}
		return []string{keyOfRole}
	}
	keys := map[string]bool{}
	for key, given := range spec.Generate {
		made := generator{}
		made.addKeys(given, "")
		keys[key] = true
		if made.public != "" {
			keys[made.public] = true
		}
	}
	if spec.Strategy == v1alpha1.RotationOverlap {
		for _, key := range slices.Collect(maps.Keys(keys)) {
			keys[rotation.PreviousKey(key)] = true
		}
	}
	if users := spec.Users; users != nil && users.Key != "" && spec.Strategy == v1alpha1.RotationAlternateUsers {
		keys[users.Key] = true
	}
	return append([]string{}, slices.Sorted(maps.Keys(keys))...)
}
