// Package lease keeps what stores lend: values that are made for one claim, end
// unless they are renewed, and end some day however often they are.
//
// What is lent, and the token that each loan hangs on, is sealed away in one
// Secret a claim in the daemon's namespace, before anybody uses it. So a daemon
// that is started again renews what the one before had issued, issues nothing,
// and reads nothing anew. One Secret for all claims would end at 1 MiB, and be
// written by everybody.
//
//	issue ─▶ renew … renew ─▶ issue another ─▶ (pods leave) ─▶ give back
//
// Package claim asks for the values (Keeper.Held, Keeper.Take), writes them into
// the claim's Secret and tells of it in the claim's status; package restart
// replaces the pods. This package renews by its own clock, has a claim looked at
// whose loan is to be replaced, and gives the old one back when no pod that lives
// was started under it. What is to be done with a loan is decided by Next, a pure
// function; all else gathers its facts and carries it out.
//
// Renewing writes nothing, here or anywhere in the cluster. When a loan ends is
// known in memory alone: who does not know renews, and hears it.
package lease
