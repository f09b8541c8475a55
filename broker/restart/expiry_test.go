package restart_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

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

// Values were lent anew in a blackout that outlasts those before: the restart waits
// while nothing says so, and goes at once when the claim tells of it, once, and loudly.
func whatEndsGoesAheadOfTheWindow(c *cluster) {
	c.clock = clockAt("2031-06-06T18:30:00Z")
	c.environment(weekend())
	c.claim("db", "", "password=a")
	c.deployment("web", envFrom("db"))
	c.deployment("bystander", envFrom("other"))
	d := c.daemon()
	c.change("db", "password=b")
	c.waits(d, 1, "db", c.now)

	tell := func(ends time.Time) {
		c.Helper()
		claim := &v1alpha1.SecretClaim{}
		c.must(c.client.Get(c.Context(), c.key("db"), claim))
		before := claim.DeepCopy()
		claim.Status.Leases = []v1alpha1.Lease{{
			Source: "database/creds/rw", IssuedAt: metav1.NewTime(ends.Add(-16 * time.Hour)), Sequence: c.now, PreviousExpiry: &metav1.Time{Time: ends},
		}}
		c.must(c.client.Status().Patch(c.Context(), claim, client.MergeFrom(before)))
	}
	opens := time.Date(2031, 6, 9, 6, 0, 0, 0, time.UTC)
	tell(opens.Add(8 * time.Hour))
	c.waits(d, 1, "db", c.now)
	if got := c.web("web"); got != "0" {
		c.Errorf("it goes though the windows open in time: %s", got)
	}
	tell(opens.Add(-24 * time.Hour))
	c.expect("web", "1 db=%d", c.now)
	c.until("it is told", func() bool {
		notes := strings.Join(c.notes("web"), "\n")
		return strings.Contains(notes, restart.ReasonRestartedEarly) && strings.Contains(notes, "ends at 2031-06-08T06:00:00Z")
	})
}
