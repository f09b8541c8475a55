package schedule

import (
	"fmt"
	"time"
)

// Limits of a Spec.
const (
	MaxJitter           = 24 * time.Hour
	MinStartingDeadline = time.Minute
	MaxStartingDeadline = 31 * 24 * time.Hour
)

// Spec as people write it.
type Spec struct {
	// Schedule: minute, hour, day of month, month, day of week.
	Schedule string
	// TimeZone of the schedule, of the IANA database; "" is UTC.
	TimeZone string
	// Jitter is how much later than its time a run may begin, at most
	// MaxJitter; 0 is not at all.
	Jitter time.Duration
	// StartingDeadline is how long after its time a run is made up that did not
	// begin, from MinStartingDeadline to MaxStartingDeadline, not counting the
	// time in which windows forbid it; 0 is until the next run.
	StartingDeadline time.Duration
}

// Plan is a Spec that was checked.
type Plan struct {
	cron     Cron
	jitter   time.Duration
	deadline time.Duration
}

// Parse checks a Spec. Errors wrap ErrSchedule, and begin with the field.
func Parse(spec Spec) (Plan, error) {
	cron, err := ParseCron(spec.Schedule, spec.TimeZone)
	if err != nil {
		return Plan{}, err
	}
	if spec.Jitter < 0 || spec.Jitter > MaxJitter {
		return Plan{}, fmt.Errorf("jitter %s: %w: want from 0s to %s", spec.Jitter, ErrSchedule, MaxJitter)
	}
	if d := spec.StartingDeadline; d != 0 && (d < MinStartingDeadline || d > MaxStartingDeadline) {
		return Plan{}, fmt.Errorf("startingDeadline %s: %w: want from %s to %s", d, ErrSchedule, MinStartingDeadline, MaxStartingDeadline)
	}
	return Plan{cron: cron, jitter: spec.Jitter, deadline: spec.StartingDeadline}, nil
}

// So far ahead is looked for the longest time between two runs.
const (
	runsAhead  = 1000
	yearsAhead = 20
)

// Longest is the longest time from one run to the next, as far as the next thousand
// after an instant show, or twenty years, and its delay. Windows may make it longer.
func (p Plan) Longest(after time.Time) time.Duration {
	var longest time.Duration
	last, fires := p.cron.Next(after)
	for range runsAhead {
		next, again := p.cron.Next(last.At)
		if !fires || !again || longest > 0 && next.At.After(after.AddDate(yearsAhead, 0, 0)) {
			break
		}
		longest, last = max(longest, next.At.Sub(last.At)), next
	}
	return longest + p.jitter
}

// Windows are the times in which runs may begin.
type Windows interface {
	// Opens is the first instant, from the one given on, at which they may.
	// An error says why there is none.
	Opens(from time.Time) (time.Time, error)
	// Closes is the first instant, from the one given on, at which they may
	// not; false: there is none.
	Closes(from time.Time) (time.Time, bool)
}

// always is where there are no windows.
type always struct{}

func (always) Opens(from time.Time) (time.Time, error) { return from, nil }
func (always) Closes(time.Time) (time.Time, bool)      { return time.Time{}, false }

// Facts that a plan is judged by.
type Facts struct {
	Now time.Time
	// Since is when the plan was made, or last changed: no run before that is
	// due.
	Since time.Time
	// Name of what runs, which its delays are made of: things of other names
	// begin at other times.
	Name string
	// Ran are the runs that began, the last two at least, in any order. Those
	// after Now were begun by a clock that was wrong, and hold back none but
	// themselves.
	Ran []Run
	// Suspended: nothing is due. What was meanwhile is made up afterwards, as
	// any run that was missed.
	Suspended bool
	// Windows in which runs may begin; nil: always.
	Windows Windows
}

// Verdict on an instant.
type Verdict struct {
	// Due: Run is to begin now.
	Due bool
	// Run that is due, or waits, or comes next; the zero Run where none does.
	Run Run
	// Begins is when Run begins, or may again; zero: nobody can say, since it is
	// suspended or the windows leave no time.
	Begins time.Time
	// Missed is the last run, if it did not begin before its deadline; else the
	// zero Run.
	Missed Run
	// Again is when to judge anew, if no fact changes before; zero: never.
	Again time.Time
	// Why in a sentence.
	Why string
}

// Judge says which run is due now, or when the next one is.
//
// Of several runs that did not begin only the last is made up: rotating twice
// makes nothing better than rotating once.
func (p Plan) Judge(facts Facts) Verdict {
	if facts.Windows == nil {
		facts.Windows = always{}
	}
	last, outstanding := p.outstanding(facts)
	if !outstanding {
		return p.coming(facts)
	}
	if facts.Suspended {
		return Verdict{Run: last, Why: "it is suspended"}
	}
	begins, err := p.begins(last, facts)
	switch {
	case err != nil:
		next, _ := p.cron.Next(facts.Now)
		return Verdict{Run: last, Again: next.At, Why: err.Error()}
	case facts.Now.Before(begins):
		return Verdict{Run: last, Begins: begins, Again: begins, Why: why(last, begins)}
	case p.expired(begins, facts):
		verdict := p.coming(facts)
		verdict.Missed = last
		return verdict
	}
	opens, err := facts.Windows.Opens(facts.Now)
	switch {
	case err != nil:
		next, _ := p.cron.Next(facts.Now)
		return Verdict{Run: last, Again: next.At, Why: err.Error()}
	case opens.After(facts.Now):
		return Verdict{Run: last, Begins: opens, Again: opens, Why: why(last, opens)}
	}
	return Verdict{Due: true, Run: last, Begins: begins, Why: fmt.Sprintf("run %s is due", last.ID)}
}

func why(run Run, begins time.Time) string {
	return fmt.Sprintf("run %s begins at %s", run.ID, begins.UTC().Format(time.RFC3339))
}

// outstanding is the last run up to now, if it did not begin.
func (p Plan) outstanding(facts Facts) (last Run, outstanding bool) {
	after := facts.Since
	for _, ran := range facts.Ran {
		if ran.At.After(after) && !ran.At.After(facts.Now) {
			after = ran.At
		}
	}
	last, fires := p.cron.Last(after, facts.Now)
	if !fires {
		return Run{}, false
	}
	for _, ran := range facts.Ran {
		if ran.ID == last.ID {
			return Run{}, false
		}
	}
	return last, true
}

// coming is the first run after now.
func (p Plan) coming(facts Facts) Verdict {
	next, fires := p.cron.Next(facts.Now)
	if !fires {
		return Verdict{Why: "no run comes any more"}
	}
	if facts.Suspended {
		return Verdict{Run: next, Why: "it is suspended"}
	}
	begins, err := p.begins(next, facts)
	if err != nil {
		return Verdict{Run: next, Again: next.At, Why: err.Error()}
	}
	return Verdict{Run: next, Begins: begins, Again: begins, Why: why(next, begins)}
}

// begins is when a run may begin: at its time, or when windows open after it,
// and some time later. That delay never leads to the next run, nor out of the
// window, or one that is short would be missed by chance.
func (p Plan) begins(run Run, facts Facts) (time.Time, error) {
	opens, err := facts.Windows.Opens(run.At)
	if err != nil {
		return time.Time{}, fmt.Errorf("run %s waits: %w", run.ID, err)
	}
	most := p.jitter
	if next, fires := p.cron.Next(run.At); fires {
		most = min(most, next.At.Sub(opens))
	}
	if closes, ever := facts.Windows.Closes(opens); ever {
		most = min(most, closes.Sub(opens))
	}
	return opens.Add(delay(facts.Name, run.ID, most)), nil
}

// expired says whether the deadline of a run that could begin at an instant is
// over: whether windows were open for longer since then.
func (p Plan) expired(begins time.Time, facts Facts) bool {
	if p.deadline == 0 {
		return false
	}
	for at, left := begins, p.deadline; left >= 0; {
		closes, ever := facts.Windows.Closes(at)
		if !ever || closes.After(facts.Now) {
			return facts.Now.Sub(at) > left
		}
		left -= closes.Sub(at)
		opens, err := facts.Windows.Opens(closes)
		if err != nil || opens.After(facts.Now) {
			return left < 0
		}
		at = opens
	}
	return true
}
