package schedule_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/rotation/schedule"
)

func mustParse(t *testing.T, spec schedule.Spec) schedule.Plan {
	t.Helper()
	plan, err := schedule.Parse(spec)
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

// closed are spans in which nothing may begin: from, to, from, to. A span
// without an end is for ever.
type closed []time.Time

func (c closed) Opens(from time.Time) (time.Time, error) {
	for i := 0; i < len(c); i += 2 {
		if from.Before(c[i]) {
			return from, nil
		}
		if i+1 == len(c) {
			return time.Time{}, errors.New("the windows leave no time")
		}
		if from.Before(c[i+1]) {
			return c[i+1], nil
		}
	}
	return from, nil
}

func (c closed) Closes(from time.Time) (time.Time, bool) {
	for i := 0; i < len(c); i += 2 {
		if from.Before(c[i]) {
			return c[i], true
		}
		if i+1 == len(c) || from.Before(c[i+1]) {
			return from, true
		}
	}
	return time.Time{}, false
}

func closedFrom(t *testing.T, spans ...string) closed {
	t.Helper()
	var c closed
	for _, span := range spans {
		c = append(c, at(t, span))
	}
	return c
}

// Each row is Sunday's run, at three in the night, seen at an instant.
func TestARunIsDueOnce(t *testing.T) {
	sunday := schedule.Run{ID: "2026-06-07T03:00", At: at(t, "2026-06-07T03:00:00Z")}
	before := schedule.Run{ID: "2026-05-31T03:00", At: at(t, "2026-05-31T03:00:00Z")}
	after := schedule.Run{ID: "2026-06-14T03:00", At: at(t, "2026-06-14T03:00:00Z")}
	wrong := schedule.Run{ID: "2030-01-06T03:00", At: at(t, "2030-01-06T03:00:00Z")}
	closing := func(spans ...string) func(*schedule.Facts) {
		return func(f *schedule.Facts) { f.Windows = closedFrom(t, spans...) }
	}
	for name, row := range map[string]struct {
		now     string
		change  func(*schedule.Facts)
		verdict string
	}{
		"before its time":                  {"2026-06-07T02:59:59Z", nil, "next 2026-06-07T03:00 at 2026-06-07T03:00:00Z"},
		"at its time":                      {"2026-06-07T03:00:00Z", nil, "due 2026-06-07T03:00"},
		"hours later":                      {"2026-06-07T09:00:00Z", nil, "due 2026-06-07T03:00"},
		"past its deadline":                {"2026-06-07T09:00:01Z", nil, "missed 2026-06-07T03:00 next 2026-06-14T03:00 at 2026-06-14T03:00:00Z"},
		"when it began already":            {"2026-06-07T03:00:00Z", func(f *schedule.Facts) { f.Ran = append(f.Ran, sunday) }, "next 2026-06-14T03:00 at 2026-06-14T03:00:00Z"},
		"after many that were missed":      {"2026-06-07T04:00:00Z", func(f *schedule.Facts) { f.Since, f.Ran = at(t, "2025-01-01T00:00:00Z"), nil }, "due 2026-06-07T03:00"},
		"when the plan is younger":         {"2026-06-07T04:00:00Z", func(f *schedule.Facts) { f.Since = at(t, "2026-06-07T03:30:00Z") }, "next 2026-06-14T03:00 at 2026-06-14T03:00:00Z"},
		"while suspended":                  {"2026-06-07T03:00:00Z", func(f *schedule.Facts) { f.Suspended = true }, "next 2026-06-07T03:00"},
		"before it, suspended":             {"2026-06-05T03:00:00Z", func(f *schedule.Facts) { f.Suspended = true }, "next 2026-06-07T03:00"},
		"in a blackout":                    {"2026-06-07T03:00:00Z", closing("2026-06-05T18:00:00Z", "2026-06-08T06:00:00Z"), "next 2026-06-07T03:00 at 2026-06-08T06:00:00Z"},
		"at the end of the blackout":       {"2026-06-08T06:00:00Z", closing("2026-06-05T18:00:00Z", "2026-06-08T06:00:00Z"), "due 2026-06-07T03:00"},
		"its deadline counts from there":   {"2026-06-08T12:00:00Z", closing("2026-06-05T18:00:00Z", "2026-06-08T06:00:00Z"), "due 2026-06-07T03:00"},
		"and ends":                         {"2026-06-08T12:00:01Z", closing("2026-06-05T18:00:00Z", "2026-06-08T06:00:00Z"), "missed 2026-06-07T03:00 next 2026-06-14T03:00 at 2026-06-14T03:00:00Z"},
		"a blackout eats no deadline":      {"2026-06-09T05:00:00Z", closing("2026-06-07T08:00:00Z", "2026-06-09T04:30:00Z"), "due 2026-06-07T03:00"},
		"nor holds it longer than that":    {"2026-06-09T05:30:01Z", closing("2026-06-07T08:00:00Z", "2026-06-09T04:30:00Z"), "missed 2026-06-07T03:00 next 2026-06-14T03:00 at 2026-06-14T03:00:00Z"},
		"missed, then a blackout":          {"2026-06-08T05:00:00Z", closing("2026-06-07T08:00:00Z", "2026-06-09T04:30:00Z"), "next 2026-06-07T03:00 at 2026-06-09T04:30:00Z"},
		"windows that leave no time":       {"2026-06-07T03:00:00Z", closing("2026-06-05T18:00:00Z"), "next 2026-06-07T03:00"},
		"windows that leave none later":    {"2026-06-07T04:00:00Z", closing("2026-06-07T03:30:00Z"), "next 2026-06-07T03:00"},
		"a blackout over two of them":      {"2026-06-15T00:00:00Z", closing("2026-06-05T00:00:00Z", "2026-06-15T00:00:00Z"), "due 2026-06-14T03:00"},
		"a clock that was put back":        {"2026-06-07T02:30:00Z", func(f *schedule.Facts) { f.Ran = append(f.Ran, sunday) }, "next 2026-06-07T03:00 at 2026-06-07T03:00:00Z"},
		"and is right again":               {"2026-06-07T03:00:00Z", func(f *schedule.Facts) { f.Ran = append(f.Ran, sunday) }, "next 2026-06-14T03:00 at 2026-06-14T03:00:00Z"},
		"a clock that was years ahead":     {"2026-06-07T03:00:00Z", func(f *schedule.Facts) { f.Ran = append(f.Ran, wrong) }, "due 2026-06-07T03:00"},
		"a week ahead, and once more":      {"2026-06-14T03:00:00Z", func(f *schedule.Facts) { f.Ran = []schedule.Run{before, after} }, "next 2026-06-21T03:00 at 2026-06-21T03:00:00Z"},
		"a clock behind the plan's making": {"2020-06-07T03:00:00Z", nil, "next 2020-06-14T03:00 at 2020-06-14T03:00:00Z"},
	} {
		t.Run(name, func(t *testing.T) {
			plan := mustParse(t, schedule.Spec{Schedule: "0 3 * * 0", StartingDeadline: 6 * time.Hour})
			facts := schedule.Facts{Now: at(t, row.now), Since: at(t, "2026-05-01T00:00:00Z"), Name: "pay/db", Ran: []schedule.Run{before}}
			if row.change != nil {
				row.change(&facts)
			}
			verdict := plan.Judge(facts)
			if got := told(verdict); got != row.verdict || verdict.Why == "" {
				t.Errorf("it is %s (%s)", got, verdict.Why)
			}
		})
	}
}

// told is a verdict in words.
func told(v schedule.Verdict) string {
	var words []string
	if v.Missed.ID != "" {
		words = append(words, "missed", v.Missed.ID)
	}
	if v.Due {
		return strings.Join(append(words, "due", v.Run.ID), " ")
	}
	words = append(words, "next", v.Run.ID)
	if !v.Begins.IsZero() {
		words = append(words, "at", v.Begins.Format(time.RFC3339))
	}
	return strings.Join(words, " ")
}

func TestJitterSpreadsRunsAndStays(t *testing.T) {
	plan := mustParse(t, schedule.Spec{Schedule: "0 3 * * 0", Jitter: 10 * time.Minute})
	quarters := map[time.Duration]int{}
	for i := range 1000 {
		facts := schedule.Facts{Now: at(t, "2026-06-05T00:00:00Z"), Since: at(t, "2026-06-01T00:00:00Z"), Name: fmt.Sprintf("pay/db-%d", i)}
		begins := plan.Judge(facts).Begins
		late := begins.Sub(at(t, "2026-06-07T03:00:00Z"))
		if late < 0 || late >= 10*time.Minute {
			t.Fatalf("it begins %s late", late)
		}
		quarters[late/(150*time.Second)]++
		facts.Now = begins.Add(-time.Nanosecond)
		if v := plan.Judge(facts); v.Due || !v.Begins.Equal(begins) || !v.Again.Equal(begins) {
			t.Fatalf("just before %s it is %+v", begins, v)
		}
		if facts.Now = begins; !plan.Judge(facts).Due {
			t.Fatalf("at %s it is not due", begins)
		}
	}
	for quarter := range time.Duration(4) {
		if quarters[quarter] < 200 {
			t.Errorf("of 1000 that run together %d begin in quarter %d", quarters[quarter], quarter)
		}
	}
}

// A delay that led out of a short window, or past the next run, would have the
// run missed by chance.
func TestJitterGivesWay(t *testing.T) {
	for i := range 100 {
		facts := schedule.Facts{Now: at(t, "2026-06-07T02:00:00Z"), Since: at(t, "2026-06-01T00:00:00Z"), Name: fmt.Sprintf("pay/db-%d", i)}
		plan := mustParse(t, schedule.Spec{Schedule: "0 3 * * *", Jitter: time.Hour})
		facts.Windows = closedFrom(t, "2026-06-01T00:00:00Z", "2026-06-07T02:55:00Z", "2026-06-07T03:05:00Z", "2026-06-08T00:00:00Z")
		facts.Ran = []schedule.Run{{ID: "2026-06-06T03:00", At: at(t, "2026-06-06T03:00:00Z")}}
		if begins := plan.Judge(facts).Begins; begins.Before(at(t, "2026-06-07T03:00:00Z")) || !begins.Before(at(t, "2026-06-07T03:05:00Z")) {
			t.Fatalf("in a window of five minutes it begins at %s", begins)
		}
		plan, facts.Windows = mustParse(t, schedule.Spec{Schedule: "* * * * *", Jitter: time.Hour}), nil
		if begins := plan.Judge(facts).Begins; !begins.Before(at(t, "2026-06-07T02:01:00Z")) {
			t.Fatalf("what runs each minute begins at %s", begins)
		}
	}
}

func TestBadSchedulesAreRefusedByTheirField(t *testing.T) {
	good := schedule.Spec{Schedule: "0 3 * * 0", TimeZone: "Europe/Berlin", Jitter: 10 * time.Minute, StartingDeadline: 6 * time.Hour}
	if _, err := schedule.Parse(good); err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct {
		spoil  func(*schedule.Spec)
		refuse string
	}{
		"no schedule":            {func(s *schedule.Spec) { s.Schedule = "" }, "schedule"},
		"six fields":             {func(s *schedule.Spec) { s.Schedule = "0 0 3 * * 0" }, "schedule"},
		"a zone in the schedule": {func(s *schedule.Spec) { s.Schedule = "TZ=UTC 0 3 * * 0" }, "schedule"},
		"a cron zone in it":      {func(s *schedule.Spec) { s.Schedule = "CRON_TZ=UTC 0 3 * * 0" }, "schedule"},
		"every":                  {func(s *schedule.Spec) { s.Schedule = "@every 24h" }, "schedule"},
		"at a reboot":            {func(s *schedule.Spec) { s.Schedule = "@reboot" }, "schedule"},
		"weekly by name":         {func(s *schedule.Spec) { s.Schedule = "@weekly" }, "schedule"},
		"day 7":                  {func(s *schedule.Spec) { s.Schedule = "0 3 * * 7" }, "schedule"},
		"30 February":            {func(s *schedule.Spec) { s.Schedule = "0 3 30 2 *" }, "schedule"},
		"an unknown zone":        {func(s *schedule.Spec) { s.TimeZone = "Europe/Atlantis" }, "timeZone"},
		"the machine's zone":     {func(s *schedule.Spec) { s.TimeZone = "Local" }, "timeZone"},
		"a negative jitter":      {func(s *schedule.Spec) { s.Jitter = -time.Second }, "jitter"},
		"a jitter of days":       {func(s *schedule.Spec) { s.Jitter = 48 * time.Hour }, "jitter"},
		"a negative deadline":    {func(s *schedule.Spec) { s.StartingDeadline = -time.Hour }, "startingDeadline"},
		"a deadline of seconds":  {func(s *schedule.Spec) { s.StartingDeadline = 5 * time.Second }, "startingDeadline"},
		"a deadline of years":    {func(s *schedule.Spec) { s.StartingDeadline = 10000 * time.Hour }, "startingDeadline"},
	} {
		bad := good
		row.spoil(&bad)
		_, err := schedule.Parse(bad)
		if !errors.Is(err, schedule.ErrSchedule) || !strings.HasPrefix(fmt.Sprint(err), row.refuse+" ") {
			t.Errorf("%s: it says %v", name, err)
		}
	}
}

func TestTheLongestTimeBetweenTwoRunsIsFound(t *testing.T) {
	const day = 24 * time.Hour
	for text, want := range map[string]time.Duration{
		"0 3 * * *":   day,
		"0 3 * * MON": 7 * day,
		"0 3 1 * *":   31 * day,
		"0 3 1 1 *":   366 * day,
		"0 3 29 2 *":  1461 * day,
		"*/5 * * * *": 5 * time.Minute,
		"0 0-8 * * *": 16 * time.Hour,
	} {
		got := mustParse(t, schedule.Spec{Schedule: text}).Longest(time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC))
		if got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}
