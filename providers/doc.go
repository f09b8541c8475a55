// Package providers is what every store of secrets has in common: where a
// document lies (Ref), what it holds (Document of Values), how it is read
// (Reader), and how it is changed without writing over what others wrote (Writer).
//
// It knows nothing of Kubernetes, so a provider can be read, tested and fuzzed
// alone; a service account's token, where a login needs one, comes in as a
// function. The errors state facts (there is nothing; we may not; we could not
// ask), since what becomes of a target depends on which of them it was: only a
// store that answered is ever believed, and none of the three removes the last
// good value.
package providers
