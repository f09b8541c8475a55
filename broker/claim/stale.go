package claim

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/providers"
)

// DefaultStaleAfter is how long a claim goes without a successful read before
// it is stale, where the daemon's configuration does not say.
const DefaultStaleAfter = time.Hour

// missedReads is the least number of a claim's own intervals before it is
// stale: a claim that is read once a day is none for one read that failed.
const missedReads = 3

// flipsPerSecond bounds the status writes that tell of Stale alone. An outage
// makes all claims stale together, and its end fresh together, while the API
// server has Secrets to take first: a small one does some 290 status writes a
// second in all. At this rate 5,000 claims need four minutes to tell.
const flipsPerSecond = 20

func newFlips() *rate.Limiter { return rate.NewLimiter(flipsPerSecond, flipsPerSecond) }

// reading is what is known of a claim's reads.
type reading struct {
	// last is when the store last gave every source. Zero: not since this
	// daemon started.
	last time.Time
	// failure is the reason why the last read gave nothing; "" if it did.
	failure string
}

// after is what is known after a run of the line at a time. An error that
// speaks of neither the claim nor the store says nothing about reads.
func (r reading) after(synced Synced, err error, at time.Time) reading {
	var refusal *Refusal
	switch {
	case synced.Read:
		return reading{last: at}
	case errors.As(err, &refusal):
		r.failure = refusal.Reason
	case errors.Is(err, providers.ErrUnavailable):
		r.failure = v1alpha1.ReasonStoreUnavailable
	}
	return r
}

// patience is how long a claim may go unread, and from when that is counted
// where no read is known: nobody wrote down when there was one.
type patience struct {
	limit        time.Duration
	unknownSince time.Time
}

// staleCondition is what a claim's Stale condition becomes: pure, and nil
// where it stays as it is. One that is True stays so until a read succeeds,
// however short this daemon has waited itself.
//
// A claim without a target is not stale: it has no value that could be old. Nor
// does one become stale that is read once: nobody asked for a newer value.
func staleCondition(claim *v1alpha1.SecretClaim, known reading, patience patience, now time.Time) *metav1.Condition {
	was := meta.FindStatusCondition(claim.Status.Conditions, v1alpha1.ConditionStale)
	stale := isStale(claim)
	unread := now.Sub(cmp.Or(known.last, patience.unknownSince))
	becomes := &metav1.Condition{Type: v1alpha1.ConditionStale, ObservedGeneration: claim.Generation, LastTransitionTime: metav1.NewTime(now)}
	switch {
	case known.failure == "" && !known.last.IsZero() && stale:
		becomes.Status, becomes.Reason = metav1.ConditionFalse, v1alpha1.ReasonFresh
		becomes.Message = "the store was read again"
	case known.failure != "" && (stale || claim.Status.Target != nil && !once(claim) && unread > patience.limit):
		becomes.Status, becomes.Reason = metav1.ConditionTrue, known.failure
		becomes.Message = fmt.Sprintf("the store has not been read for longer than %s; the last good value stays", inWords(patience.limit))
	default:
		return nil
	}
	if was != nil && was.Status == becomes.Status && was.Reason == becomes.Reason && was.Message == becomes.Message {
		return nil
	}
	return becomes
}

func isStale(claim *v1alpha1.SecretClaim) bool {
	return meta.IsStatusConditionTrue(claim.Status.Conditions, v1alpha1.ConditionStale)
}

// inWords is a duration as people write it: 1h, not 1h0m0s.
func inWords(duration time.Duration) string {
	text := duration.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// reads remembers the reads of each claim. They are kept in memory alone: a
// time that is written down at every read would be a write at every read.
type reads struct {
	mu    sync.Mutex
	known map[types.NamespacedName]reading
	stale map[types.NamespacedName]bool
}

func newReads() *reads {
	return &reads{known: map[types.NamespacedName]reading{}, stale: map[types.NamespacedName]bool{}}
}

// of gives what is known of a claim's reads.
func (r *reads) of(claim types.NamespacedName) reading {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.known[claim]
}

// note keeps how a run of the line ended.
func (r *reads) note(claim types.NamespacedName, synced Synced, err error, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.known[claim] = r.known[claim].after(synced, err, at)
}

// count keeps whether a claim says that it is stale.
func (r *reads) count(claim types.NamespacedName, stale bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if stale {
		r.stale[claim] = true
	} else {
		delete(r.stale, claim)
	}
}

// forget drops a claim that is gone.
func (r *reads) forget(claim types.NamespacedName) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.known, claim)
	delete(r.stale, claim)
}

// StaleClaims is the number of claims whose Stale condition is True.
func (r *Reconciler) StaleClaims() int {
	r.reads.mu.Lock()
	defer r.reads.mu.Unlock()
	return len(r.reads.stale)
}

// tellStale puts the Stale condition into the claim's status. If nothing else
// of it changed, that takes a turn, since it is a write of its own; later is
// when to look again for one, 0 if none is missing.
func (r *Reconciler) tellStale(claim *v1alpha1.SecretClaim, changed bool, now time.Time) (later time.Duration) {
	name := client.ObjectKeyFromObject(claim)
	defer func() { r.reads.count(name, isStale(claim)) }()
	patience := patience{
		limit:        max(cmp.Or(r.config.StaleAfter, DefaultStaleAfter), missedReads*r.interval(claim)),
		unknownSince: cmp.Or(r.lastAlive(), r.began()),
	}
	becomes := staleCondition(claim, r.reads.of(name), patience, now)
	if becomes == nil {
		return 0
	}
	if !changed && !r.flips.AllowN(now, 1) {
		// Claims that wait look at different times, or few would meet a turn.
		return retryRefused/2 + time.Duration(phaseOf(string(claim.UID))%uint64(retryRefused/2))
	}
	meta.SetStatusCondition(&claim.Status.Conditions, *becomes)
	return 0
}
