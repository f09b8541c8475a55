// Package broker is the daemon: it wires the parts of Privyseal together and
// runs them until it is told to stop.
//
// # The way of a secret
//
//	rotation ──writes──▶ store ──read──▶ claim: template ──apply──▶ target ──keep──▶ sealed copy
//	                                                                  └──roll──▶ stale consumers
//	annotations on a pod template ──▶ a claim (controller) + env/volumes in the pod (webhook)
//
// Package claim is that line, one verb a step, and owns the small interfaces
// that its steps need; store, target and restart fulfil them and know nothing
// of each other. Here they meet.
package broker
