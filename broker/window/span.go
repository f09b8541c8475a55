package window

import (
	"errors"
	"fmt"
	"time"
)

// ErrMany: there are more spans than anybody would read.
var ErrMany = errors.New("too many openings and closings")

const (
	// maxSpans bounds a list of spans: an opening each hour of half a year.
	maxSpans = 10_000
	// lookBack is how far the beginning of a span is looked for.
	lookBack = 512 * 24 * time.Hour
)

// Span is a stretch of time in which restarts may happen, or may not. Its ends
// are those of the state itself, whatever part of it was asked for.
type Span struct {
	// Open: restarts may happen.
	Open bool
	// From is its first instant; the zero time: it began longer ago than is
	// looked, or never.
	From time.Time
	// Until is the first instant after it; the zero time: it does not end, as
	// far as a calendar looks.
	Until time.Time
	// Why in a few words: which window decides where the span was looked at
	// first, named by its field.
	Why string
}

// Spans are those that hold any of the instants from one to another, the second
// left out: in their order, each ends where the next begins. Errors wrap
// ErrMany.
func (c Calendar) Spans(from, until time.Time) ([]Span, error) {
	var spans []Span
	for at := from; at.Before(until); {
		if len(spans) == maxSpans {
			return nil, fmt.Errorf("%w: more than %d until %s", ErrMany, maxSpans, at.UTC().Format(time.RFC3339))
		}
		span := c.span(at)
		if len(spans) == 0 && !span.Until.IsZero() {
			span.From = c.began(at)
		}
		spans = append(spans, span)
		if span.Until.IsZero() {
			break
		}
		at = span.Until
	}
	return spans, nil
}

// span from an instant on.
func (c Calendar) span(from time.Time) Span {
	open, by := c.decides(from)
	span := Span{Open: open, From: from, Until: c.turns(from, open)}
	switch {
	case by >= 0 && open:
		span.Why = fmt.Sprintf("maintenance spec.windows[%d], %s", by, c.windows[by])
	case by >= 0:
		span.Why = fmt.Sprintf("blackout spec.windows[%d], %s", by, c.windows[by])
	case !open:
		span.Why = "outside of the maintenance windows"
	default:
		span.Why = "no window forbids it"
	}
	if span.Until.IsZero() {
		span.From = time.Time{}
	}
	return span
}

// turns is the first instant at which a state that holds at another does no
// longer; the zero time: there is none.
func (c Calendar) turns(at time.Time, open bool) time.Time {
	if open {
		closes, ever := c.Closes(at)
		if !ever {
			return time.Time{}
		}
		return closes
	}
	opens, err := c.Opens(at)
	if err != nil {
		return time.Time{} // it says that there is none
	}
	return opens
}

// began is when the state began that holds at an instant; the zero time: longer
// ago than is looked. It looks back further and further, since windows tell what
// comes and not what was.
func (c Calendar) began(at time.Time) time.Time {
	for back := 24 * time.Hour; back <= lookBack; back *= 2 {
		var last time.Time
		for turn := at.Add(-back); !turn.IsZero() && !turn.After(at); {
			open, _ := c.decides(turn)
			turn = c.turns(turn, open)
			if !turn.IsZero() && !turn.After(at) {
				last = turn
			}
		}
		if !last.IsZero() {
			return last
		}
	}
	return time.Time{}
}
