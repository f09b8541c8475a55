package restart_test

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/annotation"
	"github.com/privyseal/privyseal/broker/restart"
	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/broker/waits"
)

// bounded gives the test's environment restarts.
func (c *cluster) bounded(restarts *v1alpha1.Restarts) {
	c.Helper()
	c.environment()
	found := &v1alpha1.Environment{}
	c.must(c.client.Get(c.Context(), types.NamespacedName{Name: c.namespace}, found))
	found.Spec.Restarts = restarts
	c.must(c.client.Update(c.Context(), found))
}

// ready does what kubelet and the Deployment's controller do once all pods of
// the present template are ready.
func (c *cluster) ready(name string) {
	c.Helper()
	c.podsAre(name, corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{
		{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()}}})
	deployment := &appsv1.Deployment{}
	c.must(c.client.Get(c.Context(), c.key(name), deployment))
	deployment.Status = appsv1.DeploymentStatus{ObservedGeneration: deployment.Generation,
		Replicas: 2, UpdatedReplicas: 2, ReadyReplicas: 2, AvailableReplicas: 2}
	c.must(c.client.Status().Update(c.Context(), deployment))
}

// crashes does what they do when the new pods' containers end with errors.
func (c *cluster) crashes(name string) {
	c.Helper()
	c.podsAre(name, corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{
		{Name: "c0", RestartCount: 3, State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}}}})
	deployment := &appsv1.Deployment{}
	c.must(c.client.Get(c.Context(), c.key(name), deployment))
	deployment.Status = appsv1.DeploymentStatus{ObservedGeneration: deployment.Generation, Replicas: 2, UpdatedReplicas: 2}
	c.must(c.client.Status().Update(c.Context(), deployment))
}

func (c *cluster) podsAre(name string, status corev1.PodStatus) {
	c.Helper()
	pods := c.pods(name)
	for i := range pods {
		pods[i].Status = status
		c.must(c.client.Status().Update(c.Context(), &pods[i]))
	}
}

// rolling are the test's Deployments that were patched for a sequence, and are
// not ready yet.
func (c *cluster) rolling(sequence int64, names ...string) []string {
	c.Helper()
	var rolling []string
	for _, name := range names {
		deployment := &appsv1.Deployment{ObjectMeta: c.meta(name)}
		if strings.HasSuffix(c.line(deployment), fmt.Sprint("db=", sequence)) && deployment.Status.ObservedGeneration < deployment.Generation {
			rolling = append(rolling, name)
		}
	}
	return rolling
}

func (c *cluster) readers(n int, annotated string) (names []string) {
	c.Helper()
	for i := range n {
		name := fmt.Sprintf("web-%d", i)
		deployment := c.deployment(name, envKey("db", "password"))
		if name == annotated {
			c.must(c.client.Patch(c.Context(), deployment, client.RawPatch(types.MergePatchType,
				fmt.Appendf(nil, `{"metadata":{"annotations":{%q:"true"}}}`, annotation.Canary))))
		}
		c.ready(name)
		names = append(names, name)
	}
	return names
}

// Six workloads read what changes, two may roll at once, and daemons come and
// go. Never more than two do, and each is patched once.
func noMoreRollThanTheBudgetLets(c *cluster) {
	c.bounded(&v1alpha1.Restarts{MaxConcurrent: new(int32(2))})
	c.claim("db", "", "password=a")
	all := c.readers(6, "")
	d := c.daemon()
	c.change("db", "password=b")
	for done := 0; done < len(all); {
		var rolling []string
		c.until("as many roll as may", func() bool {
			rolling = c.rolling(c.now, all...)
			if len(rolling) > 2 {
				c.Fatalf("%v roll at once", rolling)
			}
			return len(rolling) == min(2, len(all)-done)
		})
		if left := len(all) - done - 2; left > 0 {
			found := c.waits(d, left, "db", c.now)
			if found.Hold.Cause != waits.Turn || !strings.Contains(found.Hold.Says(), "at most 2 at once") {
				c.Errorf("it waits %s", found.Hold.Says())
			}
		}
		if done < 3 { // another daemon finds the same
			d.stop()
			d = c.daemon()
			c.until("it has looked", func() bool {
				return c.figure("privyseal_restarts_deferred") == fmt.Sprint(len(all)-done-2)
			})
			if diff := cmp.Diff(rolling, c.rolling(c.now, all...)); diff != "" {
				c.Fatal(diff)
			}
		}
		c.rollout(rolling[0])
		c.ready(rolling[0])
		done++
	}
	c.until("nobody waits", func() bool { return c.figure("privyseal_restarts_deferred") == "none" })
	want := []string{}
	for _, name := range all {
		want = append(want, "PATCH "+name)
	}
	if diff := cmp.Diff(want, c.requests()); diff != "" {
		c.Error(diff)
	}
}

// The chosen one goes first, and crashes. Nobody follows, and it is told why.
// With a value that works it goes first again, and after it was ready for a
// while, so do the others.
func oneThatFailsStopsTheRest(c *cluster) {
	c.bounded(&v1alpha1.Restarts{Canary: &v1alpha1.Canary{Soak: metav1.Duration{Duration: 3 * time.Second}}})
	c.claim("db", "", "password=a")
	all := c.readers(4, "web-2")
	d := c.daemon()
	c.change("db", "password=broken")
	c.expect("web-2", "2 db=%d", c.now) // an annotation counts as a change of a Deployment
	found := c.waits(d, 3, "db", c.now)
	if found.Hold.Cause != waits.Turn {
		c.Errorf("it waits %s", found.Hold.Says())
	}

	c.rollout("web-2")
	c.crashes("web-2")
	c.until("they are stopped", func() bool {
		found, err := d.Deferred(c.Context(), c.key("db"))
		c.must(err)
		return found.Hold.Cause == waits.Stopped
	})
	found, err := d.Deferred(c.Context(), c.key("db"))
	if want := "Deployment/web-2 was restarted for the same change, and its rollout fails (CrashLoopBackOff)"; err != nil || !strings.Contains(found.Hold.Says(), want) {
		c.Errorf("it waits %s, %v", found.Hold.Says(), err)
	}
	d.stop()
	d = c.daemon()
	c.waits(d, 3, "db", c.now)
	if diff := cmp.Diff([]string{"PATCH web-2"}, c.requests()); diff != "" {
		c.Fatal(diff)
	}

	c.change("db", "password=mended")
	c.expect("web-2", "3 db=%d", c.now)
	c.rollout("web-2")
	began := time.Now()
	c.ready("web-2")
	c.until("the others follow", func() bool { return len(c.rolling(c.now, all...)) == 3 })
	if watched := time.Since(began); watched < 2*time.Second { // times of Kubernetes have whole seconds
		c.Errorf("it was watched for %s", watched)
	}
	if diff := cmp.Diff([]string{"PATCH web-0", "PATCH web-1", "PATCH web-2", "PATCH web-3"}, c.requests()); diff != "" {
		c.Error(diff)
	}
}

// Windows close while some wait for their turn. No place is kept for those, or
// another environment's might wait for it, too.
func whoIsHeldByWindowsIsKeptNoPlace(c *cluster) {
	c.bounded(&v1alpha1.Restarts{MaxConcurrent: new(int32(1))})
	c.claim("db", "", "password=a")
	all := c.readers(3, "")
	d := c.daemon()
	c.change("db", "password=b")
	c.waits(d, 2, "db", c.now)
	if waiting := restart.WaitingForPlaces(d.Controller); waiting != 2 {
		c.Fatalf("%d wait for a place", waiting)
	}
	c.opened(v1alpha1.Window{Kind: v1alpha1.WindowBlackout, Schedule: "* * * * *", Duration: metav1.Duration{Duration: time.Minute}})
	c.until("nobody waits for a place", func() bool { return restart.WaitingForPlaces(d.Controller) == 0 })
	found, err := d.Deferred(c.Context(), c.key("db"))
	if err != nil || found.Hold.Cause != waits.NeverOpen {
		c.Errorf("it waits %s, %v", found.Hold.Says(), err)
	}
	if rolling := c.rolling(c.now, all...); len(rolling) != 1 {
		c.Errorf("%v roll", rolling)
	}
}

// Nobody was chosen. One goes all the same, and the others wait for it.
func oneGoesFirstThoughNobodyWasChosen(c *cluster) {
	c.bounded(&v1alpha1.Restarts{Canary: &v1alpha1.Canary{Soak: metav1.Duration{Duration: time.Hour}}})
	c.claim("db", "", "password=a")
	all := c.readers(8, "")
	d := c.daemon()
	c.change("db", "password=b")
	if found := c.waits(d, 7, "db", c.now); found.Hold.Cause != waits.Turn {
		c.Errorf("it waits %s", found.Hold.Says())
	}
	first := c.rolling(c.now, all...)
	if len(first) != 1 {
		c.Fatalf("%v went first", first)
	}
	c.rollout(first[0])
	c.ready(first[0])
	c.until("it is watched", func() bool {
		found, err := d.Deferred(c.Context(), c.key("db"))
		return err == nil && strings.Contains(found.Hold.Now, first[0]+" went first, and is ready since")
	})
	if diff := cmp.Diff([]string{"PATCH " + first[0]}, c.requests()); diff != "" {
		c.Error(diff)
	}
}

// A reason lets one go that would wait, and a disruption budget keeps one back
// until pods are there again.
func whatHoldsOneBackIsToldAndCanBePassed(c *cluster) {
	c.bounded(&v1alpha1.Restarts{Spread: &metav1.Duration{Duration: time.Hour}})
	c.claim("db", "", "password=a")
	all := c.readers(3, "")
	budget := &policyv1.PodDisruptionBudget{ObjectMeta: c.meta("all"), Spec: policyv1.PodDisruptionBudgetSpec{
		Selector: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "app", Operator: metav1.LabelSelectorOpIn, Values: all}}}}}
	c.must(c.client.Create(c.Context(), budget))
	budget.Status = policyv1.PodDisruptionBudgetStatus{ExpectedPods: 6, CurrentHealthy: 4, DesiredHealthy: 4}
	c.must(c.client.Status().Update(c.Context(), budget))
	d := c.daemon()
	c.change("db", "password=b")
	found := c.waits(d, 3, "db", c.now)
	if found.Hold.Cause != waits.Disrupted || !strings.Contains(found.Hold.Says(), "PodDisruptionBudget all has 4 of 6 pods ready") {
		c.Fatalf("it waits %s", found.Hold.Says())
	}

	budget.Status.CurrentHealthy, budget.Status.DisruptionsAllowed = 6, 2
	c.must(c.client.Status().Update(c.Context(), budget))
	c.until("one goes", func() bool { return len(c.rolling(c.now, all...)) == 1 })
	first := c.rolling(c.now, all...)[0]
	c.rollout(first)
	c.ready(first)
	c.waits(d, 2, "db", c.now)

	other := all[(slices.Index(all, first)+1)%3]
	c.annotate(&appsv1.Deployment{ObjectMeta: c.meta(other)}, "customers are locked out")
	c.until("the reason is seen", func() bool {
		found, err := d.Deferred(c.Context(), c.key("db"))
		return err == nil && found.Asked["Deployment/"+other] == "customers are locked out"
	})
	c.note("db", v1alpha1.RestartNow{Workload: "Deployment/" + other, Reason: "customers are locked out", Sequence: c.now})
	c.expect(other, "2 db=%d", c.now)
	c.waits(d, 1, "db", c.now)
	c.until("it is told", func() bool {
		return slices.ContainsFunc(c.notes(other), func(note string) bool {
			return strings.HasPrefix(note, "Deployment RestartedNow: restarting though it is not its turn in the environment, since privyseal.io/restart-now says \"customers are locked out\"")
		})
	})
}

func budgetsThatMakeNoSenseAreRefused(c *cluster) {
	for want, restarts := range map[string]*v1alpha1.Restarts{
		"spec.restarts.maxConcurrent in body should be greater than or equal to 1": {MaxConcurrent: new(int32(0))},
		"spread must be from 0s to 24h":                                            {Spread: &metav1.Duration{Duration: 25 * time.Hour}},
		"soak must be from 0s to 24h":                                              {Canary: &v1alpha1.Canary{Soak: metav1.Duration{Duration: -time.Second}}},
	} {
		made := &v1alpha1.Environment{ObjectMeta: metav1.ObjectMeta{Name: "refused"}, Spec: v1alpha1.EnvironmentSpec{
			Stores: []string{"vault"}, Root: "kv", Paths: []string{"kv/**"}, Restarts: restarts}}
		if err := c.client.Create(c.Context(), made); !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), want) {
			c.Errorf("want %q: %v", want, err)
		}
	}
}
