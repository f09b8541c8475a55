package restart

import (
	"context"
	"maps"
	"slices"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/equality"
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

	"github.com/privyseal/privyseal/broker/annotation"
	"github.com/privyseal/privyseal/broker/target"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// sources are what can make a workload stale or current, or its pods lack what
// they ask for, or have it wait or wait no more: its targets, their claims, its
// pods, itself, the webhook, and environments. Each only says which workloads to
// look at; what to do is read off the caches.
func (c *Controller) sources(from cache.Cache) []source.TypedSource[Workload] {
	sources := []source.TypedSource[Workload]{
		source.TypedFunc[Workload](c.keepQueue),
		watch(from, secretMeta(), c.ofSecret, targetTurned()),
		watch(from, &v1alpha1.SecretClaim{}, c.ofClaim, policyTurned()),
		watch(from, &corev1.Pod{}, c.ofPod, podTurned()),
		watch(from, replicaSetMeta(), ofReplicaSet, appears[*metav1.PartialObjectMetadata]()),
		watch(from, &appsv1.Deployment{}, of[*appsv1.Deployment]("Deployment"), specTurned[*appsv1.Deployment]()),
		watch(from, &appsv1.StatefulSet{}, of[*appsv1.StatefulSet]("StatefulSet"), specTurned[*appsv1.StatefulSet]()),
		watch(from, &appsv1.DaemonSet{}, of[*appsv1.DaemonSet]("DaemonSet"), specTurned[*appsv1.DaemonSet]()),
		watch(from, &v1alpha1.Environment{}, c.ofEnvironment, windowsTurned()),
		watch(from, &policyv1.PodDisruptionBudget{}, c.ofDisruption, sparesTurned()),
		watch(from, metaOf(corev1.SchemeGroupVersion.WithKind("Namespace")), c.ofNamespace, labelsTurned()),
	}
	if c.config.Webhook != "" {
		sources = append(sources, watch(from, &admissionregistrationv1.MutatingWebhookConfiguration{}, c.ofWebhook, c.webhookTurned()))
	}
	return sources
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

// ofClaim are those whose pods read the claim's target, and those whose pods
// ask for it: without its claim none of them counts as lacking it.
func (c *Controller) ofClaim(ctx context.Context, claim *v1alpha1.SecretClaim) []Workload {
	target := claim.TargetName()
	return append(c.consumersOrNone(ctx, target), c.lackingOrNone(ctx, claim.Namespace, claim.Name)...)
}

func (c *Controller) ofWebhook(ctx context.Context, _ *admissionregistrationv1.MutatingWebhookConfiguration) []Workload {
	return c.lackingOrNone(ctx, "", anyClaim)
}

// lackingOrNone are the workloads of which a pod lacks a claim, or any with
// anyClaim.
func (c *Controller) lackingOrNone(ctx context.Context, namespace, claim string) []Workload {
	pods, err := c.gather.lackingPods(ctx, namespace, claim)
	if err != nil {
		log.FromContext(ctx).Error(err, "Finding the pods that lack a secret", "claim", claim)
	}
	var workloads []Workload
	for i := range pods {
		w, belongs, err := c.gather.workloadOf(ctx, &pods[i])
		if err == nil && belongs {
			workloads = append(workloads, w)
		}
	}
	return workloads
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
	if len(ReadsOf(&pod.Spec)) == 0 && !annotation.Asks(pod.Annotations) {
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

// ofEnvironment are all workloads: which of them wait for a window, or did
// while another environment was theirs, is read off the caches as everything is.
func (c *Controller) ofEnvironment(ctx context.Context, _ *v1alpha1.Environment) []Workload {
	return c.all(ctx, "")
}

func (c *Controller) ofNamespace(ctx context.Context, namespace *metav1.PartialObjectMetadata) []Workload {
	return c.all(ctx, namespace.Name)
}

// ofDisruption are those that wait in the budget's namespace.
func (c *Controller) ofDisruption(_ context.Context, budget *policyv1.PodDisruptionBudget) []Workload {
	return c.turns.heldIn(budget.Namespace)
}

// all workloads of a namespace; an empty one means all.
func (c *Controller) all(ctx context.Context, namespace string) []Workload {
	var workloads []Workload
	err := c.gather.each(ctx, namespace, func(w Workload, _ client.Object) error {
		workloads = append(workloads, w)
		return nil
	})
	if err != nil {
		log.FromContext(ctx).Error(err, "Finding workloads")
	}
	return workloads
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

// policyTurned: a claim comes, goes, or says something else of restarts, also
// of those that are to go now, or has something else lent to it.
func policyTurned() predicate.TypedPredicate[*v1alpha1.SecretClaim] {
	return predicate.TypedFuncs[*v1alpha1.SecretClaim]{
		UpdateFunc: func(e event.TypedUpdateEvent[*v1alpha1.SecretClaim]) bool {
			return e.ObjectOld.Spec.Restart != e.ObjectNew.Spec.Restart || e.ObjectOld.UID != e.ObjectNew.UID ||
				askedNow(e.ObjectOld) != askedNow(e.ObjectNew) ||
				!slices.Equal(e.ObjectOld.Status.RestartNow, e.ObjectNew.Status.RestartNow) ||
				!equality.Semantic.DeepEqual(e.ObjectOld.Status.Leases, e.ObjectNew.Status.Leases)
		},
	}
}

// webhookTurned: our configuration comes or goes.
func (c *Controller) webhookTurned() predicate.TypedPredicate[*admissionregistrationv1.MutatingWebhookConfiguration] {
	ours := func(name string) bool { return name == c.config.Webhook }
	return predicate.TypedFuncs[*admissionregistrationv1.MutatingWebhookConfiguration]{
		CreateFunc: func(e event.TypedCreateEvent[*admissionregistrationv1.MutatingWebhookConfiguration]) bool {
			return ours(e.Object.Name)
		},
		DeleteFunc: func(e event.TypedDeleteEvent[*admissionregistrationv1.MutatingWebhookConfiguration]) bool {
			return ours(e.Object.Name)
		},
		UpdateFunc: func(e event.TypedUpdateEvent[*admissionregistrationv1.MutatingWebhookConfiguration]) bool {
			return ours(e.ObjectNew.Name) && e.ObjectOld.UID != e.ObjectNew.UID
		},
	}
}

// podTurned: a pod comes, goes, ends, gets ready or into trouble.
func podTurned() predicate.TypedPredicate[*corev1.Pod] {
	return predicate.TypedFuncs[*corev1.Pod]{
		UpdateFunc: func(e event.TypedUpdateEvent[*corev1.Pod]) bool {
			return live(e.ObjectOld) != live(e.ObjectNew) || e.ObjectOld.UID != e.ObjectNew.UID ||
				!readySince(e.ObjectOld).Equal(readySince(e.ObjectNew)) || troubleOf(e.ObjectOld) != troubleOf(e.ObjectNew)
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

// specTurned: a workload comes, goes, has another spec, is to be restarted now,
// says something else of what it is to be restarted for, or its rollout begins
// or ends. Whatever else its status says, pods say
// themselves.
func specTurned[object client.Object]() predicate.TypedPredicate[object] {
	return predicate.TypedFuncs[object]{
		UpdateFunc: func(e event.TypedUpdateEvent[object]) bool {
			return e.ObjectOld.GetGeneration() != e.ObjectNew.GetGeneration() || askedNow(e.ObjectOld) != askedNow(e.ObjectNew) ||
				reloaderTurned(e.ObjectOld, e.ObjectNew) || progressOf(e.ObjectOld) != progressOf(e.ObjectNew)
		},
	}
}

// progressOf a workload's rollout, as its status has it.
func progressOf(object client.Object) [3]bool {
	s, err := shapeOf(object)
	if err != nil {
		return [3]bool{} // unreachable: only workloads are watched with it
	}
	return [3]bool{s.underWay, s.overdue, s.atStep}
}

func askedNow(object client.Object) string { return object.GetAnnotations()[annotation.RestartNow] }

// windowsTurned: an environment comes or goes, or has other windows, restarts or
// namespaces.
func windowsTurned() predicate.TypedPredicate[*v1alpha1.Environment] {
	return predicate.TypedFuncs[*v1alpha1.Environment]{
		CreateFunc: func(e event.TypedCreateEvent[*v1alpha1.Environment]) bool { return !e.IsInInitialList },
		UpdateFunc: func(e event.TypedUpdateEvent[*v1alpha1.Environment]) bool {
			return e.ObjectOld.Generation != e.ObjectNew.Generation
		},
	}
}

// sparesTurned: a PodDisruptionBudget goes, or has other pods to spare.
func sparesTurned() predicate.TypedPredicate[*policyv1.PodDisruptionBudget] {
	return predicate.TypedFuncs[*policyv1.PodDisruptionBudget]{
		CreateFunc: func(event.TypedCreateEvent[*policyv1.PodDisruptionBudget]) bool { return false },
		UpdateFunc: func(e event.TypedUpdateEvent[*policyv1.PodDisruptionBudget]) bool {
			was, is := e.ObjectOld.Status, e.ObjectNew.Status
			return was.DisruptionsAllowed != is.DisruptionsAllowed || was.CurrentHealthy != is.CurrentHealthy
		},
	}
}

// labelsTurned: a namespace may be in another environment.
func labelsTurned() predicate.TypedPredicate[*metav1.PartialObjectMetadata] {
	return predicate.TypedFuncs[*metav1.PartialObjectMetadata]{
		CreateFunc: func(event.TypedCreateEvent[*metav1.PartialObjectMetadata]) bool { return false },
		UpdateFunc: func(e event.TypedUpdateEvent[*metav1.PartialObjectMetadata]) bool {
			return !maps.Equal(e.ObjectOld.Labels, e.ObjectNew.Labels)
		},
		DeleteFunc: func(event.TypedDeleteEvent[*metav1.PartialObjectMetadata]) bool { return false },
	}
}
