package rotation

// rollingBack goes on while the store cannot be asked: the system's old value is
// what the pods have. Set does not run any more, since no phase is left while a
// hook of it does.
func (p Plan) rollingBack(s State, f Facts) (State, Action) {
	switch {
	case f.Store.Known && f.Store.Holds == Other:
		return foreign(s, f), Action{}
	case p.setsBackFirst():
		return p.setBack(s, f, Restoring)
	}
	return s.to(Restoring, f.Now), Action{}
}

// setBack the system, and go on to a phase.
func (p Plan) setBack(s State, f Facts, then Phase) (State, Action) {
	ended, action := hook(s, f, f.SetBack, RunSetBack, StopSetBack, p.Timeouts.Set)
	switch ended {
	case Succeeded:
		return s.to(then, f.Now), Action{}
	case Failed:
		return s.halted(f.Now, "%s; and setting the system back failed too%s", s.Why, f.failure()), Action{}
	}
	return s, action
}

// restoring writes the old values even where the new ones never came: a write of
// ours that is still on its way is over another version then, and comes too late.
func (p Plan) restoring(s State, f Facts) (State, Action) {
	switch {
	case !f.Store.Known:
		return s, Action{Why: "the store cannot be asked"}
	case f.Store.Holds == Other:
		return foreign(s, f), Action{}
	case f.Store.Holds == New || f.Store.Version == s.From:
		return s, Action{Do: WriteBack, Attempt: s.Attempt, Record: s.Record, Version: f.Store.Version}
	case p.returns():
		return s.to(Returning, f.Now), Action{}
	}
	return s.to(Restored, f.Now), Action{}
}

// returning gives the workloads their time to leave the new value, and no more:
// one that cannot would hold the rotation for ever. Time in which windows hold them
// back does not count.
func (p Plan) returning(s State, f Facts) (State, Action) {
	since := s
	if f.Consumers.OpenSince.After(s.Since) {
		since.Since = f.Consumers.OpenSince
	}
	timeout, then := p.Timeouts.Sync+p.Timeouts.Consumers, Restored
	if p.setsBackLast() {
		then = Forgetting
	}
	switch {
	case f.Store.Known && f.Store.Holds != Old:
		return foreign(s, f), Action{}
	case f.Synced && (!p.Consumers || f.Consumers.Ready):
		return s.to(then, f.Now), Action{}
	case f.Consumers.Held:
		return s, Action{Do: Tell, Attempt: s.Attempt}
	case since.late(f, timeout):
		return s.to(then, f.Now), Action{}
	}
	return s, Action{Do: Tell, Attempt: s.Attempt, Again: since.timeFrom(f).Add(timeout)}
}

// forgetting looks at the store before the hook and after it: what somebody else
// set meanwhile may be what the system forgot.
func (p Plan) forgetting(s State, f Facts) (State, Action) {
	switch {
	case f.SetBack == Running:
	case !f.Store.Known:
		return s, Action{Why: "the store cannot be asked"}
	case f.Store.Holds != Old:
		return foreign(s, f), Action{}
	}
	return p.setBack(s, f, Restored)
}

// obey an order, once.
func obey(s State, f Facts) (State, Action) {
	if f.Order.ID == "" || f.Order.ID == s.Obeyed {
		return s, Action{Why: s.Why}
	}
	if f.Order.What == Retry && !f.Store.Known {
		return s, Action{Why: "the store cannot be asked"}
	}
	s.Obeyed = f.Order.ID
	switch f.Order.What {
	case Retry:
		s.Round++
		if f.Store.Holds == Old {
			s.From = f.Store.Version // over what somebody wrote to other keys
		}
		return s.to(s.HaltedIn, f.Now), Action{}
	case TakeBack:
		s.Round++
		return s.to(RollingBack, f.Now), Action{}
	case Accept:
		return s.to(Released, f.Now), Action{}
	}
	return s, Action{} // an order that is not known counts as obeyed
}
