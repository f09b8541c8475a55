package restart

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// ReasonUninjected is the reason of the event on a workload whose pods lack a
// secret.
const ReasonUninjected = "Uninjected"

// reach remembers since when the webhook was there.
type reach struct {
	mu    sync.Mutex
	asked time.Time
	since time.Time // zero: it was not there when asked last
}

// without remembers which workloads have pods that lack a secret, so that each
// turn is told once. Nothing is decided by it.
type without struct {
	mu    sync.Mutex
	known map[Workload]standing
}

type standing struct {
	injection Injection
	lacks     []Lack
}

// note enters how a workload stands, and gives the targets whose claims are to
// tell of it, and whether it is another standing than before.
func (w *without) note(workload Workload, now standing) (targets []types.NamespacedName, turned bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	before := w.known[workload]
	if before.injection == now.injection && slices.Equal(before.lacks, now.lacks) {
		return nil, false
	}
	w.known[workload] = now
	if now.injection == Injected {
		delete(w.known, workload)
	}
	for _, lack := range slices.Concat(before.lacks, now.lacks) {
		targets = append(targets, types.NamespacedName{Namespace: workload.Namespace, Name: lack.Target})
	}
	slices.SortFunc(targets, func(a, b types.NamespacedName) int { return strings.Compare(a.Name, b.Name) })
	return slices.Compact(targets), before.injection != now.injection
}

// tellLacks tells of pods that lack a secret: on the workload, and through the
// claims that they ask for.
func (c *Controller) tellLacks(w Workload, s shape, facts Facts, decision Decision) {
	lacks := facts.lacks()
	targets, turned := c.without.note(w, standing{decision.Injection, lacks})
	if turned && decision.Injection.lasts() {
		names := make([]string, 0, len(lacks))
		for _, lack := range lacks {
			names = append(names, lack.Claim)
		}
		c.events.Eventf(s.Object, nil, corev1.EventTypeWarning, ReasonUninjected, "Restart",
			"pods run without the secrets that they ask for (claims %s): %s", few(names), decision.Injection.Says())
	}
	if c.config.Settled == nil {
		return
	}
	for _, target := range targets {
		c.config.Settled(target)
	}
}

// lasts: it stays so until somebody does something, which they are told.
func (i Injection) lasts() bool {
	switch i {
	case InjectionWaits, InjectionDeferred, InjectionFailed, InjectionOld, InjectionNever, NoInjection:
		return true
	case Injected, InjectionDue, InjectionRolling:
	}
	return false
}

// Uninjected says whose live pods ask for a claim and run without it, and what
// becomes of them: one sentence for each workload, sorted. It looks at the
// caches alone.
func (c *Controller) Uninjected(ctx context.Context, claim types.NamespacedName) ([]string, error) {
	pods, err := c.gather.lackingPods(ctx, claim.Namespace, claim.Name)
	if err != nil {
		return nil, err
	}
	var told []string
	seen := map[Workload]bool{}
	for i := range pods {
		w, belongs, err := c.gather.workloadOf(ctx, &pods[i])
		if err != nil {
			return nil, err
		}
		if !belongs {
			told = append(told, fmt.Sprintf("Pod %s: nobody of ours would make it again; delete it, and have it made anew", pods[i].Name))
			continue
		}
		if seen[w] {
			continue
		}
		seen[w] = true
		says, err := c.becomes(ctx, w, claim.Name)
		if err != nil {
			return nil, err
		}
		if says != "" {
			told = append(told, fmt.Sprintf("%s %s: %s", w.Kind, w.Name, says))
		}
	}
	slices.Sort(told)
	return told, nil
}

// becomes says what becomes of a workload's pods that lack a claim; "" where
// none does.
func (c *Controller) becomes(ctx context.Context, w Workload, claim string) (string, error) {
	s, err := c.gather.workload(ctx, w)
	if apierrors.IsNotFound(err) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	facts, err := c.gather.facts(ctx, w, s)
	if err != nil || !slices.ContainsFunc(facts.lacks(), func(l Lack) bool { return l.Claim == claim }) {
		return "", err
	}
	return c.without.of(w, facts.injection()).Says(), nil
}

// of is how the workload stands, as it was judged last; before that, as given.
func (w *without) of(workload Workload, otherwise Injection) Injection {
	w.mu.Lock()
	defer w.mu.Unlock()
	if known, met := w.known[workload]; met {
		return known.injection
	}
	return otherwise
}

// lackingPods are the live pods that ask for a claim, or for any with
// anyClaim, and lack it. An empty namespace means all.
func (g gatherer) lackingPods(ctx context.Context, namespace, claim string) ([]corev1.Pod, error) {
	pods := &corev1.PodList{}
	err := g.cache.List(ctx, pods, client.InNamespace(namespace), client.MatchingFields{indexAsks: claim}, client.UnsafeDisableDeepCopy)
	if err != nil {
		return nil, fmt.Errorf("listing the pods that ask for claim %s: %w", claim, err)
	}
	var lacking []corev1.Pod
	for i := range pods.Items {
		pod := &pods.Items[i]
		if !live(pod) {
			continue
		}
		lacks, err := g.lacks(ctx, pod)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(lacks, func(l Lack) bool { return claim == anyClaim || l.Claim == claim }) {
			lacking = append(lacking, *pod)
		}
	}
	return lacking, nil
}
