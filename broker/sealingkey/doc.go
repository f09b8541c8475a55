// Package sealingkey keeps the private keys that sealed items are opened with,
// as Secrets of one namespace.
//
// Keys of version 1 are stored just as Sealed Secrets stores them, under its
// label: those that it left are used, and it can take up those that are made
// here. Keys of version 2 have a type and a label of their own, since a Secret
// under upstream's label without an RSA key ends its controller.
//
// Who holds the Secrets holds the keys, so to bring one's own is to create a
// Secret with the label. What is there is looked at anew whenever one of them
// comes, goes or changes: nothing is kept that was not read from the cluster, so
// no replica can give out a key that might be lost.
//
// The newest key seals, and every key opens. An older one is never removed here:
// something in some git may need it.
package sealingkey
