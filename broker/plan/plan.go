// Package plan says which workloads would restart, when, and what stands in the
// way, and restarts none.
//
// It knows no rules of its own. What a workload's pods hold is gathered and
// judged by package restart, from objects that somebody may list with their own
// rights, or from manifests that describe them; a change that is only thought of
// is put into what was gathered, as one more revision of a target, and then
// restart.Decide is asked. No value is read, and of digests nothing is told.
package plan

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/privyseal/privyseal/broker/annotation"
	"github.com/privyseal/privyseal/broker/restart"
	"github.com/privyseal/privyseal/broker/waits"
)

// Plan is what would become of workloads.
type Plan struct {
	// At is the moment that is looked at.
	At time.Time `json:"at"`
	// Changes that it is made for, as "pay/db:password"; none: what is stale now.
	Changes []string `json:"changes"`
	// Workloads that read what changed: those that restart in their order, then
	// the others.
	Workloads []Entry `json:"workloads"`
}

// Outcome of a workload.
type Outcome string

// The outcomes.
const (
	// Restarts: its pods are replaced.
	Restarts Outcome = "restarts"
	// Waits: its template is patched, and its pods are not replaced until
	// somebody does something.
	Waits Outcome = "waits"
	// Rolls: its template was patched already.
	Rolls Outcome = "rolls"
	// Blocked: nothing is patched until somebody mends something.
	Blocked Outcome = "blocked"
	// Stays: it is left alone, and its pods keep what they hold.
	Stays Outcome = "stays"
)

// Entry is one workload.
type Entry struct {
	// Order in which restarts begin, from 1; 0: none does.
	Order int `json:"order,omitempty"`
	// Wave, from 1: those of one may roll out together.
	Wave int `json:"wave,omitempty"`

	Kind      string  `json:"kind"`
	Namespace string  `json:"namespace"`
	Name      string  `json:"name"`
	Outcome   Outcome `json:"outcome"`
	// At is when its template is patched at the earliest; zero: it is not.
	At time.Time `json:"at,omitzero"`
	// Environment whose rules hold; empty: none's.
	Environment string `json:"environment,omitempty"`
	// Pods that live; nil where files do not say how many.
	Pods *int `json:"pods,omitempty"`
	// Secrets whose change it is for.
	Secrets []Touched `json:"secrets"`
	// Injection: its pods lack a secret that they ask for.
	Injection bool `json:"injection,omitempty"`
	// Blocks are what it waits for, or stays for.
	Blocks []Block `json:"blocks"`
	// RestartNow is the reason that somebody gives for not waiting for a window.
	RestartNow string `json:"restartNow,omitempty"`
	// Ends is when what its pods hold ends, where it does not wait for a window for
	// that.
	Ends time.Time `json:"ends,omitzero"`
}

// Touched is a Secret with an old content in a live pod.
type Touched struct {
	Secret string `json:"secret"`
	// Claim that makes it; empty for one that a SealedSecret makes.
	Claim string `json:"claim,omitempty"`
	// Keys that changed and that the pods read; "*" is any.
	Keys []string `json:"keys"`
}

// Block is one thing that stands in the way.
type Block struct {
	// Reason is a restart.Standing, NoPods or UnusableWindows.
	Reason restart.Standing `json:"reason"`
	// Says what it is, and what to do about it where that is not plain.
	Says string `json:"says"`
	// Until when; zero: until somebody does something.
	Until time.Time `json:"until,omitzero"`
}

// Reasons beside those of package restart.
const (
	// NoPods: no live pod, and what starts reads what is there then.
	NoPods restart.Standing = "no-pods"
	// UnusableWindows: the environment's windows let nothing restart, ever.
	UnusableWindows restart.Standing = "windows-unusable"
)

// Question is what a plan answers.
type Question struct {
	// At is the moment that is looked at.
	At time.Time
	// Changes that happen then; none: what is stale already.
	Changes []Change
	// MaxConcurrent is how many workloads the daemon lets roll out at once in the
	// whole cluster; 0: any number.
	MaxConcurrent int
}

// Make a plan.
func (w *World) Make(ctx context.Context, question Question) (Plan, error) {
	plan := Plan{At: question.At.UTC(), Changes: []string{}, Workloads: []Entry{}}
	for _, change := range question.Changes {
		plan.Changes = append(plan.Changes, change.String())
	}
	looker := restart.NewLooker(w.snapshot, restart.Config{Webhook: w.webhook, MaxConcurrent: question.MaxConcurrent}, question.At)
	var entries []*Entry
	var all []*due
	for _, workload := range w.workloads {
		facts, err := looker.Facts(ctx, workload)
		if err != nil {
			return Plan{}, err
		}
		assume(&facts, workload.Namespace, question.At, question.Changes)
		entry, decision := w.entry(workload, facts, question)
		if entry == nil {
			continue
		}
		if entry.Environment, err = w.environmentOf(ctx, workload.Namespace); err != nil {
			return Plan{}, err
		}
		entries = append(entries, entry)
		if entry.At.IsZero() {
			continue
		}
		candidate, err := looker.Candidate(ctx, workload, facts, decision)
		if err != nil {
			return Plan{}, err
		}
		all = append(all, &due{Candidate: candidate, entry: entry, passes: entry.RestartNow != ""})
	}
	if err := takeTurns(ctx, looker, all, question.At); err != nil {
		return Plan{}, err
	}
	slices.SortFunc(entries, compareEntries)
	for _, entry := range entries {
		plan.Workloads = append(plan.Workloads, *entry)
	}
	return plan, nil
}

// entry of a workload; nil where nothing becomes of it.
func (w *World) entry(workload restart.Workload, facts restart.Facts, question Question) (*Entry, restart.Decision) {
	decision := restart.Decide(facts)
	entry := &Entry{
		Kind: workload.Kind, Namespace: workload.Namespace, Name: workload.Name,
		Pods: new(len(facts.Pods)), Secrets: []Touched{}, Blocks: []Block{},
		Injection: decision.InjectedFor != "" || decision.Injection == restart.InjectionDeferred,
	}
	if replicas, described := w.replicas[workload]; described {
		entry.Pods = replicas
	}
	for _, stale := range decision.Stale {
		entry.Secrets = append(entry.Secrets, Touched{stale.Target, facts.Targets[stale.Target].Claim, stale.Keys})
	}
	switch {
	case len(decision.Stale) > 0 || entry.Injection:
		entry.judge(facts, decision, question.At)
	case len(facts.Pods) == 0:
		entry.Secrets = w.readsOf(workload, question.Changes)
		entry.Outcome = Stays
		entry.block(NoPods, "it has no live pods; those that start read what is there then", time.Time{})
	}
	if len(entry.Secrets) == 0 && !entry.Injection {
		return nil, decision
	}
	return entry, decision
}

// judge says what becomes of a workload with pods that hold something old.
func (e *Entry) judge(facts restart.Facts, decision restart.Decision, at time.Time) {
	e.RestartNow, e.Ends = decision.RestartNow, decision.Ends
	switch {
	case decision.Patch != nil:
		e.Outcome, e.At = Restarts, at.UTC()
	case decision.Deferred:
		e.waitForWindow(facts, decision, at)
	default:
		e.stay(decision)
	}
	if e.Outcome == Restarts && facts.Held != restart.Rolling && facts.Held != "" {
		e.Outcome = Waits
		e.block(facts.Held, says(facts.Held, e.Kind), time.Time{})
	}
}

func (e *Entry) waitForWindow(facts restart.Facts, decision restart.Decision, at time.Time) {
	hold := decision.Hold
	switch reason := facts.Unnoted(decision.Stale); {
	case reason != "":
		e.Outcome, e.At, e.RestartNow = Restarts, at.UTC(), reason
	case hold.Cause == waits.Closed:
		e.Outcome, e.At = Restarts, hold.Until.UTC()
		e.hold(hold)
	default:
		e.Outcome = Blocked
		e.hold(hold)
	}
}

// hold adds what keeps it back for a while.
func (e *Entry) hold(hold waits.Hold) {
	reason, until := restart.HeldByWindow, time.Time{}
	switch hold.Cause {
	case waits.Closed:
		until = hold.Until.UTC()
	case waits.Unknown, waits.NeverOpen:
		reason = UnusableWindows
	case waits.Turn:
		reason = restart.HeldByTurn
	case waits.Stopped:
		reason = restart.HeldByFailure
	case waits.Disrupted:
		reason = restart.HeldByDisruption
	case waits.Nothing:
	}
	e.block(reason, hold.Says(), until)
}

// stay says why nothing is patched.
func (e *Entry) stay(decision restart.Decision) {
	e.Outcome = Rolls
	for i, stale := range decision.Stale {
		switch stale.Standing {
		case restart.HeldByWorkload:
			e.Outcome = Stays
			e.block(stale.Standing, "annotation "+annotation.Restart+" of its template says never", time.Time{})
		case restart.HeldByClaim:
			e.Outcome = Stays
			e.block(stale.Standing, claimNever(e.Secrets[i].Claim), time.Time{})
		case restart.HeldByPause, restart.HeldByOnDelete, restart.HeldByPartition:
			e.Outcome = Waits
			e.block(stale.Standing, says(stale.Standing, e.Kind), time.Time{})
		case restart.Current, restart.Rolling, restart.HeldByWindow, restart.Stuck:
		}
	}
}

// block adds one, once.
func (e *Entry) block(reason restart.Standing, says string, until time.Time) {
	one := Block{reason, says, until}
	if !slices.Contains(e.Blocks, one) {
		e.Blocks = append(e.Blocks, one)
	}
}

func claimNever(claim string) string {
	return fmt.Sprintf("spec.restart of claim %s says Never", claim)
}

func says(held restart.Standing, kind string) string {
	switch held {
	case restart.HeldByPause:
		return fmt.Sprintf("the %s is paused; its pods are replaced when it is resumed", kind)
	case restart.HeldByOnDelete:
		return fmt.Sprintf("the %s replaces pods (updateStrategy OnDelete) when somebody deletes them", kind)
	case restart.HeldByPartition:
		return fmt.Sprintf("the %s's partition keeps pods on the template of before", kind)
	}
	return string(held)
}

// compareEntries puts those that restart into their order, then those that roll
// or wait, then the others.
func compareEntries(a, b *Entry) int {
	return cmp.Or(
		cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Order, b.Order),
		cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
}

func rank(e *Entry) int {
	switch {
	case e.Order > 0:
		return 0
	case e.Outcome != Stays:
		return 1
	}
	return 2
}
