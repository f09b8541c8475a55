package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
	"sigs.k8s.io/yaml"

	"github.com/privyseal/privyseal/broker/rotate"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// rotationsStatus is one run of privyseal status rotations.
type rotationsStatus struct {
	controller  controller // of which it needs the cluster alone
	all         bool
	files       []string
	environment string
	format      string

	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	now    time.Time
}

// rotationStatus is how one rotation stands.
type rotationStatus struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// Path from the store's root, where the daemon found it; else as it is written.
	Path      string `json:"path"`
	Strategy  string `json:"strategy"`
	Schedule  string `json:"schedule"`
	TimeZone  string `json:"timeZone,omitempty"`
	Suspended bool   `json:"suspended,omitempty"`
	// Phase is empty where it never ran.
	Phase string `json:"phase,omitempty"`
	// Run of the phase.
	Run          string     `json:"run,omitempty"`
	LastRotation *time.Time `json:"lastRotation,omitempty"`
	// AgeSeconds of the last that went well.
	AgeSeconds   *int64     `json:"ageSeconds,omitempty"`
	NextRotation *time.Time `json:"nextRotation,omitempty"`
	// Why it does not rotate, or what it waits for; empty: all is well.
	Why string `json:"why,omitempty"`
}

func statusRotationsCommand() *cobra.Command {
	s := &rotationsStatus{}
	command := &cobra.Command{
		Use:   "rotations",
		Short: "List rotations: how each stands, when it rotated, when it will, and why not",
		Long: `List SecretRotations: their paths, how far each is, when it last went well and how
long ago, when the next run begins, and why not. No value is read.

With -f they are taken from files, without a cluster: then the next run is what the
schedule and the windows of the environments in the files say.

Exit codes: 0 done, however they stand, 1 not done, 2 wrong command line.`,
		Args: noArguments,
		RunE: func(command *cobra.Command, _ []string) error {
			s.stdin, s.stdout, s.stderr = command.InOrStdin(), command.OutOrStdout(), command.ErrOrStderr()
			s.now = time.Now()
			return s.run(command.Context())
		},
	}
	flags := command.Flags()
	flags.StringVar(&s.controller.kubeconfig, "kubeconfig", "", "file to reach the cluster with (default: as kubectl)")
	flags.StringVar(&s.controller.context, "context", "", "context of the kubeconfig (default: its current one)")
	flags.StringVarP(&s.controller.namespace, "namespace", "n", "", "namespace to look at (default: the context's; with -f, all)")
	flags.BoolVarP(&s.all, "all-namespaces", "A", false, "look at all namespaces")
	flags.StringArrayVarP(&s.files, "filename", "f", nil, "file or folder with manifests, - for standard input; may be given many times (default: ask the cluster)")
	flags.StringVar(&s.environment, "environment", "", "with -f: the environment of namespaces that the files do not have")
	flags.StringVarP(&s.format, "format", "o", "table", "table, json or yaml")
	return command
}

func (s *rotationsStatus) run(ctx context.Context) error {
	switch {
	case !slices.Contains([]string{"table", "json", "yaml"}, s.format):
		return usageError{fmt.Errorf("--format %q: want table, json or yaml", s.format)}
	case s.all && s.controller.namespace != "":
		return usageError{errors.New("--all-namespaces and --namespace are both given; leave one")}
	case s.environment != "" && len(s.files) == 0:
		return usageError{errors.New("--environment is for -f; a cluster knows the environments of its namespaces")}
	}
	rows, err := s.rows(ctx)
	if err != nil {
		return err
	}
	slices.SortFunc(rows, func(a, b rotationStatus) int {
		return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name)
	})
	return s.print(rows)
}

func (s *rotationsStatus) rows(ctx context.Context) ([]rotationStatus, error) {
	rows := []rotationStatus{}
	if len(s.files) > 0 {
		set, err := s.inFiles()
		if err != nil {
			return nil, err
		}
		for _, of := range set.rotations {
			rows = append(rows, s.described(set, of))
		}
		return rows, nil
	}
	cluster, err := s.controller.cluster()
	if err != nil {
		return nil, err
	}
	namespace := ""
	if !s.all {
		namespace = s.controller.defaultNamespace()
	}
	found, err := listRotations(ctx, cluster, namespace)
	for _, of := range found {
		rows = append(rows, s.row(of.SecretRotation))
	}
	return rows, err
}

// inFiles are the rotations of files, with what their windows are known by.
func (s *rotationsStatus) inFiles() (*rotationSet, error) {
	objects, err := objectsIn(s.stdin, s.files, rotationKinds()...)
	if err != nil {
		return nil, err
	}
	set := &rotationSet{in: s.environment}
	for _, object := range objects {
		if isEnvironment(object) {
			home, err := environmentIn(object)
			if err != nil {
				return nil, err
			}
			set.environments = append(set.environments, *home)
		}
		if err := errors.Join(set.takeNamespace(object), set.takeRotation(object, s.controller.namespace)); err != nil {
			return nil, err
		}
	}
	set.rotations = slices.DeleteFunc(set.rotations, func(of rotationAt) bool {
		return s.controller.namespace != "" && of.Namespace != s.controller.namespace
	})
	return set, nil
}

// described is a rotation of a file: nobody has carried it out, unless the file has
// its status.
func (s *rotationsStatus) described(set *rotationSet, of rotationAt) rotationStatus {
	row := s.row(of.SecretRotation)
	home, err := set.homeOf(of.Namespace)
	if err != nil {
		_, _ = fmt.Fprintf(s.stderr, "privyseal: note: %v\n", err)
	}
	outlook := rotate.LookAhead(of.SecretRotation, windowsOf(home), s.now)
	if !outlook.Begins.IsZero() {
		begins := outlook.Begins.UTC()
		row.NextRotation = &begins
	}
	switch {
	case outlook.Refusal != nil:
		row.NextRotation, row.Why = nil, outlook.Refusal.Message
	case row.Why == "":
		row.Why = outlook.Hold
	}
	return row
}

// row of a rotation by its status.
func (s *rotationsStatus) row(of *v1alpha1.SecretRotation) rotationStatus {
	row := rotationStatus{
		Namespace: of.Namespace, Name: of.Name, Path: of.Status.Path, Strategy: rotate.StrategyOf(of.Spec),
		Schedule: of.Spec.Schedule, TimeZone: of.Spec.TimeZone, Suspended: of.Spec.Suspend,
		Phase: of.Status.Phase, Run: of.Status.Run, Why: whyNot(of),
		LastRotation: inUTC(of.Status.LastRotation), NextRotation: inUTC(of.Status.NextRotation),
	}
	if row.Path == "" {
		row.Path = rotate.PathOf(of.Spec)
	}
	if row.LastRotation != nil {
		row.AgeSeconds = new(int64(s.now.Sub(*row.LastRotation).Seconds()))
	}
	return row
}

func inUTC(at *metav1.Time) *time.Time {
	if at == nil {
		return nil
	}
	return new(at.UTC())
}

// whyNot says what stands in the way; empty where nothing does.
func whyNot(of *v1alpha1.SecretRotation) string {
	ready := meta.FindStatusCondition(of.Status.Conditions, v1alpha1.ConditionReady)
	rotated := meta.FindStatusCondition(of.Status.Conditions, v1alpha1.ConditionRotated)
	var whys []string
	if rotated != nil && rotated.Status != metav1.ConditionTrue {
		whys = append(whys, rotated.Message)
	}
	if of.Spec.Suspend {
		whys = append(whys, "it is suspended")
	}
	if ready != nil && ready.Status != metav1.ConditionTrue {
		whys = append(whys, ready.Message)
	}
	return strings.Join(whys, "; ")
}

func (s *rotationsStatus) print(rows []rotationStatus) error {
	told := struct {
		Rotations []rotationStatus `json:"rotations"`
	}{rows}
	switch s.format {
	case "json":
		return writeJSON(s.stdout, told)
	case "yaml":
		text, err := yaml.Marshal(told)
		if err != nil {
			return fmt.Errorf("writing YAML: %w", err)
		}
		_, err = s.stdout.Write(text)
		return err
	}
	if len(rows) == 0 {
		_, err := fmt.Fprintln(s.stdout, "there is no SecretRotation "+s.where())
		return err
	}
	return s.printTable(rows)
}

func (s *rotationsStatus) where() string {
	switch {
	case len(s.files) > 0:
		return "in the files"
	case s.all:
		return "in the cluster"
	}
	return "in namespace " + s.controller.defaultNamespace()
}

func (s *rotationsStatus) printTable(rows []rotationStatus) error {
	table := tabwriter.NewWriter(s.stdout, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "ROTATION\tPATH\tSTRATEGY\tPHASE\tLAST\tAGE\tNEXT\tWHY NOT")
	for _, row := range rows {
		last, age, next, phase, path, why := "never", "-", "-", row.Phase, cmp.Or(row.Path, "-"), row.Why
		if row.LastRotation != nil {
			last, age = shown(*row.LastRotation, time.UTC), duration.HumanDuration(s.now.Sub(*row.LastRotation))
		}
		if row.NextRotation != nil {
			next = shown(*row.NextRotation, time.UTC)
		}
		if phase == "" {
			phase = "-"
		}
		if why == "" {
			why = "-"
		}
		fmt.Fprintf(table, "%s/%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", row.Namespace, row.Name, path, row.Strategy, phase, last, age, next, why)
	}
	return table.Flush()
}
