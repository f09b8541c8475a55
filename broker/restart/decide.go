package restart

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/privyseal/privyseal/broker/foreign"
	"github.com/privyseal/privyseal/broker/target"
	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/broker/waits"
	"github.com/privyseal/privyseal/rotation"
)

// Facts are all that is judged about one workload, gathered before.
type Facts struct {
	// Never: the workload's template says privyseal.io/restart: never.
	Never bool
	// RestartedFor is the template's privyseal.io/restarted-for; none where it
	// has none, or one that is malformed.
	RestartedFor map[string]int64
	// TemplateReads is what pods made from the template now would read by the
	// template's own references.
	TemplateReads Reads
	// Pods are the live ones: neither finished nor being deleted. A pod that
	// is being deleted will be gone whatever we do, and its successor reads
	// what is there now.
	Pods []Pod
	// Targets holds those that are ours, among the Secrets that pods and
	// template read, by name, and those of others that Reloader's annotations
	// select, by their names in package foreign. Other Secrets are not judged.
	Targets map[string]Target
	// Held says what keeps the workload from replacing its pods once its
	// template is patched; empty, as Rolling, where nothing does.
	Held Standing
	// Webhook is what gives pods their secrets at admission; the zero value
	// where nothing does that sees this namespace.
	Webhook Webhook
	// InjectedFor is the template's privyseal.io/injected-for.
	InjectedFor string
	// Workload is how claims name it: "Deployment/web".
	Workload string
	// AskedNow is the reason that the workload's privyseal.io/restart-now gives.
	AskedNow string
	// Hold is what windows keep back of the namespace's restarts now.
	Hold waits.Hold
	// Turn is what else keeps this one back now: the environment's restarts.
	Turn waits.Hold
	// Now is the time, by which it is judged whether something ends too soon to wait
	// for a turn. Zero: nothing does.
	Now time.Time
	// Misread is what has no effect of Reloader's annotations; nil: nothing.
	Misread error
}

// Pod is one live pod of the workload.
type Pod struct {
	Reads    Reads
	Evidence Evidence
	// Created in Unix seconds.
	Created int64
	// Template is the hash of the template that the pod was made from; alike
	// for all pods where it is not known.
	Template string
	// InjectedFor is what the pod's template was patched for, if it was.
	InjectedFor string
	// Line is the privyseal.io/restarted-for that its template had.
	Line string
	// Ready is since when the pod is; zero where it is not.
	Ready time.Time
	// Trouble says why it does not get ready; empty where it may yet.
	Trouble string
	// Lacks are the secrets that the pod's annotations ask for, as the
	// template's do, and that it does not have.
	Lacks []Lack
}

// Target is a Secret of ours.
type Target struct {
	Revisions target.Revisions
	// Claim is the name of its claim.
	Claim string
	// Restart is its claim's policy; empty means Auto.
	Restart v1alpha1.RestartPolicy
	// AskedNow is the reason that the claim's privyseal.io/restart-now gives.
	AskedNow string
	// RestartNow are the reasons that were noted, and what they are good for.
	RestartNow []v1alpha1.RestartNow
	// Leases are what the store has lent for its claim.
	Leases []v1alpha1.Lease
}

// Standing says how a workload stands to a target that it reads.
type Standing string

const (
	// Current: every live pod holds the present content of what it reads.
	Current Standing = "current"
	// Rolling: stale, and the restart is due or its rollout under way.
	Rolling Standing = "rolling"
	// HeldByWorkload: stale, and the template says privyseal.io/restart: never.
	HeldByWorkload Standing = "workload-never"
	// HeldByClaim: stale, and the claim says restart: Never.
	HeldByClaim Standing = "claim-never"
	// HeldByPause: the template is patched, but the Deployment is paused.
	HeldByPause Standing = "paused"
	// HeldByOnDelete: the template is patched, and the pods wait to be deleted
	// by hand.
	HeldByOnDelete Standing = "on-delete"
	// HeldByPartition: the template is patched, but the StatefulSet's
	// partition keeps pods on the old one.
	HeldByPartition Standing = "partition"
	// HeldByWindow: stale, and the environment's windows forbid the restart now.
	HeldByWindow Standing = "window"
	// HeldByTurn: stale, and others go first.
	HeldByTurn Standing = "turn"
	// HeldByFailure: stale, and the rollout of another that was restarted for the
	// same change fails.
	HeldByFailure Standing = "stopped"
	// HeldByDisruption: stale, and a PodDisruptionBudget has no pod to spare.
	HeldByDisruption Standing = "disruption"
	// Stuck: the rollout has been under way for too long.
	Stuck Standing = "stuck"
)

// Decision is what to do about one workload.
type Decision struct {
	// Stale are the targets of which a live pod holds an old content, sorted.
	Stale []Stale
	// Patch is the template's next restarted-for; nil: leave the template. It
	// covers every target of ours that the workload reads, so that one rollout
	// serves all that changed.
	Patch map[string]int64
	// Injection says how it stands with pods that lack a secret.
	Injection Injection
	// InjectedFor is the template's next injected-for; empty: leave it.
	InjectedFor string
	// Deferred: the template would be patched, and Hold forbids it now.
	Deferred bool
	// Hold is what forbids it; nothing where nothing does.
	Hold waits.Hold
	// RestartNow is the reason for which it is patched in spite of Hold; empty
	// where that holds nothing.
	RestartNow string
	// Ends is when what live pods hold ends, where it is patched in spite of Hold
	// for that.
	Ends time.Time
}

// Stale is one target whose old content a live pod holds.
type Stale struct {
	Target string
	// Keys that the workload reads and that have changed, sorted.
	Keys []string
	// Sequence at which the last of them changed.
	Sequence int64
	// Cause: the claim wants its consumers restarted, and no patch has covered
	// the change.
	Cause bool
	// Standing says what becomes of it.
	Standing Standing
}

// Decide says which targets a workload is stale for and whether its template
// is to be patched. The rules:
//
//   - A target's change is a cause if a live pod holds an old content of a key
//     that it reads, the claim says Auto, and the template's restarted-for has
//     not reached the change. Once it has, nothing is patched, whatever the
//     pods say: their rollout is running or held, and we wait.
//   - The workload's never wins over everything.
//   - A target whose claim says Never is no cause. When the template is
//     patched for another cause it is covered all the same, since the new pods
//     do hold its present content.
//   - That pods of the present template lack a secret they ask for is a cause
//     too, once for a webhook configuration: see Injection.
//   - Windows hold a patch back whatever it is for, and so does its turn, unless
//     somebody gave a reason to go now (see passes), or what pods hold would end
//     before it came (see goesEarly). One that goes covers everything.
//   - Counters only move forward. Those of targets that nobody reads any more
//     are dropped, or the line would grow with every renamed claim.
//
// It follows that a workload without live pods is never stale, and never
// restarted.
func Decide(facts Facts) Decision {
	decision := Decision{Stale: facts.stale()}
	decision.Injection = facts.injection()
	due := decision.Injection == InjectionDue || slices.ContainsFunc(decision.Stale, func(s Stale) bool { return s.Cause })
	due = due && !facts.Never
	if due {
		decision.Hold = facts.holds()
	}
	if decision.Hold.Holds() {
		decision.RestartNow = facts.passes(decision.Stale)
		decision.Deferred = decision.RestartNow == ""
	}
	if decision.Deferred {
		ends, keeps := facts.goesEarly(decision.Stale)
		decision.Ends, decision.Deferred = ends, ends.IsZero()
		if decision.Deferred {
			decision.Hold = keeps
		}
	}
	switch {
	case due && !decision.Deferred:
		decision.Patch = facts.covering()
		if decision.Injection == InjectionDue {
			decision.InjectedFor = facts.Webhook.UID
		}
	case decision.Injection == InjectionDue:
		decision.Injection = InjectionDeferred
	}
	for i := range decision.Stale {
		decision.Stale[i].Standing = facts.standing(decision.Stale[i], decision)
	}
	return decision
}

// Causes says in a few words what the patch is made for, with the names of
// targets and keys: "db (password changed, sequence 1763800000)".
func (d Decision) Causes() string {
	var causes []string
	if d.InjectedFor != "" {
		causes = append(causes, "injection (pods run without a secret that they ask for)")
	}
	for _, stale := range d.Stale {
		if stale.Cause {
			causes = append(causes, fmt.Sprintf("%s (%s changed, sequence %d)", stale.Target, few(stale.Keys), stale.Sequence))
		}
	}
	return few(causes)
}

// few lists the first of some names, and how many there are more.
func few(names []string) string {
	const shown = 5
	if more := len(names) - shown; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:shown], ", "), more)
	}
	return strings.Join(names, ", ")
}

// stale lists the targets of which a live pod holds an old content.
func (f Facts) stale() []Stale {
	var list []Stale
	for _, name := range slices.Sorted(maps.Keys(f.Targets)) {
		keys := f.staleKeys(name)
		if len(keys) == 0 {
			continue
		}
		stale := Stale{Target: name, Keys: keys}
		for _, key := range keys {
			stale.Sequence = max(stale.Sequence, f.Targets[name].Revisions.Keys[key][0].Sequence)
		}
		stale.Cause = f.Targets[name].Restart != v1alpha1.RestartNever && !f.covers(name, stale.Sequence)
		list = append(list, stale)
	}
	return list
}

// staleKeys of a target, over all live pods, sorted.
func (f Facts) staleKeys(name string) []string {
	var keys []string
	for _, pod := range f.Pods {
		if reads, reading := pod.Reads[name]; reading {
			keys = append(keys, f.Targets[name].Revisions.StaleKeys(pod.Evidence.Of(name), counting(name, reads))...)
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// counting are the keys read that a pod can be stale for. A rotation leaves
// the value before under <key>_previous for those who still need it; that it
// comes and goes is nobody's cause to restart. What is not ours is not rotated
// by us either.
func counting(target string, reads Keys) func(key string) bool {
	if foreign.IsTarget(target) {
		return reads.Has
	}
	return func(key string) bool { return reads.Has(key) && !rotation.IsPreviousKey(key) }
}

// covers says whether the template was restarted for a change already. A
// target that the line does not name was never restarted for, not even for
// sequence 0.
func (f Facts) covers(name string, sequence int64) bool {
	restarted, named := f.RestartedFor[name]
	return named && restarted >= sequence
}

// covering is the line that covers everything the workload reads.
func (f Facts) covering() map[string]int64 {
	line := map[string]int64{}
	cover := func(reads Reads) {
		for name := range reads {
			restarted, named := f.RestartedFor[name]
			known, ours := f.Targets[name]
			next := max(restarted, known.Revisions.Sequence())
			if foreign.IsTarget(name) && next == 0 {
				continue // it has not changed since it is watched, and most never do
			}
			if named || ours {
				line[name] = next
			}
		}
	}
	cover(f.TemplateReads)
	for _, pod := range f.Pods {
		cover(pod.Reads)
	}
	return line
}

// standing of a stale target, given what is to be done.
func (f Facts) standing(stale Stale, decision Decision) Standing {
	switch {
	case decision.Patch != nil || f.covers(stale.Target, stale.Sequence):
		return cmp.Or(f.Held, Rolling)
	case decision.Deferred:
		return heldBy(decision.Hold.Cause)
	case f.Never:
		return HeldByWorkload
	default:
		return HeldByClaim
	}
}

// holds is what holds a restart back: windows first, since nobody's turn comes
// while they are closed.
func (f Facts) holds() waits.Hold {
	if f.Hold.Holds() {
		return f.Hold
	}
	return f.Turn
}

// heldBy is how a workload stands that waits for this cause.
func heldBy(cause waits.Cause) Standing {
	switch cause {
	case waits.Turn:
		return HeldByTurn
	case waits.Stopped:
		return HeldByFailure
	case waits.Disrupted:
		return HeldByDisruption
	case waits.Nothing, waits.Closed, waits.Unknown, waits.NeverOpen:
	}
	return HeldByWindow
}

// waits says that the restart is not made yet, and comes by itself.
func (s Standing) waits() bool {
	switch s {
	case HeldByWindow, HeldByTurn, HeldByFailure, HeldByDisruption:
		return true
	}
	return false
}
