package sealedsecret

import (
	"time"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// standbyAfter is how long a claim's store goes without an answer before a
// standby makes the target in its place. A store that is restarted is back
// before that.
const standbyAfter = 2 * time.Minute

// firstTry is how long a claim is left to be looked at for the first time.
const firstTry = 5 * time.Second

// StandbyFacts is what decides about a SealedSecret with the annotation
// privyseal.io/standby: "true".
type StandbyFacts struct {
	// Exists says that there is a Secret of the target's name, whosever it is.
	Exists bool

	// Claim is the claim that names that Secret as its target; nil where none
	// does.
	Claim *v1alpha1.SecretClaim

	// Unavailable is for how long the claim's store has been known not to
	// answer; 0 where it answers, or nothing is known.
	Unavailable time.Duration
}

// StandbyVerdict is what becomes of a standby.
type StandbyVerdict string

// What becomes of a standby.
const (
	// StandbyCreate makes the Secret, with a create and nothing else.
	StandbyCreate StandbyVerdict = "Create"
	// StandbyWait leaves it for now, and looks again.
	StandbyWait StandbyVerdict = "Wait"
	// StandbyRefuse leaves it until the claim says something else.
	StandbyRefuse StandbyVerdict = "Refuse"
)

// StandbyDecision is a verdict and why.
type StandbyDecision struct {
	Verdict StandbyVerdict
	Why     string
	// Again is when to look again; 0: when something changes.
	Again time.Duration
}

// DecideStandby is pure. The rules are looked at in order:
//
// A standby never changes a Secret that is there: an old copy would put an old
// value over the last good one.
//
// A store that says no is no store that is gone. Whoever can make a claim fail
// could bring a withdrawn credential back otherwise, so a standby is refused
// while the store denies the claim, or has nothing at its path, or an
// environment does not allow it.
//
// Else the claim has the first try, unless it never had a target, or its store
// has not answered for longer than standbyAfter.
func DecideStandby(facts StandbyFacts) StandbyDecision {
	claim := facts.Claim
	switch {
	case facts.Exists:
		return StandbyDecision{Verdict: StandbyWait, Why: "the Secret is there; a standby never changes one"}
	case claim == nil:
		return StandbyDecision{Verdict: StandbyCreate, Why: "no claim makes the Secret"}
	}
	reason, stale := whyNot(claim)
	switch {
	case refuses(reason):
		return StandbyDecision{Verdict: StandbyRefuse, Why: "claim " + claim.Name + " is refused (" + reason + "), which is no outage; correct the claim, or delete it to have the Secret from this copy"}
	case claim.Status.Target == nil && reason == "":
		// Whoever deletes and makes a claim again must not get the old value for
		// a moment, where the store would answer.
		return StandbyDecision{Verdict: StandbyWait, Why: "claim " + claim.Name + " is new, and its store has not been asked yet", Again: firstTry}
	case claim.Status.Target == nil && reason == v1alpha1.ReasonStoreUnavailable:
		return StandbyDecision{Verdict: StandbyCreate, Why: "claim " + claim.Name + " has never had its Secret"}
	case stale || facts.Unavailable > standbyAfter:
		return StandbyDecision{Verdict: StandbyCreate, Why: "the store of claim " + claim.Name + " does not answer"}
	default:
		return StandbyDecision{Verdict: StandbyWait, Why: "claim " + claim.Name + " is about to make the Secret",
			Again: max(standbyAfter-facts.Unavailable, time.Second)}
	}
}

// whyNot is the reason of a claim that is not Ready, "" for one that is or that
// nobody has looked at; and whether its store has not answered for long.
func whyNot(claim *v1alpha1.SecretClaim) (reason string, stale bool) {
	if condition := meta.FindStatusCondition(claim.Status.Conditions, v1alpha1.ConditionStale); condition != nil && condition.Status == "True" {
		// Its reason is that of the last failed read, which Ready does not tell.
		if condition.Reason != v1alpha1.ReasonStoreUnavailable {
			return condition.Reason, false
		}
		stale = true
	}
	if condition := meta.FindStatusCondition(claim.Status.Conditions, v1alpha1.ConditionReady); condition != nil && condition.Status == "False" {
		reason = condition.Reason
	}
	return reason, stale
}

// refuses says that a reason is somebody's no. That the store cannot be asked
// is none, nor is a Secret of somebody else's: it is gone now.
func refuses(reason string) bool {
	switch reason {
	case "", v1alpha1.ReasonStoreUnavailable, v1alpha1.ReasonTargetNotOurs:
		return false
	}
	return true
}
