package window

import (
	"fmt"
	"time"
)

const (
	// horizon is how far a calendar looks: past the rarest date there is.
	horizon = 10 * 366 * 24 * time.Hour
	// maxSteps bounds the windows that a calendar looks at: those of ten years
	// if one begins each hour, and of two months if one does each minute.
	maxSteps = 100_000
)

// Calendar is a list of windows, checked. The zero value has none, and is
// always open.
type Calendar struct {
	windows     []parsed
	maintenance bool // there is a maintenance window
}

// Parse checks windows. Errors wrap ErrWindow, tell of every malformed window,
// and name the field as an Environment has it: spec.windows[1].schedule.
func Parse(windows []Window) (Calendar, error) {
	var c Calendar
	var problem error
	for i, window := range windows {
		parsed, err := parse(window)
		if err != nil {
			problem = also(problem, fmt.Errorf("spec.windows[%d].%w", i, err))
		}
		c.windows = append(c.windows, parsed)
		c.maintenance = c.maintenance || window.Kind == Maintenance
	}
	if problem != nil {
		return Calendar{}, problem
	}
	return c, nil
}

// also is two problems in one line, for conditions.
func also(first, second error) error {
	if first == nil {
		return second
	}
	return fmt.Errorf("%w; %w", first, second)
}

// Verdict on an instant.
type Verdict struct {
	// Open: restarts may happen.
	Open bool
	// Why in a sentence: which window decides, named by its field.
	Why string
}

// At judges an instant.
func (c Calendar) At(at time.Time) Verdict {
	open, by := c.decides(at)
	switch {
	case by >= 0 && open:
		return Verdict{Open: true, Why: fmt.Sprintf("spec.windows[%d] is open now (%s)", by, c.windows[by])}
	case by >= 0:
		return Verdict{Why: fmt.Sprintf("spec.windows[%d] is a blackout now (%s)", by, c.windows[by])}
	case !open:
		return Verdict{Why: "none of the maintenance windows in spec.windows is open now"}
	}
	return Verdict{Open: true, Why: "no window of spec.windows forbids it now"}
}

// decides says whether restarts may happen at an instant, and by which window;
// -1: by none.
func (c Calendar) decides(at time.Time) (open bool, by int) {
	inside := -1
	for i, window := range c.windows {
		if !window.holds(at) {
			continue
		}
		if window.Kind == Blackout {
			return false, i
		}
		inside = i
	}
	return inside >= 0 || !c.maintenance, inside
}

// Opens is the first instant, from the one given on, at which restarts may
// happen. Errors wrap ErrNever: there is none in the next ten years, or behind
// more windows than a calendar looks at.
func (c Calendar) Opens(from time.Time) (time.Time, error) {
	at := from
	for range maxSteps {
		if at.Sub(from) > horizon {
			break
		}
		next, closed := c.pass(at)
		if !closed {
			return at, nil
		}
		if next.IsZero() {
			break
		}
		at = next
	}
	inside := ""
	if c.maintenance {
		inside = " and inside of a maintenance window"
	}
	return time.Time{}, fmt.Errorf("spec.windows %w: no instant of the coming years is outside of all blackouts%s", ErrNever, inside)
}

// pass says whether restarts are forbidden at an instant, and how far at least;
// the zero time: for ever.
func (c Calendar) pass(at time.Time) (next time.Time, closed bool) {
	if c.maintenance && !c.inside(at) {
		return c.begins(at, Maintenance), true
	}
	for _, window := range c.windows {
		if window.Kind != Blackout {
			continue
		}
		if end, holds := window.end(at); holds && end.After(next) {
			next, closed = end, true
		}
	}
	return next, closed
}

// inside says whether a maintenance window holds an instant.
func (c Calendar) inside(at time.Time) bool {
	for _, window := range c.windows {
		if window.Kind == Maintenance && window.holds(at) {
			return true
		}
	}
	return false
}

// begins is when the next window of a kind begins after an instant; the zero
// time: none does.
func (c Calendar) begins(after time.Time, kind Kind) time.Time {
	var first time.Time
	for _, window := range c.windows {
		if window.Kind != kind {
			continue
		}
		if begin, fires := window.begins.Next(after); fires {
			first = earlier(first, begin.At)
		}
	}
	return first
}

// Closes is the first instant, from the one given on, at which restarts may not
// happen; closes is false where there is none, as far as a calendar looks.
func (c Calendar) Closes(from time.Time) (at time.Time, closes bool) {
	at = from
	for range maxSteps {
		if !c.At(at).Open {
			return at, true
		}
		next := earlier(c.begins(at, Blackout), c.leaves(at))
		if next.IsZero() || next.Sub(from) > horizon {
			break
		}
		at = next
	}
	return time.Time{}, false
}

// leaves is when the first of the maintenance windows that hold an instant
// ends; the zero time: none holds it.
func (c Calendar) leaves(at time.Time) time.Time {
	var first time.Time
	for _, window := range c.windows {
		if window.Kind != Maintenance {
			continue
		}
		if end, holds := window.end(at); holds {
			first = earlier(first, end)
		}
	}
	return first
}

// earlier of two times, of which the zero time is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
