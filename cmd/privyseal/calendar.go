package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/broker/restart"
	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/broker/window"
)

// maxDays bounds what a calendar shows.
const maxDays = 366

// calendaring is one run of privyseal calendar.
type calendaring struct {
	kubeconfig  string
	files       []string
	environment string
	from        string
	days        int
	format      string

	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	now    time.Time
	wrong  int
	// rotations whose runs are shown.
	rotations rotationSet
}

// environmentAt is an Environment, and where it was found.
type environmentAt struct {
	*v1alpha1.Environment
	place string
}

// schedule is when the workloads of one environment may be restarted.
type schedule struct {
	environment *v1alpha1.Environment
	// spans of the time asked for; none where there is a problem.
	spans []window.Span
	// problem with the windows: while it lasts, nothing restarts.
	problem error
}

func calendarCommand() *cobra.Command {
	c := &calendaring{}
	command := &cobra.Command{
		Use:   "calendar",
		Short: "Say when environments let workloads be restarted, and when rotations run",
		Long: `Calendar shows when the windows of environments open and close: of those in the
cluster, or with -f of those in files, without a cluster. A blackout wins over a
maintenance window, and what is shown is what comes of all windows together. Beside
them are the runs of SecretRotations, with their jitter, and where windows let them
begin.

With -o ics it is an iCalendar (RFC 5545) to subscribe to: where there are
maintenance windows, the times in which workloads may be restarted, else those in
which they may not, and the runs. An event keeps its UID when the calendar is made
again.

Exit codes: 0 done, 1 not done, or windows cannot be used, 2 wrong command line.`,
		Args: noArguments,
		RunE: func(command *cobra.Command, _ []string) error {
			c.stdin, c.stdout, c.stderr = command.InOrStdin(), command.OutOrStdout(), command.ErrOrStderr()
			c.now = time.Now()
			return c.run(command.Context())
		},
	}
	flags := command.Flags()
	flags.StringVar(&c.kubeconfig, "kubeconfig", "", "file to reach the cluster with (default: as kubectl)")
	flags.StringArrayVarP(&c.files, "filename", "f", nil, "file or folder with Environments, SecretRotations and their Namespaces, - for standard input; may be given many times (default: ask the cluster)")
	flags.StringVar(&c.environment, "environment", "", "name of the one environment to show, and with -f that of namespaces that the files do not have (default: all)")
	flags.StringVar(&c.from, "from", "", "where to begin: a day, as 2026-12-24, or a time, as 2026-12-24T18:00:00+01:00 (default: now)")
	flags.IntVar(&c.days, "days", 14, "how many days to show")
	flags.StringVarP(&c.format, "format", "o", "table", "table, ics or json")
	return command
}

func (c *calendaring) run(ctx context.Context) error {
	if !slices.Contains([]string{"table", "ics", "json"}, c.format) {
		return usageError{fmt.Errorf("--format %q: want table, ics or json", c.format)}
	}
	if c.days < 1 || c.days > maxDays {
		return usageError{fmt.Errorf("--days %d: want from 1 to %d", c.days, maxDays)}
	}
	from, err := timeGiven("--from", c.from, c.now)
	if err != nil {
		return err
	}
	from = from.Truncate(time.Second)
	until := from.Add(time.Duration(c.days) * 24 * time.Hour)
	environments, err := c.environments(ctx)
	if err != nil {
		return err
	}
	schedules := make([]schedule, 0, len(environments))
	for _, environment := range environments {
		one, err := scheduleOf(environment.Environment, from, until)
		if err != nil {
			return fmt.Errorf("%s: %w; give less --days", environment.place, err)
		}
		if one.problem != nil {
			c.tell(fmt.Errorf("%s: %w", environment.place, one.problem))
		}
		schedules = append(schedules, one)
	}
	runs, err := c.timetables(from, until)
	if err != nil {
		return err
	}
	if err := c.print(schedules, runs, from, until); err != nil {
		return err
	}
	if c.wrong > 0 {
		return fmt.Errorf("%d environments have windows that cannot be used, and nothing restarts there for a changed secret", c.wrong)
	}
	return nil
}

func (c *calendaring) tell(err error) {
	c.wrong++
	_, _ = fmt.Fprintf(c.stderr, "privyseal: %v\n", err)
}

// timeGiven is what a flag says: a time, or the beginning of a day in UTC.
func timeGiven(flag, text string, otherwise time.Time) (time.Time, error) {
	if text == "" {
		return otherwise, nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if given, err := time.Parse(layout, text); err == nil {
			return given, nil
		}
	}
	return time.Time{}, usageError{fmt.Errorf("%s %q: want a day, as 2026-12-24, or a time with its offset, as 2026-12-24T18:00:00+01:00", flag, text)}
}

// environments that are asked for, by name. Those that cannot be read are told
// of and left out.
func (c *calendaring) environments(ctx context.Context) ([]environmentAt, error) {
	where, all := "in the cluster", c.inCluster
	if len(c.files) > 0 {
		where, all = "in the files", c.inFiles
	}
	found, names, err := all(ctx)
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	for i, name := range names {
		if i > 0 && name == names[i-1] && (c.environment == "" || c.environment == name) {
			return nil, fmt.Errorf("environment %s is there twice %s; leave one", name, where)
		}
	}
	switch {
	case len(names) == 0:
		return nil, fmt.Errorf("there is no Environment %s", where)
	case c.environment != "" && !slices.Contains(names, c.environment):
		return nil, fmt.Errorf("--environment %s: there is none of that name %s, but %s", c.environment, where, strings.Join(names, ", "))
	case len(found) == 0:
		return nil, errors.New("no environment can be shown")
	}
	slices.SortFunc(found, func(a, b environmentAt) int { return strings.Compare(a.Name, b.Name) })
	return found, nil
}

// inCluster are the environments to show, and the names of all.
func (c *calendaring) inCluster(ctx context.Context) (found []environmentAt, names []string, err error) {
	cluster, err := reach(c.kubeconfig)
	if err != nil {
		return nil, nil, fmt.Errorf("%w; -f works without a cluster", err)
	}
	list := &v1alpha1.EnvironmentList{}
	if err := cluster.List(ctx, list); err != nil {
		return nil, nil, fmt.Errorf("listing environments: %w; -f works without a cluster", err)
	}
	c.rotationsInCluster(ctx, cluster, list.Items)
	for i := range list.Items {
		names = append(names, list.Items[i].Name)
		if c.environment == "" || c.environment == list.Items[i].Name {
			found = append(found, environmentAt{&list.Items[i], "Environment " + list.Items[i].Name})
		}
	}
	return found, names, nil
}

// inFiles are the environments to show, and the names of all.
func (c *calendaring) inFiles(context.Context) (found []environmentAt, names []string, err error) {
	objects, err := objectsIn(c.stdin, c.files, rotationKinds()...)
	if err != nil {
		return nil, nil, err
	}
	c.rotations.in = c.environment
	for _, object := range objects {
		if err := errors.Join(c.rotations.takeNamespace(object), c.rotations.takeRotation(object, "")); err != nil {
			return nil, nil, err
		}
		if !isEnvironment(object) {
			continue
		}
		names = append(names, object.Name)
		environment, err := environmentIn(object)
		if err == nil {
			c.rotations.environments = append(c.rotations.environments, *environment)
		}
		switch {
		case c.environment != "" && c.environment != object.Name:
		case err != nil:
			c.tell(err)
		default:
			found = append(found, environmentAt{environment, object.String()})
		}
	}
	return found, names, nil
}

// scheduleOf an environment from one time to another. Errors wrap
// window.ErrMany.
func scheduleOf(environment *v1alpha1.Environment, from, until time.Time) (schedule, error) {
	s := schedule{environment: environment}
	calendar, err := window.Parse(restart.WindowsOf(environment))
	if err == nil {
		_, err = calendar.Opens(from)
	}
	if err != nil {
		s.problem = err
		return s, nil
	}
	s.spans, err = calendar.Spans(from, until)
	return s, err
}

// zone that the environment's times are shown in: that of its windows, if they
// agree on one.
func (s schedule) zone() *time.Location {
	windows := s.environment.Spec.Windows
	for _, w := range windows {
		if w.TimeZone != windows[0].TimeZone {
			return time.UTC
		}
	}
	if len(windows) == 0 {
		return time.UTC
	}
	zone, err := time.LoadLocation(windows[0].TimeZone)
	if err != nil {
		return time.UTC // and the problem says so
	}
	return zone
}

func (c *calendaring) print(schedules []schedule, runs []timetable, from, until time.Time) error {
	switch c.format {
	case "ics":
		return writeCalendar(c.stdout, schedules, runs, from, until, c.now)
	case "json":
		return printSchedulesJSON(c.stdout, schedules, runs, from, until)
	}
	if err := printSchedules(c.stdout, schedules); err != nil {
		return err
	}
	return printRuns(c.stdout, runs)
}
