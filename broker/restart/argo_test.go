package restart_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/reloader"
	"github.com/privyseal/privyseal/broker/restart"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// argo makes a Rollout with two pods, as Argo's controller would.
func (c *cluster) argo(name string, annotations map[string]string, parts ...part) *unstructured.Unstructured {
	c.Helper()
	rollout := c.argoWith(name, annotations, map[string]any{"template": unstruct(c.T, podTemplate(name, nil, parts))})
	c.replaceArgo(rollout)
	return rollout
}

func (c *cluster) argoWith(name string, annotations map[string]string, spec map[string]any) *unstructured.Unstructured {
	c.Helper()
	rollout := restart.NewArgoRollout()
	rollout.SetNamespace(c.namespace)
	rollout.SetName(name)
	rollout.SetAnnotations(annotations)
	rollout.Object["spec"] = map[string]any{"replicas": int64(2)}
	maps.Copy(rollout.Object["spec"].(map[string]any), spec)
	c.must(c.client.Create(c.Context(), rollout))
	return rollout
}

func (c *cluster) replaceArgo(rollout *unstructured.Unstructured) {
	c.Helper()
	c.must(c.client.Get(c.Context(), client.ObjectKeyFromObject(rollout), rollout))
	c.replace(rollout, restart.ArgoRollout(), templateOf(c, rollout))
}

func templateOf(c *cluster, rollout *unstructured.Unstructured) (template corev1.PodTemplateSpec) {
	c.Helper()
	written, there, err := unstructured.NestedMap(rollout.Object, "spec", "template")
	c.must(err)
	if there {
		c.must(runtime.DefaultUnstructuredConverter.FromUnstructured(written, &template))
	}
	return template
}

func unstruct(t *testing.T, object any) map[string]any {
	t.Helper()
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&object)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// toldOfRollouts has a daemon restart Rollouts, as it does once they are served.
func (c *cluster) toldOfRollouts(d daemon) {
	c.Helper()
	c.must(d.WatchRollouts(c.Context(), d.cache))
}

func (c *cluster) counts(d daemon, target string) v1alpha1.Consumers {
	c.Helper()
	counts, err := d.Consumers(c.Context(), c.key(target))
	c.must(err)
	return counts
}

func rolloutsOfArgoAreOnePatchForOneChange(c *cluster) {
	c.rollouts = true
	c.claim("db", "", "password=a", "user=u")
	web := c.argo("web", nil, envKey("db", "password"))
	paused := c.argo("paused", nil, envFrom("db"))
	c.must(c.client.Patch(c.Context(), paused, client.RawPatch(types.MergePatchType, []byte(`{"spec":{"paused":true}}`))))
	// One without a template of its own, and one that cannot be read.
	by := map[string]any{"workloadRef": map[string]any{"apiVersion": "apps/v1", "kind": "Deployment", "name": "referred"}}
	for name, spec := range map[string]map[string]any{"referring": by, "garbled": {"template": "of nothing"}} {
		c.replace(c.argoWith(name, nil, spec), restart.ArgoRollout(), podTemplate(name, nil, []part{envFrom("db")}))
	}
	c.deployment("deployment", envFrom("db"))

	// As long as they are not served, they are as if they were not there.
	first := c.daemon()
	c.dealtWith()
	c.change("db", "password=b")
	change := c.now
	c.expect("deployment", "1 db=%d", change)
	c.dealtWith()
	if diff := cmp.Diff([]string{"PATCH deployment"}, c.requests()); diff != "" {
		c.Fatal(diff)
	}
	if diff := cmp.Diff(v1alpha1.Consumers{Stale: 1}, c.counts(first, "db")); diff != "" {
		c.Error(diff)
	}

	// Once they are, what changed before is made up for.
	c.toldOfRollouts(first)
	c.until("the Rollout is patched", func() bool { return c.line(web) == fmt.Sprint("1 db=", change) })
	c.until("the paused one is too", func() bool { return c.line(paused) == fmt.Sprint("2 db=", change) }) // its people's pause was the first
	c.until("the event is there", func() bool { return len(c.notes("web")) > 0 })
	c.dealtWith()
	if diff := cmp.Diff([]string{"PATCH paused", "PATCH web"}, c.requests()); diff != "" {
		c.Fatal(diff)
	}
	if diff := cmp.Diff([]string{fmt.Sprintf("Rollout Restarted: restarting for db (password changed, sequence %d)", change)}, c.notes("web")); diff != "" {
		c.Error(diff)
	}
	if diff := cmp.Diff(v1alpha1.Consumers{Stale: 3}, c.counts(first, "db")); diff != "" {
		c.Error(diff)
	}

	// Its rollout ends, a daemon starts again, a key changes that it does not read:
	// nothing follows.
	c.replaceArgo(web)
	c.replaceArgo(paused)
	c.rollout("deployment")
	c.dealtWith()
	if diff := cmp.Diff(v1alpha1.Consumers{Current: 3}, c.counts(first, "db")); diff != "" {
		c.Error(diff)
	}
	first.stop()
	second := c.daemon()
	c.toldOfRollouts(second)
	c.dealtWith()
	if requests := c.requests(); len(requests) > 0 {
		c.Fatal("starting again sends", requests)
	}
	c.change("db", "user=v")
	c.expect("deployment", "2 db=%d", c.now)
	c.dealtWith()
	if diff := cmp.Diff([]string{"PATCH deployment", "PATCH paused"}, c.requests()); diff != "" {
		c.Error(diff)
	}

	// The next change replaces the line that is there.
	c.change("db", "password=c")
	c.until("the Rollout is patched again", func() bool { return c.line(web) == fmt.Sprint("2 db=", c.now) })
}

func rolloutsOfArgoAreRestartedForWhatIsNotOurs(c *cluster) {
	c.rollouts = true
	c.reloader = &reloader.Options{}
	c.secret("db", "password=a")
	web := c.argo("web", map[string]string{auto: "true", reloader.Strategy: "sideways"}, envFrom("db"))
	c.argoWith("referring", map[string]string{auto: "true"}, map[string]any{"workloadRef": map[string]any{"kind": "Deployment", "name": "web"}})
	d := c.daemon()
	c.toldOfRollouts(d)
	c.remembers("secret/db")
	c.quietly("what is seen first")
	c.secret("db", "password=b")
	c.until("the Rollout is patched", func() bool { return strings.HasPrefix(c.line(web), "1 secret/db=") })
	c.until("it is told that there is no such way", func() bool {
		return strings.Contains(strings.Join(c.notes("web"), "\n"), "Rollout ReloaderAnnotation: annotation "+reloader.Strategy+`: "sideways" has no effect`)
	})
	c.until("it is told that one is passed over", func() bool {
		return strings.Contains(strings.Join(c.notes("referring"), "\n"), "Rollout ReloaderAnnotation: annotations of Reloader have no effect here: its pods are made from the template of Deployment web (spec.workloadRef)")
	})
	c.until("the patch is the one that was sent", func() bool { return cmp.Equal([]string{"PATCH web"}, c.requests()) })
}

// restarts is the line on a Rollout itself, and when its pods are to be replaced.
func (c *cluster) restarts(rollout *unstructured.Unstructured) (line string, at time.Time) {
	c.Helper()
	c.must(c.client.Get(c.Context(), client.ObjectKeyFromObject(rollout), rollout))
	text, _, err := unstructured.NestedString(rollout.Object, "spec", "restartAt")
	c.must(err)
	if text != "" {
		at, err = time.Parse(time.RFC3339, text)
		c.must(err)
	}
	return rollout.GetAnnotations()[v1alpha1.AnnotationRestartedFor], at
}

// One that asks for it keeps its template, and its pods are replaced once their age can
// prove that they are newer than the change.
func rolloutsOfArgoAreRestartedByTimeWhereTheyAskForIt(c *cluster) {
	c.rollouts = true
	c.reloader = &reloader.Options{}
	c.claim("db", "", "password=a")
	web := c.argo("web", map[string]string{reloader.Strategy: "restart"}, envFrom("db"))
	first := c.daemon()
	c.toldOfRollouts(first)
	c.dealtWith()
	for _, password := range []string{"password=b", "password=c"} {
		_, before := c.restarts(web)
		c.change("db", password)
		change := c.now
		c.until("the time is set", func() bool { line, _ := c.restarts(web); return line == fmt.Sprint("db=", change) })
		line := c.line(web)
		_, at := c.restarts(web)
		if at.Before(time.Unix(change+30, 0)) || at.Before(before) || strings.Contains(line, "=") {
			c.Errorf("it restarts at %s for a change at %s, its template has %q", at, time.Unix(change, 0), line)
		}
		c.dealtWith()
		if diff := cmp.Diff([]string{"PATCH web"}, c.requests()); diff != "" {
			c.Fatal(diff)
		}
	}
	// Another daemon knows it, though all pods are those of before.
	first.stop()
	second := c.daemon()
	c.toldOfRollouts(second)
	c.dealtWith()
	if requests := c.requests(); len(requests) > 0 {
		c.Fatal("starting again sends", requests)
	}
	if diff := cmp.Diff(v1alpha1.Consumers{Stale: 1}, c.counts(second, "db")); diff != "" {
		c.Error(diff)
	}
}

// argoOf is a Rollout with three replicas, as generation2's template.
func argoOf(t *testing.T, spec, status map[string]any) client.Object {
	meta, template := generation2()
	rollout := restart.NewArgoRollout()
	rollout.Object["metadata"] = unstruct(t, meta)
	rollout.Object["spec"] = map[string]any{"replicas": int64(3), "template": unstruct(t, template)}
	maps.Copy(rollout.Object["spec"].(map[string]any), spec)
	if status != nil {
		rollout.Object["status"] = status
	}
	return rollout
}

func argoStatus(observed, phase string, replicas, updated, available int64) map[string]any {
	return map[string]any{"observedGeneration": observed, "phase": phase, "replicas": replicas, "updatedReplicas": updated, "availableReplicas": available}
}

func TestARolloutOfArgoIsUnderWay(t *testing.T) {
	long := midday().Add(time.Hour)
	for name, row := range map[string]struct {
		spec, status map[string]any
		at           time.Time
		want         bool
		fails        string
	}{
		"not when it is healthy":                        {status: argoStatus("2", "Healthy", 3, 3, 3)},
		"when its controller has not seen the template": {status: argoStatus("1", "Healthy", 3, 3, 3), want: true},
		"not when its controller writes hashes":         {status: argoStatus("5f7d9c", "Healthy", 3, 3, 3)},
		"while it gets on":                              {status: argoStatus("2", "Progressing", 4, 1, 3), want: true},
		"while it waits at a step":                      {status: argoStatus("2", "Paused", 4, 1, 4), want: true},
		"not while it waits at a step for long":         {status: argoStatus("2", "Paused", 4, 1, 4), at: long},
		"when it is degraded":                           {status: argoStatus("2", "Degraded", 4, 1, 3), want: true, fails: "it is degraded"},
		"when it gets no further":                       {status: argoStatus("2", "Progressing", 4, 1, 3), at: long, want: true, fails: "it gets no further"},
		"when no controller was there":                  {want: true},
		"by its counts where there is no phase":         {status: argoStatus("2", "", 4, 3, 4), want: true},
		"not by its counts when they are full":          {status: argoStatus("2", "", 3, 3, 3)},
		"not when it is paused":                         {spec: map[string]any{"paused": true}, status: argoStatus("2", "Paused", 4, 1, 4)},
	} {
		t.Run(name, func(t *testing.T) {
			object := argoOf(t, row.spec, row.status)
			at := row.at
			if at.IsZero() {
				at = midday()
			}
			for what, object := range map[string]client.Object{"as it is": object, "as the cache keeps it": keep(t, restart.KeepWorkload, object)} {
				rollout := restart.RolloutOf(object, nil, at)
				if rollout.UnderWay != row.want || rollout.Fails != row.fails || !rollout.Began.Equal(midday()) {
					t.Errorf("%s: %+v", what, rollout)
				}
			}
		})
	}
}

func TestOfARolloutOfArgoLittleIsKept(t *testing.T) {
	template := podTemplate("web", map[string]string{"prometheus.io/scrape": "true", v1alpha1.AnnotationRestartedFor: "db=1"}, []part{envKey("db", "password")})
	whole := argoOf(t, map[string]any{"paused": true, "template": unstruct(t, template), "strategy": map[string]any{"canary": map[string]any{}}},
		map[string]any{"phase": "Paused", "conditions": []any{map[string]any{"type": "Paused"}}}).(*unstructured.Unstructured)
	whole.SetAnnotations(map[string]string{"kubectl.kubernetes.io/last-applied-configuration": "{}", "rollout.argoproj.io/revision": "1", auto: "true"})
	kept := keep(t, restart.KeepWorkload, whole)
	if restart.Holding(kept) != restart.HeldByPause || kept.GroupVersionKind() != restart.ArgoRollout() {
		t.Error("it is another, or held by something else:", kept)
	}
	if diff := cmp.Diff(map[string]string{auto: "true"}, kept.GetAnnotations()); diff != "" {
		t.Error("its annotations", diff)
	}
	c := &cluster{T: t}
	keptTemplate := templateOf(c, kept)
	if diff := cmp.Diff(restart.ReadsOf(&template.Spec), restart.ReadsOf(&keptTemplate.Spec)); diff != "" {
		t.Error("its template reads other Secrets", diff)
	}
	if diff := cmp.Diff(map[string]string{v1alpha1.AnnotationRestartedFor: "db=1"}, keptTemplate.Annotations); diff != "" {
		t.Error("its template says something else", diff)
	}
	for _, path := range [][]string{{"spec", "strategy"}, {"status", "conditions"}} {
		if _, there, err := unstructured.NestedFieldNoCopy(kept.Object, path...); there || err != nil {
			t.Error("it keeps", path, err)
		}
	}
	if diff := cmp.Diff(kept, keep(t, restart.KeepWorkload, kept)); diff != "" {
		t.Error("keeping it twice changes it", diff)
	}
}

func TestPodsOfOthersAreNoRollouts(t *testing.T) {
	for name, row := range map[string]struct {
		owner metav1.OwnerReference
		want  int
	}{
		"of a Deployment":            {metav1.OwnerReference{APIVersion: "apps/v1", Kind: "Deployment"}, 1},
		"of a Rollout":               {metav1.OwnerReference{APIVersion: "argoproj.io/v1alpha1", Kind: "Rollout"}, 1},
		"of somebody else's Rollout": {metav1.OwnerReference{APIVersion: "example.org/v1", Kind: "Rollout"}, 0},
		"of apps' Rollout":           {metav1.OwnerReference{APIVersion: "apps/v1", Kind: "Rollout"}, 0},
		"of a Workflow":              {metav1.OwnerReference{APIVersion: "argoproj.io/v1alpha1", Kind: "Workflow"}, 0},
		"of Argo's Deployment":       {metav1.OwnerReference{APIVersion: "argoproj.io/v1alpha1", Kind: "Deployment"}, 0},
	} {
		row.owner.Name, row.owner.Controller = "web", new(true)
		set := &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{OwnerReferences: []metav1.OwnerReference{row.owner}}}
		if got := restart.WorkloadsOfSet(set); len(got) != row.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
