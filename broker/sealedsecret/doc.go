// Package sealedsecret makes Secrets of SealedSecrets: Sealed Secrets' kind, by its
// rules, so that a team can swap its controller for Privyseal and nothing else
// changes.
//
// What a SealedSecret is made of is remembered as a keyed digest, together with
// the version of the Secret that was made of it. While both are as they were,
// nothing is opened and nothing written, however often the daemon starts. The
// memory (Records) may be lost at any time: then each SealedSecret is opened once
// more, and a Secret that already holds what comes out is not written.
//
// One item that does not open keeps the whole Secret as it is. Whatever is in the
// way is tried again for ever, at growing intervals, and at once when a key, the
// SealedSecret or its Secret changes.
package sealedsecret
