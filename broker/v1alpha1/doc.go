// Package v1alpha1 holds the kinds of privyseal.io: where values come from
// (SecretStore, ClusterSecretStore), which namespaces may ask for what
// (Environment), and what an application wants (SecretClaim).
//
// Two rules shape these types. A field exists only once it has an effect, for
// an accepted field without effect is a lie. And a status holds nothing that
// moves while nothing changes, so a cluster at rest costs no writes.
//
// Every string, list and map is bounded: CEL rules over unbounded fields pass
// the API server's cost limit only by luck, and an unbounded list is a way to
// fill etcd.
//
// +kubebuilder:object:generate=true
// +groupName=privyseal.io
package v1alpha1
