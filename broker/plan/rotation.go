package plan

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/claim"
	"github.com/privyseal/privyseal/broker/restart"
	"github.com/privyseal/privyseal/broker/rotate"
	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/broker/window"
	"github.com/privyseal/privyseal/rotation"
)

// ErrRotation: there is no such rotation, or several have the name.
var ErrRotation = errors.New("no such rotation")

// RotationPlan is what would come of a rotation's next run.
type RotationPlan struct {
	// At is the moment that is looked at.
	At        time.Time `json:"at"`
	Namespace string    `json:"namespace"`
	Name      string    `json:"name"`
	// Path from the store's root; as it is written where it is refused.
	Path        string `json:"path"`
	Store       string `json:"store,omitempty"`
	Environment string `json:"environment,omitempty"`
	Strategy    string `json:"strategy"`
	Schedule    string `json:"schedule"`
	// Phase of the last run, or of the one under way; empty: it never ran.
	Phase string `json:"phase,omitempty"`
	// Run that is under way or comes next, by its id.
	Run string `json:"run,omitempty"`
	// Begins is when at the earliest; zero: it has begun, or nobody can say.
	Begins time.Time `json:"begins,omitzero"`
	// Keys of the document that change; none where no claim reads what an engine makes.
	Keys []string `json:"keys"`
	// Blocks are what stands in the way of the run.
	Blocks []Block `json:"blocks"`
	// Claims that read the document.
	Claims []Following `json:"claims"`
	// Restarts are what comes of it for workloads, once the store has the new values;
	// from the moment that is looked at, where nobody can say when it begins.
	Restarts Plan `json:"restarts"`
}

// Following is a claim that reads the document of a rotation.
type Following struct {
	Claim  string `json:"claim"`
	Secret string `json:"secret"`
	// Keys of the Secret that change.
	Keys []string `json:"keys"`
	// Stays says why the Secret stays as it is; empty: it follows.
	Stays string `json:"stays,omitempty"`
}

// What stands in the way of a run.
const (
	// Refused: the rotation cannot be carried out as it is written.
	Refused restart.Standing = "refused"
	// Suspended by its spec.
	Suspended restart.Standing = "suspended"
	// Halted: somebody has to say how it goes on.
	Halted restart.Standing = "halted"
	// UnderWay: a run is, and goes first.
	UnderWay restart.Standing = "under-way"
	// SamePath: another rotation of the path goes first.
	SamePath restart.Standing = "same-path"
	// TakenBack: it would not end well.
	TakenBack restart.Standing = "taken-back"
)

// Rotation of a name; in any namespace where that is empty. Errors wrap ErrRotation
// and say what is there.
func (w *World) Rotation(namespace, name string) (*v1alpha1.SecretRotation, error) {
	var found, names []string
	var of *v1alpha1.SecretRotation
	for _, one := range w.rotations {
		full := one.Namespace + "/" + one.Name
		names = append(names, full)
		if one.Name == name && (namespace == "" || one.Namespace == namespace) {
			found, of = append(found, full), one
		}
	}
	slices.Sort(names)
	switch {
	case len(found) == 1:
		return of, nil
	case len(found) > 1:
		return nil, fmt.Errorf("%s: %w: there are %s; say which by --namespace", name, ErrRotation, strings.Join(found, ", "))
	case len(names) == 0:
		return nil, fmt.Errorf("%s: %w: there is no SecretRotation %s", name, ErrRotation, w.where)
	}
	const shown = 8
	more := ""
	if over := len(names) - shown; over > 0 {
		names, more = names[:shown], fmt.Sprintf(" and %d more", over)
	}
	return nil, fmt.Errorf("%s: %w: there is none of that name, but %s%s", name, ErrRotation, strings.Join(names, ", "), more)
}

// PlanRotation says what comes of a rotation's next run. Of question, At and
// MaxConcurrent count.
func (w *World) PlanRotation(ctx context.Context, of *v1alpha1.SecretRotation, question Question) (RotationPlan, error) {
	made := RotationPlan{
		At: question.At.UTC(), Namespace: of.Namespace, Name: of.Name, Path: rotate.PathOf(of.Spec), Schedule: of.Spec.Schedule,
		Strategy: rotate.StrategyOf(of.Spec), Phase: of.Status.Phase, Keys: rotate.KeysOf(of), Blocks: []Block{}, Claims: []Following{},
	}
	place, refusal, err := w.placeOf(ctx, of)
	if err != nil {
		return RotationPlan{}, err
	}
	made.look(of, place, refusal, question.At)
	if refusal == nil {
		made.Path, made.Store, made.Environment = place.Ref.String(), place.Store.Name, place.Home.Name
		if question.Changes, err = w.follow(ctx, &made, place); err != nil {
			return RotationPlan{}, err
		}
		if err := w.rivals(ctx, &made, of, place); err != nil {
			return RotationPlan{}, err
		}
	}
	if !made.Begins.IsZero() {
		question.At = made.Begins
	}
	if len(question.Changes) == 0 {
		made.Restarts = Plan{At: question.At.UTC(), Changes: []string{}, Workloads: []Entry{}}
		return made, nil
	}
	made.Restarts, err = w.Make(ctx, question)
	made.verified(of)
	return made, err
}

// placeOf a rotation's document, or why there is none.
func (w *World) placeOf(ctx context.Context, of *v1alpha1.SecretRotation) (claim.Place, *claim.Refusal, error) {
	field, path := rotate.Document(of.Spec)
	place, err := claim.Gatherer{Cache: w.snapshot}.Place(ctx, of.Namespace, of.Spec.StoreRef, field, path)
	var refusal *claim.Refusal
	if errors.As(err, &refusal) {
		return claim.Place{}, refusal, nil
	}
	return place, nil, err
}

// look which run is next, and what holds it back.
func (p *RotationPlan) look(of *v1alpha1.SecretRotation, place claim.Place, refusal *claim.Refusal, at time.Time) {
	var windows []window.Window
	if refusal == nil {
		windows = restart.WindowsOf(place.Home)
	}
	outlook := rotate.LookAhead(of, windows, at)
	p.Run, p.Begins = outlook.Run, outlook.Begins.UTC()
	if outlook.Begins.IsZero() {
		p.Begins = time.Time{}
	}
	refuse := func(says string) {
		p.block(Refused, says, time.Time{})
		p.Begins = time.Time{}
	}
	if outlook.Refusal != nil {
		refuse(outlook.Refusal.Message)
	}
	if _, path := rotate.Document(of.Spec); refusal != nil && (path != "" || outlook.Refusal == nil) {
		refuse(refusal.Message)
	}
	ready := meta.FindStatusCondition(of.Status.Conditions, v1alpha1.ConditionReady)
	if len(p.Blocks) == 0 && ready != nil && ready.Status != metav1.ConditionTrue && ready.ObservedGeneration == of.Generation {
		refuse(ready.Message)
	}
	switch phase := outlook.State.Phase; {
	case phase == rotation.Halted:
		p.block(Halted, fmt.Sprintf("run %s halted: %s; say how it goes on by privyseal rotate --order", of.Status.Run, of.Status.Why), time.Time{})
	case !phase.Ended():
		p.block(UnderWay, fmt.Sprintf("run %s is under way: %s", of.Status.Run, phase), time.Time{})
	}
	switch {
	case of.Spec.Suspend:
		p.block(Suspended, "spec.suspend says so; what was missed meanwhile is made up afterwards", time.Time{})
	case outlook.Hold != "" && outlook.Begins.IsZero():
		p.block(restart.HeldByWindow, outlook.Hold, time.Time{})
	case outlook.Hold != "":
		p.block(restart.HeldByWindow, outlook.Hold, outlook.Begins.UTC())
	}
}

// block adds one, once.
func (p *RotationPlan) block(reason restart.Standing, says string, until time.Time) {
	one := Block{reason, says, until}
	if !slices.Contains(p.Blocks, one) {
		p.Blocks = append(p.Blocks, one)
	}
}

// follow finds the claims that read the document, and gives what changes in their
// Secrets.
func (w *World) follow(ctx context.Context, p *RotationPlan, place claim.Place) ([]Change, error) {
	var changes []Change
	for _, one := range w.claims {
		stance, err := claim.Gatherer{Cache: w.snapshot}.Stance(ctx, one, place, p.Keys)
		if err != nil {
			return nil, err
		}
		if !stance.Reads {
			continue
		}
		target := one.TargetName()
		following := Following{Claim: client.ObjectKeyFromObject(one).String(), Secret: target.String(), Keys: []string{}, Stays: stance.Stays}
		for _, key := range stance.Keys {
			following.Keys = append(following.Keys, key)
			changes = append(changes, Change{Secret: target, Key: key})
		}
		p.Claims = append(p.Claims, following)
		ready := meta.FindStatusCondition(one.Status.Conditions, v1alpha1.ConditionReady)
		if stance.Stays == "" && ready != nil && ready.Status == metav1.ConditionFalse {
			p.block(TakenBack, fmt.Sprintf("claim %s is not in order (%s), and its Secret would not get the new values: %s", following.Claim, ready.Reason, ready.Message), time.Time{})
		}
	}
	slices.SortFunc(p.Claims, func(a, b Following) int { return strings.Compare(a.Claim, b.Claim) })
	slices.SortFunc(changes, func(a, b Change) int { return strings.Compare(a.String(), b.String()) })
	return changes, nil
}

// rivals are other rotations of the same document, of which the one that was made
// first is carried out.
func (w *World) rivals(ctx context.Context, p *RotationPlan, of *v1alpha1.SecretRotation, place claim.Place) error {
	for _, other := range w.rotations {
		if client.ObjectKeyFromObject(other) == client.ObjectKeyFromObject(of) {
			continue
		}
		at, refusal, err := w.placeOf(ctx, other)
		if err != nil {
			return err
		}
		if refusal != nil || at.Ref != place.Ref || !at.Store.Same(place.Store) {
			continue
		}
		name := types.NamespacedName{Namespace: other.Namespace, Name: other.Name}
		switch {
		case other.CreationTimestamp.IsZero() && of.CreationTimestamp.IsZero():
			p.block(SamePath, fmt.Sprintf("SecretRotation %s rotates %s too, and only the one that is made first is carried out; delete one of them, or give it another path", name, p.Path), time.Time{})
		case rotate.MadeBefore(other, of):
			p.block(SamePath, fmt.Sprintf("SecretRotation %s, made before, rotates %s too; delete one of them, or give it another path", name, p.Path), time.Time{})
			p.Begins = time.Time{}
		}
	}
	return nil
}

// verified says which workloads would not get to where the rotation waits for them.
func (p *RotationPlan) verified(of *v1alpha1.SecretRotation) {
	if of.Spec.Verify == nil || of.Spec.Verify.Consumers != v1alpha1.ConsumersReady {
		return
	}
	becomes := "the rotation would be taken back"
	if of.Spec.OnFailure == v1alpha1.RotationHalt {
		becomes = "the rotation would halt"
	}
	for _, entry := range p.Restarts.Workloads {
		gets := entry.Outcome == Restarts || entry.Outcome == Rolls
		idle := slices.ContainsFunc(entry.Blocks, func(b Block) bool { return b.Reason == NoPods })
		if !gets && !idle {
			p.block(TakenBack, fmt.Sprintf("spec.verify.consumers waits for %s/%s/%s, whose pods keep the old values (%s); %s",
				entry.Namespace, entry.Kind, entry.Name, reasons(entry), becomes), time.Time{})
		}
	}
}

func reasons(entry Entry) string {
	var all []string
	for _, block := range entry.Blocks {
		all = append(all, string(block.Reason))
	}
	return strings.Join(all, ", ")
}
