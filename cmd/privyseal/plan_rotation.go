package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/broker/plan"
)

func planRotationCommand() *cobra.Command {
	p := &planning{rotations: true}
	command := &cobra.Command{
		Use:   "rotation NAME",
		Short: "Say when a rotation runs next, what it changes, who follows, and what blocks it",
		Long: `Plan rotation says which run of a SecretRotation is next and when it begins, by its
schedule, jitter and the windows of its environment; which keys get new values; which
claims and Secrets follow, and which do not; which workloads restart for it, in which
order, when; and what stands in the way. It reads and changes nothing, and no value.

Claims and workloads are those of the namespace; -A looks at those of all. With -f all
is taken from files, without a cluster. How long a run and its rollouts take is not
known: times are the earliest ones. Where nobody can say when the run begins, restarts
are those of one that began now.

Exit codes: 0 done, whatever comes of it, 1 not done, 2 wrong command line.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError{errors.New("name one SecretRotation, as privyseal status rotations lists them")}
			}
			return nil
		},
		RunE: func(command *cobra.Command, args []string) error {
			p.stdin, p.stdout, p.stderr = command.InOrStdin(), command.OutOrStdout(), command.ErrOrStderr()
			p.now = time.Now()
			return p.runRotation(command.Context(), args[0])
		},
	}
	flags := command.Flags()
	p.addTo(flags)
	flags.StringVarP(&p.controller.namespace, "namespace", "n", "", "namespace of the SecretRotation (default: the context's; with -f, whichever has one of the name)")
	flags.BoolVarP(&p.all, "all-namespaces", "A", false, "look at the claims and workloads of all namespaces")
	flags.StringVar(&p.at, "at", "", "with -f: the moment that is looked at: a day, as 2026-12-24, or a time, as 2026-12-24T18:00:00+01:00 (default: now)")
	return command
}

func (p *planning) runRotation(ctx context.Context, name string) error {
	offline := len(p.files) > 0
	switch {
	case p.at != "" && !offline:
		return usageError{errors.New("--at is for -f: what a cluster has is looked at now")}
	case p.all && offline:
		return usageError{errors.New("--all-namespaces is for a cluster: of files all namespaces are looked at")}
	}
	if err := p.check(); err != nil {
		return err
	}
	at, err := timeGiven("--at", p.at, p.now)
	if err != nil {
		return err
	}
	world, err := p.world(ctx)
	if err != nil {
		return err
	}
	p.tellNotes(world)
	namespace := p.controller.namespace
	if !offline {
		namespace = p.controller.defaultNamespace()
	}
	of, err := world.Rotation(namespace, name)
	if err != nil {
		return err
	}
	made, err := world.PlanRotation(ctx, of, plan.Question{At: at.Truncate(time.Second), MaxConcurrent: p.maxConcurrent})
	if err != nil {
		return err
	}
	if p.format == "json" {
		return writeJSON(p.stdout, made)
	}
	return printRotation(p.stdout, made)
}

func printRotation(to io.Writer, made plan.RotationPlan) error {
	fmt.Fprintf(to, "%s/%s: %s, by schedule %q\n", made.Namespace, made.Name, comes(made), made.Schedule)
	from := ""
	if made.Store != "" {
		from = fmt.Sprintf(" of store %s, in environment %s", made.Store, made.Environment)
	}
	fmt.Fprintf(to, "%s%s: new values for %s, strategy %s\n", made.Path, from, newValues(made), made.Strategy)
	for _, block := range made.Blocks {
		fmt.Fprintf(to, "%s: %s\n", block.Reason, block.Says)
	}
	if len(made.Claims) == 0 {
		_, err := fmt.Fprintln(to, "no claim reads it")
		return err
	}
	fmt.Fprintln(to)
	table := tabwriter.NewWriter(to, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "CLAIM\tSECRET\tKEYS\tFOLLOWS")
	for _, claim := range made.Claims {
		keys, follows := strings.Join(claim.Keys, ", "), "yes"
		if claim.Stays != "" {
			keys, follows = "-", "no: "+claim.Stays
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", claim.Claim, claim.Secret, keys, follows)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(to)
	if len(made.Restarts.Changes) == 0 {
		_, err := fmt.Fprintln(to, "no workload would restart: no Secret changes")
		return err
	}
	return printPlan(to, made.Restarts)
}

// newValues are the keys that get some.
func newValues(made plan.RotationPlan) string {
	if len(made.Keys) == 0 {
		return "nothing that a claim reads"
	}
	return strings.Join(made.Keys, ", ")
}

// comes says what comes next.
func comes(made plan.RotationPlan) string {
	switch {
	case made.Run == "":
		return "no run comes"
	case !made.Begins.IsZero():
		return fmt.Sprintf("run %s begins %s", made.Run, begins(made))
	case len(made.Blocks) > 0 && made.Blocks[0].Reason == plan.UnderWay:
		return fmt.Sprintf("run %s is under way", made.Run)
	}
	return fmt.Sprintf("run %s is blocked", made.Run)
}

func begins(made plan.RotationPlan) string {
	if made.Begins.Equal(made.At) {
		return "at once"
	}
	return shown(made.Begins, time.UTC)
}
