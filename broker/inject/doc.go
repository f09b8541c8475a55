// Package inject is the webhook: a pod comes in, a patch goes out.
//
// It only points. A pod that asks for a secret by annotation gets volumes and
// variables that refer to the Secret of its claim; whether that Secret is there
// yet is kubelet's to find out, which holds the pod until it is (none of the
// references is optional). So the webhook reads no Secret that holds a value,
// writes nothing, and gives the same answer to a dry run; the claim itself is
// made by the controller, which reads the same annotations off the workload.
//
// A patch only ever adds. Where something stands already in the place that an
// addition would take, the pod is refused, with the annotation to change: a
// variable replaced in silence is found in production, a refusal in the
// rollout's events.
package inject
