package restart

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/privyseal/privyseal/broker/foreign"
	"github.com/privyseal/privyseal/broker/reloader"
)

// Rollouts of Argo
// (https://argo-rollouts.readthedocs.io/en/stable/features/specification/) are
// restarted like Deployments, which they are made after, by the same line on
// their template. Not every cluster has them, and their Go types would bring half
// of Argo with them, so they are read as unstructured objects.
//
// A Rollout whose pods come from another's template (spec.workloadRef) is passed
// over. That template is also the one of a Deployment, and patching it could be a
// rollout of two workloads at once.
//
// Argo can also replace pods without a new template: those that are older than
// spec.restartAt, once that has passed. Where Reloader's annotation asks for it, the
// line is on the Rollout itself, and moves with the time. Such pods have no line, and
// their age is all that proves what they were started with; so the time lies as far
// after the change as clocks may differ. Undoing a Rollout leaves both alone.

// ArgoRollout is the kind.
func ArgoRollout() schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: "argoproj.io", Version: "v1alpha1", Kind: kindRollout}
}

const kindRollout = "Rollout"

// NewArgoRollout is an empty one. Where WatchRollouts is to be called, the manager's
// cache must hold its kind by KeepWorkload, as it holds those of ByObject.
func NewArgoRollout() *unstructured.Unstructured {
	object := &unstructured.Unstructured{}
	object.SetGroupVersionKind(ArgoRollout())
	return object
}

func newArgoList() *unstructured.UnstructuredList {
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(ArgoRollout().GroupVersion().WithKind(kindRollout + "List"))
	return list
}

// argoRollout is what is read of one.
type argoRollout struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   argoSpec   `json:"spec,omitempty"`
	Status argoStatus `json:"status,omitempty"`
}

type argoSpec struct {
	Replicas    *int32                  `json:"replicas,omitempty"`
	Paused      bool                    `json:"paused,omitempty"`
	Template    *corev1.PodTemplateSpec `json:"template,omitempty"`
	WorkloadRef *argoWorkloadRef        `json:"workloadRef,omitempty"`
	RestartAt   *metav1.Time            `json:"restartAt,omitempty"`
}

type argoWorkloadRef struct {
	Kind string `json:"kind,omitempty"`
	Name string `json:"name,omitempty"`
}

type argoStatus struct {
	// ObservedGeneration is a number in a string; a hash, where an old
	// controller wrote it.
	ObservedGeneration string `json:"observedGeneration,omitempty"`
	// Phase is Healthy, Progressing, Paused or Degraded; empty before the
	// controller has looked.
	Phase             string `json:"phase,omitempty"`
	Replicas          int32  `json:"replicas,omitempty"`
	UpdatedReplicas   int32  `json:"updatedReplicas,omitempty"`
	AvailableReplicas int32  `json:"availableReplicas,omitempty"`
}

func readArgo(object *unstructured.Unstructured) (argoRollout, error) {
	var read argoRollout
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &read); err != nil {
		return argoRollout{}, fmt.Errorf("reading %s %s: %w", object.GetKind(), client.ObjectKeyFromObject(object), err)
	}
	return read, nil
}

// keepArgo is KeepWorkload's for a Rollout. One that cannot be read stays as it
// is, so that it can be said why.
func keepArgo(object *unstructured.Unstructured) (any, error) {
	read, err := readArgo(object)
	if err != nil {
		return object, nil //nolint:nilerr // shapeOf finds the same
	}
	read.ObjectMeta = keepWorkloadMeta(&read.ObjectMeta)
	if read.Spec.Template != nil {
		kept := keepTemplate(read.Spec.Template)
		read.Spec.Template = &kept
	}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&read)
	if err != nil {
		return nil, fmt.Errorf("keeping Rollout %s/%s: %w", read.Namespace, read.Name, err)
	}
	return &unstructured.Unstructured{Object: content}, nil
}

// shapeOfArgo never fails: what cannot be read of one Rollout is no reason to look
// at no other.
func shapeOfArgo(object *unstructured.Unstructured) shape {
	s := shape{Object: object, held: Rolling, template: &corev1.PodTemplateSpec{}}
	read, err := readArgo(object)
	switch {
	case err != nil:
		s.passedOver = err.Error()
	case read.Spec.WorkloadRef != nil:
		s.passedOver = fmt.Sprintf("its pods are made from the template of %s %s (spec.workloadRef); restart it by hand, or move the template into spec.template",
			read.Spec.WorkloadRef.Kind, read.Spec.WorkloadRef.Name)
	case read.Spec.Template == nil:
		s.passedOver = "it has no spec.template"
	default:
		s.template = read.Spec.Template
	}
	s.wantsPods = wanted(read.Spec.Replicas) > 0
	s.byRestartAt = object.GetAnnotations()[reloader.Strategy] == reloader.StrategyRestart
	if read.Spec.RestartAt != nil {
		s.restartAt = read.Spec.RestartAt.Time
	}
	if read.Spec.Paused {
		s.held = HeldByPause
	}
	s.underWay, s.overdue, s.atStep = read.rolls()
	return s
}

// restartAt is the time before which pods are replaced that hold anything older than
// the line: those that are made later prove by their age that they do not. It never
// moves back.
func (c *Controller) restartAt(s shape, line map[string]int64) time.Time {
	at := c.config.Clock.Now()
	for _, sequence := range line {
		if proven := time.Unix(sequence, 0).Add(lag); proven.After(at) {
			at = proven
		}
	}
	if s.restartAt.After(at) {
		return s.restartAt
	}
	return at.Truncate(time.Second)
}

// rolls says how far a rollout is, by the phase that Argo's controller and its
// command line go by too. One whose controller was never there has none, and is
// counted.
func (r argoRollout) rolls() (underWay, overdue, atStep bool) {
	if !r.observed() {
		return true, false, false // what it says is of the template before
	}
	switch r.Status.Phase {
	case "Healthy":
		return false, false, false
	case "Degraded":
		return true, true, false
	case "Paused":
		return true, false, true
	case "":
		counts := r.Status
		return counts.UpdatedReplicas < wanted(r.Spec.Replicas) || counts.Replicas > counts.UpdatedReplicas ||
			counts.AvailableReplicas < counts.UpdatedReplicas, false, false
	}
	return true, false, false
}

// observed says whether the status is of the present template, by Argo's own rule:
// what is no generation that there was is the hash of an old controller.
func (r argoRollout) observed() bool {
	generation, err := strconv.ParseInt(r.Status.ObservedGeneration, 10, 64)
	return err != nil || generation >= r.Generation
}

// rollouts are whether Rollouts are there to be asked for, and who watches them
// then. Asking a cache for a kind that the API server does not have would wait
// for it.
type rollouts struct {
	served    atomic.Bool
	restarts  controller.TypedController[Workload]
	foreigner controller.TypedController[foreign.Object] // nil: nobody is restarted for what is not ours
}

// there: Rollouts can be asked for.
func (r *rollouts) there() bool { return r != nil && r.served.Load() }

// WatchRollouts has Rollouts of Argo restarted as well, from when the API server
// has their kind. It is called at most once, after SetupWithManager, and returns
// when the cache has read them.
func (c *Controller) WatchRollouts(ctx context.Context, from cache.Cache) error {
	if _, err := from.GetInformer(ctx, NewArgoRollout()); err != nil {
		return fmt.Errorf("reading Rollouts: %w", err)
	}
	c.rollouts.served.Store(true)
	turned := specTurned[*unstructured.Unstructured]()
	if err := c.rollouts.restarts.Watch(watch(from, NewArgoRollout(), ofArgo, turned)); err != nil {
		return fmt.Errorf("watching Rollouts: %w", err)
	}
	if c.rollouts.foreigner == nil {
		return nil
	}
	f := &foreigners{c}
	if err := c.rollouts.foreigner.Watch(watchForeign(from, NewArgoRollout(), ofWorkload[*unstructured.Unstructured](f, kindRollout), turned)); err != nil {
		return fmt.Errorf("watching Rollouts for what is not ours: %w", err)
	}
	return nil
}

// ofArgo is the Rollout. That one is passed over is said in the log.
func ofArgo(ctx context.Context, object *unstructured.Unstructured) []Workload {
	if s := shapeOfArgo(object); s.passedOver != "" {
		log.FromContext(ctx).Info("Passing over a Rollout", "rollout", client.ObjectKeyFromObject(object), "reason", s.passedOver)
	}
	return of[*unstructured.Unstructured](kindRollout)(ctx, object)
}

// isArgo says whether an object is a Rollout.
func isArgo(object *unstructured.Unstructured) bool {
	return object.GroupVersionKind().GroupKind() == ArgoRollout().GroupKind()
}
