package restart_test

import (
	"fmt"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/privyseal/privyseal/broker/restart"
	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/broker/waits"
)

// lent says what was lent for a target: since a sequence, and when that before ends.
func lent(name string, sequence int64, previous time.Time) fact {
	return func(f *restart.Facts) {
		known := f.Targets[name]
		one := v1alpha1.Lease{Source: "database/creds/rw", Sequence: sequence}
		if !previous.IsZero() {
			one.PreviousExpiry = &metav1.Time{Time: previous}
		}
		known.Leases = append(known.Leases, one)
		f.Targets[name] = known
	}
}

// closedUntil is a window; zero: nobody knows when it opens.
func closedUntil(at time.Time) fact {
	return func(f *restart.Facts) {
		f.Hold = waits.Hold{Environment: "prod", Cause: waits.Closed, Until: at, Why: "weekend"}
		if at.IsZero() {
			f.Hold.Cause = waits.Unknown
		}
	}
}

func turn(f *restart.Facts) {
	f.Turn = waits.Hold{Environment: "prod", Cause: waits.Turn, Why: "others go first"}
}

func at(now time.Time) fact { return func(f *restart.Facts) { f.Now = now } }

func TestWhatPodsHoldBeatsAWindowThatOpensTooLate(t *testing.T) {
	now := time.Unix(noon, 0)
	const changed = noon - 100
	in := func(d time.Duration) time.Time { return now.Add(d) }
	for name, row := range map[string]struct {
		facts []fact
		// cause that holds it back; empty: it goes.
		cause waits.Cause
	}{
		"the window opens in time": {
			[]fact{lent("db", changed, in(8*time.Hour)), closedUntil(in(7 * time.Hour))}, waits.Closed},
		"the window opens too late": {
			[]fact{lent("db", changed, in(8*time.Hour)), closedUntil(in(60 * time.Hour))}, waits.Nothing},
		"the window opens just before, and a rollout takes its time": {
			[]fact{lent("db", changed, in(8*time.Hour)), closedUntil(in(8*time.Hour - time.Minute))}, waits.Nothing},
		"nobody knows when it opens": {
			[]fact{lent("db", changed, in(8*time.Hour)), closedUntil(time.Time{})}, waits.Nothing},
		"nothing ends": {
			[]fact{lent("db", changed, time.Time{}), closedUntil(in(60 * time.Hour))}, waits.Closed},
		"what ends is held by no pod, and something else changed": {
			[]fact{lent("db", changed-1000, in(time.Hour)), closedUntil(in(60 * time.Hour))}, waits.Closed},
		"past the window, and the turn of others": {
			[]fact{lent("db", changed, in(8*time.Hour)), closedUntil(in(60 * time.Hour)), turn}, waits.Turn},
		"the last moment, whoever's turn it is": {
			[]fact{lent("db", changed, in(9*time.Minute)), closedUntil(in(60 * time.Hour)), turn}, waits.Nothing},
		"no window, and the turn of others": {
			[]fact{lent("db", changed, in(time.Hour)), turn}, waits.Turn},
		"no window, and the last moment": {
			[]fact{lent("db", changed, in(9*time.Minute)), turn}, waits.Nothing},
		"the claim's consumers are not restarted": {
			[]fact{lent("db", changed, in(8*time.Hour)), closedUntil(in(60 * time.Hour)), claimNever("db")}, waits.Nothing},
	} {
		var facts restart.Facts
		before := []fact{ours("db", fmt.Sprintf("password: b@%d a@0", changed)), pod(noon-1000, "", envKey("db", "password")), template("", envKey("db", "password")), at(now)}
		for _, fact := range append(before, row.facts...) {
			fact(&facts)
		}
		decision := restart.Decide(facts)
		never := facts.Targets["db"].Restart == v1alpha1.RestartNever
		switch {
		case row.cause != waits.Nothing && (!decision.Deferred || decision.Hold.Cause != row.cause || !decision.Ends.IsZero()):
			t.Errorf("%s: %+v", name, decision)
		case row.cause == waits.Nothing && !never && (decision.Patch == nil || decision.Ends.IsZero()):
			t.Errorf("%s: %+v", name, decision)
		case never && decision.Patch != nil:
			t.Errorf("%s: %+v", name, decision)
		}
	}
}
