// Package target writes Secrets. It is the one place in Privyseal that does.
//
// Three promises are kept here and nowhere else. A Secret that is not ours is
// never written: a target is created, and only what carries our claim's mark
// is updated, because a server-side apply would adopt a stranger's Secret
// without a word. Bytes that did not change are not written: the history of
// keyed digests on the target (Revisions) tells a change without keeping any
// value. And a sequence moves exactly when the content moves, since it is what
// restarts are counted by: healing a target that someone edited, or digesting
// it under a new install key, changes nothing that a pod was started with.
package target
