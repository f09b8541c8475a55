package restart_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/privyseal/privyseal/broker/annotation"
	"github.com/privyseal/privyseal/broker/brokertest"
	"github.com/privyseal/privyseal/broker/restart"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

func TestOnARealAPIServer(t *testing.T) {
	access := brokertest.APIServer(t)
	brokertest.DefineRollouts(t, access)
	// Alone, since two of its changes have to come within one quiet period.
	t.Run("one change is one patch", func(t *testing.T) { oneChangeIsOnePatch(newCluster(t, access)) })
	for name, test := range map[string]func(*cluster){
		"a merged target is a target":                   aMergedTargetIsATarget,
		"counts move twice for a change":                countsMoveTwiceForAChange,
		"every kind is restarted that is to be":         everyKindIsRestartedThatIsToBe,
		"a daemon that lives in the past does no harm":  aDaemonThatLivesInThePastDoesNoHarm,
		"pods that lack their secret are replaced once": podsThatLackTheirSecretAreReplacedOnce,
		"without a webhook nobody is replaced":          withoutAWebhookNobodyIsReplaced,
		"values before restart nobody":                  valuesBeforeRestartNobody,
		"variables that collide are found":              variablesThatCollideAreFound,

		"what is not ours is one patch for one change":         whatIsNotOursIsOnePatchForOneChange,
		"what is seen first is no change":                      whatIsSeenFirstIsNoChange,
		"what Reloader left restarts nobody":                   whatReloaderLeftRestartsNobody,
		"what is ours is restarted for by its own history":     whatIsOursIsRestartedForByItsOwnHistory,
		"what has no effect is told":                           whatHasNoEffectIsTold,
		"without the option Reloader's annotations are silent": withoutTheOptionReloadersAnnotationsAreNotRead,
		"a pause is one rollout and ends":                      aPauseIsOneRolloutAndEnds,
		"the end of a pause waits for its turn":                theEndOfAPauseWaitsForItsTurn,
		"what is not ours waits for windows":                   whatIsNotOursWaitsForWindows,

		"what changes in a blackout is one patch at its end": whatChangesInABlackoutIsOnePatchAtItsEnd,
		"what pods hold ends before the windows open":        whatEndsGoesAheadOfTheWindow,
		"other windows let go what waits":                    otherWindowsLetGoWhatWaits,
		"windows that cannot be used let nothing restart":    windowsThatCannotBeUsedLetNothingRestart,
		"a reason lets go what waits and nothing else":       aReasonLetsGoWhatWaitsAndNothingElse,
		"windows are refused by both":                        windowsAreRefusedByBoth,

		"Rollouts of Argo are one patch for one change":       rolloutsOfArgoAreOnePatchForOneChange,
		"Rollouts of Argo are restarted for what is not ours": rolloutsOfArgoAreRestartedForWhatIsNotOurs,
		"Rollouts of Argo are restarted by time":              rolloutsOfArgoAreRestartedByTimeWhereTheyAskForIt,

		"no more roll than the budget lets":             noMoreRollThanTheBudgetLets,
		"one that fails stops the rest":                 oneThatFailsStopsTheRest,
		"one goes first though nobody was chosen":       oneGoesFirstThoughNobodyWasChosen,
		"who is held by windows is kept no place":       whoIsHeldByWindowsIsKeptNoPlace,
		"what holds one back is told and can be passed": whatHoldsOneBackIsToldAndCanBePassed,
		"budgets that make no sense are refused":        budgetsThatMakeNoSenseAreRefused,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // each in a namespace of its own; most of the time is quiet periods
			test(newCluster(t, access))
		})
	}
}

// In whichever way they are read, and whether they come, change or go.
func valuesBeforeRestartNobody(c *cluster) {
	c.claim("db", v1alpha1.RestartAuto, "password=a")
	readers := map[string]part{"by-name": envKey("db", "password_previous"), "whole": envFrom("db"), "files": volume("db"), "projected": projected("db")}
	for name, reads := range readers {
		c.deployment(name, reads)
	}
	c.daemon()
	c.dealtWith()
	c.change("db", "password=b", "password_previous=a")
	rotated := c.now
	for _, name := range []string{"whole", "files", "projected"} {
		c.expect(name, "1 db=%d", rotated)
		c.rollout(name)
	}
	c.dealtWith()
	if patches := len(c.requests()); patches != 3 {
		c.Fatalf("a rotation sends %d requests", patches)
	}
	c.change("db", "password_previous=z")
	c.dealtWith()
	c.change("db", "password_previous=") // it is gone
	c.dealtWith()
	if requests := c.requests(); len(requests) > 0 {
		c.Error("values before that change and go send", requests)
	}
}

func oneChangeIsOnePatch(c *cluster) {
	c.claim("db", v1alpha1.RestartAuto, "password=a", "user=u")
	c.claim("tls", "", "crt=a")
	c.deployment("both", envKey("db", "password"), volume("tls"))
	c.deployment("user", envKey("db", "user"))
	c.deployment("stranger", envFrom("other"))

	// Installing restarts nobody.
	first := c.daemon()
	c.dealtWith()
	if requests := c.requests(); len(requests) > 0 {
		c.Fatal("installing sends", requests)
	}

	// Two targets that change together are one patch, and who reads neither
	// key is left alone.
	c.change("db", "password=b")
	db := c.now
	c.change("tls", "crt=b")
	tls := c.now
	c.expect("both", "1 db=%d,tls=%d", db, tls)
	c.dealtWith()
	if diff := cmp.Diff([]string{"PATCH both"}, c.requests()); diff != "" {
		c.Fatal(diff)
	}

	// The rollout ends, and nothing follows.
	c.rollout("both")
	c.dealtWith()
	c.expect("both", "1 db=%d,tls=%d", db, tls)

	// There and back again before anyone looked is no change.
	c.change("db", "password=c")
	c.change("db", "password=b")
	c.dealtWith()
	c.expect("both", "1 db=%d,tls=%d", db, tls)

	// Nor is a daemon that starts again.
	first.stop()
	second := c.daemon()
	c.dealtWith()
	if requests := c.requests(); len(requests) > 0 {
		c.Fatal("starting again sends", requests)
	}

	// What changes while no daemon runs is found by the next, once.
	second.stop()
	c.change("db", "user=v")
	user := c.now
	third := c.daemon()
	c.expect("user", "1 db=%d", user)
	c.until("the event is there", func() bool { return len(c.notes("user")) > 0 })
	third.stop()
	c.daemon() // which sees pods that are stale still, and a template that covers them
	c.dealtWith()
	if diff := cmp.Diff([]string{"PATCH user"}, c.requests()); diff != "" {
		c.Fatal(diff)
	}
	if diff := cmp.Diff([]string{fmt.Sprintf("Deployment Restarted: restarting for db (user changed, sequence %d)", user)}, c.notes("user")); diff != "" {
		c.Error(diff)
	}
}

func aMergedTargetIsATarget(c *cluster) {
	c.claim("db", v1alpha1.RestartAuto, "password=a")
	c.merged("db")
	c.deployment("web", envKey("db", "password"))
	c.deployment("all", envFrom("db"))
	c.deployment("theirs", envKey("db", "host")) // a key that the claim does not give
	c.daemon()
	c.dealtWith()
	if requests := c.requests(); len(requests) > 0 {
		c.Fatal("at the start it sends", requests)
	}
	c.change("db", "password=b")
	c.expect("web", "1 db=%d", c.now)
	c.expect("all", "1 db=%d", c.now)
	c.dealtWith()
	requests := c.requests()
	slices.Sort(requests)
	if diff := cmp.Diff([]string{"PATCH all", "PATCH web"}, requests); diff != "" {
		c.Error(diff)
	}
}

func countsMoveTwiceForAChange(c *cluster) {
	c.claim("db", "", "password=a")
	for i := range 4 {
		c.deployment(fmt.Sprint("web", i), envFrom("db"))
	}
	d := c.daemon()
	c.dealtWith()
	if told := c.told(); !slices.Contains(told, "db: 4 current, 0 stale") {
		c.Fatal("at the start it tells", told)
	}

	c.change("db", "password=b")
	for i := range 4 {
		c.expect(fmt.Sprint("web", i), "1 db=%d", c.now)
	}
	c.dealtWith()
	if diff := cmp.Diff([]string{"db: 0 current, 4 stale"}, c.told()); diff != "" {
		c.Error("when rollouts begin:", diff)
	}
	for i := range 3 {
		c.rollout(fmt.Sprint("web", i))
	}
	c.dealtWith()
	if told := c.told(); len(told) > 0 {
		c.Error("while rollouts run it tells", told)
	}
	counts, err := d.Consumers(c.Context(), c.key("db"))
	if diff := cmp.Diff(v1alpha1.Consumers{Current: 3, Stale: 1}, counts); diff != "" || err != nil {
		c.Error("yet who asks is told of the present:", diff, err)
	}
	c.rollout("web3")
	c.dealtWith()
	if diff := cmp.Diff([]string{"db: 4 current, 0 stale"}, c.told()); diff != "" {
		c.Error("when rollouts end:", diff)
	}

	// All pods of one are gone before new ones come, as a StatefulSet of one
	// replica does it: a moment, not the end of a consumer.
	for _, pod := range c.pods("web0") {
		c.must(c.client.Delete(c.Context(), &pod, client.GracePeriodSeconds(0)))
	}
	c.dealtWith()
	set := &appsv1.ReplicaSet{}
	c.must(c.client.Get(c.Context(), c.key("web0-2"), set))
	c.pod("web0-again", set.Spec.Template, set, "ReplicaSet")
	c.dealtWith()
	if told := c.told(); len(told) > 0 {
		c.Error("between pods it tells", told)
	}

	c.must(c.client.Delete(c.Context(), &appsv1.Deployment{ObjectMeta: c.meta("web0")}))
	c.dealtWith()
	if diff := cmp.Diff([]string{"db: 3 current, 0 stale"}, c.told()); diff != "" {
		c.Error("when a consumer goes:", diff)
	}
	c.must(d.Roll(c.Context(), c.key("db"))) // and being asked to look changes nothing
	c.dealtWith()
	if told := c.told(); len(told) > 0 {
		c.Error("it tells", told)
	}
}

func everyKindIsRestartedThatIsToBe(c *cluster) {
	c.claim("db", "", "password=a")
	c.claim("manual", v1alpha1.RestartNever, "password=a")
	selector := func(name string) *metav1.LabelSelector {
		return &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}}
	}
	stateful := &appsv1.StatefulSet{ObjectMeta: c.meta("stateful"), Spec: appsv1.StatefulSetSpec{
		Replicas: new(int32(1)), Selector: selector("stateful"), Template: podTemplate("stateful", nil, []part{envFrom("db")})}}
	c.must(c.client.Create(c.Context(), stateful))
	c.pod("stateful-0", stateful.Spec.Template, stateful, "StatefulSet")
	daemon := &appsv1.DaemonSet{ObjectMeta: c.meta("daemon"), Spec: appsv1.DaemonSetSpec{
		UpdateStrategy: appsv1.DaemonSetUpdateStrategy{Type: appsv1.OnDeleteDaemonSetStrategyType},
		Selector:       selector("daemon"), Template: podTemplate("daemon", nil, []part{projected("db", "password")})}}
	c.must(c.client.Create(c.Context(), daemon))
	c.pod("daemon-x", daemon.Spec.Template, daemon, "DaemonSet")
	paused := c.deployment("paused", envFrom("db"))
	c.must(c.client.Patch(c.Context(), paused, client.RawPatch(types.MergePatchType, []byte(`{"spec":{"paused":true}}`))))
	c.annotated("never", map[string]string{annotation.Restart: "never"}, envFrom("db"))
	c.deployment("manual", envFrom("manual"))
	c.deployment("none", envFrom("db"))
	for _, pod := range c.pods("none") {
		c.must(c.client.Delete(c.Context(), &pod, client.GracePeriodSeconds(0)))
	}
	job := &batchv1.Job{ObjectMeta: c.meta("job"), Spec: batchv1.JobSpec{Template: podTemplate("job", nil, []part{envFrom("db")})}}
	job.Spec.Template.Spec.RestartPolicy = corev1.RestartPolicyNever
	c.must(c.client.Create(c.Context(), job))
	bare := podTemplate("bare", nil, []part{envFrom("db")})
	c.must(c.client.Create(c.Context(), &corev1.Pod{ObjectMeta: c.meta("bare"), Spec: bare.Spec}))

	d := c.daemon()
	c.dealtWith()
	c.requests()
	c.change("db", "password=b")
	change := c.now
	c.change("manual", "password=b")
	want := fmt.Sprint("1 db=", change)
	c.until("the StatefulSet is patched", func() bool { return c.line(stateful) == want })
	c.until("the DaemonSet is patched", func() bool { return c.line(daemon) == want })
	c.expect("paused", "2 db=%d", change) // its people's pause was the first
	c.dealtWith()
	if diff := cmp.Diff([]string{"PATCH daemon", "PATCH paused", "PATCH stateful"}, c.requests()); diff != "" {
		c.Error(diff)
	}
	for target, want := range map[string]v1alpha1.Consumers{"db": {Stale: 4}, "manual": {Stale: 1}} {
		counts, err := d.Consumers(c.Context(), c.key(target))
		if diff := cmp.Diff(want, counts); diff != "" || err != nil {
			c.Error(target, diff, err)
		}
	}

	// The claim's people change their mind.
	claim := &v1alpha1.SecretClaim{ObjectMeta: c.meta("manual")}
	c.must(c.client.Patch(c.Context(), claim, client.RawPatch(types.MergePatchType, []byte(`{"spec":{"restart":"Auto"}}`))))
	c.expect("manual", "1 manual=%d", change+1)
}

// A daemon whose caches stand still is one that was deposed and does not know,
// or one that sees its own patch too late.
func aDaemonThatLivesInThePastDoesNoHarm(c *cluster) {
	c.claim("db", "", "password=a")
	c.deployment("web", envFrom("db"))
	w := restart.Workload{Kind: "Deployment", NamespacedName: c.key("web")}

	c.change("db", "password=b")
	first := c.now
	past := c.frozen("web", "db") // it has seen the change, and no line on the template
	c.act(past, w)
	c.expect("web", "1 db=%d", first)
	c.act(past, w) // it has not seen its own patch
	c.expect("web", "1 db=%d", first)

	c.change("db", "password=c")
	second := c.now
	secondPast := c.frozen("web", "db") // it has seen the second change, and the first line
	c.change("db", "password=d")
	third := c.now
	c.act(c.frozen("web", "db"), w) // another leader is ahead of both
	c.expect("web", "2 db=%d", third)
	c.act(past, w) // the resourceVersion is another, or the line would fall to the first
	c.expect("web", "2 db=%d", third)
	c.act(secondPast, w) // the line that it tests is not there, or it would fall to the second
	c.expect("web", "2 db=%d", third)
	if first >= second || second >= third {
		c.Fatal("the test does not test")
	}

	// Another workload of the same name, and with the same line, is not the one
	// that was judged.
	c.change("db", "password=e")
	past = c.frozen("web", "db")
	judged := &appsv1.Deployment{ObjectMeta: c.meta("web")}
	c.line(judged)
	c.must(c.client.Delete(c.Context(), judged, client.PropagationPolicy(metav1.DeletePropagationBackground)))
	c.must(c.client.Create(c.Context(), &appsv1.Deployment{ObjectMeta: c.meta("web"), Spec: judged.Spec}))
	c.act(past, w)
	c.expect("web", "0 db=%d", third)
}

// frozen is a Controller that sees workload and target as they are now, for
// ever, and acts on the real API server.
func (c *cluster) frozen(workload, target string) *restart.Controller {
	c.Helper()
	ctx := c.Context()
	deployment, secret, claim := &appsv1.Deployment{}, &corev1.Secret{}, &v1alpha1.SecretClaim{}
	c.must(c.client.Get(ctx, c.key(workload), deployment))
	c.must(c.client.Get(ctx, c.key(target), secret))
	c.must(c.client.Get(ctx, c.key(target), claim))
	sets, pods := &appsv1.ReplicaSetList{}, &corev1.PodList{}
	c.must(c.client.List(ctx, sets, client.InNamespace(c.namespace)))
	c.must(c.client.List(ctx, pods, client.InNamespace(c.namespace)))
	index := indexed{fake.NewClientBuilder().WithScheme(c.client.Scheme()).
		WithObjects(deployment, secret, claim).WithLists(sets, pods)}
	c.must(restart.AddIndexes(ctx, index))
	return restart.NewOn(restart.Config{Clock: &skipping{now: time.Now()}}, index.Build(), c.client)
}

// act lets a Controller look twice, with its quiet period between.
func (c *cluster) act(controller *restart.Controller, w restart.Workload) {
	c.Helper()
	for range 2 {
		if _, err := controller.Reconcile(c.Context(), w); err != nil {
			c.Fatal(err)
		}
	}
}
