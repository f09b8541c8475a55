package rotation

import (
	"fmt"
	"strings"
	"time"
)

// An engine of the store makes a new value by itself when it is told to. So there
// is nothing to prepare, nothing to seal away and nothing to take back: what is
// decided is when it is told to, that it is told once for each run, and whether
// those who read the value have it.
//
//	Due → Rotating → Written → Rolling → Done
//	or from any but the first: → Halted
//
// From of the State is the engine's turn that the attempt began with, and To the one
// that has the new value. An engine whose turn has moved since was rotated, by
// whomever, and is not told again.

// Turn is how often an engine was rotated, or when.
type Turn struct {
	// Read: claims read what the engine makes.
	Read bool
	// Known: the engine could be asked.
	Known bool
	// At grows with each rotation; 0: the engine does not say.
	At int64
	// Told: this attempt told it to, and was answered that it did. It is a help
	// where the engine does not say; who is new here does not know, and tells it
	// again.
	Told bool
}

// moved says whether the engine was rotated since a turn.
func (t Turn) moved(since int64) bool {
	return t.Known && (t.At > since || t.At == 0 && t.Told)
}

// ByEngine says whether a rotation is one by an engine: one that is under way goes on
// as it began, whatever the spec says by now.
func (s State) ByEngine(f Facts) bool {
	switch {
	case s.Phase.Ended(), s.Phase == Due:
		// A record is the other kind's, and is seen to first.
		return f.Engine != "" && !f.Record.There
	}
	return s.Engine != ""
}

// NextByEngine is Next for a rotation by an engine.
func (p Plan) NextByEngine(s State, f Facts) (State, Action) {
	p.Timeouts = p.Timeouts.orDefaults()
	if s.Since.After(f.Now) && !s.Phase.Ended() {
		return s.to(s.Phase, f.Now), Action{}
	}
	switch s.Phase {
	case Idle, Done, RolledBack, Accepted:
		return idle(s, f)
	case Due:
		return dueByEngine(s, f)
	case Rotating:
		return p.rotating(s, f)
	case Written:
		return p.writtenByEngine(s, f)
	case Rolling:
		return p.rollingByEngine(s, f)
	case Halted:
		return obeyByEngine(s, f)
	}
	return s, Action{Why: fmt.Sprintf("phase %.64q is none of a rotation by an engine", s.Phase)}
}

// dueByEngine notes the engine's turn before it is told to do anything.
func dueByEngine(s State, f Facts) (State, Action) {
	switch {
	case f.Run != "" && f.Run != s.Run:
		s.Run = f.Run
		return s, Action{}
	case f.Hold != "":
		return s, Action{Why: f.Hold}
	case !f.Turn.Known:
		return s, Action{Why: "the engine cannot be asked"}
	}
	s.Engine, s.From, s.To = f.Engine, f.Turn.At, 0
	return s.to(Rotating, f.Now), Action{}
}

func (p Plan) rotating(s State, f Facts) (State, Action) {
	switch {
	case f.Turn.moved(s.From):
		s.To = f.Turn.At
		if !f.Turn.Read {
			return s.doneByEngine(f.Now), Action{}
		}
		return s.to(Written, f.Now), Action{}
	case s.late(f, p.Timeouts.Store) && !f.Turn.Known:
		return s.halted(f.Now, "the engine could not be asked for %s, and nobody knows whether it rotated", p.Timeouts.Store), Action{}
	case s.late(f, p.Timeouts.Store):
		return s.halted(f.Now, "the engine did not rotate for %s", p.Timeouts.Store), Action{}
	case !f.Turn.Known:
		return s, s.wait(f, "the engine cannot be asked", p.Timeouts.Store)
	}
	return s, Action{Do: Rotate, Attempt: s.Attempt, Version: s.From}
}

// further follows an engine that was rotated once more meanwhile: what counts is what
// it has now. The phase's time goes on.
func (s State) further(f Facts) (State, bool) {
	if !f.Turn.Known || f.Turn.At <= s.To {
		return s, false
	}
	s.To = f.Turn.At
	return s, true
}

func (p Plan) writtenByEngine(s State, f Facts) (State, Action) {
	if now, moved := s.further(f); moved {
		return now, Action{}
	}
	switch {
	case f.Synced:
		return s.to(Rolling, f.Now), Action{}
	case s.late(f, p.Timeouts.Sync):
		return s.halted(f.Now, "not all Secrets had the new value after %s%s", p.Timeouts.Sync, f.behind()), Action{}
	}
	return s, Action{Do: Tell, Attempt: s.Attempt, Again: s.begins(f).Add(p.Timeouts.Sync)}
}

func (p Plan) rollingByEngine(s State, f Facts) (State, Action) {
	if now, moved := s.further(f); moved {
		return now.to(Written, f.Now), Action{}
	}
	since := s
	if f.Consumers.OpenSince.After(s.Since) {
		since.Since = f.Consumers.OpenSince
	}
	switch {
	case !p.Consumers, f.Consumers.Ready:
		return s.doneByEngine(f.Now), Action{}
	case f.Consumers.Failed != "":
		return s.halted(f.Now, "the rollout of %s failed", f.Consumers.Failed), Action{}
	case f.Consumers.Held:
		return s, Action{Why: "windows hold the restarts back"}
	case since.late(f, p.Timeouts.Consumers):
		return s.halted(f.Now, "not all workloads were ready after %s%s", p.Timeouts.Consumers, f.behind()), Action{}
	}
	return s, since.wait(f, "workloads are being restarted", p.Timeouts.Consumers)
}

// unreturnable is said of an order to take a rotation back.
const unreturnable = "nobody can take back what an engine made"

// obeyByEngine an order, once.
func obeyByEngine(s State, f Facts) (State, Action) {
	if f.Order.ID == "" || f.Order.ID == s.Obeyed {
		return s, Action{Why: s.Why}
	}
	s.Obeyed = f.Order.ID
	switch f.Order.What {
	case Retry:
		s.Round++
		return s.to(s.HaltedIn, f.Now), Action{}
	case Accept:
		return s.endByEngine(Accepted, f.Now), Action{}
	case TakeBack:
		if !strings.HasSuffix(s.Why, unreturnable) {
			s.Why += "; " + unreturnable
		}
	}
	return s, Action{} // an order that is not known counts as obeyed
}

func (s State) doneByEngine(now time.Time) State { return s.endByEngine(Done, now) }

// endByEngine forgets which engine it was: the next rotation may be another kind's.
func (s State) endByEngine(end Phase, now time.Time) State {
	s.Engine = ""
	return s.to(end, now)
}
