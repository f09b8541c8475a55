package restart

import (
	"context"
	"fmt"
	"maps"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/privyseal/privyseal/broker/annotation"
	"github.com/privyseal/privyseal/broker/foreign"
	"github.com/privyseal/privyseal/broker/target"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// gatherer reads the facts from the caches: no request goes out. What it
// returns is shared with the cache and must not be changed.
type gatherer struct {
	cache client.Reader
	// webhook is the name of the webhook's configuration; "" for none.
	webhook string
	// foreign remembers what is not ours; nil: nobody is restarted for it.
	foreign    *foreign.Keeper
	selections *selections
	rollouts   *rollouts // nil: those of Argo are not restarted
}

func newGatherer(from client.Reader, config Config) gatherer {
	return gatherer{cache: from, webhook: config.Webhook, foreign: config.Foreign, selections: newSelections(config.Reloader)}
}

// workload is the workload as the cache shows it; the error says NotFound for
// one that is gone or going, or is passed over.
func (g gatherer) workload(ctx context.Context, w Workload) (shape, error) {
	object := w.newObject()
	if object == nil {
		return shape{}, fmt.Errorf("reading %s: nothing of that kind is restarted", w)
	}
	if w.Kind == kindRollout && !g.rollouts.there() {
		return shape{}, w.gone()
	}
	if err := g.cache.Get(ctx, w.NamespacedName, object, client.UnsafeDisableDeepCopy); err != nil {
		return shape{}, fmt.Errorf("reading %s: %w", w, err)
	}
	if object.GetDeletionTimestamp() != nil {
		return shape{}, w.gone()
	}
	s, err := shapeOf(object)
	if err == nil && s.passedOver != "" {
		return shape{}, w.gone()
	}
	s.byRestartAt = s.byRestartAt && g.foreign != nil // it is Reloader's annotation that says so
	return s, err
}

// gone is the error for a workload that is not to be looked at.
func (w Workload) gone() error {
	resource := schema.GroupResource{Group: w.gvk().Group, Resource: w.Kind}
	return fmt.Errorf("reading %s: %w", w, apierrors.NewNotFound(resource, w.Name))
}

// facts about a workload.
func (g gatherer) facts(ctx context.Context, w Workload, s shape) (Facts, error) {
	pods, err := g.pods(ctx, w, s.GetUID())
	if err != nil {
		return Facts{}, err
	}
	targets := map[string]Target{}
	for _, name := range secretsRead(ReadsOf(&s.template.Spec), pods) {
		known, ours, err := g.target(ctx, types.NamespacedName{Namespace: w.Namespace, Name: name})
		if err != nil {
			return Facts{}, err
		}
		if ours {
			targets[name] = known
		}
	}
	facts := s.facts(w, pods, targets)
	if facts.Misread, err = g.addForeign(ctx, w, s, &facts); err != nil {
		return Facts{}, err
	}
	facts.keepAsked(s.template.Annotations)
	if !facts.lacking() {
		return facts, nil
	}
	facts.Webhook, err = g.hook(ctx, w.Namespace)
	return facts, err
}

// pods that live and belong to the workload.
func (g gatherer) pods(ctx context.Context, w Workload, uid types.UID) ([]Pod, error) {
	owners := []types.UID{uid}
	if w.Kind == "Deployment" || w.Kind == kindRollout {
		sets := &metav1.PartialObjectMetadataList{}
		sets.SetGroupVersionKind(appsv1.SchemeGroupVersion.WithKind("ReplicaSetList"))
		if err := g.owned(ctx, sets, w.Namespace, uid); err != nil {
			return nil, fmt.Errorf("listing the ReplicaSets of %s: %w", w, err)
		}
		owners = nil
		for i := range sets.Items {
			owners = append(owners, sets.Items[i].UID)
		}
	}
	var pods []Pod
	for _, owner := range owners {
		list := &corev1.PodList{}
		if err := g.owned(ctx, list, w.Namespace, owner); err != nil {
			return nil, fmt.Errorf("listing the pods of %s: %w", w, err)
		}
		for i := range list.Items {
			pod := &list.Items[i]
			if !live(pod) {
				continue
			}
			lacks, err := g.lacks(ctx, pod)
			if err != nil {
				return nil, err
			}
			pods = append(pods, Pod{
				Reads: ReadsOf(&pod.Spec), Evidence: EvidenceOf(pod),
				Created: pod.CreationTimestamp.Unix(), Template: hashOf(pod),
				InjectedFor: pod.Annotations[v1alpha1.AnnotationInjectedFor], Lacks: lacks,
				Line: pod.Annotations[v1alpha1.AnnotationRestartedFor], Ready: readySince(pod), Trouble: troubleOf(pod),
			})
		}
	}
	return pods, nil
}

func (g gatherer) owned(ctx context.Context, list client.ObjectList, namespace string, owner types.UID) error {
	return g.cache.List(ctx, list, client.InNamespace(namespace),
		client.MatchingFields{indexOwner: string(owner)}, client.UnsafeDisableDeepCopy)
}

// target is the Secret of that name, if it is ours: if it carries a history
// and the mark of a claim that is there. A Secret whose claim is gone moves no
// more, and nobody is left to say whether its consumers want a restart.
func (g gatherer) target(ctx context.Context, name types.NamespacedName) (known Target, ours bool, err error) {
	secret := secretMeta()
	err = g.cache.Get(ctx, name, secret, client.UnsafeDisableDeepCopy)
	if client.IgnoreNotFound(err) != nil {
		return Target{}, false, fmt.Errorf("reading the metadata of Secret %s: %w", name, err)
	}
	history, claimName := secret.Annotations[v1alpha1.AnnotationRevisions], secret.Annotations[v1alpha1.AnnotationClaim]
	if history != "" && target.SealedUID(secret) != "" {
		revisions, ours := parse(ctx, name, history)
		return Target{Revisions: revisions}, ours, nil
	}
	if history == "" || claimName == "" {
		return Target{}, false, nil
	}
	claim := &v1alpha1.SecretClaim{}
	err = g.cache.Get(ctx, types.NamespacedName{Namespace: name.Namespace, Name: claimName}, claim, client.UnsafeDisableDeepCopy)
	if client.IgnoreNotFound(err) != nil {
		return Target{}, false, fmt.Errorf("reading the claim of Secret %s: %w", name, err)
	}
	if err != nil || string(claim.UID) != target.ClaimUID(secret) {
		return Target{}, false, nil
	}
	revisions, ours := parse(ctx, name, history)
	asked, _ := annotation.Reason(claim.Annotations)
	return Target{
		Revisions: revisions, Claim: claimName, Restart: claim.Spec.Restart,
		AskedNow: asked, RestartNow: claim.Status.RestartNow, Leases: claim.Status.Leases,
	}, ours, nil
}

// parse reads a history. One that cannot be read is put right by the target's
// next write; until then nothing is known of it.
func parse(ctx context.Context, name types.NamespacedName, history string) (revisions target.Revisions, known bool) {
	revisions, err := target.ParseRevisions(history)
	if err != nil {
		log.FromContext(ctx).Info("Passing over a target whose history cannot be read", "target", name, "reason", err.Error())
	}
	return revisions, err == nil
}

// each calls a function with the workloads of a namespace; an empty one means
// all.
func (g gatherer) each(ctx context.Context, namespace string, do func(Workload, client.Object) error) error {
	lists := map[string]client.ObjectList{
		"Deployment": &appsv1.DeploymentList{}, "StatefulSet": &appsv1.StatefulSetList{}, "DaemonSet": &appsv1.DaemonSetList{},
	}
	if g.rollouts.there() {
		lists[kindRollout] = newArgoList()
	}
	for kind, list := range lists {
		if err := g.cache.List(ctx, list, client.InNamespace(namespace), client.UnsafeDisableDeepCopy); err != nil {
			return fmt.Errorf("listing %ss: %w", kind, err)
		}
		err := meta.EachListItem(list, func(item runtime.Object) error {
			object := item.(client.Object)
			return do(Workload{kind, client.ObjectKeyFromObject(object)}, object)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// consumers are the workloads of which a pod, live or not, reads the Secret.
func (g gatherer) consumers(ctx context.Context, secret types.NamespacedName) ([]Workload, error) {
	pods := &corev1.PodList{}
	err := g.cache.List(ctx, pods, client.InNamespace(secret.Namespace),
		client.MatchingFields{indexReads: secret.Name}, client.UnsafeDisableDeepCopy)
	if err != nil {
		return nil, fmt.Errorf("listing the pods that read Secret %s: %w", secret, err)
	}
	found := map[Workload]bool{}
	for i := range pods.Items {
		if w, belongs, err := g.workloadOf(ctx, &pods.Items[i]); err != nil {
			return nil, err
		} else if belongs {
			found[w] = true
		}
	}
	return slices.Collect(maps.Keys(found)), nil
}

// workloadOf is the workload that a pod belongs to; none for a pod that stands
// alone, belongs to a kind that is not restarted, or whose ReplicaSet the
// cache has not seen yet.
func (g gatherer) workloadOf(ctx context.Context, pod *corev1.Pod) (w Workload, belongs bool, err error) {
	owner, known := controllerOf(pod)
	if !known {
		return Workload{}, false, nil
	}
	if owner.Kind != "ReplicaSet" {
		w = Workload{owner.Kind, types.NamespacedName{Namespace: pod.Namespace, Name: owner.Name}}
		return w, w.newObject() != nil, nil
	}
	set := replicaSetMeta()
	err = g.cache.Get(ctx, types.NamespacedName{Namespace: pod.Namespace, Name: owner.Name}, set, client.UnsafeDisableDeepCopy)
	if client.IgnoreNotFound(err) != nil {
		return Workload{}, false, fmt.Errorf("reading the ReplicaSet of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	if err != nil || set.UID != owner.UID {
		return Workload{}, false, nil
	}
	w, belongs = deploymentOf(set)
	return w, belongs && (w.Kind != kindRollout || g.rollouts.there()), nil
}

// deploymentOf is the Deployment, or the Rollout, that a ReplicaSet belongs to.
func deploymentOf(set metav1.Object) (w Workload, belongs bool) {
	owner, known := controllerOf(set)
	if !known || owner.Kind != "Deployment" && owner.Kind != kindRollout {
		return Workload{}, false
	}
	return Workload{owner.Kind, types.NamespacedName{Namespace: set.GetNamespace(), Name: owner.Name}}, true
}
