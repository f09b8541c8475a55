package claim

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/privyseal/privyseal/broker/annotation"
	"github.com/privyseal/privyseal/broker/environment"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// lookAgain is how soon a claim that only old pods still need is looked at
// again: the end of the last of them wakes nobody.
const lookAgain = time.Minute

// Annotated makes the claims that annotated workloads of one kind ask for, and
// keeps them for as long as somebody needs them.
//
// The claims are made here and not by the webhook: admission must have no side
// effects, and sees pods that are rejected later. The webhook points a pod at
// a Secret by a name that both compute from the annotations; kubelet holds the
// pod until the Secret is there.
type Annotated struct {
	// Kind of the workloads, with its group and version.
	Kind schema.GroupVersionKind

	// Client reads from the cache and writes claims.
	Client client.Client

	// Events tells people of annotations that cannot be read.
	Events events.EventRecorder
}

// AnnotatedKinds are the kinds whose pod templates are looked at, each with an
// empty object of it. Pods that belong to none of them are looked at as such.
func AnnotatedKinds() map[schema.GroupVersionKind]client.Object {
	return map[schema.GroupVersionKind]client.Object{
		appsv1.SchemeGroupVersion.WithKind("Deployment"):  &appsv1.Deployment{},
		appsv1.SchemeGroupVersion.WithKind("StatefulSet"): &appsv1.StatefulSet{},
		appsv1.SchemeGroupVersion.WithKind("DaemonSet"):   &appsv1.DaemonSet{},
		batchv1.SchemeGroupVersion.WithKind("CronJob"):    &batchv1.CronJob{},
		batchv1.SchemeGroupVersion.WithKind("Job"):        &batchv1.Job{},
		corev1.SchemeGroupVersion.WithKind("Pod"):         &corev1.Pod{},
	}
}

// TemplateAnnotations are the annotations of a workload's pod template; of a
// pod, its own.
func TemplateAnnotations(workload client.Object) map[string]string {
	switch workload := workload.(type) {
	case *appsv1.Deployment:
		return workload.Spec.Template.Annotations
	case *appsv1.StatefulSet:
		return workload.Spec.Template.Annotations
	case *appsv1.DaemonSet:
		return workload.Spec.Template.Annotations
	case *batchv1.CronJob:
		return workload.Spec.JobTemplate.Spec.Template.Annotations
	case *batchv1.Job:
		return workload.Spec.Template.Annotations
	case *corev1.Pod:
		return workload.Annotations
	}
	return nil
}

// Reconcile sees to the claims of one workload.
func (a *Annotated) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	workload := AnnotatedKinds()[a.Kind]
	if err := a.Client.Get(ctx, request.NamespacedName, workload); err != nil {
		// Of a workload that is gone the garbage collector removes the claims.
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	if !workload.GetDeletionTimestamp().IsZero() {
		return reconcile.Result{}, nil
	}
	if by, seen, err := a.madeByAnother(ctx, workload); err != nil || by || !seen {
		return reconcile.Result{RequeueAfter: wait(!seen)}, err
	}
	parsed, err := annotation.Parse(TemplateAnnotations(workload))
	if err != nil {
		// What worked before stays until the annotations can be read again.
		a.Events.Eventf(workload, nil, corev1.EventTypeWarning, "InvalidAnnotation", "Claim", "%s", err)
		return reconcile.Result{}, nil
	}
	home, err := a.home(ctx, workload.GetNamespace())
	if err != nil {
		return reconcile.Result{}, err
	}
	wanted, refused := want(parsed.Requests, home)
	for _, refusal := range refused {
		a.Events.Eventf(workload, nil, corev1.EventTypeWarning, v1alpha1.ReasonAnnotationNotAllowed, "Claim", "%s", refusal)
	}
	if err := a.take(ctx, workload, wanted); err != nil {
		return reconcile.Result{}, err
	}
	// A claim that was made before the environment said otherwise is named
	// still, so it stays, with its last good value. It says itself why it is
	// not read any more.
	named := map[string]bool{}
	for _, request := range parsed.Requests {
		named[request.ClaimName()] = true
	}
	kept, err := a.letGo(ctx, workload, named)
	if kept {
		return reconcile.Result{RequeueAfter: lookAgain}, err
	}
	return reconcile.Result{}, err
}

// home is the environment of a namespace. One in two environments counts as one
// in none: its claims are made, and say of themselves that both refuse them.
func (a *Annotated) home(ctx context.Context, namespace string) (*v1alpha1.Environment, error) {
	has, environments, err := surroundings(ctx, a.Client, namespace)
	if err != nil {
		return nil, err
	}
	home, err := environment.Home(environments, namespace, has)
	if err != nil {
		return nil, nil //nolint:nilerr // the claim tells it
	}
	return home, nil
}

// want is the claims to make for some requests, by name, and why others are
// not made.
func want(requests []annotation.Request, home *v1alpha1.Environment) (wanted map[string]v1alpha1.SecretClaimSpec, refused []error) {
	wanted = map[string]v1alpha1.SecretClaimSpec{}
	for _, request := range requests {
		err := environment.CheckAnnotation(home, environment.Ask(request.Claim != ""))
		switch {
		case err != nil:
			refused = append(refused, fmt.Errorf("annotation %s%s: %w", annotation.SecretPrefix, request.Name, err))
		case request.Claim == "":
			wanted[request.ClaimName()] = request.ClaimSpec()
		}
	}
	return wanted, refused
}

// notSeen is how long the caches get to show the ReplicaSet of a pod.
const notSeen = time.Second

func wait(unseen bool) time.Duration {
	if unseen {
		return notSeen
	}
	return 0
}

// madeByAnother says that a pod or a Job belongs to a workload that is looked
// at itself. A ReplicaSet does not tell by itself: it may be Argo's, or nobody's,
// and its pods are all there is to look at. seen is false while the caches do not
// show it.
func (a *Annotated) madeByAnother(ctx context.Context, workload client.Object) (by, seen bool, err error) {
	owner := metav1.GetControllerOf(workload)
	if owner == nil || owner.Kind != "ReplicaSet" || !strings.HasPrefix(owner.APIVersion, appsv1.GroupName+"/") {
		return isAnnotatedKind(owner), true, nil
	}
	set := &metav1.PartialObjectMetadata{}
	set.SetGroupVersionKind(appsv1.SchemeGroupVersion.WithKind("ReplicaSet"))
	err = a.Client.Get(ctx, client.ObjectKey{Namespace: workload.GetNamespace(), Name: owner.Name}, set)
	if apierrors.IsNotFound(err) {
		return false, false, nil
	}
	if err != nil {
		return false, false, fmt.Errorf("looking for the ReplicaSet of pod %s/%s: %w", workload.GetNamespace(), workload.GetName(), err)
	}
	return isAnnotatedKind(metav1.GetControllerOf(set)), true, nil
}

// isAnnotatedKind: workloads of the owner's kind are looked at themselves.
func isAnnotatedKind(owner *metav1.OwnerReference) bool {
	if owner == nil {
		return false
	}
	for kind := range AnnotatedKinds() {
		if owner.Kind == kind.Kind && strings.HasPrefix(owner.APIVersion, kind.Group+"/") {
			return true
		}
	}
	return false
}

// take makes the claims that are not there, and becomes one of the owners of
// those that are.
func (a *Annotated) take(ctx context.Context, workload client.Object, wanted map[string]v1alpha1.SecretClaimSpec) error {
	for name, spec := range wanted {
		claim := &v1alpha1.SecretClaim{}
		err := a.Client.Get(ctx, client.ObjectKey{Namespace: workload.GetNamespace(), Name: name}, claim)
		switch {
		case apierrors.IsNotFound(err):
			err = a.make(ctx, workload, name, spec)
		case err == nil:
			err = a.share(ctx, workload, claim, spec)
		}
		if err != nil {
			return fmt.Errorf("claiming %s for %s %s/%s: %w", name, a.Kind.Kind, workload.GetNamespace(), workload.GetName(), err)
		}
	}
	return nil
}

func (a *Annotated) make(ctx context.Context, workload client.Object, name string, spec v1alpha1.SecretClaimSpec) error {
	return a.Client.Create(ctx, &v1alpha1.SecretClaim{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: workload.GetNamespace(), Name: name,
			Labels:          map[string]string{v1alpha1.LabelMadeFrom: v1alpha1.MadeFromAnnotation},
			OwnerReferences: []metav1.OwnerReference{a.reference(workload)},
		},
		Spec: spec,
	})
}

// share takes part in a claim that is there. Its name is a digest of the
// request, of 32 bits: it finds a claim, and proves nothing of it.
func (a *Annotated) share(ctx context.Context, workload client.Object, claim *v1alpha1.SecretClaim, spec v1alpha1.SecretClaimSpec) error {
	if !equality.Semantic.DeepEqual(claim.Spec.Sources, spec.Sources) || !equality.Semantic.DeepEqual(claim.Spec.Template, spec.Template) {
		a.Events.Eventf(workload, claim, corev1.EventTypeWarning, "ClaimDiffers", "Claim",
			"claim %s asks for something else than the annotations; delete it, and it is made again", claim.Name)
		return nil
	}
	if claim.Labels[v1alpha1.LabelMadeFrom] != v1alpha1.MadeFromAnnotation || owns(workload, claim) {
		return nil
	}
	before := claim.DeepCopy()
	claim.OwnerReferences = append(claim.OwnerReferences, a.reference(workload))
	return a.Client.Patch(ctx, claim, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
}

// letGo drops this workload from the claims that neither its template nor a
// live pod of its namespace names any more, and deletes those that have no
// owner left. Pods of an older template keep their claim, and so their Secret;
// kept says that there is such a claim.
func (a *Annotated) letGo(ctx context.Context, workload client.Object, named map[string]bool) (kept bool, err error) {
	var claims v1alpha1.SecretClaimList
	err = a.Client.List(ctx, &claims, client.InNamespace(workload.GetNamespace()),
		client.MatchingLabels{v1alpha1.LabelMadeFrom: v1alpha1.MadeFromAnnotation})
	if err != nil {
		return false, fmt.Errorf("listing claims made from annotations: %w", err)
	}
	for i := range claims.Items {
		claim := &claims.Items[i]
		if named[claim.Name] || !owns(workload, claim) {
			continue
		}
		used, err := a.usedByPods(ctx, claim)
		if err != nil {
			return kept, err
		}
		if used {
			kept = true
			continue
		}
		if err := a.disown(ctx, workload, claim); err != nil {
			return kept, fmt.Errorf("letting go of claim %s/%s: %w", claim.Namespace, claim.Name, err)
		}
	}
	return kept, nil
}

func (a *Annotated) disown(ctx context.Context, workload client.Object, claim *v1alpha1.SecretClaim) error {
	if len(claim.OwnerReferences) == 1 {
		return client.IgnoreNotFound(a.Client.Delete(ctx, claim,
			client.Preconditions{UID: &claim.UID, ResourceVersion: &claim.ResourceVersion}))
	}
	before := claim.DeepCopy()
	claim.OwnerReferences = slices.DeleteFunc(claim.OwnerReferences, func(owner metav1.OwnerReference) bool {
		return owner.UID == workload.GetUID()
	})
	return a.Client.Patch(ctx, claim, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
}

// usedByPods says whether a live pod's annotations name the claim.
func (a *Annotated) usedByPods(ctx context.Context, claim *v1alpha1.SecretClaim) (bool, error) {
	var pods corev1.PodList
	if err := a.Client.List(ctx, &pods, client.InNamespace(claim.Namespace)); err != nil {
		return false, fmt.Errorf("listing pods of %s: %w", claim.Namespace, err)
	}
	for i := range pods.Items {
		pod := &pods.Items[i]
		if pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed || !annotation.Asks(pod.Annotations) {
			continue
		}
		parsed, err := annotation.Parse(pod.Annotations)
		if err != nil {
			continue // such a pod was never pointed at a target
		}
		if slices.ContainsFunc(parsed.Requests, func(r annotation.Request) bool { return r.ClaimName() == claim.Name }) {
			return true, nil
		}
	}
	return false, nil
}

func owns(workload client.Object, claim *v1alpha1.SecretClaim) bool {
	return slices.ContainsFunc(claim.OwnerReferences, func(owner metav1.OwnerReference) bool {
		return owner.UID == workload.GetUID()
	})
}

// reference makes the workload an owner: not the controller, since there may
// be several, and without blocking its deletion.
func (a *Annotated) reference(workload client.Object) metav1.OwnerReference {
	block := false
	return metav1.OwnerReference{
		APIVersion: a.Kind.GroupVersion().String(), Kind: a.Kind.Kind,
		Name: workload.GetName(), UID: workload.GetUID(), BlockOwnerDeletion: &block,
	}
}
