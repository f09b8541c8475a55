package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/v1alpha1"
)

func TestCalendarAndPlanAskTheCluster(t *testing.T) {
	d := newDesk(t)
	if stdout, _ := d.must("calendar"); !strings.Contains(stdout, "production    allowed    -      -       UTC    no window forbids it") {
		t.Errorf("the calendar is %s", stdout)
	}
	if stdout, _ := d.must("plan"); stdout != "no workload would restart: none holds an old value\n" {
		t.Errorf("the plan is %s", stdout)
	}
	if _, _, err := d.run("plan", "--if-changed", "db"); err == nil || err.Error() != "--if-changed db: no such change: there is no claim and no SealedSecret in namespace pay" {
		t.Errorf("it says %v", err)
	}

	environment := &v1alpha1.Environment{}
	d.check(d.cluster.Get(t.Context(), client.ObjectKey{Name: "production"}, environment))
	opens := time.Now().UTC().Add(72 * time.Hour).Truncate(time.Hour)
	environment.Spec.Windows = []v1alpha1.Window{{Kind: v1alpha1.WindowMaintenance, Duration: metav1.Duration{Duration: time.Hour},
		Schedule: fmt.Sprintf("0 %d %d %d *", opens.Hour(), opens.Day(), opens.Month())}}
	d.check(d.cluster.Update(t.Context(), environment))
	d.workload()

	opening := opens.Format("Mon 2006-01-02 15:04 -07:00")
	if stdout, _ := d.must("calendar", "--environment", "production"); !strings.Contains(stdout, "production    allowed    "+opening) {
		t.Errorf("the calendar is %s", stdout)
	}
	// Nothing is stale, and what would change waits for the window.
	if stdout, _ := d.must("plan", "-n", "pay"); !strings.HasPrefix(stdout, "no workload would restart") {
		t.Errorf("the plan is %s", stdout)
	}
	for _, where := range []string{"--all-namespaces", "--namespace=pay"} {
		stdout, _ := d.must("plan", where, "--if-changed", "db:password")
		if !strings.Contains(stdout, "1       1      "+opening+"   pay/Deployment/web   1      db (password)   restarts   window\n") {
			t.Errorf("%s: the plan is %s", where, stdout)
		}
	}
	if _, _, err := d.run("plan", "--if-changed", "plain"); err == nil || !strings.Contains(err.Error(), "Secret pay/plain is made by no claim and no SealedSecret, so nobody is restarted for it") {
		t.Errorf("it says %v", err)
	}
}

// workload is a claim with its Secret, a Deployment that reads it, with a pod,
// and a Secret of nobody.
func (d *desk) workload() {
	d.t.Helper()
	named := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: "pay", Name: name} }
	claim := &v1alpha1.SecretClaim{ObjectMeta: named("db"), Spec: v1alpha1.SecretClaimSpec{Sources: []v1alpha1.Source{{Path: "db"}}}}
	d.create(claim)
	secret := &corev1.Secret{ObjectMeta: named("db")}
	secret.Labels = map[string]string{v1alpha1.LabelClaimUID: string(claim.UID)}
	secret.Annotations = map[string]string{v1alpha1.AnnotationClaim: "db", v1alpha1.AnnotationRevisions: `{"kid":"k1","keys":{"password":[["9f3c",0]]}}`}
	d.create(secret)
	d.create(&corev1.Secret{ObjectMeta: named("plain")})

	template := corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web"}}}
	template.Spec.Containers = []corev1.Container{{Name: "c", Image: "pause", EnvFrom: []corev1.EnvFromSource{{
		SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "db"}}}}}}
	selector := &metav1.LabelSelector{MatchLabels: template.Labels}
	deployment := &appsv1.Deployment{ObjectMeta: named("web"), Spec: appsv1.DeploymentSpec{Selector: selector, Template: template}}
	d.create(deployment)
	set := &appsv1.ReplicaSet{ObjectMeta: named("web"), Spec: appsv1.ReplicaSetSpec{Selector: selector, Template: template}}
	set.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(deployment, appsv1.SchemeGroupVersion.WithKind("Deployment"))}
	d.create(set)
	pod := &corev1.Pod{ObjectMeta: named("web"), Spec: template.Spec}
	pod.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(set, appsv1.SchemeGroupVersion.WithKind("ReplicaSet"))}
	d.create(pod)
}
