package window_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/privyseal/privyseal/broker/window"
	"github.com/privyseal/privyseal/rotation/schedule/scheduletest"
)

const year = 366 * 24 * 60

// inside says of each minute whether a window holds it.
func inside(y scheduletest.Walls, begins []scheduletest.Fired, duration time.Duration) []bool {
	inside := make([]bool, y.Minutes())
	until := 0
	for i := range inside {
		if len(begins) > 0 && begins[0].Minute == i {
			begins, until = begins[1:], i+int(duration/time.Minute)
		}
		inside[i] = i < until
	}
	return inside
}

func TestAYearOfManyZonesIsAsTheClockOnTheWallSays(t *testing.T) {
	random := rand.New(rand.NewPCG(22, 26))
	for _, zone := range []string{
		"UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca", "Asia/Kolkata",
		"America/Sao_Paulo", "Pacific/Chatham", "Europe/Dublin", "Antarctica/Troll",
	} {
		t.Run(zone, func(t *testing.T) {
			y := scheduletest.Look(t, time.Date(2018, 1, 1, 0, 0, 0, 0, time.UTC).AddDate(random.IntN(9), 0, 0), zone, year)
			for range 4 {
				simulate(t, y, zone, random)
			}
		})
	}
	t.Run("the day that Samoa left out", func(t *testing.T) {
		y := scheduletest.Look(t, time.Date(2011, 6, 1, 0, 0, 0, 0, time.UTC), "Pacific/Apia", year)
		for range 6 {
			simulate(t, y, "Pacific/Apia", random)
		}
	})
}

// simulate holds a calendar of a blackout, a maintenance window, or both
// against the oracle.
func simulate(t *testing.T, y scheduletest.Walls, zone string, random *rand.Rand) {
	t.Helper()
	var windows []window.Window
	open := slices.Repeat([]bool{true}, y.Minutes())
	kinds := [][]window.Kind{{window.Blackout}, {window.Maintenance}, {window.Blackout, window.Maintenance}}[random.IntN(3)]
	for _, kind := range kinds {
		b, duration := scheduletest.Random(random), time.Duration(1+random.IntN(6*60))*time.Minute
		windows = append(windows, window.Window{Kind: kind, Schedule: b.String(), Duration: duration, TimeZone: zone})
		for i, inside := range inside(y, y.Fired(b), duration) {
			open[i] = open[i] && inside == (kind == window.Maintenance)
		}
	}
	calendar := mustParse(t, windows...)
	// A window that began before the year is none that the oracle saw.
	first := 7 * 60
	name := fmt.Sprint(windows)
	for i, turn := first, first; i < len(open); i = turn {
		turn = i + 1
		for turn < len(open) && open[turn] == open[i] {
			turn++
		}
		if turn < len(open) {
			turnsAt(t, calendar, y.From.Add(time.Duration(i)*time.Minute), open[i], y.From.Add(time.Duration(turn)*time.Minute), name)
		}
		if t.Failed() {
			return
		}
	}
	for i := first; i < len(open); i += 1 + random.IntN(120) {
		if now := y.From.Add(time.Duration(i) * time.Minute); calendar.At(now).Open != open[i] {
			t.Fatalf("%s: at %s it is open: %t", name, now, !open[i])
		}
	}
}

func turnsAt(t *testing.T, calendar window.Calendar, from time.Time, open bool, want time.Time, name string) {
	t.Helper()
	if calendar.At(from).Open != open {
		t.Errorf("%s: at %s it is open: %t", name, from, !open)
		return
	}
	var turn time.Time
	if open {
		turn, _ = calendar.Closes(from)
	} else {
		turn, _ = calendar.Opens(from)
	}
	if !turn.Equal(want) {
		t.Errorf("%s: from %s, open %t, it turns at %s, not %s", name, from, open, turn, want)
	}
}
