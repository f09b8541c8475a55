package schedule_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/privyseal/privyseal/rotation/schedule"
	"github.com/privyseal/privyseal/rotation/schedule/scheduletest"
)

const week = 7 * 24 * 60 // minutes

// world is a week in minutes, with what happens in it.
type world struct {
	walls scheduletest.Walls
	runs  []scheduletest.Fired
	open  []bool // windows
	turns []int  // the minute at which that is another
	up    []bool // a daemon is there
}

// A daemon comes and goes, windows open and close, clocks on walls are changed:
// each minute of a week, what the plan says is held against what somebody says
// who goes through the minutes one by one.
func TestAWeekOfRunsIsAsTheMinutesSay(t *testing.T) {
	random := rand.New(rand.NewPCG(6, 2))
	began, made := 0, 0
	for _, start := range []struct{ zone, from string }{
		{"Europe/Berlin", "2026-03-26T00:00:00Z"}, {"Europe/Berlin", "2026-10-22T00:00:00Z"}, {"America/New_York", "2026-10-29T00:00:00Z"},
		{"Australia/Lord_Howe", "2026-10-01T00:00:00Z"}, {"Pacific/Apia", "2011-12-27T00:00:00Z"}, {"UTC", "2026-12-29T00:00:00Z"},
	} {
		t.Run(start.zone+" "+start.from, func(t *testing.T) {
			walls := scheduletest.Look(t, at(t, start.from), start.zone, week)
			for range 3 {
				times := scheduletest.Random(random)
				times.Months, times.Days = nil, nil
				spec := schedule.Spec{Schedule: times.String(), TimeZone: start.zone}
				if random.IntN(3) > 0 {
					spec.StartingDeadline = time.Duration(1+random.IntN(12*60)) * time.Minute
				}
				w := world{walls: walls, runs: walls.Fired(times), open: spans(random, 20*60, 6*60), up: spans(random, 30*60, 5*60)}
				w.turns = turns(w.open)
				b, m := w.live(t, spec)
				began, made = began+b, made+m
			}
		})
	}
	t.Logf("%d runs began, of which %d were made up", began, made)
	if made < 30 {
		t.Errorf("%d runs were made up, and that proves little", made)
	}
}

// spans of true and false, each of a random length.
func spans(random *rand.Rand, trueFor, falseFor int) []bool {
	var all []bool
	for len(all) < week {
		for range 1 + random.IntN(trueFor) {
			all = append(all, true)
		}
		for range 1 + random.IntN(falseFor) {
			all = append(all, false)
		}
	}
	return all[:week]
}

// live through the week: every minute with a daemon, the plan is judged.
func (w world) live(t *testing.T, spec schedule.Spec) (began, madeUp int) {
	t.Helper()
	plan := mustParse(t, spec)
	facts := schedule.Facts{Since: w.walls.From.Add(-time.Nanosecond), Name: "pay/db", Windows: w}
	done, asleep := -1, time.Time{}
	for minute := range week {
		facts.Now = w.walls.From.Add(time.Duration(minute) * time.Minute)
		if !w.up[minute] {
			continue
		}
		want, due := w.due(minute, done, int(spec.StartingDeadline/time.Minute))
		verdict := plan.Judge(facts)
		if verdict.Due != due || due && verdict.Run.ID != w.runs[want].ID {
			t.Fatalf("%+v: at %s it is %s (%s), and by the minutes %t", spec, facts.Now, told(verdict), verdict.Why, due)
		}
		if due && facts.Now.Before(asleep) {
			t.Fatalf("%+v: at %s it is due, and was not to be looked at before %s", spec, facts.Now, asleep)
		}
		asleep = verdict.Again
		if !due {
			continue
		}
		began++
		if w.runs[want].Minute < minute {
			madeUp++
		}
		done = want
		facts.Ran = append(facts.Ran, verdict.Run)[max(0, len(facts.Ran)-1):]
	}
	return began, madeUp
}

// due is the last run up to a minute, if it is to begin there: the minutes since
// its time in which windows were open are counted.
func (w world) due(minute, done, deadline int) (run int, due bool) {
	run = -1
	for i, fired := range w.runs {
		if fired.Minute <= minute {
			run = i
		}
	}
	if run <= done || !w.open[minute] {
		return run, false
	}
	open := 0
	for _, is := range w.open[w.runs[run].Minute:minute] {
		if is {
			open++
		}
	}
	return run, deadline == 0 || open <= deadline
}

// turns are, for each minute, the next that is another; week for none.
func turns(open []bool) []int {
	all, turn := make([]int, week), week
	for minute := week - 1; minute >= 0; minute-- {
		if minute+1 < week && open[minute] != open[minute+1] {
			turn = minute + 1
		}
		all[minute] = turn
	}
	return all
}

// Opens and Closes make the world's minutes Windows; after the week all is open.

func (w world) Opens(from time.Time) (time.Time, error) { return w.first(from, true), nil }

func (w world) Closes(from time.Time) (time.Time, bool) {
	at := w.first(from, false)
	return at, at.Before(w.walls.From.Add(week * time.Minute))
}

func (w world) first(from time.Time, open bool) time.Time {
	minute := int(from.Sub(w.walls.From) / time.Minute)
	if minute >= week || w.open[minute] == open {
		return from
	}
	return w.walls.From.Add(time.Duration(w.turns[minute]) * time.Minute)
}
