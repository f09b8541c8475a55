package window_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/broker/window"
)

// The oracle looks at a clock on a wall, every minute of a year, and knows
// nothing of cron beyond which minutes are meant. It is told in sets what the
// calendar is told as text.
type beginnings struct {
	minutes, hours, days, months, weekdays []int // nil: all
}

func (b beginnings) meant(wall wall) bool {
	in := func(set []int, value int8) bool { return set == nil || slices.Contains(set, int(value)) }
	if !in(b.minutes, wall.minute) || !in(b.hours, wall.hour) || !in(b.months, wall.month) {
		return false
	}
	day, weekday := in(b.days, wall.day), in(b.weekdays, wall.weekday)
	if b.days != nil && b.weekdays != nil {
		return day || weekday
	}
	return day && weekday
}

func (b beginnings) String() string {
	var fields []string
	for _, set := range [][]int{b.minutes, b.hours, b.days, b.months, b.weekdays} {
		var values []string
		for _, value := range set {
			values = append(values, strconv.Itoa(value))
		}
		if set == nil {
			values = []string{"*"}
		}
		fields = append(fields, strings.Join(values, ","))
	}
	return strings.Join(fields, " ")
}

// wall is what a clock on a wall shows.
type wall struct {
	minutes                           int64 // since 1970, as if it were UTC
	minute, hour, day, month, weekday int8
}

// wallOf is what it shows so many minutes after 1970, given what it showed
// before: the date is looked up when the day is another.
func wallOf(minutes int64, before wall) wall {
	now := before
	now.minutes, now.minute, now.hour = minutes, int8(minutes%60), int8(minutes/60%24)
	if minutes/(24*60) != before.minutes/(24*60) {
		date := time.Unix(minutes*60, 0).UTC()
		now.day, now.month, now.weekday = int8(date.Day()), int8(date.Month()), int8(date.Weekday())
	}
	return now
}

// year is what a clock on a wall shows at each minute of it.
type year struct {
	from  time.Time
	walls []wall
}

func yearOf(t *testing.T, from time.Time, zone string) year {
	t.Helper()
	location, err := time.LoadLocation(zone)
	if err != nil {
		t.Fatal(err)
	}
	y, last := year{from: from}, wall{}
	for i := range 366 * 24 * 60 {
		at := from.Add(time.Duration(i) * time.Minute)
		_, offset := at.In(location).Zone()
		last = wallOf((at.Unix()+int64(offset))/60, last)
		y.walls = append(y.walls, last)
	}
	return y
}

// begins are the minutes at which a window begins: what is meant and shown for
// the first time, or was left out just before.
func (y year) begins(b beginnings) []int {
	var begins []int
	latest := y.walls[0].minutes - 1
	for i, now := range y.walls {
		begin := false
		for latest < now.minutes {
			latest++
			shown := now
			if latest < now.minutes { // left out
				shown = wallOf(latest, wall{})
			}
			begin = begin || b.meant(shown)
		}
		if begin {
			begins = append(begins, i)
		}
	}
	return begins
}

// inside says of each minute whether a window holds it.
func (y year) inside(b beginnings, duration time.Duration) []bool {
	inside := make([]bool, len(y.walls))
	until := 0
	begins := y.begins(b)
	for i := range inside {
		if len(begins) > 0 && begins[0] == i {
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
			y := yearOf(t, time.Date(2018, 1, 1, 0, 0, 0, 0, time.UTC).AddDate(random.IntN(9), 0, 0), zone)
			for range 4 {
				simulate(t, y, zone, random)
			}
		})
	}
	t.Run("the day that Samoa left out", func(t *testing.T) {
		y := yearOf(t, time.Date(2011, 6, 1, 0, 0, 0, 0, time.UTC), "Pacific/Apia")
		for range 6 {
			simulate(t, y, "Pacific/Apia", random)
		}
	})
}

// simulate holds a calendar of a blackout, a maintenance window, or both
// against the oracle.
func simulate(t *testing.T, y year, zone string, random *rand.Rand) {
	t.Helper()
	var windows []window.Window
	open := slices.Repeat([]bool{true}, len(y.walls))
	kinds := [][]window.Kind{{window.Blackout}, {window.Maintenance}, {window.Blackout, window.Maintenance}}[random.IntN(3)]
	for _, kind := range kinds {
		b, duration := randomBeginnings(random), time.Duration(1+random.IntN(6*60))*time.Minute
		windows = append(windows, window.Window{Kind: kind, Schedule: b.String(), Duration: duration, TimeZone: zone})
		for i, inside := range y.inside(b, duration) {
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
			turnsAt(t, calendar, y.from.Add(time.Duration(i)*time.Minute), open[i], y.from.Add(time.Duration(turn)*time.Minute), name)
		}
		if t.Failed() {
			return
		}
	}
	for i := first; i < len(open); i += 1 + random.IntN(120) {
		if now := y.from.Add(time.Duration(i) * time.Minute); calendar.At(now).Open != open[i] {
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

// randomBeginnings are some minutes, with a liking for the small hours, when
// clocks are changed.
func randomBeginnings(random *rand.Rand) beginnings {
	some := func(least, most, count int) []int {
		set := map[int]bool{}
		for range 1 + random.IntN(count) {
			set[least+random.IntN(most-least+1)] = true
		}
		var values []int
		for value := range most + 1 {
			if set[value] {
				values = append(values, value)
			}
		}
		return values
	}
	b := beginnings{minutes: some(0, 59, 3), hours: some(0, 4, 3)}
	if random.IntN(8) == 0 {
		b.minutes = nil
	}
	if random.IntN(4) == 0 {
		b.hours = some(0, 23, 4)
	}
	if random.IntN(3) == 0 {
		b.days = some(1, 31, 5)
	}
	if random.IntN(4) == 0 {
		b.months = some(1, 12, 6)
	}
	if random.IntN(3) == 0 {
		b.weekdays = some(0, 6, 3)
	}
	return b
}
