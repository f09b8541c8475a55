package restart

import (
	"cmp"
	"context"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/privyseal/privyseal/broker/target"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// sources are what can make a workload stale or current: its targets, their
// claims' restart policy, its pods, and itself. Each only says which workloads
// to look at; what to do is read off the caches.
func (c *Controller) sources(from cache.Cache) []source.TypedSource[Workload] {
	return []source.TypedSource[Workload]{
		source.TypedFunc[Workload](c.keepQueue),
		watch(from, secretMeta(), c.ofSecret, targetTurned()),
		watch(from, &v1alpha1.SecretClaim{}, c.ofClaim, policyTurned()),
		watch(from, &corev1.Pod{}, c.ofPod, podTurned()),
		watch(from, replicaSetMeta(), ofReplicaSet, appears[*metav1.PartialObjectMetadata]()),
		watch(from, &appsv1.Deployment{}, of[*appsv1.Deployment]("Deployment"), specTurned[*appsv1.Deployment]()),
		watch(from, &appsv1.StatefulSet{}, of[*appsv1.StatefulSet]("StatefulSet"), specTurned[*appsv1.StatefulSet]()),
		watch(from, &appsv1.DaemonSet{}, of[*appsv1.DaemonSet]("DaemonSet"), specTurned[*appsv1.DaemonSet]()),
	}
}

func watch[object client.Object](
	from cache.Cache, kind object, workloads handler.TypedMapFunc[object, Workload], when predicate.TypedPredicate[object],
) source.TypedSource[Workload] {
	return source.TypedKind(from, kind, handler.TypedEnqueueRequestsFromMapFunc(workloads), when)
}

// keepQueue lets Roll reach the queue, which there is only once this daemon
// leads.
func (c *Controller) keepQueue(_ context.Context, queue workqueue.TypedRateLimitingInterface[Workload]) error {
	c.queue.Store(&queue)
	return nil
}

func (c *Controller) ofSecret(ctx context.Context, secret *metav1.PartialObjectMetadata) []Workload {
	return c.consumersOrNone(ctx, types.NamespacedName{Namespace: secret.Namespace, Name: secret.Name})
}

func (c *Controller) ofClaim(ctx context.Context, claim *v1alpha1.SecretClaim) []Workload {
	name := claim.Name
	if claim.Spec.Target != nil {
		name = cmp.Or(claim.Spec.Target.Name, name)
	}
	return c.consumersOrNone(ctx, types.NamespacedName{Namespace: claim.Namespace, Name: name})
}

// consumersOrNone is for watches, which have nobody to return an error to.
// Reading the cache ends in an error only when the daemon does.
func (c *Controller) consumersOrNone(ctx context.Context, secret types.NamespacedName) []Workload {
	workloads, err := c.gather.consumers(ctx, secret)
	if err != nil {
		log.FromContext(ctx).Error(err, "Finding the consumers of a target", "target", secret)
	}
	return workloads
}

func (c *Controller) ofPod(ctx context.Context, pod *corev1.Pod) []Workload {
	if len(ReadsOf(&pod.Spec)) == 0 {
		return nil
	}
	w, belongs, err := c.gather.workloadOf(ctx, pod)
	if err != nil {
		log.FromContext(ctx).Error(err, "Finding the workload of a pod", "pod", types.NamespacedName{Namespace: pod.Namespace, Name: pod.Name})
	}
	if !belongs {
		return nil
	}
	return []Workload{w}
}

// ofReplicaSet: a pod may be seen before the ReplicaSet that leads from it to
// its Deployment.
func ofReplicaSet(_ context.Context, set *metav1.PartialObjectMetadata) []Workload {
	w, belongs := deploymentOf(set)
	if !belongs {
		return nil
	}
	return []Workload{w}
}

func of[object client.Object](kind string) handler.TypedMapFunc[object, Workload] {
	return func(_ context.Context, o object) []Workload {
		return []Workload{{kind, types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetName()}}}
	}
}

// targetTurned: a Secret with a history comes, goes, or has another history or
// claim.
func targetTurned() predicate.TypedPredicate[*metav1.PartialObjectMetadata] {
	type mark struct{ revisions, claim, uid string }
	of := func(secret *metav1.PartialObjectMetadata) mark {
		return mark{secret.Annotations[v1alpha1.AnnotationRevisions],
			secret.Annotations[v1alpha1.AnnotationClaim], target.ClaimUID(secret)}
	}
	return predicate.TypedFuncs[*metav1.PartialObjectMetadata]{
		CreateFunc: func(e event.TypedCreateEvent[*metav1.PartialObjectMetadata]) bool {
			return of(e.Object).revisions != ""
		},
		DeleteFunc: func(e event.TypedDeleteEvent[*metav1.PartialObjectMetadata]) bool {
			return of(e.Object).revisions != ""
		},
		UpdateFunc: func(e event.TypedUpdateEvent[*metav1.PartialObjectMetadata]) bool {
			return of(e.ObjectOld) != of(e.ObjectNew)
		},
	}
}

// policyTurned: a claim comes, goes, or says something else of restarts.
func policyTurned() predicate.TypedPredicate[*v1alpha1.SecretClaim] {
	return predicate.TypedFuncs[*v1alpha1.SecretClaim]{
		UpdateFunc: func(e event.TypedUpdateEvent[*v1alpha1.SecretClaim]) bool {
			return e.ObjectOld.Spec.Restart != e.ObjectNew.Spec.Restart || e.ObjectOld.UID != e.ObjectNew.UID
		},
	}
}

// podTurned: a pod comes, goes, or ends.
func podTurned() predicate.TypedPredicate[*corev1.Pod] {
	return predicate.TypedFuncs[*corev1.Pod]{
		UpdateFunc: func(e event.TypedUpdateEvent[*corev1.Pod]) bool {
			return live(e.ObjectOld) != live(e.ObjectNew) || e.ObjectOld.UID != e.ObjectNew.UID
		},
	}
}

// appears: an object is seen for the first time.
func appears[object client.Object]() predicate.TypedPredicate[object] {
	return predicate.TypedFuncs[object]{
		UpdateFunc: func(event.TypedUpdateEvent[object]) bool { return false },
		DeleteFunc: func(event.TypedDeleteEvent[object]) bool { return false },
	}
}

// specTurned: a workload comes, goes, or has another spec. Status moves with
// every pod and says nothing that pods do not say themselves.
func specTurned[object client.Object]() predicate.TypedPredicate[object] {
	return predicate.TypedGenerationChangedPredicate[object]{}
}
