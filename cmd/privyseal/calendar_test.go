package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// component of an iCalendar, as a program that subscribes to it would read it.
type component struct {
	name       string
	properties map[string]string
	parts      []component
}

// readCalendar is strict where RFC 5545 is: lines end in CRLF and have 75 bytes
// at most, components are closed, and texts hold no bare special character.
func readCalendar(text string) (component, error) {
	if !strings.HasSuffix(text, "\r\n") || strings.Contains(strings.ReplaceAll(text, "\r\n", ""), "\n") {
		return component{}, errors.New("a line does not end in CRLF")
	}
	lines := strings.Split(strings.TrimSuffix(text, "\r\n"), "\r\n")
	for _, line := range lines {
		if len(line) > 75 {
			return component{}, fmt.Errorf("line of %d bytes: %q", len(line), line)
		}
	}
	lines = strings.Split(strings.ReplaceAll(strings.Join(lines, "\r\n"), "\r\n ", ""), "\r\n")
	open := []component{{properties: map[string]string{}}}
	for _, line := range lines {
		name, value, found := strings.Cut(line, ":")
		last := len(open) - 1
		switch {
		case !found:
			return component{}, fmt.Errorf("%q has no name", line)
		case name == "BEGIN":
			open = append(open, component{name: value, properties: map[string]string{}})
		case name == "END":
			if last == 0 || open[last].name != value {
				return component{}, fmt.Errorf("%s is closed, and not open", value)
			}
			open[last-1].parts = append(open[last-1].parts, open[last])
			open = open[:last]
		default:
			plain, err := unescape(value)
			if _, twice := open[last].properties[name]; twice || err != nil {
				return component{}, fmt.Errorf("%q: twice, or %w", line, err)
			}
			open[last].properties[name] = plain
		}
	}
	if len(open) != 1 || len(open[0].parts) != 1 || open[0].parts[0].name != "VCALENDAR" {
		return component{}, errors.New("it is not one calendar")
	}
	return open[0].parts[0], nil
}

func unescape(value string) (string, error) {
	var plain strings.Builder
	for i := 0; i < len(value); i++ {
		switch {
		case value[i] == ';' || value[i] == ',' || value[i] < ' ':
			return "", fmt.Errorf("a bare %q", value[i])
		case value[i] != '\\':
			plain.WriteByte(value[i])
			continue
		}
		i++
		switch {
		case i == len(value):
			return "", errors.New("a backslash at the end")
		case value[i] == 'n':
			plain.WriteByte('\n')
		case strings.IndexByte(`\;,`, value[i]) >= 0:
			plain.WriteByte(value[i])
		default:
			return "", fmt.Errorf("an escaped %q", value[i])
		}
	}
	return plain.String(), nil
}

func scheduled(t *testing.T, name, from, until string, windows ...v1alpha1.Window) (schedule, time.Time, time.Time) {
	t.Helper()
	environment := &v1alpha1.Environment{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.EnvironmentSpec{Windows: windows}}
	bounds := [2]time.Time{}
	for i, text := range []string{from, until} {
		var err error
		if bounds[i], err = time.Parse(time.RFC3339, text); err != nil {
			t.Fatal(err)
		}
	}
	s, err := scheduleOf(environment, bounds[0], bounds[1])
	if err != nil {
		t.Fatal(err)
	}
	return s, bounds[0], bounds[1]
}

func windowOf(kind v1alpha1.WindowKind, schedule string, duration time.Duration, zone string) v1alpha1.Window {
	return v1alpha1.Window{Kind: kind, Schedule: schedule, Duration: metav1.Duration{Duration: duration}, TimeZone: zone}
}

// events of the calendar as it comes back: "UID from/until summary".
func eventsOf(t *testing.T, s schedule, from, until time.Time) (events []string, read component) {
	t.Helper()
	var text strings.Builder
	if err := writeCalendar(&text, []schedule{s}, nil, from, until, from); err != nil {
		t.Fatal(err)
	}
	read, err := readCalendar(text.String())
	if err != nil {
		t.Fatalf("%v in\n%s", err, &text)
	}
	for _, part := range read.parts {
		p := part.properties
		events = append(events, fmt.Sprintf("%s %s/%s %s", p["UID"], p["DTSTART"], p["DTEND"], p["SUMMARY"]))
	}
	return events, read
}

func TestACalendarComesBackFromItsICS(t *testing.T) {
	friday := windowOf(v1alpha1.WindowBlackout, "0 18 * * 5", 60*time.Hour, "Europe/Berlin")
	weekend := windowOf(v1alpha1.WindowBlackout, "0 18 * * 5", 57*time.Hour, "Europe/Berlin")
	nights := windowOf(v1alpha1.WindowMaintenance, "0 0 * * *", 2*time.Hour, "")
	for name, row := range map[string]struct {
		windows []v1alpha1.Window
		want    []string
	}{
		"blackouts": {[]v1alpha1.Window{friday}, []string{
			"prod-wait-20260608T040000Z@privyseal.io 20260605T160000Z/20260608T040000Z prod: no restarts",
		}},
		"maintenance that a blackout cuts": {[]v1alpha1.Window{weekend, nights}, []string{
			"prod-allowed-20260605T020000Z@privyseal.io 20260605T000000Z/20260605T020000Z prod: restarts may happen",
			"prod-allowed-20260608T020000Z@privyseal.io 20260608T010000Z/20260608T020000Z prod: restarts may happen",
		}},
		"no windows": {nil, []string{
			"prod-allowed-always@privyseal.io 20260604T120000Z/20260608T120000Z prod: restarts may happen",
		}},
		"none in these days": {[]v1alpha1.Window{windowOf(v1alpha1.WindowMaintenance, "0 2 1 * *", time.Hour, "")}, []string{
			"prod-wait-20260701T020000Z@privyseal.io 20260601T030000Z/20260701T020000Z prod: no restarts",
		}},
		"no time at all": {[]v1alpha1.Window{windowOf(v1alpha1.WindowBlackout, "0 * * * *", time.Hour, "")}, []string{
			"prod-unusable-always@privyseal.io 20260604T120000Z/20260608T120000Z prod: nothing restarts",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s, from, until := scheduled(t, "prod", "2026-06-04T12:00:00Z", "2026-06-08T12:00:00Z", row.windows...)
			events, read := eventsOf(t, s, from, until)
			if diff := cmp.Diff(row.want, events); diff != "" {
				t.Error(diff)
			}
			if read.properties["VERSION"] != "2.0" || read.properties["PRODID"] == "" || read.parts[0].properties["DTSTAMP"] != "20260604T120000Z" {
				t.Errorf("its properties are %v", read.properties)
			}
		})
	}
}

func TestAnEventTellsWhyAndWhatTheClockThereShows(t *testing.T) {
	s, from, until := scheduled(t, "prod", "2026-06-04T12:00:00Z", "2026-06-08T12:00:00Z",
		windowOf(v1alpha1.WindowBlackout, "0 18 * * 5", 60*time.Hour, "Europe/Berlin"))
	_, read := eventsOf(t, s, from, until)
	want := "blackout spec.windows[0], \"0 18 * * 5\" for 60h in Europe/Berlin\n" +
		"From Fri 2026-06-05 18:00 +02:00 until Mon 2026-06-08 06:00 +02:00 (Europe/Berlin)"
	if got := read.parts[0].properties["DESCRIPTION"]; got != want {
		t.Errorf("it tells %q", got)
	}
}

func TestAnEventKeepsItsUIDWhenTheCalendarIsMadeAgain(t *testing.T) {
	blackout := windowOf(v1alpha1.WindowBlackout, "0 18 * * 5", 60*time.Hour, "Europe/Berlin")
	s, from, until := scheduled(t, "prod", "2026-06-04T12:00:00Z", "2026-06-08T12:00:00Z", blackout)
	before, _ := eventsOf(t, s, from, until)
	s, from, until = scheduled(t, "prod", "2026-06-06T03:00:00Z", "2026-06-07T00:00:00Z", blackout)
	if after, _ := eventsOf(t, s, from, until); !cmp.Equal(before, after) {
		t.Errorf("on Saturday %s is %s", before, after)
	}
}

func TestTextsSurviveTheICS(t *testing.T) {
	for _, text := range []string{
		`a, b; c\d`, "two\nlines\r\nthree", "tab\tand bell\a", `\n is no line`, "wrong \xff byte",
		strings.Repeat("ä", 200), strings.Repeat("x", 74) + "日本語", strings.Repeat("🔑,", 60),
	} {
		written := fold("DESCRIPTION:" + escapeText(text))
		read, err := readCalendar("BEGIN:VCALENDAR\r\n" + written + "END:VCALENDAR\r\n")
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		want := strings.NewReplacer("\r\n", "\n", "\t", "", "\a", "", "\xff", "\uFFFD").Replace(text)
		if got := read.properties["DESCRIPTION"]; got != want {
			t.Errorf("%q comes back as %q", text, got)
		}
	}
}
