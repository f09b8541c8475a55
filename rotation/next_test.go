package rotation_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/rotation"
)

var began = time.Date(2026, 6, 7, 3, 0, 0, 0, time.UTC)

func after(d time.Duration) time.Time { return began.Add(d) }

// in is a state in a phase, in the middle of its second attempt.
func in(phase rotation.Phase) rotation.State {
	return rotation.State{Phase: phase, Run: "2026-06-07T03:00", Attempt: 2, Record: "b", From: 5, To: 6, Since: began}
}

// seen are facts with the record, and with what the store holds.
func seen(version int64, holds rotation.Holds) rotation.Facts {
	return rotation.Facts{Now: after(time.Minute), Run: "2026-06-07T03:00", Record: rotation.Record{There: true, ID: "b", Attempt: 2, From: 5},
		Store: rotation.Store{Known: true, Version: version, Holds: holds}}
}

// Each row is a phase and what is seen in it, and what is decided: a phase, or
// what is done.
func TestWhatIsDecided(t *testing.T) {
	every := rotation.Plan{Set: true, Verify: true, Consumers: true}
	halts, bare, overlaps := every, rotation.Plan{}, every
	halts.OnFailure, overlaps.Strategy = rotation.Halt, rotation.Overlap
	change := func(f rotation.Facts, change func(*rotation.Facts)) rotation.Facts {
		change(&f)
		return f
	}
	drops := overlaps
	drops.DropPreviousAfter = time.Hour
	keeps := func(version int64, left bool) rotation.Facts {
		return rotation.Facts{Now: after(time.Hour), Store: rotation.Store{Known: true, Version: version, Previous: left}}
	}
	away := change(seen(0, rotation.Other), func(f *rotation.Facts) { f.Store = rotation.Store{} })
	at := func(f rotation.Facts, d time.Duration) rotation.Facts {
		f.Now = after(d)
		return f
	}
	leads := func(f rotation.Facts, d time.Duration) rotation.Facts {
		f.LeadsSince = after(d)
		return f
	}
	for name, row := range map[string]struct {
		plan    rotation.Plan
		phase   rotation.Phase
		facts   rotation.Facts
		decided string
	}{
		"a run that was is not due again":             {every, rotation.Done, rotation.Facts{Now: began, Run: "2026-06-07T03:00"}, "wait"},
		"another is":                                  {every, rotation.Done, rotation.Facts{Now: began, Run: "2026-06-14T03:00"}, "Due"},
		"nothing begins that is held back":            {every, rotation.Done, rotation.Facts{Now: began, Run: "2026-06-14T03:00", Hold: "it is suspended"}, "wait"},
		"nor goes on before it did something":         {every, rotation.Prepared, change(seen(5, rotation.Old), func(f *rotation.Facts) { f.Hold = "a blackout" }), "wait"},
		"what did something goes on":                  {every, rotation.Set, change(seen(5, rotation.Old), func(f *rotation.Facts) { f.Hold = "a blackout" }), "Write"},
		"a run that waits becomes the next one":       {every, rotation.Due, rotation.Facts{Now: began, Run: "2026-06-14T03:00"}, "Due"},
		"nothing is made while the store is away":     {every, rotation.Due, rotation.Facts{Now: began}, "wait"},
		"nor of nothing":                              {every, rotation.Due, rotation.Facts{Now: began, Store: rotation.Store{Known: true}}, "wait"},
		"a record that came late is dropped":          {every, rotation.Due, change(seen(5, rotation.Old), func(f *rotation.Facts) { f.Record = rotation.Record{There: true, ID: "a", Attempt: 1} }), "Drop"},
		"a record of the future is not":               {every, rotation.Done, change(seen(5, rotation.Old), func(f *rotation.Facts) { f.Record = rotation.Record{There: true, ID: "c", Attempt: 3} }), "Halted"},
		"somebody wrote before anything happened":     {every, rotation.Prepared, seen(6, rotation.Old), "Due"},
		"the record is gone before that too":          {every, rotation.Prepared, rotation.Facts{Now: began}, "Due"},
		"without a hook the store comes next":         {bare, rotation.Prepared, seen(5, rotation.Old), "Set"},
		"with one the system does":                    {every, rotation.Prepared, seen(5, rotation.Old), "Setting"},
		"the hook is started":                         {every, rotation.Setting, seen(5, rotation.Old), "RunSet"},
		"even when it is late":                        {every, rotation.Setting, at(seen(5, rotation.Old), time.Hour), "RunSet"},
		"a hook that takes long is stopped":           {every, rotation.Setting, at(change(seen(5, rotation.Old), setIs(rotation.Running)), 5*time.Minute), "StopSet"},
		"not sooner":                                  {every, rotation.Setting, at(change(seen(5, rotation.Old), setIs(rotation.Running)), 5*time.Minute-1), "wait"},
		"nor just after a daemon was away":            {every, rotation.Setting, leads(at(change(seen(5, rotation.Old), setIs(rotation.Running)), time.Hour), 56*time.Minute), "wait"},
		"a clock that is behind counts for nothing":   {every, rotation.Setting, leads(at(change(seen(5, rotation.Old), setIs(rotation.Running)), 5*time.Minute), time.Hour), "StopSet"},
		"a hook that failed":                          {every, rotation.Setting, change(seen(5, rotation.Old), setIs(rotation.Failed)), "RollingBack"},
		"or halts":                                    {halts, rotation.Setting, change(seen(5, rotation.Old), setIs(rotation.Failed)), "Halted"},
		"the record is gone when it is needed":        {every, rotation.Setting, rotation.Facts{Now: began}, "Halted"},
		"the store has not the value":                 {every, rotation.Set, seen(5, rotation.Old), "Write"},
		"it has, after a write that was not heard of": {every, rotation.Set, seen(6, rotation.New), "Written"},
		"it has, and somebody wrote another key":      {every, rotation.Set, seen(7, rotation.New), "Written"},
		"somebody wrote our key":                      {every, rotation.Set, seen(6, rotation.Other), "Halted"},
		"somebody wrote another key":                  {every, rotation.Set, seen(6, rotation.Old), "RollingBack"},
		"which is nothing if no system knows":         {bare, rotation.Set, seen(6, rotation.Old), "Due"},
		"nor is a key of ours":                        {bare, rotation.Set, seen(6, rotation.Other), "Due"},
		"the store is away":                           {every, rotation.Set, away, "wait"},
		"for too long":                                {every, rotation.Set, at(away, 10*time.Minute), "RollingBack"},
		"or takes no write":                           {every, rotation.Set, at(seen(5, rotation.Old), 10*time.Minute), "RollingBack"},
		"somebody took it over":                       {every, rotation.Written, seen(7, rotation.Other), "Halted"},
		"or put the old value back":                   {every, rotation.Written, seen(7, rotation.Old), "Halted"},
		"claims are told":                             {every, rotation.Written, seen(6, rotation.New), "Tell"},
		"the store is away, and the claims have it":   {every, rotation.Written, change(away, func(f *rotation.Facts) { f.Synced = true }), "Rolling"},
		"they have it too late":                       {every, rotation.Written, at(seen(6, rotation.New), 10*time.Minute), "RollingBack"},
		"a rollout that failed":                       {every, rotation.Rolling, change(seen(6, rotation.New), func(f *rotation.Facts) { f.Consumers.Failed = "Deployment/web" }), "RollingBack"},
		"one that windows hold back has time":         {every, rotation.Rolling, at(change(seen(6, rotation.New), func(f *rotation.Facts) { f.Consumers.Held = true }), 60*time.Hour), "wait"},
		"and again from their opening":                {every, rotation.Rolling, at(change(seen(6, rotation.New), func(f *rotation.Facts) { f.Consumers.OpenSince = after(60 * time.Hour) }), 60*time.Hour+9*time.Minute), "wait"},
		"but no more":                                 {every, rotation.Rolling, at(change(seen(6, rotation.New), func(f *rotation.Facts) { f.Consumers.OpenSince = after(60 * time.Hour) }), 60*time.Hour+10*time.Minute), "RollingBack"},
		"nobody has to become ready":                  {bare, rotation.Rolling, seen(6, rotation.New), "Verifying"},
		"and nothing is tried":                        {bare, rotation.Verifying, seen(6, rotation.New), "Verified"},
		"it is tried":                                 {every, rotation.Verifying, seen(6, rotation.New), "RunVerify"},
		"and does not work":                           {every, rotation.Verifying, change(seen(6, rotation.New), func(f *rotation.Facts) { f.Verify = rotation.Failed }), "RollingBack"},
		"the system is set back at once":              {every, rotation.RollingBack, seen(6, rotation.New), "RunSetBack"},
		"while the store is away too":                 {every, rotation.RollingBack, away, "RunSetBack"},
		"not under somebody else":                     {every, rotation.RollingBack, seen(7, rotation.Other), "Halted"},
		"not where it knows both":                     {overlaps, rotation.RollingBack, seen(6, rotation.New), "Restoring"},
		"setting back fails":                          {every, rotation.RollingBack, change(seen(6, rotation.New), func(f *rotation.Facts) { f.SetBack = rotation.Failed }), "Halted"},
		"the old value is written":                    {every, rotation.Restoring, seen(6, rotation.New), "WriteBack"},
		"also over itself, against what is late":      {every, rotation.Restoring, seen(5, rotation.Old), "WriteBack"},
		"once":                                        {every, rotation.Restoring, seen(6, rotation.Old), "Restored"},
		"not over somebody else":                      {every, rotation.Restoring, seen(7, rotation.Other), "Halted"},
		"nobody may use what is to be forgotten":      {overlaps, rotation.Returning, seen(7, rotation.Old), "Tell"},
		"time behind windows does not count":          {overlaps, rotation.Returning, at(change(seen(7, rotation.Old), func(f *rotation.Facts) { f.Consumers.OpenSince = after(15 * time.Minute) }), 20*time.Minute), "Tell"},
		"for a while":                                 {overlaps, rotation.Returning, at(seen(7, rotation.Old), 20*time.Minute), "Forgetting"},
		"then it is":                                  {overlaps, rotation.Forgetting, seen(7, rotation.Old), "RunSetBack"},
		"unless somebody wrote meanwhile":             {overlaps, rotation.Forgetting, change(seen(8, rotation.Other), func(f *rotation.Facts) { f.SetBack = rotation.Succeeded }), "Halted"},
		"nothing is left":                             {every, rotation.Restored, rotation.Facts{Now: began}, "RolledBack"},
		"what a later version wrote is left to it":    {every, "Dancing", seen(6, rotation.New), "wait"},
		"the value before stays":                      {overlaps, rotation.Done, at(keeps(6, true), 1000*time.Hour), "wait"},
		"or is dropped later":                         {drops, rotation.Done, at(keeps(6, true), time.Hour-1), "wait"},
		"which is written down":                       {drops, rotation.Done, keeps(6, true), "Done, dropping"},
		"though nothing may begin":                    {drops, rotation.RolledBack, change(keeps(6, true), func(f *rotation.Facts) { f.Run, f.Hold = "2026-06-14T03:00", "it is suspended" }), "RolledBack, dropping"},
		"a run that is due goes first":                {drops, rotation.Done, change(keeps(6, true), func(f *rotation.Facts) { f.Run = "2026-06-14T03:00" }), "Due"},
		"halted is halted":                            {every, rotation.Halted, at(seen(6, rotation.New), 1000*time.Hour), "wait"},
	} {
		t.Run(name, func(t *testing.T) {
			before := in(row.phase)
			before.Kept, before.KeptSince = 6, began
			state, action := row.plan.Next(before, row.facts)
			decided := string(action.Do)
			if state.Dropping {
				decided = string(state.Phase) + ", dropping"
			} else if state != before {
				decided = string(state.Phase)
			} else if action.Do == rotation.Wait {
				decided = "wait"
			}
			if decided != row.decided {
				t.Errorf("it is %s (%s%s)", decided, state.Why, action.Why)
			}
			if decided == "wait" && action.Why == "" && row.phase != rotation.Halted {
				t.Error("it waits in silence")
			}
			if (state.Phase == rotation.Halted || state.Phase == rotation.RollingBack) && state != before && state.Why == "" {
				t.Error("it fails in silence")
			}
			if (action.Do == rotation.Write || action.Do == rotation.WriteBack) && action.Version != row.facts.Store.Version {
				t.Errorf("it writes over version %d", action.Version)
			}
		})
	}
}

func setIs(hook rotation.Hook) func(*rotation.Facts) {
	return func(f *rotation.Facts) { f.Set = hook }
}

func TestAClockThatIsPutBackLeavesNoYearsToWait(t *testing.T) {
	facts := seen(5, rotation.Old)
	facts.Set, facts.Now = rotation.Running, began.AddDate(-4, 0, 0)
	plan := rotation.Plan{Set: true}
	state, _ := plan.Next(in(rotation.Setting), facts)
	if state.Phase != rotation.Setting || !state.Since.Equal(facts.Now) {
		t.Fatalf("it is %+v", state)
	}
	facts.Now = facts.Now.Add(5 * time.Minute)
	if _, action := plan.Next(state, facts); action.Do != rotation.StopSet {
		t.Errorf("it does %+v", action)
	}
}

func TestAValueBeforeIsDroppedOnceAndNothingBeginsMeanwhile(t *testing.T) {
	plan := rotation.Plan{Strategy: rotation.Overlap, DropPreviousAfter: time.Hour}
	is := in(rotation.Done)
	is.Kept, is.KeptSince, is.Dropping = 6, began, true
	facts := rotation.Facts{Now: after(time.Hour), Run: "2026-06-14T03:00"}
	if state, action := plan.Next(is, facts); state != is || action.Why == "" {
		t.Errorf("while the store is away it is %+v, and does %+v", state, action)
	}
	facts.Store = rotation.Store{Known: true, Version: 8, Previous: true}
	if state, action := plan.Next(is, facts); state != is || action.Do != rotation.DropPrevious || action.Version != 8 {
		t.Errorf("it is %+v, and does %+v", state, action)
	}
	facts.Store = rotation.Store{Known: true, Version: 9}
	dropped, _ := plan.Next(is, facts)
	if dropped.Dropping || dropped.Kept != 0 || dropped.Phase != rotation.Done {
		t.Errorf("after that it is %+v", dropped)
	}
	if begun, _ := plan.Next(dropped, facts); begun.Phase != rotation.Due || begun.Kept != 0 {
		t.Errorf("the run that was due is %+v", begun)
	}
}

func TestAnOrderIsObeyedOnce(t *testing.T) {
	plan, halted := rotation.Plan{Set: true, OnFailure: rotation.Halt}, in(rotation.Halted)
	halted.HaltedIn, halted.Why = rotation.Setting, "set failed"
	facts := seen(5, rotation.Old)
	for what, want := range map[rotation.What]rotation.Phase{rotation.Retry: rotation.Setting, rotation.TakeBack: rotation.RollingBack, rotation.Accept: rotation.Released, "Dance": rotation.Halted} {
		facts.Order = rotation.Order{ID: "1", What: what}
		state, _ := plan.Next(halted, facts)
		if state.Phase != want || state.Obeyed != "1" {
			t.Errorf("told to %s it is %+v", what, state)
		}
		state.Phase = rotation.Halted
		if again, action := plan.Next(state, facts); again != state || action.Do != rotation.Wait {
			t.Errorf("told once more to %s it is %+v", what, again)
		}
	}
	// Set failed, so its hook is another one the next time.
	facts.Order = rotation.Order{ID: "1", What: rotation.Retry}
	state, _ := plan.Next(halted, facts)
	if _, action := plan.Next(state, facts); action.Do != rotation.RunSet || action.Round != 1 {
		t.Errorf("it does %+v", action)
	}
}

func TestPlansThatCannotBeCarriedOutAreRefusedByTheirField(t *testing.T) {
	for name, row := range map[string]struct {
		plan rotation.Plan
		says string
	}{
		"another strategy":    {rotation.Plan{Strategy: "Swap"}, `strategy "Swap"`},
		"another way out":     {rotation.Plan{OnFailure: "Ignore"}, `onFailure "Ignore"`},
		"two users, no hook":  {rotation.Plan{Strategy: rotation.AlternateUsers}, "set: "},
		"nothing to drop":     {rotation.Plan{DropPreviousAfter: time.Hour}, "dropPreviousAfter: "},
		"dropped at once":     {rotation.Plan{Strategy: rotation.Overlap, DropPreviousAfter: time.Second}, "dropPreviousAfter 1s"},
		"a second":            {rotation.Plan{Timeouts: rotation.Timeouts{Verify: time.Second}}, "timeouts.verify 1s"},
		"less than none":      {rotation.Plan{Timeouts: rotation.Timeouts{Set: -time.Hour}}, "timeouts.set -1h0m0s"},
		"a week":              {rotation.Plan{Timeouts: rotation.Timeouts{Consumers: 168 * time.Hour}}, "timeouts.consumers 168h0m0s"},
		"a store for seconds": {rotation.Plan{Timeouts: rotation.Timeouts{Store: 9 * time.Second}}, "timeouts.store 9s"},
	} {
		if err := row.plan.Check(); !errors.Is(err, rotation.ErrPlan) || !strings.HasPrefix(fmt.Sprint(err), row.says) {
			t.Errorf("%s: it says %v", name, err)
		}
	}
}

// Whatever is seen, one thing is decided, the record is not dropped before the
// end, and no write is over a version that was not seen.
func FuzzNext(f *testing.F) {
	f.Add(uint8(3), uint8(7), uint8(1), int64(5), int64(5), uint16(0), uint8(2), int64(60))
	f.Add(uint8(8), uint8(255), uint8(2), int64(5), int64(9), uint16(511), uint8(1), int64(-60))
	phases := []rotation.Phase{rotation.Idle, rotation.Due, rotation.Prepared, rotation.Setting, rotation.Set, rotation.Written, rotation.Rolling, rotation.Verifying,
		rotation.Verified, rotation.Done, rotation.RollingBack, rotation.Restoring, rotation.Returning, rotation.Forgetting, rotation.Restored, rotation.RolledBack,
		rotation.Halted, rotation.Released, rotation.Accepted, "Nonsense"}
	hooks := []rotation.Hook{rotation.NotRun, rotation.Running, rotation.Succeeded, rotation.Failed}
	f.Fuzz(func(t *testing.T, phase, plan, strategy uint8, from, version int64, bits uint16, held uint8, seconds int64) {
		bit := func(i int) bool { return bits>>i&1 == 1 }
		p := rotation.Plan{Set: plan&1 > 0, Verify: plan&2 > 0, Consumers: plan&4 > 0,
			Strategy:  []rotation.Strategy{"", rotation.Replace, rotation.Overlap, rotation.AlternateUsers}[strategy%4],
			OnFailure: []rotation.OnFailure{rotation.RollBack, rotation.Halt}[strategy/4%2]}
		before := in(phases[int(phase)%len(phases)])
		if plan&128 > 0 && p.Strategy == rotation.Overlap {
			p.DropPreviousAfter = time.Minute
		}
		before.Kept, before.KeptSince, before.Dropping = from, began, bit(15) && before.Phase.Ended()
		before.From, before.HaltedIn = from, phases[int(plan/8)%len(phases)]
		facts := seen(version, []rotation.Holds{rotation.Other, rotation.Old, rotation.New}[held%3])
		facts.Now = after(time.Duration(seconds%(1<<30)) * time.Second)
		facts.Record.There, facts.Store.Known, facts.Synced, facts.Consumers.Ready = bit(0), bit(1), bit(2), bit(3)
		facts.Consumers.Held, facts.Store.Previous = bit(4), bit(2)
		facts.Set, facts.SetBack, facts.Verify = hooks[bits>>5&3], hooks[bits>>7&3], hooks[bits>>9&3]
		if bit(11) {
			facts.Record.Attempt, facts.Record.ID = int(held), "c"
		}
		if bit(12) {
			facts.Order = rotation.Order{ID: "1", What: []rotation.What{rotation.Retry, rotation.TakeBack, rotation.Accept, ""}[bits>>13&3]}
		}
		state, action := p.Next(before, facts)
		if state != before && action != (rotation.Action{}) {
			t.Fatalf("in %+v both %+v and %+v are decided", before, state, action)
		}
		if action.Do == rotation.Drop && before.Phase != rotation.Verified && before.Phase != rotation.Restored && before.Phase != rotation.Released && facts.Record.Attempt >= before.Attempt && !before.Phase.Ended() {
			t.Fatalf("in %s the record is dropped: %+v", before.Phase, facts.Record)
		}
		if action.Do == rotation.DropPrevious && (!before.Phase.Ended() || !before.Dropping || !facts.Store.Known || !facts.Store.Previous || action.Version != facts.Store.Version) {
			t.Fatalf("in %+v it drops values before: %+v over %+v", before, action, facts.Store)
		}
		if (action.Do == rotation.Write || action.Do == rotation.WriteBack) && (action.Version != facts.Store.Version || !facts.Store.Known || facts.Store.Holds == rotation.Other) {
			t.Fatalf("in %s it writes: %+v over %+v", before.Phase, action, facts.Store)
		}
	})
}

func TestWhyAHookFailedIsTold(t *testing.T) {
	plan := rotation.Plan{Set: true, Verify: true}
	failed := func(f rotation.Facts) rotation.Facts {
		f.Set, f.SetBack, f.Verify, f.Failure = rotation.Failed, rotation.Failed, rotation.Failed, "exit code 3"
		return f
	}
	for phase, why := range map[rotation.Phase]string{
		rotation.Setting:     "set failed: exit code 3",
		rotation.Verifying:   "verify failed: exit code 3",
		rotation.RollingBack: "; and setting the system back failed too: exit code 3",
	} {
		holds := map[bool]rotation.Holds{true: rotation.New, false: rotation.Old}[phase == rotation.Verifying]
		if next, _ := plan.Next(in(phase), failed(seen(6, holds))); next.Why != why {
			t.Errorf("%s: it says %q, not %q", phase, next.Why, why)
		}
	}
}
