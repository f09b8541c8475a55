// Package sealingkey keeps the keys that secrets are sealed to, in Secrets of the
// daemon's namespace.
//
// Sealing needs no secret, so the newest key is given out to everybody; opening
// needs the private half, and old items go on opening for as long as their key's
// Secret is there. Keys of version 1 are kept just as Sealed Secrets keeps them,
// so that its keys are taken over and its controller can have them back. Keys of
// version 2 have a type and a label of their own: that controller stops at a
// labelled Secret that it cannot read.
//
// A key is renewed so that what leaks with it is what was sealed in a month and
// not for ever; renewing changes no value and seals nothing anew. A key is used
// only after it was seen in the cluster, so no replica gives out one that could
// be lost. Which of several is the newest is decided by dates in the keys
// themselves and by names, never by who asks, so that replicas agree.
package sealingkey
