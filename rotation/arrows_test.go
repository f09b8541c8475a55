package rotation_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/rotation"
)

// fate of one thing that was decided.
type fate string

const (
	// lost: the daemon is killed just before.
	lost fate = "lost"
	// twice: it is killed just after, and the next one, which does not know yet
	// what was done, does it again.
	twice fate = "twice"
	// late: it is done once more when all is over.
	late fate = "late"
)

// walk through one rotation, in which one thing that is decided has a fate, and
// tell what was decided.
func walk(t *testing.T, plan rotation.Plan, fails bool, at int, fate fate) (arrows []string, w *world) {
	t.Helper()
	w = newWorld(t, plan, uint64(at))
	w.verifyFails, w.run = fails, "2026-06-07T03:00"
	var after func()
	for range 1000 {
		if w.state.Phase.Ended() && w.state.Run == w.run {
			break
		}
		state, action, do := w.lead()
		if state == w.state && action.Do == rotation.Wait {
			w.work()
			continue
		}
		hit := false
		if action.Do != rotation.Tell {
			arrows = append(arrows, arrow(w.state, state, action))
			hit = len(arrows)-1 == at
		}
		switch {
		case hit && fate == lost:
			at = -1
			continue
		case hit && fate == twice:
			do()
		case hit && fate == late:
			after = w.onItsWay(action, do)
		}
		do()
		w.work()
		w.holds()
	}
	if after != nil {
		after()
	}
	for range 20 {
		_, _, do := w.lead()
		do()
		w.work()
		w.holds()
	}
	if w.state.Phase.Ended() {
		w.settled()
	}
	return arrows, w
}

func arrow(before, state rotation.State, action rotation.Action) string {
	if state == before {
		return fmt.Sprintf("%s: %s", state.Phase, action.Do)
	}
	return fmt.Sprintf("%s → %s", before.Phase, state.Phase)
}

func TestEachArrowMayBeLostDoneTwiceOrLate(t *testing.T) {
	for _, strategy := range []rotation.Strategy{rotation.Replace, rotation.Overlap, rotation.AlternateUsers} {
		for _, fails := range []bool{false, true} {
			plan, want := rotation.Plan{Strategy: strategy, Set: true, Verify: true, Consumers: true}, rotation.Done
			if fails {
				want = rotation.RolledBack
			}
			t.Run(fmt.Sprintf("%s to %s", strategy, want), func(t *testing.T) {
				arrows, _ := walk(t, plan, fails, -1, "")
				for i, arrow := range arrows {
					told := fmt.Sprintf("%-28s", arrow)
					for _, fate := range []fate{lost, twice, late} {
						_, w := walk(t, plan, fails, i, fate)
						told += fmt.Sprintf("  %s: %s", fate, w.state.Phase)
						if w.state.Phase != want || w.made != 1 && arrow != "Due: Prepare" || w.state.Attempt != 1 {
							t.Errorf("%s, %s: it ends as %+v\n%s", arrow, fate, w.state, strings.Join(w.log, "\n"))
						}
					}
					t.Log(told)
				}
			})
		}
	}
}
