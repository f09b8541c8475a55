package rotation_test

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/rotation"
)

var seeds = flag.Int("seeds", 1500, "how many lives of a rotation the test of faults goes through")

// life is what happens to a world.
type life struct {
	*world
	// timing: the store goes away for long, clocks are put forward and back.
	timing bool
	// foreigners write to our keys, and others to other keys.
	foreigners, others bool
	calm               bool // no more faults
}

// Anything may be lost, done twice, or done late by somebody who does not lead
// any more; the store goes away, others write, hooks fail halfway, clocks jump.
// What has to be true at any moment is in holds and settled; here, that every
// rotation ends, and as what.
func TestWhateverHappensNoValueIsLost(t *testing.T) {
	ends, drops := map[rotation.Phase]int{}, 0
	for seed := range uint64(*seeds) {
		end, dropped := liveThrough(t, seed)
		ends[end]++
		drops += dropped
		if t.Failed() {
			return
		}
	}
	t.Logf("of %d rotations %v, and %d values before were dropped", *seeds, ends, drops)
	if drops < *seeds/100 {
		t.Error("that proves little")
	}
	for _, phase := range []rotation.Phase{rotation.Done, rotation.RolledBack, rotation.Accepted} {
		if ends[phase] < *seeds/100 {
			t.Errorf("%d ended as %s, and that proves little", ends[phase], phase)
		}
	}
}

func randomPlan(random *rand.Rand) rotation.Plan {
	plan := rotation.Plan{
		Strategy:  []rotation.Strategy{"", rotation.Replace, rotation.Overlap, rotation.AlternateUsers}[random.IntN(4)],
		OnFailure: []rotation.OnFailure{"", rotation.RollBack, rotation.Halt}[random.IntN(3)],
		Set:       random.IntN(4) > 0, Verify: random.IntN(2) > 0, Consumers: random.IntN(4) > 0,
	}
	plan.Set = plan.Set || plan.Strategy == rotation.AlternateUsers
	if plan.Strategy == rotation.Overlap && random.IntN(2) > 0 {
		plan.DropPreviousAfter = rotation.MinDropPrevious
	}
	return plan
}

func liveThrough(t *testing.T, seed uint64) (end rotation.Phase, dropped int) {
	t.Helper()
	random := rand.New(rand.NewPCG(seed, 7))
	plan := randomPlan(random)
	l := life{timing: random.IntN(3) == 0, foreigners: random.IntN(4) == 0, others: random.IntN(3) == 0}
	if !l.timing {
		patient := rotation.MaxTimeout
		plan.Timeouts = rotation.Timeouts{Set: patient, Store: patient, Sync: patient, Consumers: patient, Verify: patient}
	}
	l.world = newWorld(t, plan, seed)
	if !plan.Set {
		clear(l.accepted)
	}
	l.setFails, l.verifyFails, l.rolloutFails, l.setBackFails = chance(random, 5), chance(random, 5), chance(random, 5), chance(random, 8)
	defer func() {
		if t.Failed() {
			t.Logf("seed %d: %+v\n%+v\n%s", seed, plan, l, strings.Join(l.log[max(0, len(l.log)-60):], "\n"))
		}
	}()
	for _, run := range []string{"2026-06-07T03:00", "2026-06-14T03:00"} {
		l.run, l.calm = run, false
		l.faults(20 + random.IntN(400))
		end = l.ends(run)
		if end == rotation.Halted {
			end = l.ordered(run)
		}
		l.rest()
		if end == rotation.Halted {
			break // two things failed, and nothing more is to happen
		}
	}
	return end, l.dropped
}

func chance(random *rand.Rand, one int) bool { return random.IntN(one) == 0 }

// faults for so many moments.
func (l *life) faults(moments int) {
	for range moments {
		l.moment()
	}
	l.calm, l.storeAway = true, false
}

// ends without more faults, within some time.
func (l *life) ends(run string) rotation.Phase {
	l.t.Helper()
	for range 5000 {
		if l.state.Run == run && (l.state.Phase.Ended() || l.state.Phase == rotation.Halted) {
			l.expected()
			return l.state.Phase
		}
		l.moment()
	}
	l.t.Fatalf("it does not end: %+v", l.state)
	return ""
}

// expected is how a rotation has to end that nobody and no clock disturbed.
func (l *life) expected() {
	if l.timing || l.foreigners || l.others && l.plan.Set {
		return
	}
	fails := l.plan.Set && l.setFails || l.plan.Verify && l.verifyFails || l.plan.Consumers && l.rolloutFails
	want := rotation.Done
	switch {
	case fails && l.plan.OnFailure == rotation.Halt:
		want = rotation.Halted
	case fails && l.plan.Set && l.plan.Strategy != rotation.AlternateUsers && l.setBackFails:
		want = rotation.Halted
	case fails:
		want = rotation.RolledBack
	}
	if l.state.Phase != want {
		l.t.Fatalf("it ends as %s (%s), not as %s", l.state.Phase, l.state.Why, want)
	}
}

// ordered is how a rotation ends that halted: somebody mends what failed, and
// gives an order.
func (l *life) ordered(run string) rotation.Phase {
	l.t.Helper()
	l.setFails, l.setBackFails, l.verifyFails, l.rolloutFails = false, false, false, false
	what := []rotation.What{rotation.Retry, rotation.TakeBack}[l.random.IntN(2)]
	want := rotation.RolledBack
	if what == rotation.Retry && slices.Contains([]rotation.Phase{rotation.Setting, rotation.Set, rotation.Written, rotation.Rolling, rotation.Verifying}, l.state.HaltedIn) {
		want = rotation.Done
	}
	if l.foreign != "" {
		// Who accepts has the system know what the store has.
		l.accepted["app-a"], l.accepted["app-b"] = []string{l.foreign}, []string{l.foreign}
		what, want = rotation.Accept, rotation.Accepted
	}
	l.order = rotation.Order{ID: fmt.Sprintf("%s/%d", run, l.random.Int()), What: what}
	for range 5000 {
		if l.state.Obeyed == l.order.ID && (l.state.Phase.Ended() || l.state.Phase == rotation.Halted) {
			if l.state.Phase != want && !l.timing && !l.others {
				l.t.Fatalf("told to %s it ends as %s (%s), not as %s", what, l.state.Phase, l.state.Why, want)
			}
			return l.state.Phase
		}
		l.moment()
	}
	l.t.Fatalf("told to %s it does not end: %+v", what, l.state)
	return ""
}

// rest until all that was late has come, and nothing is left to do.
func (l *life) rest() {
	l.t.Helper()
	for range 200 {
		l.moment()
	}
	if l.state.Phase.Ended() {
		l.settled()
	}
}

// moment in which something happens.
func (l *life) moment() {
	switch l.random.IntN(10) {
	case 0, 1, 2, 3, 4:
		l.decide()
	case 5, 6, 7:
		l.work()
	case 8:
		l.now = l.now.Add(time.Duration(l.random.IntN(20)) * time.Second)
	case 9:
		if len(l.late) > 0 && (l.calm || chance(l.random, 3)) {
			i := l.random.IntN(len(l.late))
			do := l.late[i]
			l.late = slices.Delete(l.late, i, i+1)
			l.says("late:")
			do()
		}
		if !l.calm {
			l.disturb()
		}
	}
	l.holds()
	l.nobodyFails()
}

// decide and do it: or not, or twice, or later.
func (l *life) decide() {
	_, action, do := l.lead()
	if l.calm {
		do()
		return
	}
	switch l.random.IntN(8) {
	case 0:
		l.says("  (lost: %s)", action.Do)
	case 1:
		do()
		do()
	case 2:
		l.says("  (late: %s)", action.Do)
		l.late = append(l.late, l.onItsWay(action, do))
	default:
		do()
	}
}

func (l *life) disturb() {
	switch l.random.IntN(8) {
	case 0, 1:
		l.storeAway = !l.storeAway
	case 2:
		if l.others && !l.storeAway {
			l.note = fmt.Sprintf("note-%d", l.random.Int())
			l.writes(other, l.note)
		}
	case 3:
		if l.foreigners && !l.storeAway && chance(l.random, 4) {
			l.foreign = fmt.Sprintf("foreign-%d", l.random.Int())
			l.known[read(l.document, password)], l.known[l.foreign] = true, true
			l.writes(password, l.foreign)
			if l.plan.Set {
				l.accepted[read(l.document, user)] = []string{l.foreign}
			}
		}
	case 4, 5:
		if l.timing {
			l.now = l.now.Add(time.Duration(l.random.IntN(120)-60) * time.Minute)
		}
	}
}

// writes is somebody else at the store.
func (l *life) writes(key, value string) {
	l.says("somebody writes %s", key)
	changed := maps.Clone(l.document)
	changed[key] = text(value)
	l.becomes(changed)
}

// nobodyFails: with the two strategies that promise it, whoever has read the
// credential can log in at any moment.
func (l *life) nobodyFails() {
	if l.timing || l.foreigners || !l.plan.Consumers || l.plan.Strategy != rotation.Overlap && l.plan.Strategy != rotation.AlternateUsers || !l.plan.Set {
		return
	}
	for name, has := range map[string]document{"the store": l.document, "the Secret": l.target, "the pod": l.pod} {
		if !l.accepts(has) {
			l.t.Fatalf("%s has %s of %s, which the system does not accept", name, read(has, password), read(has, user))
		}
	}
}
