package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/broker/window"
)

// event of an iCalendar: RFC 5545, section 3.6.1.
type event struct {
	uid         string
	from, until time.Time
	summary     string
	description string
	category    string
}

// writeCalendar writes an iCalendar. It has an event for each environment at
// least, since a calendar without any is none (section 3.4).
func writeCalendar(to io.Writer, schedules []schedule, runs []timetable, from, until, now time.Time) error {
	var text strings.Builder
	line := func(name, value string) { text.WriteString(fold(name + ":" + value)) }
	line("BEGIN", "VCALENDAR")
	line("VERSION", "2.0")
	line("PRODID", "-//privyseal.io//privyseal calendar//EN")
	line("CALSCALE", "GREGORIAN")
	var events []event
	for _, s := range schedules {
		events = append(events, s.events(from, until)...)
	}
	for _, t := range runs {
		events = append(events, t.events()...)
	}
	for _, one := range events {
		line("BEGIN", "VEVENT")
		line("UID", one.uid)
		line("DTSTAMP", stamp(now))
		line("DTSTART", stamp(one.from))
		if !one.until.IsZero() { // else it ends when it begins (section 3.6.1)
			line("DTEND", stamp(one.until))
		}
		line("SUMMARY", escapeText(one.summary))
		line("DESCRIPTION", escapeText(one.description))
		line("CATEGORIES", one.category)
		line("TRANSP", "TRANSPARENT") // nobody is busy by it
		line("END", "VEVENT")
	}
	line("END", "VCALENDAR")
	_, err := io.WriteString(to, text.String())
	return err
}

// events of an environment are the times that stand out: those in which
// workloads may be restarted where there are maintenance windows, else those in
// which they may not. Where none of them falls into the time asked for, there is
// one that says so.
func (s schedule) events(from, until time.Time) []event {
	name := s.environment.Name
	if s.problem != nil {
		return []event{{
			uid: name + "-unusable-always@privyseal.io", from: from, until: until,
			summary: name + ": nothing restarts", description: s.problem.Error(), category: "UNUSABLE",
		}}
	}
	maintenance := slices.ContainsFunc(s.environment.Spec.Windows, func(w v1alpha1.Window) bool { return w.Kind == v1alpha1.WindowMaintenance })
	spans := slices.DeleteFunc(slices.Clone(s.spans), func(span window.Span) bool { return span.Open != maintenance })
	if len(spans) == 0 {
		spans = s.spans
	}
	events := make([]event, 0, len(spans))
	for _, span := range spans {
		events = append(events, eventOf(name, span, s.zone(), from, until))
	}
	return events
}

// eventOf a span. The UID goes by its end, which is the same whenever the
// calendar is made, though the beginning may be too long ago to be known.
func eventOf(name string, span window.Span, zone *time.Location, from, until time.Time) event {
	made := event{from: span.From, until: span.Until, summary: name + ": no restarts", category: "WAIT"}
	if span.Open {
		made.summary, made.category = name+": restarts may happen", "ALLOWED"
	}
	end := "always"
	if !span.Until.IsZero() {
		end = stamp(span.Until)
	}
	made.uid = fmt.Sprintf("%s-%s-%s@privyseal.io", name, strings.ToLower(made.category), end)
	made.description = fmt.Sprintf("%s\nFrom %s until %s (%s)", span.Why, shown(span.From, zone), shown(span.Until, zone), zone)
	if made.from.IsZero() {
		made.from = from
	}
	if made.until.IsZero() {
		made.until = until
	}
	return made
}

// stamp is a time in UTC: section 3.3.5, form 2.
func stamp(at time.Time) string { return at.UTC().Format("20060102T150405Z") }

// escapeText writes a text as section 3.3.11 has it. It has no place for other
// control characters.
func escapeText(text string) string {
	text = strings.NewReplacer(`\`, `\\`, ";", `\;`, ",", `\,`, "\r\n", `\n`, "\n", `\n`).Replace(text)
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
}

// maxLine is how many bytes a line has at most, without its end: section 3.1.
const maxLine = 75

// fold breaks a line into several of which each but the first begins with a
// space, and never within a character.
func fold(line string) string {
	var folded strings.Builder
	for room := maxLine; len(line) > room; room = maxLine - 1 {
		cut := room
		for !utf8.RuneStart(line[cut]) {
			cut--
		}
		folded.WriteString(line[:cut] + "\r\n ")
		line = line[cut:]
	}
	return folded.String() + line + "\r\n"
}
