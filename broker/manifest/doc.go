// Package manifest works on whole SealedSecrets: it opens their items, renders
// the Secret that they stand for, seals Secrets, and seals items anew.
//
// The kind is that of Sealed Secrets, types and all, so that what lies in git
// and in clusters need not change. Its rules are kept where anything could
// depend on them; each place that is stricter says why. What upstream does with
// an object in one method is apart here, since not everyone may do all of it:
// an answer to a stranger may tell whether items open, and must not render
// their template, whose failing could be made to depend on a value.
//
// The package is pure: it asks no cluster and reads no clock.
package manifest
