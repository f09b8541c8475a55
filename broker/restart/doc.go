// Package restart restarts the workloads whose pods hold an old value, each
// exactly once for one change.
//
// What a pod holds cannot be seen: kubelet reads the Secret when it starts the
// container, and environment variables never change after that. So it is
// judged by counters. A target's history says which content of each key came
// into force at which sequence (package target); the pod's evidence says up to
// which sequence it was certainly started. It is stale if a key that it reads
// had another content then than now. Back to the old content is back to
// current: nobody is restarted for A → B → A who still holds A.
//
// A restart is one patch of the pod template:
//
//	privyseal.io/restarted-for: "db=1763800000,tls=0"
//
// The pods made from it inherit the line, which is their evidence. A change is
// covered once the line has reached its sequence, and a covered change is
// never patched for again, however long its rollout takes or whatever holds it
// up. The line only moves forward, and the patch tests the value that it was
// computed from, so neither a leader that does not know yet that it was
// deposed nor a crash between the patch and the next line of code can double a
// rollout. Nothing that matters is kept in memory: after a start, everything
// stale is found again from what is.
//
// The package has three parts that know nothing of each other's work: a pure
// core (ReadsOf, EvidenceOf, Decide), the one patch, and the ceremony of
// caches and queues around them (Controller).
//
// Where the environment's windows forbid a restart, or its budget lets others go
// first, the patch is not made. The workload stays stale, and is patched when it
// is looked at after they open, or when its turn has come.
//
// Secrets and ConfigMaps of others, which Reloader's annotations have a workload
// restarted for, are targets as well. Their histories are kept beside them
// (package foreign), and they are called secret/db and configmap/settings in the
// line, as no Secret of ours can be called. What of them is looked at, and what is
// not, the foreigners see to; how it is judged is the same for all.
//
// Rollouts of Argo are workloads too once WatchRollouts was called: see ArgoRollout
// for what they have of their own.
//
// Left alone are Jobs and CronJobs, whose next run reads the new value, and
// pods without a controller, which nobody would make again.
//
// # Rights
//
// The controller's service account needs, cluster-wide or in each of its
// namespaces:
//
//	""            secrets                                get, list, watch (metadata only)
//	""            pods                                   list, watch
//	apps          replicasets                            list, watch (metadata only)
//	apps          deployments, statefulsets, daemonsets  get, list, watch, patch
//	argoproj.io   rollouts                               get, list, watch, patch (where WatchRollouts is called)
//	policy        poddisruptionbudgets                   get, list, watch
//	privyseal.io  secretclaims                           list, watch
//	""            namespaces                             get, list, watch (metadata only)
//	privyseal.io  environments                           get, list, watch
//	privyseal.io  environments/status                    patch
//	events.k8s.io events                                 create, patch
//
// where Config.Foreign is given, what package foreign needs and
//
//	""           configmaps                               get, list, watch (metadata only)
//
// and, where Config.Webhook is given,
//
//	admissionregistration.k8s.io mutatingwebhookconfigurations get, list, watch (by that name)
//	discovery.k8s.io             endpointslices                list (where the webhook is)
package restart
