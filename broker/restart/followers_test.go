package restart_test

import (
	"fmt"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/restart"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// podIs adds a pod that reads db, restarted for so much, ready or in trouble, and so
// many seconds old at midday.
func podIs(restartedFor, trouble string, ready bool, age int64) fact {
	return func(f *restart.Facts) {
		added := restart.Pod{
			Reads: restart.ReadsOf(spec(envFrom("db"))), Evidence: restart.EvidenceOf(podMeta(0, restartedFor, "")),
			Line: restartedFor, Trouble: trouble, Created: midday().Unix() - age,
		}
		if ready {
			added.Ready = midday().Add(-time.Second)
		}
		f.Pods = append(f.Pods, added)
	}
}

func TestAFollowerIsThereWhenAllItsPodsHaveTheContentAndAreReady(t *testing.T) {
	through := rollingDeployment(appsv1.DeploymentStatus{Replicas: 3, UpdatedReplicas: 3, AvailableReplicas: 3}, "True", "NewReplicaSetAvailable")
	rolls := rollingDeployment(appsv1.DeploymentStatus{Replicas: 3, UpdatedReplicas: 1}, "True", "ReplicaSetUpdated")
	overdue := rollingDeployment(appsv1.DeploymentStatus{Replicas: 3, UpdatedReplicas: 1}, "False", "ProgressDeadlineExceeded")
	empty := rollingDeployment(appsv1.DeploymentStatus{})
	empty.(*appsv1.Deployment).Spec.Replicas = new(int32(0))
	changed := ours("db", "password: b@2 a@0")
	newer, older := template("db=2", envFrom("db")), template("db=1", envFrom("db"))
	for name, row := range map[string]struct {
		of    client.Object
		facts []fact
		want  restart.Follower
	}{
		"all is well":                     {of: through, facts: []fact{changed, newer, podIs("db=2", "", true, 5)}},
		"a pod has the old value":         {of: through, facts: []fact{changed, newer, podIs("db=1", "", true, 500), podIs("db=2", "", true, 5)}, want: restart.Follower{Behind: "pods with an old value (rolling)"}},
		"a pod of another Secret has one": {of: through, facts: []fact{ours("tls", "key: b@9 a@0"), changed, newer, podIs("db=2", "", true, 5), pod(0, "", envFrom("tls"))}, want: restart.Follower{Behind: "not all pods are ready"}},
		"windows hold it":                 {of: through, facts: []fact{changed, older, closed, podIs("db=1", "", true, 500)}, want: restart.Follower{Behind: "pods with an old value (window)", Held: true}},
		"it says never":                   {of: through, facts: []fact{changed, older, never, podIs("db=1", "", true, 500)}, want: restart.Follower{Behind: "pods with an old value (workload-never)"}},
		"pods come":                       {of: rolls, facts: []fact{changed, newer, podIs("db=2", "", true, 5)}, want: restart.Follower{Behind: "its rollout is under way"}},
		"a pod is not ready":              {of: through, facts: []fact{changed, newer, podIs("db=2", "", false, 5)}, want: restart.Follower{Behind: "not all pods are ready"}},
		"between two pods":                {of: through, facts: []fact{changed, newer}, want: restart.Follower{Behind: "it has no pods"}},
		"it is to have none":              {of: empty, facts: []fact{changed, newer}},
		"a pod stumbles":                  {of: rolls, facts: []fact{changed, newer, podIs("db=2", "CrashLoopBackOff", false, 30)}, want: restart.Follower{Behind: "its rollout is under way"}},
		"a pod does not recover":          {of: rolls, facts: []fact{changed, newer, podIs("db=2", "CrashLoopBackOff", false, 61)}, want: restart.Follower{Behind: "its rollout is under way", Fails: "CrashLoopBackOff"}},
		"an old pod was in trouble":       {of: rolls, facts: []fact{changed, newer, podIs("db=1", "CrashLoopBackOff", false, 600)}, want: restart.Follower{Behind: "pods with an old value (rolling)"}},
		"its own deadline has passed":     {of: overdue, facts: []fact{changed, newer, podIs("db=2", "", false, 5)}, want: restart.Follower{Behind: "its rollout is under way", Fails: "its progress deadline is exceeded"}},
	} {
		t.Run(name, func(t *testing.T) {
			var facts restart.Facts
			for _, add := range row.facts {
				add(&facts)
			}
			if got := restart.FollowerOf(row.of, facts, "db", midday()); got != row.want {
				t.Errorf("got %+v, want %+v", got, row.want)
			}
		})
	}
}

func TestAWorkloadFollowsATargetThoughItHasNoPodAtTheMoment(t *testing.T) {
	deployment := func(name string, annotations map[string]string, parts ...part) client.Object {
		return &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "pay", Name: name}, Spec: appsv1.DeploymentSpec{
			Replicas: new(int32(1)), Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Annotations: annotations}, Spec: *spec(parts...)}}}
	}
	claim := &v1alpha1.SecretClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "pay", Name: "db", UID: "1"}}
	secret := metadataOf("v1", "Secret", "pay", "db")
	secret.Labels = map[string]string{v1alpha1.LabelClaimUID: "1"}
	secret.Annotations = map[string]string{v1alpha1.AnnotationClaim: "db", v1alpha1.AnnotationRevisions: revisions("password: b@200 a@0").String()}
	snapshot, err := restart.NewSnapshot([]client.Object{
		claim, secret, deployment("reads", nil, envFrom("db")), deployment("asks", map[string]string{"privyseal.io/secret.db": "claim:db"}),
		deployment("neither", nil, envFrom("tls")),
	})
	if err != nil {
		t.Fatal(err)
	}
	c := restart.NewOn(restart.Config{Clock: clocktesting.NewFakePassiveClock(midday())}, snapshot, nil)
	target := types.NamespacedName{Namespace: "pay", Name: "db"}
	followers, known, err := c.Followers(t.Context(), target, 200)
	if err != nil || !known {
		t.Fatal(known, err)
	}
	told := ""
	for _, follower := range followers {
		told += fmt.Sprintf("%s: %s; ", follower.Workload, follower.Behind)
	}
	if want := "Deployment/pay/asks: its rollout is under way; Deployment/pay/reads: its rollout is under way; "; told != want {
		t.Errorf("they are %q, not %q", told, want)
	}
	if _, known, err := c.Followers(t.Context(), target, 201); known || err != nil {
		t.Errorf("of a content that it has not seen it knows: %t, %v", known, err)
	}
}
