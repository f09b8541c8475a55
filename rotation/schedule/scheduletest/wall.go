// Package scheduletest is an oracle for schedules. It looks at a clock on a wall,
// minute by minute, and knows nothing of cron beyond which minutes are meant: it
// is told in sets what a schedule is told as text.
package scheduletest

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Times are minutes that are meant; nil means all.
type Times struct {
	Minutes, Hours, Days, Months, Weekdays []int
}

func (t Times) meant(wall wall) bool {
	in := func(set []int, value int8) bool { return set == nil || slices.Contains(set, int(value)) }
	if !in(t.Minutes, wall.minute) || !in(t.Hours, wall.hour) || !in(t.Months, wall.month) {
		return false
	}
	day, weekday := in(t.Days, wall.day), in(t.Weekdays, wall.weekday)
	if t.Days != nil && t.Weekdays != nil {
		return day || weekday
	}
	return day && weekday
}

// String is the cron expression.
func (t Times) String() string {
	var fields []string
	for _, set := range [][]int{t.Minutes, t.Hours, t.Days, t.Months, t.Weekdays} {
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

// Walls are what a clock on a wall shows at each minute from one on.
type Walls struct {
	From  time.Time
	walls []wall
}

// Look at a clock of a zone for so many minutes.
func Look(t testing.TB, from time.Time, zone string, minutes int) Walls {
	t.Helper()
	location, err := time.LoadLocation(zone)
	if err != nil {
		t.Fatal(err)
	}
	w, last := Walls{From: from}, wall{}
	for i := range minutes {
		at := from.Add(time.Duration(i) * time.Minute)
		_, offset := at.In(location).Zone()
		last = wallOf((at.Unix()+int64(offset))/60, last)
		w.walls = append(w.walls, last)
	}
	return w
}

// Minutes that were looked at.
func (w Walls) Minutes() int { return len(w.walls) }

// Fired is a minute at which what is meant is shown for the first time, or was
// left out just before.
type Fired struct {
	Minute int
	// ID is the wall's time that was meant: the first of those left out.
	ID string
}

// Fired are the minutes at which Times fire.
func (w Walls) Fired(times Times) []Fired {
	var all []Fired
	latest := w.walls[0].minutes - 1
	for i, now := range w.walls {
		id := ""
		for latest < now.minutes {
			latest++
			shown := now
			if latest < now.minutes { // left out
				shown = wallOf(latest, wall{})
			}
			if id == "" && times.meant(shown) {
				id = time.Unix(latest*60, 0).UTC().Format("2006-01-02T15:04")
			}
		}
		if id != "" {
			all = append(all, Fired{Minute: i, ID: id})
		}
	}
	return all
}

// Random Times, with a liking for the small hours, when clocks are changed.
func Random(random *rand.Rand) Times {
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
	t := Times{Minutes: some(0, 59, 3), Hours: some(0, 4, 3)}
	if random.IntN(8) == 0 {
		t.Minutes = nil
	}
	if random.IntN(4) == 0 {
		t.Hours = some(0, 23, 4)
	}
	if random.IntN(3) == 0 {
		t.Days = some(1, 31, 5)
	}
	if random.IntN(4) == 0 {
		t.Months = some(1, 12, 6)
	}
	if random.IntN(3) == 0 {
		t.Weekdays = some(0, 6, 3)
	}
	return t
}
