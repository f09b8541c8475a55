package rotation

import (
	"fmt"
	"time"
)

// Phase of a rotation: what was reached, or may have been begun.
type Phase string

// The phases.
const (
	// Idle: there was no rotation yet.
	Idle Phase = ""
	// Due: new values are made, and sealed in the record with the old ones.
	Due Phase = "Due"
	// Prepared: the record is there. Nothing has happened outside.
	Prepared Phase = "Prepared"
	// Setting: the system may know the new value.
	Setting Phase = "Setting"
	// Set: the system knows the new value. The store may have it.
	Set Phase = "Set"
	// Written: the store has the new value, and the claims are to read it.
	Written Phase = "Written"
	// Rolling: all Secrets have it, and the workloads that read them are to be
	// restarted.
	Rolling Phase = "Rolling"
	// Verifying: all workloads have it, and it is tried.
	Verifying Phase = "Verifying"
	// Verified: it works. The record is dropped.
	Verified Phase = "Verified"
	// Done: the last rotation went well.
	Done Phase = "Done"

	// Rotating: an engine of the store may have made a new value.
	Rotating Phase = "Rotating"

	// RollingBack: something failed. A system that knows one value is set back to
	// the old one.
	RollingBack Phase = "RollingBack"
	// Restoring: the old value is written over the new one at the store.
	Restoring Phase = "Restoring"
	// Returning: the store has the old value, and the workloads go back to it.
	Returning Phase = "Returning"
	// Forgetting: a system that knows both values is to forget the new one.
	Forgetting Phase = "Forgetting"
	// Restored: all is as it was. The record is dropped.
	Restored Phase = "Restored"
	// RolledBack: the last rotation failed, and left nothing behind.
	RolledBack Phase = "RolledBack"

	// Halted: somebody has to look. The record stays, with both values.
	Halted Phase = "Halted"
	// Released: somebody looked, and all is well. The record is dropped.
	Released Phase = "Released"
	// Accepted: somebody ended the last rotation.
	Accepted Phase = "Accepted"
)

// Ended says whether the phase is one in which the next rotation can begin.
func (p Phase) Ended() bool {
	return p == Idle || p == Done || p == RolledBack || p == Accepted
}

// needsRecord says whether the phase has something to do that cannot be done
// without the values of the record.
func (p Phase) needsRecord() bool {
	switch p {
	case Setting, Set, Written, Rolling, Verifying, RollingBack, Restoring, Returning, Forgetting:
		return true
	}
	return false
}

// State of a rotation, as it is written down. The zero State is that of one that
// never ran. It has no secret in it.
type State struct {
	Phase Phase
	// Run that it is for, by its id.
	Run string
	// Attempt counts what was begun, over all runs. It is never used twice.
	Attempt int
	// Record of the attempt, by its ID.
	Record string
	// Engine of the store that makes the value, by its path; "" where it is not made
	// by one. It is the attempt's.
	Engine string
	// Round counts how often somebody had the attempt go on after it halted.
	// Each has hooks of its own.
	Round int
	// From is the store's version that the attempt began with, and To the one
	// that has the new value; 0: none yet.
	From, To int64
	// Since is when the phase began.
	Since time.Time
	// HaltedIn is the phase in which it halted.
	HaltedIn Phase
	// Why it failed or halted, in a sentence.
	Why string
	// Obeyed is the id of the last order.
	Obeyed string
}

// to is the state in another phase.
func (s State) to(phase Phase, now time.Time) State {
	s.Phase, s.Since = phase, now
	return s
}

// again is the state of another attempt at the same run, where the one before
// did nothing outside.
func (s State) again(now time.Time) State {
	return State{Phase: Due, Run: s.Run, Attempt: s.Attempt + 1, Since: now, Obeyed: s.Obeyed}
}

// halted is the state in which it stays until somebody looks.
func (s State) halted(now time.Time, format string, arguments ...any) State {
	s.HaltedIn = s.Phase
	s.Why = fmt.Sprintf(format, arguments...)
	return s.to(Halted, now)
}
