package restart

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/annotation"
	"github.com/privyseal/privyseal/broker/foreign"
	"github.com/privyseal/privyseal/broker/reloader"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// What Reloader's annotations have a workload restarted for becomes targets like
// those of ours, under names that no Secret of ours can have, and is judged with
// them: one patch for all, by the same evidence, at the times that windows allow.

// unwatched says that a ConfigMap is none that anybody is restarted for: ours,
// and the one that the API server gives to every pod.
func unwatched(of foreign.Object) bool {
	return of.Kind == reloader.ConfigMap &&
		(of.Name == rootCA || of.Name == foreign.RecordName || of.Name == "privyseal-unsealed")
}

// selected is an object that a workload is restarted for.
type selected struct {
	foreign.Object
	byName bool
}

// selected are the objects that Reloader's annotations have a workload restarted
// for, sorted, and what cannot be used of them.
func (g gatherer) selected(ctx context.Context, w Workload, s shape) (all []selected, problem, err error) {
	if g.foreign == nil {
		return nil, nil, nil
	}
	selection := g.selections.of(w, s)
	if !selection.rules.Any() {
		return nil, selection.problem, nil
	}
	candidates, err := g.candidates(ctx, w.Namespace, selection)
	if err != nil {
		return nil, nil, err
	}
	for _, of := range candidates {
		meta, _, err := g.metaOf(ctx, of)
		if err != nil {
			return nil, nil, err
		}
		if verdict := selection.judge(of, meta.Annotations); verdict.Restarts {
			all = append(all, selected{of, verdict.ByName})
		}
	}
	if count := len(all); count > maxSelected {
		return all[:maxSelected], errors.Join(selection.problem, errSelected(count)), nil
	}
	return all, selection.problem, nil
}

// candidates are the objects that a selection may be about, sorted: those that
// the template refers to, and where names are given all there are, or were.
func (g gatherer) candidates(ctx context.Context, namespace string, of selection) ([]foreign.Object, error) {
	found := map[foreign.Object]bool{}
	for name := range of.reads {
		found[objectRead(namespace, name)] = true
	}
	for _, kind := range reloader.Kinds() {
		if !of.rules.ByName(kind) {
			continue
		}
		list := &metav1.PartialObjectMetadataList{}
		list.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind(kindOf(kind) + "List"))
		if err := g.cache.List(ctx, list, client.InNamespace(namespace), client.UnsafeDisableDeepCopy); err != nil {
			return nil, fmt.Errorf("listing the %ss of %s: %w", kindOf(kind), namespace, err)
		}
		for i := range list.Items {
			found[foreign.Object{Kind: kind, NamespacedName: client.ObjectKeyFromObject(&list.Items[i])}] = true
		}
		known, err := g.foreign.Known(ctx, namespace)
		if err != nil {
			return nil, err
		}
		for _, object := range known {
			found[object] = true
		}
	}
	maps.DeleteFunc(found, func(of foreign.Object, _ bool) bool { return unwatched(of) })
	return slices.SortedFunc(maps.Keys(found), func(a, b foreign.Object) int { return cmp.Compare(a.Target(), b.Target()) }), nil
}

// objectRead is the object that Reads has under a name.
func objectRead(namespace, name string) foreign.Object {
	kind, of, is := foreign.CutTarget(name)
	if !is {
		kind, of = reloader.Secret, name
	}
	return foreign.Object{Kind: kind, NamespacedName: types.NamespacedName{Namespace: namespace, Name: of}}
}

func kindOf(kind reloader.Kind) string {
	if kind == reloader.ConfigMap {
		return "ConfigMap"
	}
	return "Secret"
}

// metaOf is an object's metadata; there: it exists.
func (g gatherer) metaOf(ctx context.Context, of foreign.Object) (meta *metav1.PartialObjectMetadata, there bool, err error) {
	meta = metaOf(corev1.SchemeGroupVersion.WithKind(kindOf(of.Kind)))
	err = g.cache.Get(ctx, of.NamespacedName, meta, client.UnsafeDisableDeepCopy)
	if client.IgnoreNotFound(err) != nil {
		return nil, false, fmt.Errorf("reading the metadata of %s in %s: %w", of.Target(), of.Namespace, err)
	}
	return meta, err == nil, nil
}

// addForeign adds to the facts about a workload the objects of others that it
// is restarted for. problem is what cannot be used of its annotations.
func (g gatherer) addForeign(ctx context.Context, w Workload, s shape, facts *Facts) (problem, err error) {
	all, problem, err := g.selected(ctx, w, s)
	if g.foreign != nil {
		_, wrong := reloader.PauseOf(s.GetAnnotations())
		problem = errors.Join(problem, wrong)
		if w.Kind == kindRollout {
			problem = errors.Join(problem, reloader.CheckStrategy(s.GetAnnotations()))
		}
	}
	for _, of := range all {
		if err := g.addObject(ctx, of, facts); err != nil {
			return nil, err
		}
	}
	return problem, err
}

func (g gatherer) addObject(ctx context.Context, of selected, facts *Facts) error {
	var own Target
	if of.Kind == reloader.Secret {
		known, ours, merged, err := g.ownOf(ctx, of.Object)
		if err != nil {
			return err
		}
		if ours && of.byName {
			facts.Targets[of.Name] = known
			facts.addReads(of.Name, Keys{All: true})
		}
		if ours && !merged {
			return nil
		}
		own = known
	}
	history, known, err := g.foreign.Recall(ctx, of.Object)
	if err != nil || !known {
		return err
	}
	facts.Targets[of.Target()] = Target{Revisions: history}
	not := map[string]bool{}
	for key := range own.Revisions.Keys {
		not[key] = true
	}
	if of.byName {
		facts.addReads(of.Target(), Keys{All: true, Not: not})
		return nil
	}
	facts.addAs(of.Target(), readName(of.Kind, of.Name), not)
	return nil
}

// ownOf says whether a Secret is a target of ours, and whether it is merged into
// one of somebody else's.
func (g gatherer) ownOf(ctx context.Context, of foreign.Object) (known Target, ours, merged bool, err error) {
	if known, ours, err = g.target(ctx, of.NamespacedName); err != nil || !ours {
		return Target{}, false, false, err
	}
	meta, _, err := g.metaOf(ctx, of)
	if err != nil {
		return Target{}, false, false, err
	}
	return known, true, meta.Labels[v1alpha1.LabelMergedBy] != "", nil
}

// addReads says that the workload, whatever its template is, reads something.
func (f *Facts) addReads(name string, keys Keys) {
	f.TemplateReads[name] = keys
	for _, pod := range f.Pods {
		pod.Reads[name] = keys
	}
}

// addAs says that whoever reads one thing reads it under another name too.
func (f *Facts) addAs(name, read string, not map[string]bool) {
	add := func(reads Reads) {
		if keys, reading := reads[read]; reading {
			keys.Not = not
			reads[name] = keys
		}
	}
	add(f.TemplateReads)
	for _, pod := range f.Pods {
		add(pod.Reads)
	}
}

// unheard says that there is a reason to restart now and no claim that could note
// it: only what is not ours waits.
func (f Facts) unheard(decision Decision) error {
	ours := slices.ContainsFunc(decision.Stale, func(s Stale) bool { return !foreign.IsTarget(s.Target) })
	if !decision.Deferred || f.AskedNow == "" || ours || len(decision.Stale) == 0 {
		return nil
	}
	return fmt.Errorf("annotation %s has no effect here: only Secrets and ConfigMaps that are not Privyseal's have changed; to restart before the windows open, use kubectl rollout restart", annotation.RestartNow)
}
