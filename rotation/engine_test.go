package rotation_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/rotation"
)

const role = "database/rotate-role/payments"

// engineWorld is a model of an engine, of a claim and a workload that follow it, and
// of daemons that remember nothing but, at most, that they were answered.
type engineWorld struct {
	t      *testing.T
	plan   rotation.Plan
	random *rand.Rand
	now    time.Time
	log    []string

	state rotation.State
	facts rotation.Facts // those that a test sets itself

	turn     int64
	silent   bool // the engine does not say its turn
	away     bool
	answered int // attempt that this daemon was told of that it rotated

	claim, pod int64
	deaf       bool // the claim does not read
	stuck      bool // the rollout does not go on

	rotated map[string]int // how often a run had the engine rotate
	done    map[string]int
}

func newEngineWorld(t *testing.T, seed uint64) *engineWorld {
	return &engineWorld{
		t: t, random: rand.New(rand.NewPCG(seed, 8)), now: time.Date(2026, 6, 1, 3, 0, 0, 0, time.UTC),
		plan: rotation.Plan{Consumers: true}, turn: 100, claim: 100, pod: 100,
		facts:   rotation.Facts{Engine: role, Turn: rotation.Turn{Read: true}},
		rotated: map[string]int{}, done: map[string]int{},
	}
}

// seen are the facts of the moment.
func (w *engineWorld) seen() rotation.Facts {
	f := w.facts
	f.Now = w.now
	f.Turn.Known, f.Turn.Told = !w.away, w.answered == w.state.Attempt && w.state.Attempt > 0
	if !w.away && !w.silent {
		f.Turn.At = w.turn
	}
	f.Synced = w.claim == w.turn && !w.away
	f.Consumers = rotation.Consumers{Ready: w.pod == w.claim && w.claim >= w.state.To}
	if w.stuck {
		f.Consumers.Failed = "Deployment/pay/app"
	}
	return f
}

// step of a daemon that leads: it writes the next state down or does what is to be
// done. killed, it does neither.
func (w *engineWorld) step(killed bool) rotation.Action {
	w.t.Helper()
	f := w.seen()
	if !w.state.ByEngine(f) {
		w.t.Fatalf("it is no rotation by an engine: %+v", w.state)
	}
	next, action := w.plan.NextByEngine(w.state, f)
	if next != w.state && action != (rotation.Action{}) {
		w.t.Fatalf("another state and an action: %+v, %+v", next, action)
	}
	if killed {
		return rotation.Action{}
	}
	if next != w.state {
		w.log = append(w.log, fmt.Sprintf("%s → %s (%d)", w.state.Phase, next.Phase, w.turn))
		if next.Phase == rotation.Done {
			w.done[next.Run]++
		}
		w.state = next
		return rotation.Action{Do: "write"}
	}
	switch action.Do {
	case rotation.Rotate:
		w.rotate(action)
	case rotation.Tell:
		if !w.deaf && !w.away {
			w.claim = w.turn
		}
	}
	return action
}

func (w *engineWorld) rotate(action rotation.Action) {
	if w.away {
		return
	}
	w.log = append(w.log, fmt.Sprintf("rotate over %d (%d)", action.Version, w.turn))
	w.turn++
	w.rotated[w.state.Run]++
	w.answered = action.Attempt
}

func (w *engineWorld) until(phase rotation.Phase) {
	w.t.Helper()
	for range 1000 {
		if w.state.Phase == phase {
			return
		}
		if action := w.step(false); action.Do == rotation.Wait {
			w.now = w.now.Add(30 * time.Second)
			if w.state.Phase == rotation.Rolling {
				w.pod = w.claim
			}
		}
	}
	w.t.Fatalf("it stays in phase %s: %+v\n%s", w.state.Phase, w.state, strings.Join(w.log, "\n"))
}

func TestAnEngineRotatesAndThoseWhoReadFollow(t *testing.T) {
	w := newEngineWorld(t, 1)
	w.facts.Run = "r1"
	w.until(rotation.Done)
	if w.state.From != 100 || w.state.To != 101 || w.rotated["r1"] != 1 || w.pod != 101 || w.state.Engine != "" {
		t.Errorf("it ended as %+v, rotated %v", w.state, w.rotated)
	}
}

func TestAnEngineThatNobodyReadsIsDoneWhenItRotated(t *testing.T) {
	for _, silent := range []bool{false, true} {
		w := newEngineWorld(t, 1)
		w.silent, w.deaf, w.facts.Turn.Read = silent, true, false
		for _, run := range []string{"r1", "r2"} {
			w.facts.Run = run
			w.step(false)
			w.until(rotation.Done)
		}
		if w.rotated["r1"] != 1 || w.rotated["r2"] != 1 {
			t.Errorf("silent: %t: rotated %v", silent, w.rotated)
		}
	}
}

// An engine whose answer was lost, or that Vault's own schedule had rotated
// meanwhile, is not told again.
func TestAnEngineThatMovedIsNotToldAgain(t *testing.T) {
	w := newEngineWorld(t, 1)
	w.facts.Run = "r1"
	w.until(rotation.Rotating)
	w.turn++ // and whoever asked was killed
	w.until(rotation.Done)
	if w.rotated["r1"] != 0 || w.state.To != 101 {
		t.Errorf("it was told to rotate %v, and ended as %+v", w.rotated, w.state)
	}
}

func TestAnEngineThatRotatesAgainIsFollowed(t *testing.T) {
	w := newEngineWorld(t, 1)
	w.facts.Run = "r1"
	w.until(rotation.Rolling)
	w.turn++
	w.step(false)
	if w.state.Phase != rotation.Written || w.state.To != 102 {
		t.Errorf("it goes on as %+v", w.state)
	}
	w.until(rotation.Done)
	if w.pod != 102 {
		t.Errorf("the pod has %d", w.pod)
	}
}

func TestAnEngineThatDoesNotRotateHaltsAndGoesOnByOrder(t *testing.T) {
	for name, c := range map[string]struct {
		breaks func(*engineWorld)
		why    string
	}{
		"the engine is away":  {func(w *engineWorld) { w.away = true }, "the engine could not be asked for 10m0s, and nobody knows whether it rotated"},
		"the claim is behind": {func(w *engineWorld) { w.deaf = true }, "not all Secrets had the new value after 10m0s"},
		"the rollout fails":   {func(w *engineWorld) { w.stuck = true }, "the rollout of Deployment/pay/app failed"},
	} {
		w := newEngineWorld(t, 1)
		w.facts.Run = "r1"
		w.until(rotation.Rotating)
		c.breaks(w)
		for range 100 {
			if w.step(false).Do != "write" {
				w.now = w.now.Add(30 * time.Second)
			}
		}
		if w.state.Phase != rotation.Halted || w.state.Why != c.why {
			t.Errorf("%s: it is %+v", name, w.state)
		}
		w.away, w.deaf, w.stuck = false, false, false
		w.facts.Order = rotation.Order{ID: "1", What: rotation.TakeBack}
		w.step(false)
		if w.state.Phase != rotation.Halted || !strings.HasSuffix(w.state.Why, "; nobody can take back what an engine made") {
			t.Errorf("%s: told to take it back, it is %+v", name, w.state)
		}
		w.facts.Order = rotation.Order{ID: "2", What: rotation.Retry}
		w.until(rotation.Done)
		if w.rotated["r1"] != 1 {
			t.Errorf("%s: it was rotated %v", name, w.rotated)
		}
	}
}

func TestAnOrderEndsARotationByAnEngine(t *testing.T) {
	w := newEngineWorld(t, 1)
	w.facts.Run = "r1"
	w.until(rotation.Rotating)
	w.away = true
	w.until(rotation.Halted)
	w.facts.Order = rotation.Order{ID: "1", What: rotation.Accept}
	w.until(rotation.Accepted)
	if w.state.Engine != "" {
		t.Errorf("ended, it is %+v", w.state)
	}
}

// Which of the two machines goes on is the state's to say, not the spec's.
func TestWhatIsUnderWayGoesOnAsItBegan(t *testing.T) {
	record := rotation.Record{There: true, Attempt: 1}
	for _, c := range []struct {
		says  string
		state rotation.State
		facts rotation.Facts
		want  bool
	}{
		{"never ran, and is of an engine", rotation.State{}, rotation.Facts{Engine: role}, true},
		{"never ran, and is not", rotation.State{}, rotation.Facts{}, false},
		{"never ran, but left a record", rotation.State{}, rotation.Facts{Engine: role, Record: record}, false},
		{"is due, and may be either", rotation.State{Phase: rotation.Due}, rotation.Facts{Engine: role}, true},
		{"is due, and prepared", rotation.State{Phase: rotation.Due, Attempt: 1}, rotation.Facts{Engine: role, Record: record}, false},
		{"wrote a value of its own", rotation.State{Phase: rotation.Written}, rotation.Facts{Engine: role}, false},
		{"had an engine rotate", rotation.State{Phase: rotation.Written, Engine: role}, rotation.Facts{}, true},
		{"halted in an engine's rotation", rotation.State{Phase: rotation.Halted, Engine: role}, rotation.Facts{}, true},
	} {
		if got := c.state.ByEngine(c.facts); got != c.want {
			t.Errorf("one that %s: by an engine: %t", c.says, got)
		}
	}
}

// Daemons are killed at any moment, answers are lost, the engine goes away and
// rotates by itself, clocks jump. What has to be: a run has the engine rotate once at
// most, it is done once at most, and who is done has those who read on the value of
// the engine.
func TestWhateverHappensAnEngineRotatesOnce(t *testing.T) {
	ends := map[rotation.Phase]int{}
	for seed := range uint64(*seeds) {
		w := newEngineWorld(t, seed)
		for i := range 3 {
			run := fmt.Sprintf("r%d", i)
			w.facts.Run = run
			w.live(run)
			ends[w.state.Phase]++
		}
		if t.Failed() {
			t.Fatalf("seed %d: %+v\n%s", seed, w.state, strings.Join(w.log, "\n"))
		}
	}
	t.Logf("of %d rotations %v", 3**seeds, ends)
	if ends[rotation.Done] < *seeds || ends[rotation.Accepted] < *seeds/100 {
		t.Errorf("ends %v prove little", ends)
	}
}

func (w *engineWorld) live(run string) {
	w.t.Helper()
	for moment := range 2000 {
		calm := moment > 150
		if calm {
			w.away, w.deaf, w.stuck = false, false, false
		} else {
			w.fault()
		}
		if w.state.Phase == rotation.Halted {
			order := rotation.Retry
			if !calm && chance(w.random, 6) {
				order = rotation.Accept
			}
			w.facts.Order = rotation.Order{ID: fmt.Sprint(run, moment), What: order}
		}
		w.step(!calm && chance(w.random, 4))
		if w.rotated[run] > 1 || w.done[run] > 1 {
			w.t.Errorf("run %s rotated %d times, and was done %d times", run, w.rotated[run], w.done[run])
		}
		if w.state.Run == run && w.state.Phase == rotation.Done && w.done[run] == 1 && !w.settled(run) {
			w.t.Errorf("run %s is done, with a claim at %d and a pod at %d of %d", run, w.claim, w.pod, w.turn)
		}
		if w.state.Run == run && w.state.Phase.Ended() {
			return
		}
		if w.state.Phase == rotation.Rolling && (calm || chance(w.random, 2)) {
			w.pod = w.claim
		}
		w.now = w.now.Add(time.Duration(w.random.IntN(60)) * time.Second)
	}
	w.t.Errorf("run %s does not end", run)
}

// settled at the moment at which a run is done; it is looked at once.
func (w *engineWorld) settled(run string) bool {
	w.done[run] = 1
	return w.claim >= w.state.To && w.pod >= w.state.To
}

func (w *engineWorld) fault() {
	switch w.random.IntN(14) {
	case 0:
		w.away = !w.away
	case 1:
		w.deaf = !w.deaf
	case 2:
		w.stuck = !w.stuck
	case 3:
		if chance(w.random, 4) {
			w.turn++ // by itself, or by somebody
		}
	case 4:
		w.now = w.now.Add(time.Duration(w.random.IntN(1200)-600) * time.Second)
	case 5:
		w.answered = 0 // another daemon
	}
}
