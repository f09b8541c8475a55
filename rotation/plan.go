package rotation

import (
	"cmp"
	"errors"
	"fmt"
	"time"
)

// ErrPlan: a rotation is not set up in a way that can be carried out. The error
// names the field.
var ErrPlan = errors.New("unusable rotation")

// Strategy is how the new value comes in beside the old one.
type Strategy string

// The strategies, and what each can promise.
const (
	// Replace: the new value takes the old one's place. A system that knows one
	// password accepts the old one no more from the moment it is set, so who logs
	// in with it fails until its pod is replaced.
	Replace Strategy = "Replace"
	// Overlap: the system accepts both, and the store keeps the old one under
	// <key>_previous until the next rotation. Nobody fails.
	Overlap Strategy = "Overlap"
	// AlternateUsers: the system has two users, and each rotation gives the one
	// that is not in use a new password. Nobody fails, and nothing has to be set
	// back. Set must need no old password of that user.
	AlternateUsers Strategy = "AlternateUsers"
)

// OnFailure is what becomes of a rotation that does not work.
type OnFailure string

// What becomes of a rotation that does not work.
const (
	// RollBack: the old value is set back, everywhere.
	RollBack OnFailure = "RollBack"
	// Halt: all stays as it is, for somebody to look at.
	Halt OnFailure = "Halt"
)

// Limits of the deadlines, and of Plan.DropPreviousAfter.
const (
	MinTimeout      = 10 * time.Second
	MaxTimeout      = 24 * time.Hour
	MinDropPrevious = time.Minute
	MaxDropPrevious = 366 * 24 * time.Hour
)

// Plan of a rotation.
type Plan struct {
	// Strategy; "" is Replace.
	Strategy Strategy
	// OnFailure; "" is RollBack.
	OnFailure OnFailure
	// Set: there is a hook that changes the value at the system.
	Set bool
	// Verify: there is a hook that tries the new value.
	Verify bool
	// Consumers: the workloads that read the value have to become ready with it.
	Consumers bool
	// DropPreviousAfter is how long after a rotation the value before is taken out
	// of the store, with strategy Overlap; 0: it stays until the next rotation.
	DropPreviousAfter time.Duration
	// Timeouts of what is waited for.
	Timeouts Timeouts
}

// Timeouts say how long a step may take before the rotation has failed, from
// MinTimeout to MaxTimeout.
type Timeouts struct {
	// Set is for one run of the hook, there or back; 0 is 5 minutes.
	Set time.Duration
	// Store is for writing to it; 0 is 10 minutes.
	Store time.Duration
	// Sync is for the Secrets of all claims; 0 is 10 minutes.
	Sync time.Duration
	// Consumers is for their rollouts, not counting the time in which windows
	// hold them back; 0 is 10 minutes.
	Consumers time.Duration
	// Verify is for one run of the hook; 0 is 5 minutes.
	Verify time.Duration
}

const (
	hookTimeout = 5 * time.Minute
	stepTimeout = 10 * time.Minute
)

// OrDefaults is the timeouts with those that are not given.
func (t Timeouts) OrDefaults() Timeouts {
	return Timeouts{
		Set:       cmp.Or(t.Set, hookTimeout),
		Store:     cmp.Or(t.Store, stepTimeout),
		Sync:      cmp.Or(t.Sync, stepTimeout),
		Consumers: cmp.Or(t.Consumers, stepTimeout),
		Verify:    cmp.Or(t.Verify, hookTimeout),
	}
}

// Check says whether the plan can be carried out. Errors wrap ErrPlan, and begin
// with the field.
func (p Plan) Check() error {
	switch p.Strategy {
	case "", Replace, Overlap, AlternateUsers:
	default:
		return fmt.Errorf("strategy %.64q: %w: want %s, %s or %s", p.Strategy, ErrPlan, Replace, Overlap, AlternateUsers)
	}
	switch p.OnFailure {
	case "", RollBack, Halt:
	default:
		return fmt.Errorf("onFailure %.64q: %w: want %s or %s", p.OnFailure, ErrPlan, RollBack, Halt)
	}
	if p.Strategy == AlternateUsers && !p.Set {
		return fmt.Errorf("set: %w: with strategy %s somebody has to give the other user the new password", ErrPlan, AlternateUsers)
	}
	if err := p.checkDrop(); err != nil {
		return err
	}
	t := p.Timeouts.OrDefaults()
	for _, timeout := range []struct {
		field string
		of    time.Duration
	}{{"set", t.Set}, {"store", t.Store}, {"sync", t.Sync}, {"consumers", t.Consumers}, {"verify", t.Verify}} {
		if timeout.of < MinTimeout || timeout.of > MaxTimeout {
			return fmt.Errorf("timeouts.%s %s: %w: want from %s to %s", timeout.field, timeout.of, ErrPlan, MinTimeout, MaxTimeout)
		}
	}
	return nil
}

func (p Plan) checkDrop() error {
	switch d := p.DropPreviousAfter; {
	case d == 0:
	case p.Strategy != Overlap:
		return fmt.Errorf("dropPreviousAfter: %w: only strategy %s keeps the value before", ErrPlan, Overlap)
	case d < MinDropPrevious || d > MaxDropPrevious:
		return fmt.Errorf("dropPreviousAfter %s: %w: want from %s to %s", d, ErrPlan, MinDropPrevious, MaxDropPrevious)
	}
	return nil
}

// setsBackFirst says whether the system has to be set back at once when a
// rotation failed: where it knows one value, each moment with the new one is an
// outage.
func (p Plan) setsBackFirst() bool {
	return p.Set && !p.returns()
}

// setsBackLast says whether it has to be when nobody uses the new value any more.
func (p Plan) setsBackLast() bool { return p.Set && p.Strategy == Overlap }

// returns says whether the end waits for the workloads to leave the new value:
// the system is to forget it then, or at the next rotation.
func (p Plan) returns() bool { return p.Set && p.Strategy != "" && p.Strategy != Replace }
