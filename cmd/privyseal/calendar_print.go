package main

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/privyseal/privyseal/broker/window"
)

// shown is a time for people: the day, and how far it is from UTC.
func shown(at time.Time, zone *time.Location) string {
	if at.IsZero() {
		return "-"
	}
	return at.In(zone).Format("Mon 2006-01-02 15:04 -07:00")
}

func printSchedules(to io.Writer, schedules []schedule) error {
	table := tabwriter.NewWriter(to, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "ENVIRONMENT\tRESTARTS\tFROM\tUNTIL\tZONE\tWHY")
	for _, s := range schedules {
		zone := s.zone()
		if s.problem != nil {
			fmt.Fprintf(table, "%s\tnever\t-\t-\t%s\t%s\n", s.environment.Name, zone, s.problem)
		}
		for _, span := range s.spans {
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n", s.environment.Name, stateOf(span), shown(span.From, zone), shown(span.Until, zone), zone, span.Why)
		}
	}
	return table.Flush()
}

func stateOf(span window.Span) string {
	if span.Open {
		return "allowed"
	}
	return "wait"
}

// spanJSON is a span for programs, with times in UTC. One that is not there says
// that the span has no such end.
type spanJSON struct {
	Restarts string    `json:"restarts"`
	From     time.Time `json:"from,omitzero"`
	Until    time.Time `json:"until,omitzero"`
	Why      string    `json:"why"`
}

type scheduleJSON struct {
	Environment string     `json:"environment"`
	TimeZone    string     `json:"timeZone"`
	Problem     string     `json:"problem,omitempty"`
	Spans       []spanJSON `json:"spans"`
}

func printSchedulesJSON(to io.Writer, schedules []schedule, runs []timetable, from, until time.Time) error {
	told := struct {
		From         time.Time       `json:"from"`
		Until        time.Time       `json:"until"`
		Environments []scheduleJSON  `json:"environments"`
		Rotations    []timetableJSON `json:"rotations"`
	}{from.UTC(), until.UTC(), []scheduleJSON{}, timetablesJSON(runs)}
	for _, s := range schedules {
		one := scheduleJSON{Environment: s.environment.Name, TimeZone: s.zone().String(), Spans: []spanJSON{}}
		if s.problem != nil {
			one.Problem = s.problem.Error()
		}
		for _, span := range s.spans {
			one.Spans = append(one.Spans, spanJSON{stateOf(span), span.From.UTC(), span.Until.UTC(), span.Why})
		}
		told.Environments = append(told.Environments, one)
	}
	return writeJSON(to, told)
}

func writeJSON(to io.Writer, told any) error {
	encoder := json.NewEncoder(to)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(told); err != nil {
		return fmt.Errorf("writing JSON: %w", err)
	}
	return nil
}
