package plan_test

import (
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/privyseal/privyseal/broker/brokertest"
	"github.com/privyseal/privyseal/broker/plan"
	"github.com/privyseal/privyseal/broker/restart"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

func rotationOf(path string, change ...func(*v1alpha1.SecretRotation)) *v1alpha1.SecretRotation {
	of := &v1alpha1.SecretRotation{ObjectMeta: meta("db"), Spec: v1alpha1.SecretRotationSpec{
		Path: path, Schedule: "0 3 * * *", Generate: map[string]v1alpha1.Generator{"password": {UUID: &v1alpha1.UUIDGenerator{}}},
		Verify: &v1alpha1.RotationVerify{Consumers: v1alpha1.ConsumersReady},
	}}
	for _, one := range change {
		one(of)
	}
	return of
}

func TestARotationIsPlannedByWhatTheClusterHas(t *testing.T) {
	c := newCluster(t)
	c.create(labelled())
	c.create(prod())
	c.create(&v1alpha1.ClusterSecretStore{ObjectMeta: metav1.ObjectMeta{Name: "vault"}, Spec: v1alpha1.ClusterSecretStoreSpec{
		Vault: v1alpha1.VaultStore{Address: "https://vault:8200", Auth: v1alpha1.VaultAuth{Kubernetes: &v1alpha1.VaultKubernetesAuth{Role: "pay"}}}}})
	c.synced("db", map[string]int64{"password": 0, "user": 0})
	c.running(deployment("web", "db:password"))
	c.running(deployment("other", "db:user"))
	c.rollout("canary", deployment("canary", "db:password").Spec.Template)
	of := rotationOf("db")
	c.create(of)
	ours := c.rotation()
	if !slices.Equal(outcomes(ours), []string{"web restarts", "canary restarts"}) || ours.Path != "kv/db" || ours.Store != "vault" || len(ours.Blocks) > 0 || ours.Begins.IsZero() {
		t.Errorf("the plan is %+v", ours)
	}
	// The daemon says that it may not be written, and a claim is not in order.
	of.Status.ObservedGeneration = of.Generation
	of.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, ObservedGeneration: of.Generation,
		Reason: v1alpha1.ReasonPathNotWritable, Message: "spec.path: it may not be written", LastTransitionTime: metav1.Now()}}
	c.status(of)
	ours = c.rotation()
	if len(ours.Blocks) != 1 || ours.Blocks[0].Reason != plan.Refused || ours.Blocks[0].Says != "spec.path: it may not be written" || !ours.Begins.IsZero() {
		t.Errorf("the plan is %+v", ours)
	}
	for _, asked := range c.asked {
		if verb, _, _ := strings.Cut(asked, " "); verb != "GET" {
			t.Errorf("it sent %s", asked)
		}
	}
}

// rollout is a Rollout of Argo with one pod, in a cluster that has them.
func (c *cluster) rollout(name string, template corev1.PodTemplateSpec) {
	c.Helper()
	brokertest.DefineRollouts(c.T, c.access)
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&template)
	if err != nil {
		c.Fatal(err)
	}
	rollout := restart.NewArgoRollout()
	rollout.SetNamespace("pay")
	rollout.SetName(name)
	rollout.Object["spec"] = map[string]any{"replicas": int64(1), "template": content}
	c.create(rollout)
	owner := *metav1.NewControllerRef(rollout, restart.ArgoRollout())
	set := &appsv1.ReplicaSet{ObjectMeta: meta(name), Spec: appsv1.ReplicaSetSpec{
		Selector: &metav1.LabelSelector{MatchLabels: template.Labels}, Template: template}}
	set.OwnerReferences = []metav1.OwnerReference{owner}
	c.create(set)
	pod := &corev1.Pod{ObjectMeta: meta(name + "-0"), Spec: template.Spec}
	pod.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(set, appsv1.SchemeGroupVersion.WithKind("ReplicaSet"))}
	c.create(pod)
}

// rotation db as somebody plans it.
func (c *cluster) rotation() plan.RotationPlan {
	c.Helper()
	world, err := plan.LiveRotations(c.Context(), c.mine, "pay", "privyseal")
	if err != nil {
		c.Fatal(err)
	}
	of, err := world.Rotation("pay", "db")
	if err != nil {
		c.Fatal(err)
	}
	made, err := world.PlanRotation(c.Context(), of, plan.Question{At: friday()})
	if err != nil {
		c.Fatal(err)
	}
	return made
}

func outcomes(made plan.RotationPlan) []string {
	var all []string
	for _, entry := range made.Restarts.Workloads {
		all = append(all, entry.Name+" "+string(entry.Outcome))
	}
	return all
}
