package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/plan"
	"github.com/privyseal/privyseal/broker/restart"
)

// planning is one run of privyseal plan.
type planning struct {
	controller    controller // of which it needs the cluster alone
	all           bool
	changed       []string
	files         []string
	environment   string
	at            string
	webhook       string
	maxConcurrent int
	format        string
	// rotations: they are planned, and what is said of them is read.
	rotations bool

	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	now    time.Time
}

func planCommand() *cobra.Command {
	p := &planning{}
	command := &cobra.Command{
		Use:   "plan",
		Short: "Say which workloads would restart for a changed secret, when, and what blocks them",
		Long: `Plan says which workloads would be restarted, in which order, when, and what stands
in the way. It reads and changes nothing, and no value.

Without --if-changed it tells of what is stale now. --if-changed db asks what would
happen if every key of the Secret db, or of the Secret of the claim db, changed
now; --if-changed db:password, if that key did; secret/db and claim/db say which is
meant. With -f, workloads, claims, SealedSecrets, Environments and Namespaces are
taken from files, without a cluster: pods are taken to run their templates, and
without --if-changed every Secret that the files make changes.

How long a rollout takes is not known: times are the earliest ones, as if each
ended well at once. Those of one wave may roll out together.

Exit codes: 0 done, whatever would restart, 1 not done, 2 wrong command line.`,
		Args: noArguments,
		RunE: func(command *cobra.Command, _ []string) error {
			p.stdin, p.stdout, p.stderr = command.InOrStdin(), command.OutOrStdout(), command.ErrOrStderr()
			p.now = time.Now()
			return p.run(command.Context())
		},
	}
	flags := command.Flags()
	p.addTo(flags)
	flags.StringVarP(&p.controller.namespace, "namespace", "n", "", "namespace to look at (default: the context's; with -f, all)")
	flags.BoolVarP(&p.all, "all-namespaces", "A", false, "look at all namespaces")
	flags.StringArrayVar(&p.changed, "if-changed", nil, "[secret/|claim/]NAME[:KEY] of what changes; may be given many times (default: what is stale now)")
	flags.StringVar(&p.at, "at", "", "with --if-changed or -f: when it changes: a day, as 2026-12-24, or a time, as 2026-12-24T18:00:00+01:00 (default: now)")
	command.AddCommand(planRotationCommand())
	return command
}

// addTo adds the flags that both plans have.
func (p *planning) addTo(flags *pflag.FlagSet) {
	flags.StringVar(&p.controller.kubeconfig, "kubeconfig", "", "file to reach the cluster with (default: as kubectl)")
	flags.StringVar(&p.controller.context, "context", "", "context of the kubeconfig (default: its current one)")
	flags.StringArrayVarP(&p.files, "filename", "f", nil, "file or folder with manifests, - for standard input; may be given many times (default: ask the cluster)")
	flags.StringVar(&p.environment, "environment", "", "with -f: the environment that all namespaces are in (default: as selectors and labels in the files say)")
	flags.StringVar(&p.webhook, "webhook-configuration", "privyseal", "name of the MutatingWebhookConfiguration by which pods get secrets")
	flags.IntVar(&p.maxConcurrent, "max-concurrent-restarts", 0, "as the daemon has it: how many workloads of the whole cluster roll out at once; 0 for any number")
	flags.StringVarP(&p.format, "format", "o", "table", "table or json")
}

func (p *planning) run(ctx context.Context) error {
	if err := p.check(); err != nil {
		return err
	}
	question := plan.Question{MaxConcurrent: p.maxConcurrent}
	var err error
	if question.At, err = timeGiven("--at", p.at, p.now); err != nil {
		return err
	}
	question.At = question.At.Truncate(time.Second)
	asked, err := p.asked()
	if err != nil {
		return err
	}
	world, err := p.world(ctx)
	if err != nil {
		return err
	}
	p.tellNotes(world)
	for _, one := range asked {
		changes, err := world.Changes(one)
		if err != nil {
			return fmt.Errorf("--if-changed %w", err)
		}
		question.Changes = append(question.Changes, changes...)
	}
	if len(asked) == 0 && len(p.files) > 0 {
		question.Changes = world.Everything()
	}
	made, err := world.Make(ctx, question)
	if err != nil {
		return err
	}
	if p.format == "json" {
		return writeJSON(p.stdout, made)
	}
	return printPlan(p.stdout, made)
}

func (p *planning) tellNotes(world *plan.World) {
	for _, note := range world.Notes {
		_, _ = fmt.Fprintf(p.stderr, "privyseal: note: %s\n", note)
	}
}

// check the command line.
func (p *planning) check() error {
	switch offline := len(p.files) > 0; {
	case p.format != "table" && p.format != "json":
		return usageError{fmt.Errorf("--format %q: want table or json", p.format)}
	case p.all && p.controller.namespace != "" && !p.rotations:
		return usageError{errors.New("--all-namespaces and --namespace are both given; leave one")}
	case p.maxConcurrent < 0:
		return usageError{fmt.Errorf("--max-concurrent-restarts %d: want 1 or more, or 0 for any number", p.maxConcurrent)}
	case p.environment != "" && !offline:
		return usageError{errors.New("--environment is for -f; a cluster knows the environments of its namespaces")}
	case p.at != "" && !offline && len(p.changed) == 0:
		return usageError{errors.New("--at is for --if-changed or -f: what is stale now is looked at now")}
	}
	return nil
}

// asked are the changes of --if-changed, each once.
func (p *planning) asked() ([]plan.Asked, error) {
	var asked []plan.Asked
	for _, text := range p.changed {
		one, err := plan.ParseAsked(text)
		if err != nil {
			return nil, usageError{fmt.Errorf("--if-changed %w", err)}
		}
		if !slices.Contains(asked, one) {
			asked = append(asked, one)
		}
	}
	return asked, nil
}

// world that is looked at: the cluster, or what files describe.
func (p *planning) world(ctx context.Context) (*plan.World, error) {
	if len(p.files) > 0 {
		objects, err := p.described()
		if err != nil {
			return nil, err
		}
		return plan.Described(objects, p.environment)
	}
	access, err := p.controller.config().ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("finding the cluster (give --kubeconfig, or -f to work without one): %w", err)
	}
	cluster, err := clientFor(access)
	if err != nil {
		return nil, err
	}
	namespace := ""
	if !p.all {
		namespace = p.controller.defaultNamespace()
	}
	if p.rotations {
		return plan.LiveRotations(ctx, cluster, namespace, p.webhook)
	}
	return plan.Live(ctx, cluster, namespace, p.webhook)
}

// described are the objects of the files that a plan is made from.
func (p *planning) described() ([]client.Object, error) {
	found, err := objectsIn(p.stdin, p.files, plannedKinds()...)
	if err != nil {
		return nil, err
	}
	var objects []client.Object
	seen := map[string]placed{}
	workloads := 0
	for _, one := range found {
		only := p.controller.namespace
		if p.rotations { // whose document may be read from others
			only = ""
		}
		object, err := plannedObject(one, only)
		if err != nil {
			return nil, err
		}
		if object == nil {
			continue
		}
		key := one.Kind + " " + client.ObjectKeyFromObject(object).String()
		if before, twice := seen[key]; twice {
			return nil, fmt.Errorf("%s is there twice: %s, and %s; leave one", key, before, one)
		}
		seen[key] = one
		if _, is := restart.WorkloadOf(object); is {
			workloads++
		}
		objects = append(objects, object)
	}
	if workloads == 0 && !p.rotations {
		return nil, errors.New("there is no Deployment, StatefulSet, DaemonSet or Rollout in the files")
	}
	return objects, nil
}
