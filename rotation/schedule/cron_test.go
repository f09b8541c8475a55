package schedule_test

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/rotation/schedule"
	"github.com/privyseal/privyseal/rotation/schedule/scheduletest"
)

func at(t *testing.T, text string) time.Time {
	t.Helper()
	parsed, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func TestARunIsCalledWhatTheWallShows(t *testing.T) {
	const berlin = "Europe/Berlin"
	for name, row := range map[string]struct {
		text, zone, after string
		run, when         string
	}{
		"a plain one":                   {"0 3 * * 0", berlin, "2026-06-01T00:00:00Z", "2026-06-07T03:00", "2026-06-07T01:00:00Z"},
		"one that the clock skips":      {"30 2 * * *", berlin, "2026-03-28T12:00:00Z", "2026-03-29T02:30", "2026-03-29T01:00:00Z"},
		"the day after":                 {"30 2 * * *", berlin, "2026-03-29T01:00:00Z", "2026-03-30T02:30", "2026-03-30T00:30:00Z"},
		"several that it skips are one": {"*/20 2 * * *", berlin, "2026-03-28T12:00:00Z", "2026-03-29T02:00", "2026-03-29T01:00:00Z"},
		"one that it shows twice":       {"30 2 * * *", berlin, "2026-10-24T12:00:00Z", "2026-10-25T02:30", "2026-10-25T00:30:00Z"},
		"is not there again":            {"30 2 * * *", berlin, "2026-10-25T00:30:00Z", "2026-10-26T02:30", "2026-10-26T01:30:00Z"},
		"nor between the two":           {"*/20 2 * * *", berlin, "2026-10-25T00:59:00Z", "2026-10-26T02:00", "2026-10-26T01:00:00Z"},
		"without a zone it is UTC":      {"0 3 * * *", "", "2026-06-01T03:00:00Z", "2026-06-02T03:00", "2026-06-02T03:00:00Z"},
		"over a century without one":    {"0 0 29 2 *", "", "2096-03-01T00:00:00Z", "2104-02-29T00:00", "2104-02-29T00:00:00Z"},
	} {
		t.Run(name, func(t *testing.T) {
			cron, err := schedule.ParseCron(row.text, row.zone)
			if err != nil {
				t.Fatal(err)
			}
			run, fires := cron.Next(at(t, row.after))
			if !fires || run.ID != row.run || !run.At.Equal(at(t, row.when)) {
				t.Errorf("the run is %+v, %t", run, fires)
			}
		})
	}
}

// The oracle is no cron: it looks at the clock on the wall.
func TestAYearOfRunsIsAsTheClockOnTheWallSays(t *testing.T) {
	const year = 366 * 24 * 60
	random := rand.New(rand.NewPCG(6, 1))
	for _, zone := range []string{"Europe/Berlin", "Australia/Lord_Howe", "Africa/Casablanca", "Antarctica/Troll"} {
		t.Run(zone, func(t *testing.T) {
			walls := scheduletest.Look(t, time.Date(2018+random.IntN(9), 1, 1, 0, 0, 0, 0, time.UTC), zone, year)
			for range 2 {
				times := scheduletest.Random(random)
				cron, err := schedule.ParseCron(times.String(), zone)
				if err != nil {
					if len(walls.Fired(times)) > 0 { // 31 April is none
						t.Fatal(err)
					}
					continue
				}
				compare(t, walls, times, cron, random)
			}
		})
	}
}

func compare(t *testing.T, walls scheduletest.Walls, times scheduletest.Times, cron schedule.Cron, random *rand.Rand) {
	t.Helper()
	runs := walls.Fired(times)
	instant := func(minute int) time.Time { return walls.From.Add(time.Duration(minute) * time.Minute) }
	after := walls.From.Add(-time.Nanosecond)
	for i, want := range runs {
		run, fires := cron.Next(after)
		if !fires || run.ID != want.ID || !run.At.Equal(instant(want.Minute)) {
			t.Fatalf("%s: after %s the run is %+v, and the wall says %s at %s", times, after, run, want.ID, instant(want.Minute))
		}
		if after = run.At; i+1 == len(runs) || random.IntN(50) > 0 {
			continue
		}
		// From anywhere before, and at any time until the next.
		from, until := instant(random.IntN(want.Minute+1)).Add(-1), instant(want.Minute+random.IntN(runs[i+1].Minute-want.Minute))
		if last, fires := cron.Last(from, until); !fires || last != run {
			t.Fatalf("%s: between %s and %s the last run is %+v, and the wall says %+v", times, from, until, last, run)
		}
		if last, fires := cron.Last(run.At, until); fires {
			t.Fatalf("%s: between %s and %s there is a run: %+v", times, run.At, until, last)
		}
	}
}

func FuzzParseCron(f *testing.F) {
	for _, text := range []string{"0 18 * * 5", "*/5 9-17 1,15 JAN-MAR MON", "TZ=0", "@every 1s", "0 0 30 2 *", "1-59/9223372036854775807 * * * *", ", , , , ,", "0 0 29 2 *"} {
		f.Add(text, "Europe/Berlin", int64(1774746000), int64(3600))
	}
	f.Fuzz(func(t *testing.T, text, zone string, seconds, span int64) {
		cron, err := schedule.ParseCron(text, zone)
		if err != nil {
			if !errors.Is(err, schedule.ErrSchedule) || !strings.HasPrefix(err.Error(), "schedule ") && !strings.HasPrefix(err.Error(), "timeZone ") {
				t.Fatal(err)
			}
			return
		}
		after := time.Unix(seconds%(1<<32), 0)
		until := after.Add(time.Duration(span%(1<<28)) * time.Second)
		next, fires := cron.Next(after)
		if !fires || !next.At.After(after) {
			t.Fatalf("after %s the run is %+v, %t", after, next, fires)
		}
		last, between := cron.Last(after, until)
		if between != !next.At.After(until) {
			t.Fatalf("the next after %s is at %s, and until %s there is one: %t", after, next.At, until, between)
		}
		if !between {
			return
		}
		if later, _ := cron.Next(last.At); last.At.After(until) || !later.At.After(until) {
			t.Fatalf("the last until %s is at %s, and the one after it at %s", until, last.At, later.At)
		}
	})
}
