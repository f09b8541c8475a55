package window_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/broker/window"
	"github.com/privyseal/privyseal/rotation/schedule"
)

// Rotations go by a Calendar too.
var _ schedule.Windows = window.Calendar{}

func blackout(schedule, duration, zone string) window.Window {
	return of(window.Blackout, schedule, duration, zone)
}

func maintenance(schedule, duration, zone string) window.Window {
	return of(window.Maintenance, schedule, duration, zone)
}

func of(kind window.Kind, schedule, duration, zone string) window.Window {
	length, err := time.ParseDuration(duration)
	if err != nil {
		panic(err)
	}
	return window.Window{Kind: kind, Schedule: schedule, Duration: length, TimeZone: zone}
}

func mustParse(t *testing.T, windows ...window.Window) window.Calendar {
	t.Helper()
	calendar, err := window.Parse(windows)
	if err != nil {
		t.Fatal(err)
	}
	return calendar
}

func at(t *testing.T, text string) time.Time {
	t.Helper()
	parsed, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

// Each row says how a calendar is at an instant, and when it turns next.
func TestTheNastyCases(t *testing.T) {
	const berlin, newYork, lordHowe = "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"
	for name, row := range map[string]struct {
		windows []window.Window
		at      string
		open    bool
		turns   string
	}{
		"without windows it is open, for ever": {nil, "2026-06-01T00:00:00Z", true, ""},

		"before the beginning": {[]window.Window{blackout("0 18 * * 5", "60h", berlin)}, "2026-06-05T15:59:59.999999999Z", true, "2026-06-05T16:00:00Z"},
		"at the beginning":     {[]window.Window{blackout("0 18 * * 5", "60h", berlin)}, "2026-06-05T16:00:00Z", false, "2026-06-08T04:00:00Z"},
		"before the end":       {[]window.Window{blackout("0 18 * * 5", "60h", berlin)}, "2026-06-08T03:59:59.999999999Z", false, "2026-06-08T04:00:00Z"},
		"at the end":           {[]window.Window{blackout("0 18 * * 5", "60h", berlin)}, "2026-06-08T04:00:00Z", true, "2026-06-12T16:00:00Z"},

		"a skipped beginning is the first instant after the gap": {[]window.Window{blackout("30 2 * * *", "1h", berlin)}, "2026-03-29T00:59:59Z", true, "2026-03-29T01:00:00Z"},
		"and lasts from there":                          {[]window.Window{blackout("30 2 * * *", "1h", berlin)}, "2026-03-29T01:00:00Z", false, "2026-03-29T02:00:00Z"},
		"several that are skipped begin there together": {[]window.Window{blackout("*/20 2 * * *", "10m", berlin)}, "2026-03-29T01:00:00Z", false, "2026-03-29T01:10:00Z"},
		"a gap of half an hour":                         {[]window.Window{blackout("15 2 * * *", "1h", lordHowe)}, "2026-10-03T15:29:59Z", true, "2026-10-03T15:30:00Z"},
		"a day that is left out":                        {[]window.Window{blackout("0 12 30 12 *", "1h", "Pacific/Apia")}, "2011-12-30T09:59:59Z", true, "2011-12-30T10:00:00Z"},
		"midnight that is left out":                     {[]window.Window{blackout("0 0 * * *", "1h", "America/Sao_Paulo")}, "2018-11-04T02:59:59Z", true, "2018-11-04T03:00:00Z"},

		"a doubled beginning is the first":       {[]window.Window{blackout("30 2 * * *", "20m", berlin)}, "2026-10-25T00:29:00Z", true, "2026-10-25T00:30:00Z"},
		"and not the second":                     {[]window.Window{blackout("30 2 * * *", "20m", berlin)}, "2026-10-25T01:30:00Z", true, "2026-10-26T01:30:00Z"},
		"the first hour of a change, from it":    {[]window.Window{blackout("0 1 * * *", "1h", newYork)}, "2026-11-01T05:00:00Z", false, "2026-11-01T06:00:00Z"},
		"four hours over a clock put forward":    {[]window.Window{blackout("0 0 29 3 *", "4h", berlin)}, "2026-03-28T23:00:00Z", false, "2026-03-29T03:00:00Z"},
		"four hours over a clock put back":       {[]window.Window{blackout("0 0 25 10 *", "4h", berlin)}, "2026-10-24T22:00:00Z", false, "2026-10-25T02:00:00Z"},
		"an offset of fifteen minutes":           {[]window.Window{blackout("0 9 * * *", "1h", "Asia/Kathmandu")}, "2026-06-01T03:15:00Z", false, "2026-06-01T04:15:00Z"},
		"the time zone that is not given is UTC": {[]window.Window{blackout("0 9 * * *", "1h", "")}, "2026-06-01T09:00:00Z", false, "2026-06-01T10:00:00Z"},

		"the last of a month that has 30 days":   {[]window.Window{blackout("0 0 31 * *", "24h", "UTC")}, "2026-04-30T12:00:00Z", true, "2026-05-31T00:00:00Z"},
		"over the end of a year":                 {[]window.Window{blackout("0 0 20 12 *", "384h", "UTC")}, "2026-12-31T23:59:59Z", false, "2027-01-05T00:00:00Z"},
		"29 February":                            {[]window.Window{blackout("0 0 29 2 *", "24h", "UTC")}, "2026-03-01T00:00:00Z", true, "2028-02-29T00:00:00Z"},
		"29 February over a century without one": {[]window.Window{blackout("0 0 29 2 *", "24h", "UTC")}, "2096-03-01T00:00:00Z", true, "2104-02-29T00:00:00Z"},
		"the 13th or a Friday":                   {[]window.Window{blackout("0 0 13 * 5", "24h", "UTC")}, "2026-06-10T00:00:00Z", true, "2026-06-12T00:00:00Z"},

		"blackouts that adjoin are one":  {[]window.Window{blackout("0 8 * * *", "1h", "UTC"), blackout("0 9 * * *", "1h", "UTC")}, "2026-06-01T08:30:00Z", false, "2026-06-01T10:00:00Z"},
		"so are those that overlap":      {[]window.Window{blackout("0 8 * * *", "90m", "UTC"), blackout("0 9 * * *", "1h", "UTC")}, "2026-06-01T08:30:00Z", false, "2026-06-01T10:00:00Z"},
		"so is one that overlaps itself": {[]window.Window{blackout("0 8-11 * * *", "90m", "UTC")}, "2026-06-01T08:30:00Z", false, "2026-06-01T12:30:00Z"},
		"a minute is left between two":   {[]window.Window{blackout("0 8 * * *", "1h", "UTC"), blackout("1 9 * * *", "1h", "UTC")}, "2026-06-01T08:30:00Z", false, "2026-06-01T09:00:00Z"},

		"outside of maintenance":             {[]window.Window{maintenance("0 2 * * *", "2h", "UTC")}, "2026-06-01T12:00:00Z", false, "2026-06-02T02:00:00Z"},
		"inside of maintenance":              {[]window.Window{maintenance("0 2 * * *", "2h", "UTC")}, "2026-06-02T02:00:00Z", true, "2026-06-02T04:00:00Z"},
		"at the end of maintenance":          {[]window.Window{maintenance("0 2 * * *", "2h", "UTC")}, "2026-06-02T04:00:00Z", false, "2026-06-03T02:00:00Z"},
		"maintenance that goes on elsewhere": {[]window.Window{maintenance("0 2 * * *", "2h", "UTC"), maintenance("0 3 * * *", "2h", "UTC")}, "2026-06-02T02:00:00Z", true, "2026-06-02T05:00:00Z"},
		"a blackout wins over maintenance":   {[]window.Window{maintenance("0 2 * * *", "2h", "UTC"), blackout("0 3 * * *", "2h", "UTC")}, "2026-06-02T03:00:00Z", false, "2026-06-03T02:00:00Z"},
		"and ends it early":                  {[]window.Window{maintenance("0 2 * * *", "2h", "UTC"), blackout("0 3 * * *", "2h", "UTC")}, "2026-06-02T02:00:00Z", true, "2026-06-02T03:00:00Z"},
		"or has it begin late":               {[]window.Window{maintenance("0 2 * * *", "2h", "UTC"), blackout("0 1 * * *", "2h", "UTC")}, "2026-06-02T01:00:00Z", false, "2026-06-02T03:00:00Z"},
		"maintenance that a freeze takes":    {[]window.Window{maintenance("0 2 * * 0", "2h", "UTC"), blackout("0 0 20 12 *", "384h", "UTC")}, "2026-12-21T00:00:00Z", false, "2027-01-10T02:00:00Z"},
	} {
		t.Run(name, func(t *testing.T) {
			calendar, now := mustParse(t, row.windows...), at(t, row.at)
			if verdict := calendar.At(now); verdict.Open != row.open || verdict.Why == "" {
				t.Errorf("open is %t (%s)", verdict.Open, verdict.Why)
			}
			if got := turns(t, calendar, now, row.open); got != row.turns {
				t.Errorf("it turns at %q, not %q", got, row.turns)
			}
		})
	}
}

// turns is when a calendar opens or closes next, or "" where it does not.
func turns(t *testing.T, calendar window.Calendar, now time.Time, open bool) string {
	t.Helper()
	if open {
		if opens, err := calendar.Opens(now); err != nil || !opens.Equal(now) {
			t.Errorf("it is open, and opens at %s, %v", opens, err)
		}
		closes, ever := calendar.Closes(now)
		if !ever {
			return ""
		}
		return closes.UTC().Format(time.RFC3339)
	}
	if closes, ever := calendar.Closes(now); !ever || !closes.Equal(now) {
		t.Errorf("it is closed, and closes at %s, %t", closes, ever)
	}
	opens, err := calendar.Opens(now)
	if err != nil {
		t.Fatal(err)
	}
	return opens.UTC().Format(time.RFC3339)
}

func TestWhyNamesTheWindowThatDecides(t *testing.T) {
	windows := []window.Window{maintenance("0 2 * * *", "2h", "UTC"), blackout("0 3 * * *", "90m", "")}
	for when, want := range map[string]string{
		"2026-06-02T02:00:00Z": `spec.windows[0] is open now ("0 2 * * *" for 2h in UTC)`,
		"2026-06-02T03:00:00Z": `spec.windows[1] is a blackout now ("0 3 * * *" for 1h30m in UTC)`,
		"2026-06-02T12:00:00Z": "none of the maintenance windows in spec.windows is open now",
	} {
		if why := mustParse(t, windows...).At(at(t, when)).Why; why != want {
			t.Errorf("at %s it says %s", when, why)
		}
	}
}

func TestWindowsThatLeaveNoTimeAreFound(t *testing.T) {
	now := at(t, "2026-06-02T12:00:00Z")
	for name, windows := range map[string][]window.Window{
		"one that never ends":                   {blackout("0 * * * *", "1h", "UTC")},
		"one that begins each minute":           {blackout("* * * * *", "1m", "UTC")},
		"two that take turns":                   {blackout("0 0-23/2 * * *", "1h", "UTC"), blackout("0 1-23/2 * * *", "1h", "UTC")},
		"maintenance inside of blackouts":       {maintenance("0 2 * * *", "2h", "UTC"), blackout("30 1 * * *", "3h", "UTC")},
		"maintenance on a rare day in a freeze": {maintenance("0 2 29 2 *", "2h", "UTC"), blackout("0 0 1 2 *", "744h", "UTC")},
	} {
		t.Run(name, func(t *testing.T) {
			opens, err := mustParse(t, windows...).Opens(now)
			if !errors.Is(err, window.ErrNever) || !strings.Contains(err.Error(), "spec.windows") {
				t.Errorf("it opens at %s, %v", opens, err)
			}
		})
	}
}

func TestBadWindowsAreRefusedByTheirField(t *testing.T) {
	good := blackout("0 18 * * 5", "60h", "Europe/Berlin")
	for _, row := range []struct {
		name   string
		spoil  func(*window.Window)
		refuse string
	}{
		{"no kind", func(w *window.Window) { w.Kind = "" }, "spec.windows[1].kind"},
		{"another kind", func(w *window.Window) { w.Kind = "Freeze" }, "spec.windows[1].kind"},
		{"no schedule", func(w *window.Window) { w.Schedule = "" }, "spec.windows[1].schedule"},
		{"four fields", func(w *window.Window) { w.Schedule = "0 18 * *" }, "spec.windows[1].schedule"},
		{"six fields", func(w *window.Window) { w.Schedule = "0 0 18 * * 5" }, "spec.windows[1].schedule"},
		{"a zone in the schedule", func(w *window.Window) { w.Schedule = "TZ=UTC 0 18 * * 5" }, "spec.windows[1].schedule"},
		{"a cron zone in the schedule", func(w *window.Window) { w.Schedule = "CRON_TZ=UTC 0 18 * * 5" }, "spec.windows[1].schedule"},
		{"a zone and nothing else", func(w *window.Window) { w.Schedule = "TZ=0" }, "spec.windows[1].schedule"},
		{"every", func(w *window.Window) { w.Schedule = "@every 24h" }, "spec.windows[1].schedule"},
		{"at a reboot", func(w *window.Window) { w.Schedule = "@reboot" }, "spec.windows[1].schedule"},
		{"daily by name", func(w *window.Window) { w.Schedule = "@daily" }, "spec.windows[1].schedule"},
		{"minute 60", func(w *window.Window) { w.Schedule = "60 18 * * 5" }, "spec.windows[1].schedule"},
		{"day 7", func(w *window.Window) { w.Schedule = "0 18 * * 7" }, "spec.windows[1].schedule"},
		{"a step of none", func(w *window.Window) { w.Schedule = "*/0 18 * * 5" }, "spec.windows[1].schedule"},
		{"30 February", func(w *window.Window) { w.Schedule = "0 18 30 2 *" }, "spec.windows[1].schedule"},
		{"31 April and June", func(w *window.Window) { w.Schedule = "0 18 31 4,6 *" }, "spec.windows[1].schedule"},
		{"a list of nothing", func(w *window.Window) { w.Schedule = ", * * * *" }, "spec.windows[1].schedule"},
		{"a long one", func(w *window.Window) { w.Schedule = strings.Repeat("0,", 99) + "0 * * * *" }, "spec.windows[1].schedule"},
		{"no duration", func(w *window.Window) { w.Duration = 0 }, "spec.windows[1].duration"},
		{"less than none", func(w *window.Window) { w.Duration = -time.Hour }, "spec.windows[1].duration"},
		{"half a minute", func(w *window.Window) { w.Duration = 30 * time.Second }, "spec.windows[1].duration"},
		{"a year", func(w *window.Window) { w.Duration = 366 * 24 * time.Hour }, "spec.windows[1].duration"},
		{"an unknown zone", func(w *window.Window) { w.TimeZone = "Europe/Atlantis" }, "spec.windows[1].timeZone"},
		{"the machine's zone", func(w *window.Window) { w.TimeZone = "Local" }, "spec.windows[1].timeZone"},
		{"a way out of the zones", func(w *window.Window) { w.TimeZone = "../../etc/passwd" }, "spec.windows[1].timeZone"},
		{"a long zone", func(w *window.Window) { w.TimeZone = strings.Repeat("Europe/", 99) }, "spec.windows[1].timeZone"},
	} {
		t.Run(row.name, func(t *testing.T) {
			bad := good
			row.spoil(&bad)
			_, err := window.Parse([]window.Window{good, bad})
			if !errors.Is(err, window.ErrWindow) || !strings.HasPrefix(fmt.Sprint(err), row.refuse+" ") {
				t.Errorf("it says %v", err)
			}
		})
	}
	_, err := window.Parse([]window.Window{{}, good, {}})
	if err == nil || !strings.Contains(err.Error(), "spec.windows[0].kind") || !strings.Contains(err.Error(), "spec.windows[2].kind") {
		t.Errorf("of two bad windows it says %v", err)
	}
}

// A machine without zones is what the image is: the program brings its own.
func TestZonesAreInTheProgram(t *testing.T) {
	t.Setenv("ZONEINFO", t.TempDir())
	if _, err := window.Parse([]window.Window{blackout("0 0 * * *", "1h", "Antarctica/Troll")}); err != nil {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	for _, schedule := range []string{"0 18 * * 5", "*/5 9-17 1,15 JAN-MAR MON", "TZ=0", "@every 1s", "0 0 30 2 *", "1-59/9223372036854775807 * * * *", ", , , , ,"} {
		f.Add(schedule, int64(time.Hour), "Europe/Berlin", int64(1774746000))
	}
	f.Fuzz(func(t *testing.T, schedule string, duration int64, zone string, seconds int64) {
		calendar, err := window.Parse([]window.Window{{Kind: window.Maintenance, Schedule: schedule, Duration: time.Duration(duration), TimeZone: zone}})
		if err != nil {
			if !errors.Is(err, window.ErrWindow) {
				t.Fatal(err)
			}
			return
		}
		from := time.Unix(seconds%(1<<32), 0)
		opens, err := calendar.Opens(from)
		if err != nil || opens.Before(from) || !calendar.At(opens).Open {
			t.Fatalf("from %s a maintenance window opens at %s, %v", from, opens, err)
		}
		if opens.After(from) && calendar.At(opens.Add(-time.Nanosecond)).Open {
			t.Fatalf("it is open before it opens at %s", opens)
		}
	})
}
