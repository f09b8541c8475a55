package window

import (
	"fmt"
	"regexp"
	"time"

	"github.com/robfig/cron/v3"
)

// schedule is a cron expression in a zone.
//
// The library computes on a clock that is never put forward or back, which is
// UTC, and what it says is then read as a clock on a wall of the zone. Given
// the zone itself it would skip what the clock skips, and fire twice for what
// the clock shows twice.
type schedule struct {
	cron cron.Schedule
	zone *time.Location
}

// expression has five fields and nothing else: prefixes for zones have a field
// of their own here, and @every counts from whenever somebody asks. A field that
// is nothing but commas would be one that never matches.
var expression = regexp.MustCompile(`^` + field + `( +` + field + `){4}$`)

const field = `[-/,]*[0-9A-Za-z*?][-0-9A-Za-z*/,?]*`

// longest is how long the library searches for a beginning, and more than half
// of the time between two days that are furthest apart: 29 February 2096 and
// 2104.
const longest = 5

// parseSchedule reads a cron expression. Errors wrap ErrWindow.
func parseSchedule(text string, zone *time.Location) (schedule, error) {
	if len(text) > maxSchedule || !expression.MatchString(text) {
		return schedule{}, fmt.Errorf(`schedule %.*q: %w: want five fields, minute hour day-of-month month day-of-week, such as "0 18 * * 5"; the zone has the field timeZone`,
			maxSchedule, text, ErrWindow)
	}
	parser := cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow)
	parsed, err := parser.Parse(text)
	if err != nil {
		return schedule{}, fmt.Errorf("schedule %q: %w: %w", text, ErrWindow, err)
	}
	s := schedule{cron: parsed, zone: zone}
	if _, fires := s.next(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)); !fires {
		return schedule{}, fmt.Errorf("schedule %q: %w: it never begins; there is no such date", text, ErrWindow)
	}
	return s, nil
}

// next is the first beginning after an instant. fires is false where there is
// none.
func (s schedule) next(after time.Time) (begin time.Time, fires bool) {
	for wall := wallOf(after.In(s.zone)); ; {
		next := s.cron.Next(wall)
		if next.IsZero() {
			next = s.cron.Next(wall.AddDate(longest, 0, 0))
		}
		if next.IsZero() {
			return time.Time{}, false
		}
		// What the clock shows twice was at the first of the two, which may
		// have been before.
		if begin := instantOf(next, s.zone); begin.After(after) {
			return begin, true
		}
		wall = next
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
