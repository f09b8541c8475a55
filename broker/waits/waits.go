// Package waits has the words in which restarts that wait are told of: what holds
// them back, and which of them are held. Package restart finds them, and package
// claim puts them into a claim's status, so they are at home in neither.
package waits

import (
	"fmt"
	"slices"
	"time"
)

// Cause of a Hold.
type Cause string

// The causes of a Hold.
const (
	// Nothing holds restarts back.
	Nothing Cause = ""
	// Closed: a window does, until an instant that is known.
	Closed Cause = "closed"
	// Unknown: the windows cannot be read, or it is not known whose they are.
	// What they were meant to forbid is forbidden until somebody mends them.
	Unknown Cause = "unknown"
	// NeverOpen: the windows leave no time at all.
	NeverOpen Cause = "never"
	// Turn: the environment's restarts let others go first.
	Turn Cause = "turn"
	// Stopped: a rollout for the same change fails.
	Stopped Cause = "stopped"
	// Disrupted: a PodDisruptionBudget has no pod to spare.
	Disrupted Cause = "disrupted"
)

// Hold is what keeps restarts back at an instant: windows those of a whole
// namespace, all else those of one workload. The zero value keeps none.
type Hold struct {
	// Environment whose rule it is; empty where that is not known.
	Environment string
	Cause       Cause
	// Until is when it ends, or is worth another look; zero where that is not
	// known.
	Until time.Time
	// Why in a sentence, without the environment. It stays the same while others
	// come and go, so that a status that tells it does.
	Why string
	// Now is what it waits for at this moment; empty where Why says all.
	Now string
}

// Holds says whether restarts are kept back.
func (h Hold) Holds() bool { return h.Cause != Nothing }

// Says completes "restarts wait".
func (h Hold) Says() string {
	until := "until that is mended"
	switch h.Cause {
	case Closed:
		until = "until " + h.Until.UTC().Format(time.RFC3339)
	case Turn:
		until = "for their turn"
	case Disrupted:
		until = "until pods are ready again"
	case Nothing, Unknown, NeverOpen, Stopped:
	}
	if h.Environment == "" {
		return until + ": " + h.Why
	}
	return fmt.Sprintf("%s, in environment %s: %s", until, h.Environment, h.Why)
}

// Outranks says that of two reasons to wait people want to hear this one: it
// takes somebody who does something.
func (h Hold) Outranks(other Hold) bool { return h.Cause.rank() > other.Cause.rank() }

func (c Cause) rank() int {
	return slices.Index([]Cause{Nothing, Turn, Disrupted, Stopped, Closed, NeverOpen, Unknown}, c)
}

// Deferral is what waits among the workloads that read a Secret.
type Deferral struct {
	Hold Hold
	// Sequence of the last change that a workload waits with; 0: nothing waits.
	Sequence int64
	// Asked are the reasons that workloads which wait give for going now, and
	// that are not noted yet, by workload: "Deployment/web".
	Asked map[string]string
	// Spent is a reason that one of them gives, and that was good for an earlier
	// change; empty where there is none.
	Spent string
}

// Waits says whether any workload waits.
func (d Deferral) Waits() bool { return d.Sequence > 0 }
