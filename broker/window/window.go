// Package window says when restarts may happen.
//
// People write windows as they write cron: when one begins, in which zone, and
// how long it lasts. In a blackout nothing restarts; where there are
// maintenance windows, things restart in them alone; a blackout wins over a
// maintenance window.
//
// What a beginning means on the days when clocks are put forward and back is
// said in rotation/schedule. Beyond that:
//
//   - The duration is elapsed time: four hours are four hours, whatever the
//     clock says at their end.
//   - A window holds its beginning and not its end, so that of two that adjoin
//     exactly one holds the instant between them.
//
// Everything here is pure.
package window

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/privyseal/privyseal/rotation/schedule"
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
	begins schedule.Cron
}

// parse checks a window. Errors wrap ErrWindow, and begin with the field.
func parse(w Window) (parsed, error) {
	if w.Kind != Blackout && w.Kind != Maintenance {
		return parsed{}, fmt.Errorf("kind %q: %w: want %s or %s", w.Kind, ErrWindow, Blackout, Maintenance)
	}
	if w.Duration < MinDuration || w.Duration > MaxDuration {
		return parsed{}, fmt.Errorf("duration %s: %w: want from %s to %s", w.Duration, ErrWindow, MinDuration, MaxDuration)
	}
	begins, err := schedule.ParseCron(w.Schedule, w.TimeZone)
	if err != nil {
		return parsed{}, fmt.Errorf("%w (%w)", err, ErrWindow)
	}
	return parsed{Window: w, begins: begins}, nil
}

// holds says whether the window holds an instant.
func (p parsed) holds(at time.Time) bool {
	_, holds := p.end(at)
	return holds
}

// end of the window that holds an instant: of several that overlap, of the one
// that began first.
func (p parsed) end(at time.Time) (end time.Time, holds bool) {
	begin, fires := p.begins.Next(at.Add(-p.Duration))
	if !fires || begin.At.After(at) {
		return time.Time{}, false
	}
	return begin.At.Add(p.Duration), true
}
