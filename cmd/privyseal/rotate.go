package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/annotation"
	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/rotation"
)

// Exit codes of rotate --wait beside the usual ones.
const (
	exitTakenBack = 3
	exitHalted    = 4
)

// rotating is one run of privyseal rotate.
type rotating struct {
	controller controller // of which it needs the cluster alone
	reason     string
	order      string
	wait       bool

	name   client.ObjectKey
	stdout io.Writer
	stderr io.Writer
	now    time.Time
}

func rotateCommand() *cobra.Command {
	r := &rotating{}
	command := &cobra.Command{
		Use:   "rotate NAME",
		Short: "Rotate a secret now, or say how a rotation that halted goes on",
		Long: `Rotate has a run of a SecretRotation begin at once, whatever its schedule and the
windows of its environment say; restarts wait for windows all the same. It asks the
daemon by the annotation privyseal.io/rotate-now, with a word that was not there
before, and needs get and patch on secretrotations, with --wait list and watch too.

--order says how a rotation that halted goes on, by privyseal.io/rotation-order:
Retry where it halted, RollBack, or Accept if the store and the system are as they
should be. Accept forgets both values.

Exit codes: 0 done, 1 not done, 2 wrong command line; with --wait, 0 it went well, or
as ordered, 3 it did not work and was taken back, 4 it halted. Who stops waiting
(Ctrl-C) stops nothing else.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError{errors.New("name one SecretRotation, as privyseal status rotations lists them")}
			}
			return nil
		},
		RunE: func(command *cobra.Command, args []string) error {
			r.stdout, r.stderr, r.now = command.OutOrStdout(), command.ErrOrStderr(), time.Now()
			return r.run(command.Context(), args[0])
		},
	}
	flags := command.Flags()
	flags.StringVar(&r.controller.kubeconfig, "kubeconfig", "", "file to reach the cluster with (default: as kubectl)")
	flags.StringVar(&r.controller.context, "context", "", "context of the kubeconfig (default: its current one)")
	flags.StringVarP(&r.controller.namespace, "namespace", "n", "", "namespace of the SecretRotation (default: the context's)")
	flags.StringVar(&r.reason, "reason", "", "why, in a few words, which the run and its history have in their name")
	flags.BoolVar(&r.wait, "wait", false, "print each phase, and end when the rotation does")
	flags.StringVar(&r.order, "order", "", "for one that halted: Retry, RollBack or Accept")
	return command
}

func (r *rotating) run(ctx context.Context, name string) error {
	word, err := r.word()
	if err != nil {
		return err
	}
	access, err := r.controller.config().ClientConfig()
	if err != nil {
		return fmt.Errorf("finding the cluster (give --kubeconfig): %w", err)
	}
	cluster, err := watchingClientFor(access)
	if err != nil {
		return err
	}
	r.name = client.ObjectKey{Namespace: r.controller.defaultNamespace(), Name: name}
	of, err := r.ask(ctx, cluster, word)
	if err != nil || !r.wait {
		return err
	}
	return r.follow(ctx, cluster, of, word)
}

// longestWord is what package annotation reads of one.
const longestWord = 64

// word that was not there before. What is ordered stands at its head.
func (r *rotating) word() (string, error) {
	known := []rotation.What{rotation.Retry, rotation.TakeBack, rotation.Accept}
	if r.order != "" && !slices.Contains(known, rotation.What(r.order)) {
		return "", usageError{fmt.Errorf("--order %q: want %s, %s or %s", r.order, known[0], known[1], known[2])}
	}
	if strings.ContainsFunc(r.reason, func(c rune) bool { return !unicode.IsPrint(c) }) {
		return "", usageError{errors.New("--reason has a character that cannot be printed; write a few words")}
	}
	fresh := r.now.UTC().Format("20060102T150405Z") + "-" + strings.ToLower(rand.Text()[:4])
	words := append(strings.Fields(r.order), strings.Fields(r.reason)...)
	word := strings.Join(append(words, fresh), " ")
	if over := len(word) - longestWord; over > 0 {
		return "", usageError{fmt.Errorf("--reason is %d bytes too long; there is room for %d", over, len(r.reason)-over)}
	}
	return word, nil
}

// ask the daemon, unless it is plain that it would not obey.
func (r *rotating) ask(ctx context.Context, cluster client.Client, word string) (*v1alpha1.SecretRotation, error) {
	of := &v1alpha1.SecretRotation{}
	if err := cluster.Get(ctx, r.name, of); err != nil {
		return nil, r.reading(err)
	}
	if err := r.disobeyed(of); err != nil {
		return nil, err
	}
	before := of.DeepCopy()
	if of.Annotations == nil {
		of.Annotations = map[string]string{}
	}
	of.Annotations[r.annotation()] = word
	// Over what was looked at: what somebody else says meanwhile is not for us to
	// take back.
	err := cluster.Patch(ctx, of, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
	switch {
	case apierrors.IsConflict(err):
		return nil, fmt.Errorf("SecretRotation %s changed a moment ago, and nothing was asked for; try again", r.name)
	case apierrors.IsForbidden(err):
		return nil, fmt.Errorf("annotating SecretRotation %s (that needs patch on secretrotations): %w", r.name, err)
	case err != nil:
		return nil, fmt.Errorf("annotating SecretRotation %s: %w", r.name, err)
	}
	return of, r.tellAsked(of)
}

func (r *rotating) annotation() string {
	if r.order != "" {
		return annotation.RotationOrder
	}
	return annotation.RotateNow
}

func (r *rotating) reading(err error) error {
	switch {
	case meta.IsNoMatchError(err):
		return errors.New("the cluster has no kind SecretRotation: Privyseal is not installed there, or another version")
	case apierrors.IsNotFound(err):
		return fmt.Errorf("there is no SecretRotation %s; privyseal status rotations -A lists them", r.name)
	case apierrors.IsForbidden(err):
		return fmt.Errorf("reading SecretRotation %s (that needs get on secretrotations): %w", r.name, err)
	}
	return fmt.Errorf("reading SecretRotation %s: %w", r.name, err)
}

// disobeyed says why the daemon would do nothing.
func (r *rotating) disobeyed(of *v1alpha1.SecretRotation) error {
	halted := of.Status.Phase == string(rotation.Halted)
	ready := meta.FindStatusCondition(of.Status.Conditions, v1alpha1.ConditionReady)
	switch {
	case r.order != "" && !halted:
		return fmt.Errorf("SecretRotation %s has not halted (%s): there is nothing to order", r.name, phaseOf(of))
	case r.order != "":
		return nil
	case halted:
		return fmt.Errorf("SecretRotation %s halted: %s; say how it goes on by --order Retry, RollBack or Accept", r.name, of.Status.Why)
	case of.Spec.Suspend:
		return fmt.Errorf("SecretRotation %s is suspended: no run begins before spec.suspend is false", r.name)
	case ready != nil && ready.Status == metav1.ConditionFalse && ready.ObservedGeneration == of.Generation:
		return fmt.Errorf("SecretRotation %s cannot be carried out (%s): %s", r.name, ready.Reason, ready.Message)
	}
	return nil
}

func (r *rotating) tellAsked(of *v1alpha1.SecretRotation) error {
	what := "a run at once"
	if r.order != "" {
		what = r.order
	}
	after := ""
	if phase := rotation.Phase(of.Status.Phase); r.order == "" && !phase.Ended() {
		after = fmt.Sprintf("; run %s is under way (%s), and goes first", of.Status.Run, phase)
	}
	_, err := fmt.Fprintf(r.stdout, "%s: asked for %s%s\n", r.name, what, after)
	return err
}

// phaseOf is what people call it.
func phaseOf(of *v1alpha1.SecretRotation) string {
	if of.Status.Phase == "" {
		return "it never ran"
	}
	return of.Status.Phase
}
