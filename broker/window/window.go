// Package window says when restarts may happen.
//
// People write windows as they write cron: when one begins, in which zone, and
// how long it lasts. In a blackout nothing restarts; where there are
// maintenance windows, things restart in them alone; a blackout wins over a
// maintenance window.
//
// Clocks on walls are put forward and back, and then a cron expression can mean
// nothing, or two things. The rules, which the cron library by itself does not
// keep:
//
//   - A beginning that the clock skips is at the first instant after the gap.
//   - A beginning that the clock shows twice is the first of the two.
//   - The duration is elapsed time: four hours are four hours, whatever the
//     clock says at their end.
//   - A window holds its beginning and not its end, so that of two that adjoin
//     exactly one holds the instant between them.
//
// Everything here is pure. The zones are in the program, since its image has
// no files.
package window

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"
	_ "time/tzdata" // the image has no zones
)

var (
	// ErrWindow: a window is malformed. The error names the field.
	ErrWindow = errors.New("malformed window")

	// ErrNever: the windows leave no time at all, as far as is looked.
	ErrNever = errors.New("leave no time for restarts")
)

// Kind of a window.
type Kind string

// The kinds of windows.
const (
	// Blackout: nothing restarts in it.
	Blackout Kind = "Blackout"
	// Maintenance: where there is one, things restart in those alone.
	Maintenance Kind = "Maintenance"
)

// Limits of a window.
const (
	MinDuration = time.Minute
	MaxDuration = 31 * 24 * time.Hour

	maxSchedule = 128
	maxZone     = 64
)

// Window as people write it.
type Window struct {
	Kind Kind
	// Schedule of beginnings: minute, hour, day of month, month, day of week.
	Schedule string
	// Duration from MinDuration to MaxDuration.
	Duration time.Duration
	// TimeZone of the schedule, of the IANA database. Empty: UTC.
	TimeZone string
}

// String is the window's time: "0 18 * * 5" for 60h in Europe/Berlin.
func (w Window) String() string {
	duration := strings.TrimSuffix(strings.TrimSuffix(w.Duration.String(), "0s"), "h0m")
	if strings.HasSuffix(w.Duration.String(), "h0m0s") {
		duration += "h"
	}
	return fmt.Sprintf("%q for %s in %s", w.Schedule, duration, cmp.Or(w.TimeZone, "UTC"))
}

// parsed is a window that was checked.
type parsed struct {
	Window
	begins schedule
}

// parse checks a window. Errors wrap ErrWindow, and begin with the field.
func parse(w Window) (parsed, error) {
	if w.Kind != Blackout && w.Kind != Maintenance {
		return parsed{}, fmt.Errorf("kind %q: %w: want %s or %s", w.Kind, ErrWindow, Blackout, Maintenance)
	}
	if w.Duration < MinDuration || w.Duration > MaxDuration {
		return parsed{}, fmt.Errorf("duration %s: %w: want from %s to %s", w.Duration, ErrWindow, MinDuration, MaxDuration)
	}
	zone, err := loadZone(w.TimeZone)
	if err != nil {
		return parsed{}, err
	}
	begins, err := parseSchedule(w.Schedule, zone)
	if err != nil {
		return parsed{}, err
	}
	return parsed{Window: w, begins: begins}, nil
}

// loadZone refuses Local too, which is another zone on every machine.
func loadZone(name string) (*time.Location, error) {
	if name == "" {
		return time.UTC, nil
	}
	if name == "Local" || len(name) > maxZone {
		return nil, fmt.Errorf("timeZone %.*q: %w: want a zone of the IANA database, such as Europe/Berlin", maxZone, name, ErrWindow)
	}
	zone, err := time.LoadLocation(name)
	if err != nil {
		return nil, fmt.Errorf("timeZone %q: %w: there is no such zone; want one of the IANA database, such as Europe/Berlin", name, ErrWindow)
	}
	return zone, nil
}

// holds says whether the window holds an instant.
func (p parsed) holds(at time.Time) bool {
	_, holds := p.end(at)
	return holds
}

// end of the window that holds an instant: of several that overlap, of the one
// that began first.
func (p parsed) end(at time.Time) (end time.Time, holds bool) {
	begin, fires := p.begins.next(at.Add(-p.Duration))
	if !fires || begin.After(at) {
		return time.Time{}, false
	}
	return begin.Add(p.Duration), true
}
