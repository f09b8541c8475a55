// Package seal turns a secret value into an item that can lie in git, and back.
//
// There are two envelopes. Version 1 is that of Sealed Secrets, bit for bit:
// what people have sealed keeps opening, and what is sealed here opens there.
// Version 2 is ours, for two reasons. What lies in git today can be kept until
// a machine comes that breaks RSA, so it is encrypted to ML-KEM and X25519 both,
// and holds while either does. And version 1 binds an item to the namespace and
// name of its Secret alone: whoever may edit the file can swap two items, or
// rename one into a key that is printed somewhere. Version 2 binds all of the
// [Label].
//
// To seal takes public keys only, so sealing proves nothing about who sealed.
// The bytes, and what they protect and do not, are in docs/sealed-format.md;
// testdata holds vectors that never change.
//
// The package knows nothing of Kubernetes, reads no clock and keeps no state:
// labels, keys and the time come in. What it can overwrite after use, it does:
// content keys and decoded key texts. Keys that Go's own types have taken in,
// and key schedules inside of ciphers, are beyond its reach.
package seal
