package restart

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/privyseal/privyseal/broker/foreign"
	"github.com/privyseal/privyseal/broker/reloader"
)

const nameForeign = "privyseal-foreign"

// ReasonReloaderAnnotation: something that Reloader's annotations on a workload
// say has no effect.
const ReasonReloaderAnnotation = "ReloaderAnnotation"

// foreigners look at the Secrets and ConfigMaps of others that a workload is to
// be restarted for, and have what changed written down. What is to be done about
// it is judged as all else is, by the Controller.
type foreigners struct{ *Controller }

func (f *foreigners) setup(mgr manager.Manager) error {
	b := builder.TypedControllerManagedBy[foreign.Object](mgr).Named(nameForeign).
		WithOptions(controller.TypedOptions[foreign.Object]{MaxConcurrentReconciles: cmp.Or(f.config.Workers, defaultWorkers)})
	for _, source := range f.sources(mgr.GetCache()) {
		b = b.WatchesRawSource(source)
	}
	var err error
	if f.rollouts.foreigner, err = b.Build(f); err != nil {
		return fmt.Errorf("setting up %s: %w", nameForeign, err)
	}
	return nil
}

func (f *foreigners) sources(from cache.Cache) []source.TypedSource[foreign.Object] {
	return []source.TypedSource[foreign.Object]{
		watchForeign(from, secretMeta(), ofMeta(reloader.Secret), versionTurned()),
		watchForeign(from, configMapMeta(), ofMeta(reloader.ConfigMap), versionTurned()),
		watchForeign(from, configMapMeta(), f.ofRecord, appears[*metav1.PartialObjectMetadata]()),
		watchForeign(from, &appsv1.Deployment{}, ofWorkload[*appsv1.Deployment](f, "Deployment"), specTurned[*appsv1.Deployment]()),
		watchForeign(from, &appsv1.StatefulSet{}, ofWorkload[*appsv1.StatefulSet](f, "StatefulSet"), specTurned[*appsv1.StatefulSet]()),
		watchForeign(from, &appsv1.DaemonSet{}, ofWorkload[*appsv1.DaemonSet](f, "DaemonSet"), specTurned[*appsv1.DaemonSet]()),
	}
}

func watchForeign[object client.Object](
	from cache.Cache, kind object, objects handler.TypedMapFunc[object, foreign.Object], when predicate.TypedPredicate[object],
) source.TypedSource[foreign.Object] {
	return source.TypedKind(from, kind, handler.TypedEnqueueRequestsFromMapFunc(objects), when)
}

func configMapMeta() *metav1.PartialObjectMetadata {
	return metaOf(corev1.SchemeGroupVersion.WithKind("ConfigMap"))
}

func ofMeta(kind reloader.Kind) handler.TypedMapFunc[*metav1.PartialObjectMetadata, foreign.Object] {
	return func(_ context.Context, meta *metav1.PartialObjectMetadata) []foreign.Object {
		of := foreign.Object{Kind: kind, NamespacedName: client.ObjectKeyFromObject(meta)}
		if unwatched(of) {
			return nil
		}
		return []foreign.Object{of}
	}
}

// ofRecord are the objects that a record remembers: nobody may want them any
// more, or they may be gone.
func (f *foreigners) ofRecord(ctx context.Context, meta *metav1.PartialObjectMetadata) []foreign.Object {
	if meta.Name != foreign.RecordName {
		return nil
	}
	return f.knownOrNone(ctx, meta.Namespace)
}

func (f *foreigners) knownOrNone(ctx context.Context, namespace string) []foreign.Object {
	known, err := f.config.Foreign.Known(ctx, namespace)
	if err != nil {
		log.FromContext(ctx).Error(err, "Finding what is remembered", "namespace", namespace)
	}
	return known
}

// ofWorkload are the objects that a workload may be restarted for, and those
// that are remembered, which it may have been the last to want.
func ofWorkload[object client.Object](f *foreigners, kind string) handler.TypedMapFunc[object, foreign.Object] {
	return func(ctx context.Context, o object) []foreign.Object {
		s, err := shapeOf(o)
		if err != nil {
			return nil // unreachable: it is one of those that are watched
		}
		selection := selectionOf(s, f.config.Reloader)
		if !selection.rules.Any() {
			return nil
		}
		if s.passedOver != "" {
			f.tellProblem(Workload{kind, client.ObjectKeyFromObject(o)}, s, fmt.Errorf("annotations of Reloader have no effect here: %s", s.passedOver))
			return nil
		}
		candidates, err := f.gather.candidates(ctx, o.GetNamespace(), selection)
		if err != nil {
			log.FromContext(ctx).Error(err, "Finding what a workload is to be restarted for", "kind", kind, "name", o.GetName())
		}
		return append(candidates, f.knownOrNone(ctx, o.GetNamespace())...)
	}
}

// versionTurned: an object comes, goes, or was written.
func versionTurned() predicate.TypedPredicate[*metav1.PartialObjectMetadata] {
	return predicate.TypedFuncs[*metav1.PartialObjectMetadata]{
		UpdateFunc: func(e event.TypedUpdateEvent[*metav1.PartialObjectMetadata]) bool {
			return e.ObjectOld.ResourceVersion != e.ObjectNew.ResourceVersion
		},
	}
}

// Reconcile looks at one object, if anybody wants it.
func (f *foreigners) Reconcile(ctx context.Context, of foreign.Object) (reconcile.Result, error) {
	wanting, err := f.gather.wanting(ctx, of)
	if err != nil {
		return reconcile.Result{}, err
	}
	meta, there, err := f.gather.metaOf(ctx, of)
	if err != nil {
		return reconcile.Result{}, err
	}
	if len(wanting) == 0 {
		return reconcile.Result{}, f.config.Foreign.Forget(ctx, of)
	}
	if !there { // what it held is remembered, for the one that may come in its place
		return reconcile.Result{}, nil
	}
	if of.Kind == reloader.Secret {
		_, ours, merged, err := f.gather.ownOf(ctx, of)
		if err != nil {
			return reconcile.Result{}, err
		}
		if ours && !merged { // it has a history of its own
			f.look(wanting)
			return reconcile.Result{}, f.config.Foreign.Forget(ctx, of)
		}
	}
	changed, err := f.config.Foreign.Look(ctx, of, meta)
	if errors.Is(err, foreign.ErrFull) {
		f.tellFull(ctx, wanting[0], err)
		return reconcile.Result{}, reconcile.TerminalError(err)
	}
	if changed {
		log.FromContext(ctx).Info("Something changed that is not ours", "what", of.Target(), "namespace", of.Namespace, "workloads", len(wanting))
		f.look(wanting)
	}
	return reconcile.Result{}, err
}

// look has workloads looked at.
func (c *Controller) look(workloads []Workload) {
	if queue := c.queue.Load(); queue != nil {
		for _, w := range workloads {
			(*queue).Add(w)
		}
	}
}

// tellFull tells one of the workloads that want an object.
func (f *foreigners) tellFull(ctx context.Context, w Workload, problem error) {
	s, err := f.gather.workload(ctx, w)
	if err != nil {
		return // it is gone, or the daemon is going
	}
	f.events.Eventf(s.Object, nil, corev1.EventTypeWarning, ReasonReloaderAnnotation, "Restart", "%s", cut(problem.Error()))
}

// tellProblem tells of what cannot be used of a workload's annotations, once.
func (c *Controller) tellProblem(w Workload, s shape, problem error) {
	if text := c.gather.selections.news(w, problem); text != "" {
		c.events.Eventf(s.Object, nil, corev1.EventTypeWarning, ReasonReloaderAnnotation, "Restart", "%s", cut(text))
	}
}

// wanting are the workloads that are restarted for an object by Reloader's
// annotations.
func (g gatherer) wanting(ctx context.Context, of foreign.Object) ([]Workload, error) {
	meta, _, err := g.metaOf(ctx, of)
	if err != nil {
		return nil, err
	}
	var wanting []Workload
	err = g.each(ctx, of.Namespace, func(w Workload, object client.Object) error {
		s, err := shapeOf(object)
		if err != nil || s.passedOver != "" || object.GetDeletionTimestamp() != nil {
			return err
		}
		selection := g.selections.of(w, s)
		if selection.rules.Any() && selection.judge(of, meta.Annotations).Restarts {
			wanting = append(wanting, w)
		}
		return nil
	})
	return wanting, err
}

// reloaderTurned: Reloader's annotations of an object are others.
func reloaderTurned(before, after client.Object) bool {
	of := func(object client.Object) map[string]string { return keep(object.GetAnnotations(), reloader.Reads) }
	return !maps.Equal(of(before), of(after))
}
