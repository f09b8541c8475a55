// Package certs gives the webhook its certificates: a certificate authority of
// its own, kept in one Secret, and a short-lived certificate in the memory of
// each replica.
//
// The API server calls a webhook only if its certificate leads to the caBundle
// in the webhook's configuration. Three things so have to change together, in
// different places and at different speeds: the bundle, which every API server
// learns of by a watch; the authority, which all replicas share; and the
// replicas' certificates. Where one runs ahead, pods are refused. So nothing is
// ever switched, only handed over:
//
//	           ca.crt   next.crt   previous.crt   caBundle
//	at rest    A                                  A
//	prepared   A        B                         A B        published, B signs nothing yet
//	promoted   B                   A              A B        new certificates are B's
//	dropped    B                                  B          A's certificates have expired
//
// Each row is one write of the Secret, made by the replica that holds the
// Lease, and the row after it comes once the one before has surely arrived:
// promoted, when the configuration has had B for as long as API servers may
// take to see it; dropped, when the last certificate that A signed is over. A
// replica reads the Secret by API (a mounted one comes up to minutes late) and
// signs for itself, so its key never leaves it.
//
// A crash at any point is taken up where it was. A lost Secret is made anew,
// while whatever the configuration trusts stays trusted until its certificates
// are over. A lost bundle is put back.
//
// The parts that judge are pure: keeper.judge over the Secret and the bundle,
// and renewed over a certificate.
package certs
