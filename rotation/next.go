package rotation

import (
	"fmt"
	"time"
)

// Next is what comes next: another state, to be written down at once and over
// the very one that was given, or an action. The plan is one that Check passed.
func (p Plan) Next(s State, f Facts) (State, Action) {
	p.Timeouts = p.Timeouts.OrDefaults()
	// The clock was put back. What was left of the time could be years.
	if s.Since.After(f.Now) && !s.Phase.Ended() {
		return s.to(s.Phase, f.Now), Action{}
	}
	if s.Phase.needsRecord() && !s.has(f.Record) {
		return s.halted(f.Now, "the record of attempt %d is gone, and with it what was to be written", s.Attempt), Action{}
	}
	switch s.Phase {
	case Idle, Done, RolledBack, Accepted:
		return p.idle(s, f)
	case Due:
		return due(s, f)
	case Prepared:
		return p.prepared(s, f)
	case Setting:
		return p.setting(s, f)
	case Set:
		return p.set(s, f)
	case Written:
		return p.written(s, f)
	case Rolling:
		return p.rolling(s, f)
	case Verifying:
		return p.verifying(s, f)
	case Verified:
		return drop(s, f, Done)
	case RollingBack:
		return p.rollingBack(s, f)
	case Restoring:
		return p.restoring(s, f)
	case Returning:
		return p.returning(s, f)
	case Forgetting:
		return p.forgetting(s, f)
	case Restored:
		return drop(s, f, RolledBack)
	case Halted:
		return obey(s, f)
	case Released:
		return drop(s, f, Accepted)
	}
	return s, Action{Why: fmt.Sprintf("phase %.64q is none that this version knows", s.Phase)}
}

// idle is where no rotation is under way. A record that is there now was made
// too late, by one who did not know yet that another leads; or the state is an
// old one that somebody brought back, and the record may be all that there is of
// a value.
func (p Plan) idle(s State, f Facts) (State, Action) {
	switch {
	case f.Record.There && f.Record.Attempt <= s.Attempt:
		return s, Action{Do: Drop, Attempt: f.Record.Attempt, Record: f.Record.ID}
	case f.Record.There:
		return unknown(s, f)
	case s.Dropping:
		return dropping(s, f)
	case f.Run == "" || f.Run == s.Run:
		return p.keeping(s, f, "no run is due")
	case f.Hold != "":
		return p.keeping(s, f, f.Hold)
	}
	return s.begins(f.Run, f.Now), Action{}
}

// keeping is where nothing is to be done but to drop what a rotation left, once it
// is time.
func (p Plan) keeping(s State, f Facts, why string) (State, Action) {
	drops, ever := p.Drops(s)
	switch {
	case !ever:
		return s, Action{Why: why}
	case f.Now.Before(drops):
		return s, Action{Why: why, Again: drops}
	}
	s.Dropping = true
	return s, Action{}
}

// dropping ends when there is nothing to drop any more: then the document is of a
// later version than any that a write of ours is over. What somebody wrote there
// meanwhile is left to them, and so is what nobody can say that of.
func dropping(s State, f Facts) (State, Action) {
	switch {
	case !f.Store.Known:
		return s, Action{Why: "the store cannot be asked"}
	case f.Store.Previous:
		return s, Action{Do: DropPrevious, Attempt: s.Attempt, Version: f.Store.Version}
	}
	s.Kept, s.KeptSince, s.Dropping = 0, time.Time{}, false
	return s, Action{}
}

// Drops is when the values before that a rotation left are dropped; ever is false
// where there are none, or they stay.
func (p Plan) Drops(s State) (at time.Time, ever bool) {
	if s.Kept == 0 || !s.Phase.Ended() || p.Strategy != Overlap || p.DropPreviousAfter == 0 {
		return time.Time{}, false
	}
	return s.KeptSince.Add(p.DropPreviousAfter), true
}

// unknown is where the record is of a later attempt than the state knows of.
// Nobody can say how far it came, so what may be done is to take it back.
func unknown(s State, f Facts) (State, Action) {
	s.Attempt, s.Record, s.From, s.Phase = f.Record.Attempt, f.Record.ID, f.Record.From, RollingBack
	return s.halted(f.Now, "there is a record of attempt %d, of which the status does not know", f.Record.Attempt), Action{}
}

// due is where a run may wait for long, and so for the next one to be due too:
// the two are one.
func due(s State, f Facts) (State, Action) {
	switch {
	case f.Record.There && f.Record.Attempt == s.Attempt:
		s.Record, s.From = f.Record.ID, f.Record.From
		return s.to(Prepared, f.Now), Action{}
	case f.Record.There && f.Record.Attempt < s.Attempt:
		return s, Action{Do: Drop, Attempt: f.Record.Attempt, Record: f.Record.ID}
	case f.Record.There:
		return unknown(s, f)
	case f.Run != "" && f.Run != s.Run:
		s.Run = f.Run
		return s, Action{}
	case f.Hold != "":
		return s, Action{Why: f.Hold}
	case !f.Store.Known:
		return s, Action{Why: "the store cannot be asked"}
	case f.Store.Version == 0:
		return s, Action{Why: "there is nothing at the path yet that could be rotated"}
	}
	return s, Action{Do: Prepare, Attempt: s.Attempt}
}

// prepared is the last look at the store before anything happens outside.
func (p Plan) prepared(s State, f Facts) (State, Action) {
	switch {
	case !s.has(f.Record):
		return s.again(f.Now), Action{}
	case f.Hold != "":
		return s, Action{Why: f.Hold}
	case !f.Store.Known:
		return s, Action{Why: "the store cannot be asked"}
	case f.Store.Version != s.From:
		return s.again(f.Now), Action{}
	case p.Set:
		return s.to(Setting, f.Now), Action{}
	}
	return s.to(Set, f.Now), Action{}
}

// setting has no deadline before the hook is there, and so never ends without
// it: one that was started too late would find its name taken.
func (p Plan) setting(s State, f Facts) (State, Action) {
	ended, action := hook(s, f, f.Set, RunSet, StopSet, p.Timeouts.Set)
	switch ended {
	case Succeeded:
		return s.to(Set, f.Now), Action{}
	case Failed:
		return p.fail(s, f, "set failed%s", f.failure())
	}
	return s, action
}

func (p Plan) set(s State, f Facts) (State, Action) {
	late := s.late(f, p.Timeouts.Store)
	switch {
	case f.Store.Known && f.Store.Holds == New:
		s.To = f.Store.Version
		return s.to(Written, f.Now), Action{}
	case f.Store.Known && f.Store.Version != s.From && !p.Set:
		return s.again(f.Now), Action{} // no system knows of it
	case f.Store.Known && f.Store.Holds == Other:
		return foreign(s, f), Action{}
	case f.Store.Known && f.Store.Version != s.From:
		return p.fail(s, f, "somebody wrote to the path, though not to the keys of the rotation")
	case late && !f.Store.Known:
		return p.fail(s, f, "the store could not be asked for %s", p.Timeouts.Store)
	case late:
		return p.fail(s, f, "the store took no write for %s", p.Timeouts.Store)
	case !f.Store.Known:
		return s, s.wait(f, "the store cannot be asked", p.Timeouts.Store)
	}
	return s, Action{Do: Write, Attempt: s.Attempt, Record: s.Record, Version: s.From}
}

func (p Plan) written(s State, f Facts) (State, Action) {
	switch {
	case takenOver(f):
		return foreign(s, f), Action{}
	case f.Synced:
		return s.to(Rolling, f.Now), Action{}
	case s.late(f, p.Timeouts.Sync):
		return p.fail(s, f, "not all Secrets had the new value after %s%s", p.Timeouts.Sync, f.behind())
	}
	return s, Action{Do: Tell, Attempt: s.Attempt, Again: s.timeFrom(f).Add(p.Timeouts.Sync)}
}

func (p Plan) rolling(s State, f Facts) (State, Action) {
	since := s
	if f.Consumers.OpenSince.After(s.Since) {
		since.Since = f.Consumers.OpenSince
	}
	switch {
	case takenOver(f):
		return foreign(s, f), Action{}
	case !p.Consumers, f.Consumers.Ready:
		return s.to(Verifying, f.Now), Action{}
	case f.Consumers.Failed != "":
		return p.fail(s, f, "the rollout of %s failed", f.Consumers.Failed)
	case f.Consumers.Held:
		return s, Action{Why: "windows hold the restarts back"}
	case since.late(f, p.Timeouts.Consumers):
		return p.fail(s, f, "not all workloads were ready after %s%s", p.Timeouts.Consumers, f.behind())
	}
	return s, since.wait(f, "workloads are being restarted", p.Timeouts.Consumers)
}

func (p Plan) verifying(s State, f Facts) (State, Action) {
	if takenOver(f) {
		return foreign(s, f), Action{}
	}
	if !p.Verify {
		return p.verified(s, f), Action{}
	}
	ended, action := hook(s, f, f.Verify, RunVerify, StopVerify, p.Timeouts.Verify)
	switch ended {
	case Succeeded:
		return p.verified(s, f), Action{}
	case Failed:
		return p.fail(s, f, "verify failed%s", f.failure())
	}
	return s, action
}

// verified notes which version has the values before: the record that knows them
// goes next.
func (p Plan) verified(s State, f Facts) State {
	if p.Strategy == Overlap {
		s.Kept, s.KeptSince = s.To, f.Now
	}
	return s.to(Verified, f.Now)
}

// hook is what to do about one that is wanted; ended is Succeeded or Failed when
// nothing is.
func hook(s State, f Facts, is Hook, run, stop Do, timeout time.Duration) (ended Hook, action Action) {
	action = Action{Attempt: s.Attempt, Record: s.Record, Round: s.Round}
	switch {
	case is == NotRun:
		action.Do = run
	case is == Running && s.late(f, timeout):
		action.Do = stop
	case is == Running:
		return is, s.wait(f, "a hook runs", timeout)
	}
	return is, action
}

// drop the record, and end.
func drop(s State, f Facts, end Phase) (State, Action) {
	switch {
	case f.Record.There && f.Record.Attempt > s.Attempt:
		return unknown(s, f)
	case f.Record.There:
		return s, Action{Do: Drop, Attempt: f.Record.Attempt, Record: f.Record.ID}
	}
	return s.to(end, f.Now), Action{}
}

// has says whether the record is the attempt's.
func (s State) has(record Record) bool { return record.There && record.ID == s.Record }

// timeFrom is when the time of a phase begins that is waited in: no sooner than
// there is somebody who does anything about it.
func (s State) timeFrom(f Facts) time.Time {
	if f.LeadsSince.After(s.Since) && !f.LeadsSince.After(f.Now) {
		return f.LeadsSince
	}
	return s.Since
}

// late says whether a phase took longer than it may.
func (s State) late(f Facts, timeout time.Duration) bool {
	return !f.Now.Before(s.timeFrom(f).Add(timeout))
}

// wait until something changes, or it is late.
func (s State) wait(f Facts, why string, timeout time.Duration) Action {
	return Action{Why: why, Again: s.timeFrom(f).Add(timeout)}
}

// takenOver says whether the keys of a rotation have something else than what it
// wrote. A store that cannot be asked says nothing.
func takenOver(f Facts) bool { return f.Store.Known && f.Store.Holds != New }

// behind says in an error who it was that was waited for.
func (f Facts) behind() string {
	if f.Behind == "" {
		return ""
	}
	return ": " + f.Behind
}

// failure says in an error why a hook failed.
func (f Facts) failure() string {
	if f.Failure == "" {
		return ""
	}
	return ": " + f.Failure
}

// foreign is where somebody else wrote to the keys of a rotation: whatever they
// meant, it is not overwritten.
func foreign(s State, f Facts) State {
	return s.halted(f.Now, "somebody else wrote to the keys of the rotation (version %d)", f.Store.Version)
}

// fail as the plan wants it.
func (p Plan) fail(s State, f Facts, format string, arguments ...any) (State, Action) {
	if p.OnFailure == Halt {
		return s.halted(f.Now, format, arguments...), Action{}
	}
	s.Why = fmt.Sprintf(format, arguments...)
	return s.to(RollingBack, f.Now), Action{}
}
