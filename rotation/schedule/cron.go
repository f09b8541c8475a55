package schedule

import (
	"fmt"
	"regexp"
	"time"

	"github.com/robfig/cron/v3"
)

// Cron is a cron expression on the wall of a zone.
//
// The library computes on a clock that is never put forward or back, which is
// UTC, and what it says is then read as a clock on a wall of the zone. Given
// the zone itself it would skip what the clock skips, and fire twice for what
// the clock shows twice.
type Cron struct {
	cron cron.Schedule
	zone *time.Location
}

// Run is one time at which a Cron fires.
type Run struct {
	// ID is what the wall shows, or would show but for the gap:
	// 2026-10-25T02:30.
	ID string
	// At is the instant.
	At time.Time
}

const (
	idLayout    = "2006-01-02T15:04"
	maxSchedule = 128
)

// expression has five fields and nothing else: prefixes for zones have a field
// of their own here, and @every counts from whenever somebody asks. A field that
// is nothing but commas would be one that never matches.
var expression = regexp.MustCompile(`^` + field + `( +` + field + `){4}$`)

const field = `[-/,]*[0-9A-Za-z*?][-0-9A-Za-z*/,?]*`

// longest is how long the library searches for a time, and more than half of
// that between two days that are furthest apart: 29 February 2096 and 2104.
const longest = 5

// ParseCron reads a cron expression: minute, hour, day of month, month, day of
// week. The zone is one of the IANA database; "" is UTC. Errors wrap
// ErrSchedule, and begin with the field: schedule or timeZone.
func ParseCron(text, timeZone string) (Cron, error) {
	zone, err := zoneOf(timeZone)
	if err != nil {
		return Cron{}, err
	}
	if len(text) > maxSchedule || !expression.MatchString(text) {
		return Cron{}, fmt.Errorf(`schedule %.*q: %w: want five fields, minute hour day-of-month month day-of-week, such as "0 18 * * 5"; the zone has the field timeZone`,
			maxSchedule, text, ErrSchedule)
	}
	parser := cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow)
	parsed, err := parser.Parse(text)
	if err != nil {
		return Cron{}, fmt.Errorf("schedule %q: %w: %w", text, ErrSchedule, err)
	}
	c := Cron{cron: parsed, zone: zone}
	if _, fires := c.Next(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)); !fires {
		return Cron{}, fmt.Errorf("schedule %q: %w: it never begins; there is no such date", text, ErrSchedule)
	}
	return c, nil
}

// Next is the first run after an instant. fires is false where there is none.
func (c Cron) Next(after time.Time) (run Run, fires bool) {
	for wall := wallOf(after.In(c.zone)); ; {
		next := c.cron.Next(wall)
		if next.IsZero() {
			next = c.cron.Next(wall.AddDate(longest, 0, 0))
		}
		if next.IsZero() {
			return Run{}, false
		}
		// What the clock shows twice was at the first of the two, which may
		// have been before.
		if at := instantOf(next, c.zone); at.After(after) {
			return Run{ID: next.Format(idLayout), At: at}, true
		}
		wall = next
	}
}

// Last is the last run after one instant and not after another. fires is false
// where there is none between them.
func (c Cron) Last(after, until time.Time) (run Run, fires bool) {
	by := func(from time.Time) (Run, bool) {
		next, fires := c.Next(from)
		return next, fires && !next.At.After(until)
	}
	run, fires = by(after)
	if !fires {
		return Run{}, false
	}
	// Mostly it is the only one. Where it is not, there may be thousands, so the
	// time is halved until there is no more than one in it: runs are whole
	// seconds apart.
	for high := until; ; {
		later, fires := by(run.At)
		if !fires {
			return run, true
		}
		for run = later; high.Sub(run.At) > time.Second; {
			middle := run.At.Add(high.Sub(run.At) / 2)
			if later, fires = by(middle); fires {
				run = later
				break
			}
			high = middle
		}
	}
}

// wallOf is what the clock on a wall shows at an instant, as if it were UTC.
func wallOf(at time.Time) time.Time {
	return time.Date(at.Year(), at.Month(), at.Day(), at.Hour(), at.Minute(), at.Second(), at.Nanosecond(), time.UTC)
}

// instantOf is when the clock on a wall of the zone first shows what the wall
// says, or the first instant after the gap in which it would have.
func instantOf(wall time.Time, zone *time.Location) time.Time {
	if zone == time.UTC {
		return wall
	}
	// No zone is further than 26 hours from another.
	for at := wall.Add(-26 * time.Hour).In(zone); ; {
		begin, end := at.ZoneBounds()
		_, offset := at.Zone()
		candidate := wall.Add(-time.Duration(offset) * time.Second)
		if !begin.IsZero() && candidate.Before(begin) {
			return begin.UTC()
		}
		if end.IsZero() || candidate.Before(end) {
			return candidate
		}
		at = end
	}
}
