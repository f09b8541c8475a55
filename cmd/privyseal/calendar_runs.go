package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/rotate"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// timetable is when the runs of one rotation begin.
type timetable struct {
	of *v1alpha1.SecretRotation
	// environment whose windows hold; "" is none.
	environment string
	starts      []rotate.Start
	// problem is why no run comes.
	problem error
}

// timetables of the rotations that are asked for, by name. With --environment they
// are those of the one.
func (c *calendaring) timetables(from, until time.Time) ([]timetable, error) {
	var all []timetable
	for _, of := range c.rotations.rotations {
		home, err := c.rotations.homeOf(of.Namespace)
		if err != nil {
			_, _ = fmt.Fprintf(c.stderr, "privyseal: note: %s: %v\n", of.place, err)
		}
		one := timetable{of: of.SecretRotation}
		if home != nil {
			one.environment = home.Name
		}
		if c.environment != "" && one.environment != c.environment {
			continue
		}
		one.starts, one.problem = rotate.Timetable(of.SecretRotation, windowsOf(home), c.now, from, until)
		if errors.Is(one.problem, rotate.ErrMany) {
			return nil, fmt.Errorf("%s: %w; give less --days", of.place, one.problem)
		}
		all = append(all, one)
	}
	slices.SortFunc(all, func(a, b timetable) int { return strings.Compare(a.name(), b.name()) })
	return all, nil
}

func (t timetable) name() string { return t.of.Namespace + "/" + t.of.Name }

// zone of the schedule, in which its times are shown.
func (t timetable) zone() *time.Location {
	zone, err := time.LoadLocation(t.of.Spec.TimeZone)
	if err != nil {
		return time.UTC // and the problem says so
	}
	return zone
}

// rotationsInCluster are those whose runs are shown. Windows can be shown without
// them.
func (c *calendaring) rotationsInCluster(ctx context.Context, cluster client.Reader, environments []v1alpha1.Environment) {
	set := rotationSet{environments: environments}
	var err error
	if set.rotations, err = listRotations(ctx, cluster, ""); err == nil {
		err = set.lookUpNamespaces(ctx, cluster)
	}
	if err != nil {
		_, _ = fmt.Fprintf(c.stderr, "privyseal: note: runs of rotations are not shown: %v\n", err)
		return
	}
	c.rotations = set
}

func printRuns(to io.Writer, all []timetable) error {
	if len(all) == 0 {
		return nil
	}
	table := tabwriter.NewWriter(to, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "\nROTATION\tRUN\tBEGINS\tZONE\tENVIRONMENT\tWHY")
	for _, t := range all {
		environment := t.environment
		if environment == "" {
			environment = "-"
		}
		for _, start := range t.starts {
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n", t.name(), start.Run, shown(start.At, t.zone()), t.zone(), environment, t.why())
		}
		switch {
		case t.problem != nil:
			fmt.Fprintf(table, "%s\t-\tnever\t%s\t%s\t%s\n", t.name(), t.zone(), environment, t.problem)
		case len(t.starts) == 0:
			fmt.Fprintf(table, "%s\t-\t-\t%s\t%s\tno run in this time, by %s\n", t.name(), t.zone(), environment, t.why())
		}
	}
	return table.Flush()
}

// why a run begins when it does.
func (t timetable) why() string {
	text := fmt.Sprintf("schedule %q", t.of.Spec.Schedule)
	if jitter := t.of.Spec.Jitter; jitter != nil && jitter.Duration > 0 {
		text += fmt.Sprintf(" and up to %s later", jitter.Duration)
	}
	return text
}

// events of a rotation. A run takes no time that would be known before.
func (t timetable) events() []event {
	events := make([]event, 0, len(t.starts))
	for _, start := range t.starts {
		events = append(events, event{
			uid:  fmt.Sprintf("rotation-%s-%s-%s@privyseal.io", t.of.Namespace, t.of.Name, start.Run),
			from: start.At, summary: t.name() + ": rotation", category: "ROTATION",
			description: fmt.Sprintf("run %s of %s, by %s\nFrom %s (%s)", start.Run, rotate.PathOf(t.of.Spec), t.why(), shown(start.At, t.zone()), t.zone()),
		})
	}
	return events
}

// runJSON is a run for programs, with its time in UTC.
type runJSON struct {
	Run    string    `json:"run"`
	Begins time.Time `json:"begins"`
}

type timetableJSON struct {
	Namespace   string    `json:"namespace"`
	Name        string    `json:"name"`
	Path        string    `json:"path"`
	Environment string    `json:"environment,omitempty"`
	TimeZone    string    `json:"timeZone"`
	Problem     string    `json:"problem,omitempty"`
	Runs        []runJSON `json:"runs"`
}

func timetablesJSON(all []timetable) []timetableJSON {
	told := []timetableJSON{}
	for _, t := range all {
		one := timetableJSON{
			Namespace: t.of.Namespace, Name: t.of.Name, Path: rotate.PathOf(t.of.Spec),
			Environment: t.environment, TimeZone: t.zone().String(), Runs: []runJSON{},
		}
		if t.problem != nil {
			one.Problem = t.problem.Error()
		}
		for _, start := range t.starts {
			one.Runs = append(one.Runs, runJSON{start.Run, start.At.UTC()})
		}
		told = append(told, one)
	}
	return told
}
