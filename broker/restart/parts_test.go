package restart_test

import (
	"context"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/privyseal/privyseal/broker/restart"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

func web(n int) restart.Workload {
	return restart.Workload{Kind: "Deployment", NamespacedName: types.NamespacedName{Namespace: "pay", Name: fmt.Sprint("web", n)}}
}

func TestAPatchWaitsUntilItIsQuiet(t *testing.T) {
	clock := clocktesting.NewFakePassiveClock(time.Unix(noon, 0))
	quiet := restart.NewQuiet(clock)
	at := func(ms int) { clock.SetTime(time.Unix(noon, 0).Add(time.Duration(ms) * time.Millisecond)) }
	wait := func(want time.Duration, db int64) {
		t.Helper()
		if got := quiet.Wait(web(1), map[string]int64{"db": db}); got != want {
			t.Errorf("it waits %v, not %v", got, want)
		}
	}

	wait(500*time.Millisecond, 1) // the first sight of a change
	at(200)
	wait(300*time.Millisecond, 1) // another look at the same one
	at(400)
	wait(500*time.Millisecond, 2) // a second change: from the start
	at(800)
	wait(200*time.Millisecond, 3) // a third: but a second in all is enough
	at(1000)
	wait(0, 4)
	wait(0, 4) // the patch did not go through: no more waiting
	quiet.Done(web(1))
	wait(500*time.Millisecond, 5) // the next change has its own quiet
	if got := quiet.Wait(web(2), nil); got != 500*time.Millisecond {
		t.Errorf("another workload waits %v", got)
	}
}

func TestCountsAreToldWhenRolloutsBeginAndWhenTheyEnd(t *testing.T) {
	clock := clocktesting.NewFakePassiveClock(time.Unix(noon, 0))
	ledger := restart.NewLedger(clock)
	note := func(w restart.Workload, want []string, standing restart.Standing) {
		t.Helper()
		now := map[string]restart.Standing{"db": standing}
		if standing == "" {
			now = nil
		}
		if settled, _ := ledger.Note(w, now); !reflect.DeepEqual(settled, want) {
			t.Errorf("%v becoming %q tells of %v, not %v", w, standing, settled, want)
		}
	}
	told := []string{"db"}

	note(web(1), told, restart.Current) // consumers come
	note(web(2), told, restart.Current)
	note(web(3), told, restart.Current)
	note(web(1), nil, restart.Current)
	note(web(1), told, restart.Rolling) // rollouts begin
	note(web(2), nil, restart.Rolling)
	note(web(1), nil, restart.Rolling)
	note(web(1), nil, restart.Current) // one after another ends
	note(web(3), nil, restart.Rolling)
	note(web(2), nil, restart.Current)
	note(web(3), told, restart.Current)         // and the last
	note(web(3), told, restart.HeldByWorkload)  // one that will not roll
	note(web(1), told, restart.Rolling)         // the others do
	note(web(2), nil, restart.Rolling)          //
	note(web(3), told, restart.Current)         // its people did it by hand
	note(web(1), told, restart.HeldByPause)     // a rollout is held up
	note(web(1), told, restart.Rolling)         // and goes on
	note(web(1), nil, restart.Current)          //
	note(web(2), told, "")                      // the last one that rolled is deleted
	note(web(2), nil, "")                       //
	note(web(3), told, restart.Rolling)         //
	clock.SetTime(clock.Now().Add(time.Minute)) //
	if _, next := ledger.Note(web(3), map[string]restart.Standing{"db": restart.Rolling}); next != 9*time.Minute {
		t.Errorf("a rollout is looked at again after %v", next)
	}
	clock.SetTime(clock.Now().Add(9 * time.Minute))
	note(web(3), told, restart.Rolling) // it takes too long, and counts as held
	note(web(3), nil, restart.Rolling)
	note(web(3), told, restart.Current)
}

func TestAWorkloadIsHeldBy(t *testing.T) {
	stateful := func(strategy appsv1.StatefulSetUpdateStrategy) client.Object {
		return &appsv1.StatefulSet{Spec: appsv1.StatefulSetSpec{UpdateStrategy: strategy}}
	}
	partition := func(at int32) client.Object {
		return stateful(appsv1.StatefulSetUpdateStrategy{RollingUpdate: &appsv1.RollingUpdateStatefulSetStrategy{Partition: &at}})
	}
	daemon := func(strategy appsv1.DaemonSetUpdateStrategyType) client.Object {
		return &appsv1.DaemonSet{Spec: appsv1.DaemonSetSpec{UpdateStrategy: appsv1.DaemonSetUpdateStrategy{Type: strategy}}}
	}
	for name, test := range map[string]struct {
		workload client.Object
		want     restart.Standing
	}{
		"nothing, as a Deployment":         {&appsv1.Deployment{}, restart.Rolling},
		"its pause":                        {&appsv1.Deployment{Spec: appsv1.DeploymentSpec{Paused: true}}, restart.HeldByPause},
		"nothing, as a StatefulSet":        {stateful(appsv1.StatefulSetUpdateStrategy{}), restart.Rolling},
		"nothing, with a partition at 0":   {partition(0), restart.Rolling},
		"its partition":                    {partition(2), restart.HeldByPartition},
		"the hands that are to delete":     {stateful(appsv1.StatefulSetUpdateStrategy{Type: appsv1.OnDeleteStatefulSetStrategyType}), restart.HeldByOnDelete},
		"nothing, as a DaemonSet":          {daemon(appsv1.RollingUpdateDaemonSetStrategyType), restart.Rolling},
		"the hands that are to delete too": {daemon(appsv1.OnDeleteDaemonSetStrategyType), restart.HeldByOnDelete},
	} {
		t.Run(name, func(t *testing.T) {
			if got := restart.Holding(test.workload); got != test.want {
				t.Errorf("held by %q, not %q", got, test.want)
			}
		})
	}
}

func TestThePatch(t *testing.T) {
	workload := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{UID: "u1", ResourceVersion: "42"}}
	line := map[string]int64{"tls": 0, "db": 1763800000}
	bytes := func() (types.PatchType, string) {
		patch, err := restart.PatchFor(workload, line)
		if err != nil {
			t.Fatal(err)
		}
		data, err := patch.Data(nil)
		if err != nil {
			t.Fatal(err)
		}
		return patch.Type(), string(data)
	}

	kind, data := bytes() // without a line
	if diff := cmp.Diff(`{"metadata":{"resourceVersion":"42","uid":"u1"},"spec":{"template":{"metadata":{"annotations":{"privyseal.io/restarted-for":"db=1763800000,tls=0"}}}}}`, data); diff != "" || kind != types.MergePatchType {
		t.Error(kind, diff)
	}

	workload.Spec.Template.Annotations = map[string]string{v1alpha1.AnnotationRestartedFor: ""} // with one, though empty
	kind, data = bytes()
	if diff := cmp.Diff(`[{"op":"test","path":"/metadata/uid","value":"u1"},`+
		`{"op":"test","path":"/spec/template/metadata/annotations/privyseal.io~1restarted-for","value":""},`+
		`{"op":"replace","path":"/spec/template/metadata/annotations/privyseal.io~1restarted-for","value":"db=1763800000,tls=0"}]`, data); diff != "" || kind != types.JSONPatchType {
		t.Error(kind, diff)
	}
}

// What the cache keeps of a pod reads the same Secrets, proves the same and is
// alive all the same, and keeping it twice changes nothing.
func TestTheCacheKeepsWhatCounts(t *testing.T) {
	pod := &corev1.Pod{
		ObjectMeta: *podMeta(noon, "db=1763800000", "tls=3"),
		Spec:       *spec(envKey("db", "b"), envKey("db", "a"), envFrom("api"), volume("tls", "crt"), projected("ca"), pullSecret),
		Status:     corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "198.18.0.7"},
	}
	pod.Name, pod.ManagedFields = "web-1", []metav1.ManagedFieldsEntry{{Manager: "kubelet"}}
	pod.Annotations["other"] = "dropped"
	kept := keep(t, restart.KeepPod, pod)
	if diff := cmp.Diff(restart.ReadsOf(&pod.Spec), restart.ReadsOf(&kept.Spec)); diff != "" {
		t.Error("it reads other Secrets", diff)
	}
	if diff := cmp.Diff(restart.EvidenceOf(pod), restart.EvidenceOf(kept)); diff != "" {
		t.Error("it proves something else", diff)
	}
	if kept.Name != "web-1" || kept.Status.Phase != corev1.PodRunning {
		t.Error("it is another pod, or in another phase:", kept)
	}
	if kept.Status.PodIP != "" || kept.ManagedFields != nil || len(kept.Annotations) != 2 {
		t.Error("it keeps more than it needs:", kept)
	}
	if diff := cmp.Diff(kept, keep(t, restart.KeepPod, kept)); diff != "" {
		t.Error("keeping it twice changes it", diff)
	}

	deployment := &appsv1.Deployment{Spec: appsv1.DeploymentSpec{
		Replicas: new(int32(3)), Paused: true, Selector: &metav1.LabelSelector{},
		Template: corev1.PodTemplateSpec{ObjectMeta: pod.ObjectMeta, Spec: pod.Spec}}}
	keptDeployment := keep(t, restart.KeepWorkload, deployment)
	if diff := cmp.Diff(restart.ReadsOf(&pod.Spec), restart.ReadsOf(&keptDeployment.Spec.Template.Spec)); diff != "" {
		t.Error("its template reads other Secrets", diff)
	}
	if *keptDeployment.Spec.Replicas != 3 || restart.Holding(keptDeployment) != restart.HeldByPause || keptDeployment.Spec.Selector != nil {
		t.Error("it keeps less or more than it needs:", keptDeployment)
	}
	if diff := cmp.Diff(keptDeployment, keep(t, restart.KeepWorkload, keptDeployment)); diff != "" {
		t.Error("keeping it twice changes it", diff)
	}
}

func keep[object any](t *testing.T, transform func(any) (any, error), whole object) object {
	t.Helper()
	kept, err := transform(whole)
	if err != nil {
		t.Fatal(err)
	}
	return kept.(object)
}

// indexed lets indexes be added to a fake client as to a manager's cache.
type indexed struct{ *fake.ClientBuilder }

func (i indexed) IndexField(_ context.Context, of client.Object, name string, by client.IndexerFunc) error {
	i.WithIndex(of, name, by)
	return nil
}

// skipping is a clock that is a second later whenever it is read.
type skipping struct {
	clocktesting.FakePassiveClock
	now time.Time
}

func (s *skipping) Now() time.Time {
	s.now = s.now.Add(time.Second)
	return s.now
}

func (s *skipping) Since(t time.Time) time.Duration { return s.now.Sub(t) }
