// Package rotation decides what the next step of a rotation is.
//
// A rotation changes one credential at three places: at the system that accepts
// it, at the store that keeps it, and in the pods that use it. It may be killed
// between any two of them, others may write meanwhile, and no step may be guessed
// at afterwards. So both values are sealed away in a record before anything else
// happens, each phase is written down before what it stands for is done, and what
// is done next is decided by looking at what is:
//
//	Due ─ Prepared ─ Setting ─ Set ─ Written ─ Rolling ─ Verifying ─ Verified ─ Done
//	                    └───────┴───────┴─────────┴──────────┴─┐
//	   RollingBack ─ Restoring ─ (Returning ─ Forgetting) ─ Restored ─ RolledBack
//	        └────────────┴────────────┴───────────┴── Halted
//
// Next is that decision, a pure function. It gives either another state, which
// has to be written down before anything else is done, or an action for the state
// that is written down already; never both. Actions may be done twice, or late by
// somebody who does not know yet that another leads: each is one that does no
// harm then, as Do says.
package rotation
