package rotation

import "time"

// Facts that the next step is decided by. They are looked up anew for each, and
// not in a cache: whether something is there decides whether it is done.
type Facts struct {
	Now time.Time
	// LeadsSince is since when the one who asks is there to do anything; what is
	// waited for gets its whole time from then on. Zero: always.
	LeadsSince time.Time
	// Run that is due, by its id; "" is none.
	Run string
	// Hold is why nothing may begin now, in a sentence: windows, or that somebody
	// suspended it; "" is nothing. What has begun goes on.
	Hold string
	// Record of the rotation.
	Record Record
	// Store's document.
	Store Store
	// Engine of the store that the spec has make new values; "" is none.
	Engine string
	// Turn of the engine that the attempt began with, or of that one.
	Turn Turn
	// Set, SetBack and Verify are the hooks of this attempt and round.
	Set, SetBack, Verify Hook
	// Synced: the Secrets of all claims have what the store has.
	Synced bool
	// Consumers of those Secrets.
	Consumers Consumers
	// Behind names those that are waited for, claims or workloads, for people; ""
	// where nobody can say.
	Behind string
	// Order that somebody gives.
	Order Order
}

// Record is where both values are sealed away.
type Record struct {
	There bool
	// ID of this one, and of none that is ever made again: its UID.
	ID string
	// Attempt that it is of.
	Attempt int
	// From is the store's version of the old values.
	From int64
}

// Store is what the store's document has.
type Store struct {
	// Known: the store could be asked.
	Known bool
	// Version of the document; 0: there is none.
	Version int64
	// Holds is what the rotation's own keys have, held against the record.
	Holds Holds
}

// Holds is what the keys of a rotation have.
type Holds string

// What the keys of a rotation have.
const (
	// Other than the old or the new value: somebody else wrote.
	Other Holds = ""
	Old   Holds = "Old"
	New   Holds = "New"
)

// Hook is how far a hook is.
type Hook string

// How far a hook is.
const (
	NotRun    Hook = ""
	Running   Hook = "Running"
	Succeeded Hook = "Succeeded"
	// Failed: by itself, or stopped.
	Failed Hook = "Failed"
)

// Consumers is how far the workloads are that read the value.
type Consumers struct {
	// Ready: none has pods with another value, and all are ready.
	Ready bool
	// Failed names one whose rollout does not go on; "" is none.
	Failed string
	// Held: windows hold rollouts back.
	Held bool
	// OpenSince is since when they do not; zero: always.
	OpenSince time.Time
}

// Order that somebody gives for a rotation that halted.
type Order struct {
	// ID makes it this one: an order is obeyed once.
	ID   string
	What What
}

// What is ordered.
type What string

// What can be ordered.
const (
	// Retry: go on where it halted.
	Retry What = "Retry"
	// TakeBack: roll back.
	TakeBack What = "RollBack"
	// Accept: leave all as it is, and forget both values.
	Accept What = "Accept"
)

// Action to do. Who does it does nothing else before looking at the facts again.
type Action struct {
	Do Do
	// Attempt that the action is of.
	Attempt int
	// Record by its ID, which the action takes the values of, or drops; if it is
	// there no more, nothing is done.
	Record string
	// Round that the hook is of.
	Round int
	// Version that a write is over: check-and-set.
	Version int64
	// Why nothing is done, in a sentence; "" where something is.
	Why string
	// Again is when to look, if no fact changes before; zero: nobody can say.
	Again time.Time
}

// Do says what an Action does.
type Do string

// What is done, and why no harm comes of it if it is done twice, or too late.
const (
	// Wait for a fact to change.
	Wait Do = ""
	// Prepare makes the new values, reads the old ones and creates the record of
	// this attempt with both. Too late: there is one already, or the one it makes
	// is of an attempt that is over, and is dropped, since nobody asks for it by
	// its ID.
	Prepare Do = "Prepare"
	// RunSet starts the hook of this attempt and round that has the system know
	// the new value, by a name made of both, with the values of the record. What
	// it started stays, even after it failed, until the record is dropped; so too
	// late, the name is taken, or there are no values.
	RunSet Do = "RunSet"
	// RunSetBack does so with the old value.
	RunSetBack Do = "RunSetBack"
	// RunVerify does so to try the new value.
	RunVerify Do = "RunVerify"
	// StopSet, StopSetBack and StopVerify end a hook that runs, which has then
	// failed. It must not be deleted: its name would be free.
	StopSet     Do = "StopSet"
	StopSetBack Do = "StopSetBack"
	StopVerify  Do = "StopVerify"
	// Write the new values over Version, leaving all other keys. Too late: the
	// version is another.
	Write Do = "Write"
	// WriteBack does so with the old values.
	WriteBack Do = "WriteBack"
	// Rotate has the engine make a new value, whose turn was Version. Too late: its
	// turn is another, and if not by then, it rotates once more than it had to.
	Rotate Do = "Rotate"
	// Tell the claims to read the store, once in a while.
	Tell Do = "Tell"
	// Drop the record, and its hooks. Too late: it is there no more.
	Drop Do = "Drop"
)
