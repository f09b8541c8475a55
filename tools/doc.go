// Package tools holds what builds and checks Privyseal and is no part of it:
// small programs of our own in the folders below, and the programs of others
// that go.mod pins with tool directives. It is a module of its own, so that
// none of their dependencies meets the product's.
//
// Nothing here needs to be installed. The Makefile builds each program when it
// is first used and keeps those of others in a cache that all clones share.
package tools
