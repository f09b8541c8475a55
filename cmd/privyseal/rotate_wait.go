package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker"
	"github.com/privyseal/privyseal/broker/annotation"
	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/rotation"
)

const (
	// unanswered is how long a daemon may take to begin before somebody is told
	// that nothing happens.
	unanswered = 20 * time.Second
	// watchAgain is how soon a watch is tried again that ended.
	watchAgain = time.Second
)

// coded is an error with an exit code of its own.
type coded struct {
	error
	code int
}

// following is how far somebody who waits has seen it.
type following struct {
	rotating *rotating
	word     string
	// run that is followed.
	run string
	// told is the last line.
	told string
	// began: the daemon has heard.
	began bool
}

func watchingClientFor(access *rest.Config) (client.WithWatch, error) {
	scheme, err := broker.Scheme()
	if err != nil {
		return nil, err
	}
	made, err := client.NewWithWatch(access, client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("reaching the cluster: %w", err)
	}
	return made, nil
}

// follow the run that was asked for to its end. The API server ends watches at times,
// and a new one goes on with what there is then.
func (r *rotating) follow(ctx context.Context, cluster client.WithWatch, of *v1alpha1.SecretRotation, word string) error {
	f := &following{rotating: r, word: word, run: "now:" + word}
	if r.order != "" {
		f.run = of.Status.Run
	}
	if ended, err := f.see(of); ended {
		return err
	}
	silence := time.NewTimer(unanswered)
	defer silence.Stop()
	for {
		ended, err := f.watch(ctx, cluster, silence.C)
		if ctx.Err() != nil {
			return fmt.Errorf("nobody waits any more, and rotation %s goes on; privyseal status rotations says how far it is", r.name)
		}
		if ended || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(watchAgain):
		}
	}
}

// watch until it ends, or the watch does.
func (f *following) watch(ctx context.Context, cluster client.WithWatch, silence <-chan time.Time) (ended bool, _ error) {
	only := client.MatchingFieldsSelector{Selector: fields.OneTermEqualSelector("metadata.name", f.rotating.name.Name)}
	events, err := cluster.Watch(ctx, &v1alpha1.SecretRotationList{}, client.InNamespace(f.rotating.name.Namespace), only)
	if apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) {
		return false, fmt.Errorf("waiting for SecretRotation %s, which was asked for (that needs watch on secretrotations): %w", f.rotating.name, err)
	}
	if err != nil {
		return false, nil //nolint:nilerr // the API server may be away for a while
	}
	defer events.Stop()
	for {
		select {
		case <-ctx.Done():
			return false, nil
		case <-silence:
			if !f.began {
				_, _ = fmt.Fprintf(f.rotating.stderr, "privyseal: note: no daemon has taken it up yet: %s\n", f.waitsFor())
			}
		case event, open := <-events.ResultChan():
			if !open {
				return false, nil
			}
			if ended, err := f.happened(event); ended || err != nil {
				return ended, err
			}
		}
	}
}

func (f *following) waitsFor() string {
	if f.told != "" {
		return "what goes first is " + f.told
	}
	return "is one running?"
}

func (f *following) happened(event watch.Event) (ended bool, _ error) {
	of, is := event.Object.(*v1alpha1.SecretRotation)
	switch {
	case !is:
		return false, nil // the watch ends with what went wrong with it
	case event.Type == watch.Deleted:
		return true, fmt.Errorf("SecretRotation %s was deleted meanwhile", f.rotating.name)
	}
	return f.see(of)
}

// see how far it is, and say so if that is news.
func (f *following) see(of *v1alpha1.SecretRotation) (ended bool, _ error) {
	status, phase := of.Status, rotation.Phase(of.Status.Phase)
	f.began = f.began || f.heard(status)
	line := fmt.Sprintf("run %s: %s", status.Run, phaseOf(of))
	if rotated := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionRotated); rotated != nil && phase != rotation.Done {
		// The line says the run and its phase already.
		said := strings.TrimPrefix(rotated.Message, "run "+status.Run+" is in phase "+status.Phase)
		if said = strings.TrimLeft(said, ": "); said != "" {
			line += " (" + said + ")"
		}
	}
	if f.began && line != f.told || !f.began && !phase.Ended() && line != f.told {
		f.told = line
		if _, err := fmt.Fprintln(f.rotating.stdout, line); err != nil {
			return true, err
		}
	}
	switch {
	case !f.began:
		return f.prevented(of)
	case status.Run != f.run && f.rotating.order == "":
		return f.overtaken(status)
	}
	return f.ended(status)
}

// heard says whether the daemon did what was asked for.
func (f *following) heard(status v1alpha1.SecretRotationStatus) bool {
	if f.rotating.order != "" {
		return status.Obeyed == f.word
	}
	return status.RotatedNow == f.word
}

// prevented says whether it will never begin.
func (f *following) prevented(of *v1alpha1.SecretRotation) (ended bool, _ error) {
	if is := annotation.Word(of.Annotations, f.rotating.annotation()); is != f.word {
		return true, fmt.Errorf("it did not begin: somebody else set %s to %q", f.rotating.annotation(), is)
	}
	if err := f.rotating.disobeyed(of); err != nil && rotation.Phase(of.Status.Phase).Ended() {
		return true, fmt.Errorf("it did not begin: %w", err)
	}
	return false, nil
}

// overtaken is where another run is the last one: ours is in the history, or it had
// not begun to change anything, and the other is for both.
func (f *following) overtaken(status v1alpha1.SecretRotationStatus) (ended bool, _ error) {
	for _, past := range status.History {
		if past.Run == f.run {
			return f.ended(v1alpha1.SecretRotationStatus{Run: past.Run, Phase: past.Phase, Why: past.Why})
		}
	}
	f.run = status.Run
	return f.ended(status)
}

// ended says how, if it has.
func (f *following) ended(status v1alpha1.SecretRotationStatus) (bool, error) {
	switch rotation.Phase(status.Phase) {
	case rotation.Done, rotation.Accepted:
		return true, nil
	case rotation.RolledBack:
		if f.rotating.order == string(rotation.TakeBack) {
			return true, nil
		}
		return true, coded{fmt.Errorf("run %s was taken back: %s", status.Run, status.Why), exitTakenBack}
	case rotation.Halted:
		return true, coded{fmt.Errorf("run %s halted: %s; say how it goes on by --order Retry, RollBack or Accept", status.Run, status.Why), exitHalted}
	}
	return false, nil
}

// exitCode of an error that says it; 1 for others.
func exitCode(err error) int {
	var says coded
	if errors.As(err, &says) {
		return says.code
	}
	return 1
}
