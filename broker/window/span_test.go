package window_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/privyseal/privyseal/broker/window"
)

// told is a span in a line.
func told(span window.Span) string {
	state, ends := "closed", [2]string{"ever", "ever"}
	if span.Open {
		state = "open"
	}
	for i, end := range []time.Time{span.From, span.Until} {
		if !end.IsZero() {
			ends[i] = end.UTC().Format("2006-01-02T15:04")
		}
	}
	return fmt.Sprintf("%s %s/%s: %s", state, ends[0], ends[1], span.Why)
}

func TestSpansHaveTheirOwnEndsWhateverPartIsAskedFor(t *testing.T) {
	for name, row := range map[string]struct {
		windows     []window.Window
		from, until string
		want        []string
	}{
		"no windows": {nil, "2026-06-02T12:00:00Z", "2026-06-09T12:00:00Z",
			[]string{"open ever/ever: no window forbids it"}},
		"from within a blackout": {[]window.Window{blackout("0 18 * * 5", "60h", "Europe/Berlin")}, "2026-06-06T12:00:00Z", "2026-06-09T00:00:00Z", []string{
			`closed 2026-06-05T16:00/2026-06-08T04:00: blackout spec.windows[0], "0 18 * * 5" for 60h in Europe/Berlin`,
			"open 2026-06-08T04:00/2026-06-12T16:00: no window forbids it",
		}},
		"up to the beginning of one": {[]window.Window{blackout("0 18 * * 5", "60h", "Europe/Berlin")}, "2026-06-08T04:00:00Z", "2026-06-12T16:00:00Z", []string{
			"open 2026-06-08T04:00/2026-06-12T16:00: no window forbids it",
		}},
		"maintenance that a blackout cuts": {[]window.Window{maintenance("0 2 * * *", "4h", "UTC"), blackout("0 3 2 6 *", "1h", "UTC")}, "2026-06-02T00:00:00Z", "2026-06-02T04:30:00Z", []string{
			"closed 2026-06-01T06:00/2026-06-02T02:00: outside of the maintenance windows",
			`open 2026-06-02T02:00/2026-06-02T03:00: maintenance spec.windows[0], "0 2 * * *" for 4h in UTC`,
			`closed 2026-06-02T03:00/2026-06-02T04:00: blackout spec.windows[1], "0 3 2 6 *" for 1h in UTC`,
			`open 2026-06-02T04:00/2026-06-02T06:00: maintenance spec.windows[0], "0 2 * * *" for 4h in UTC`,
		}},
		"once a year": {[]window.Window{maintenance("0 2 1 3 *", "1h", "UTC")}, "2026-06-02T00:00:00Z", "2026-06-03T00:00:00Z", []string{
			"closed 2026-03-01T03:00/2027-03-01T02:00: outside of the maintenance windows",
		}},
		"in the night when the clock is put back": {[]window.Window{maintenance("30 2 * * *", "30m", "Europe/Berlin")}, "2026-10-25T00:00:00Z", "2026-10-26T00:00:00Z", []string{
			"closed 2026-10-24T01:00/2026-10-25T00:30: outside of the maintenance windows",
			`open 2026-10-25T00:30/2026-10-25T01:00: maintenance spec.windows[0], "30 2 * * *" for 30m in Europe/Berlin`,
			"closed 2026-10-25T01:00/2026-10-26T01:30: outside of the maintenance windows",
		}},
		"windows that leave no time": {[]window.Window{blackout("0 * * * *", "1h", "UTC")}, "2026-06-02T12:00:00Z", "2026-06-03T12:00:00Z",
			[]string{`closed ever/ever: blackout spec.windows[0], "0 * * * *" for 1h in UTC`}},
		"nothing is asked for": {[]window.Window{blackout("0 * * * *", "1h", "UTC")}, "2026-06-02T12:00:00Z", "2026-06-02T12:00:00Z", nil},
	} {
		t.Run(name, func(t *testing.T) {
			spans, err := mustParse(t, row.windows...).Spans(at(t, row.from), at(t, row.until))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, span := range spans {
				got = append(got, told(span))
			}
			if diff := cmp.Diff(row.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Whoever asks at another moment is told of the same spans: what a calendar
// program shows does not move by being fetched again.
func TestSpansAreTheSameWheneverTheyAreAskedFor(t *testing.T) {
	calendar := mustParse(t, maintenance("0 1 * * 1-5", "5h", "America/New_York"), maintenance("30 23 * * *", "3h", "Asia/Kolkata"),
		blackout("0 0 24 12 *", "240h", "Europe/Berlin"), blackout("15 2 * * 3", "45m", ""))
	from, until := at(t, "2026-10-20T00:00:00Z"), at(t, "2027-01-20T00:00:00Z")
	whole, err := calendar.Spans(from, until)
	if err != nil || len(whole) < 100 {
		t.Fatal(len(whole), err)
	}
	for i, span := range whole {
		if i > 0 && (span.Open == whole[i-1].Open || !span.From.Equal(whole[i-1].Until)) {
			t.Fatalf("after %s comes %s", told(whole[i-1]), told(span))
		}
		for offset, open := range map[time.Duration]bool{0: span.Open, span.Until.Sub(span.From) - time.Nanosecond: span.Open, span.Until.Sub(span.From): !span.Open} {
			if calendar.At(span.From.Add(offset)).Open != open {
				t.Errorf("%s is wrong after %s", told(span), offset)
			}
		}
		again, err := calendar.Spans(span.From.Add(span.Until.Sub(span.From)/2), span.Until)
		if err != nil || len(again) != 1 || !again[0].From.Equal(span.From) || !again[0].Until.Equal(span.Until) {
			t.Errorf("%s, from its middle, is %v", told(span), again)
		}
	}
}

func TestMoreSpansThanAnybodyReadsAreAnError(t *testing.T) {
	calendar := mustParse(t, blackout("*/2 * * * *", "1m", "UTC"))
	from := at(t, "2026-06-02T12:00:00Z")
	_, err := calendar.Spans(from, from.Add(30*24*time.Hour))
	if !errors.Is(err, window.ErrMany) || !strings.Contains(err.Error(), "2026-06-09") {
		t.Errorf("it says %v", err)
	}
	if spans, err := calendar.Spans(from, from.Add(time.Hour)); err != nil || len(spans) != 60 {
		t.Errorf("of an hour it gives %d, %v", len(spans), err)
	}
}
