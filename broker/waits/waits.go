// Package waits has the words in which restarts that wait are told of: what holds
// them back, and which of them are held. Package restart finds them, and package
// claim puts them into a claim's status, so they are at home in neither.
package waits

import (
	"fmt"
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
)

// Hold is what keeps the restarts of a namespace back at an instant. The zero
// value keeps none.
type Hold struct {
	// Environment whose windows they are; empty where that is not known.
	Environment string
	Cause       Cause
	// Until is when restarts may happen again; zero unless Closed.
	Until time.Time
	// Why in a sentence, without the environment.
	Why string
}

// Holds says whether restarts are kept back.
func (h Hold) Holds() bool { return h.Cause != Nothing }

// Says completes "restarts wait".
func (h Hold) Says() string {
	until := "until that is mended"
	if h.Cause == Closed {
		until = "until " + h.Until.UTC().Format(time.RFC3339)
	}
	if h.Environment == "" {
		return until + ": " + h.Why
	}
	return fmt.Sprintf("%s, in environment %s: %s", until, h.Environment, h.Why)
}

// Deferral is what waits for a window among the workloads that read a Secret.
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
