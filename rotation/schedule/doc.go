// Package schedule says when things are due that people write with cron.
//
// Cron says what a clock on a wall shows, and clocks on walls are put forward
// and back. Then an expression can mean nothing, or two things. The rules, which
// the cron library by itself does not keep:
//
//   - A time that the clock skips is at the first instant after the gap. Several
//     that it skips are one.
//   - A time that the clock shows twice is the first of the two.
//
// A run of a Plan has an id, which is what the wall shows: 2026-10-25T02:30. It
// is the same whoever computes it and whenever, so whether a run was is known by
// its id alone, and a run that was is never due again.
//
// Everything here is pure. The zones are in the program, since its image has no
// files.
package schedule

import (
	"errors"
	"fmt"
	"time"
	_ "time/tzdata" // the image has no zones
)

// ErrSchedule: a schedule is malformed. The error begins with the field.
var ErrSchedule = errors.New("unusable schedule")

const maxZone = 64

// zoneOf refuses Local too, which is another zone on every machine.
func zoneOf(name string) (*time.Location, error) {
	if name == "" {
		return time.UTC, nil
	}
	if name == "Local" || len(name) > maxZone {
		return nil, fmt.Errorf("timeZone %.*q: %w: want a zone of the IANA database, such as Europe/Berlin", maxZone, name, ErrSchedule)
	}
	zone, err := time.LoadLocation(name)
	if err != nil {
		return nil, fmt.Errorf("timeZone %q: %w: there is no such zone; want one of the IANA database, such as Europe/Berlin", name, ErrSchedule)
	}
	return zone, nil
}
