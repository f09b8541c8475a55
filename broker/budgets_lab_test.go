package broker_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/brokertest"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// Twenty Secrets change in a blackout, in which the daemon is killed three
// times. Then it ends, and each workload has one rollout, of which never more
// are under way than the budget lets.
func TestTwentySecretsThatChangeInABlackoutAreOneRolloutEachWithinTheBudget(t *testing.T) {
	const workloads, most = 10, 3
	lab := brokertest.NewLab(t, brokertest.Node)
	lab.Install(t, fast)
	tenant := lab.NewTenant(t, "budget")
	put := func(value string) {
		t.Helper()
		for i := range 2 * workloads {
			lab.Vault.Put(t, tenant.Path(fmt.Sprintf("s%02d", i)), map[string]any{"password": value})
		}
	}
	put("first")
	for i := range workloads {
		lab.Apply(t, reader(tenant, fmt.Sprintf("app-%d", i),
			fmt.Sprintf(`privyseal.io/secret.a: "s%02d", privyseal.io/secret.b: "s%02d"`, 2*i, 2*i+1), ""))
	}
	for i := range workloads {
		tenant.RunningPod(t, fmt.Sprintf("app-%d", i), within)
	}

	began := time.Now().UTC().Add(-2 * time.Minute).Truncate(time.Minute)
	ends := time.Now().UTC().Add(90 * time.Second).Truncate(time.Second)
	patchEnvironment(t, lab, tenant, fmt.Sprintf(`{"restarts":{"maxConcurrent":%d},"windows":[{"kind":"Blackout","schedule":"%d %d * * *","duration":"%s","timeZone":"UTC"}]}`,
		most, began.Minute(), began.Hour(), ends.Sub(began)))
	for killed := range 3 {
		put(fmt.Sprint("changed-", killed))
		brokertest.Eventually(t, within, func(ctx context.Context) error { return waiting(ctx, lab, tenant, 2*workloads) })
		lab.Kubectl(t, "delete", "pod", "-n", brokertest.System, "-l", "app.kubernetes.io/component=serve", "--grace-period=0", "--force")
		lab.Kubectl(t, "rollout", "status", "-n", brokertest.System, "deployment/privyseal", "--timeout=90s")
	}
	if left := time.Until(ends); left < 0 {
		t.Fatalf("the blackout was over %s before the last daemon was killed: the machine is too slow for this test", -left)
	}
	for i := range workloads {
		if err := rolledOut(lab, tenant, fmt.Sprintf("app-%d", i), 1)(t.Context()); err != nil {
			t.Error("in the blackout:", err)
		}
	}

	peak := 0
	brokertest.Eventually(t, time.Until(ends)+3*time.Minute, func(ctx context.Context) error {
		underWay, rolled, err := rollouts(ctx, lab, tenant)
		peak = max(peak, underWay)
		if err == nil && (rolled != workloads || underWay != 0) {
			err = fmt.Errorf("%d of %d were restarted, %d of them roll", rolled, workloads, underWay)
		}
		return err
	})
	if peak > most || peak == 0 {
		t.Errorf("%d rollouts were under way at once, of %d", peak, most)
	}
	brokertest.Throughout(t, calm, func(ctx context.Context) error {
		var wrong error
		for i := range workloads {
			wrong = errors.Join(wrong, rolledOut(lab, tenant, fmt.Sprintf("app-%d", i), 2)(ctx))
		}
		return wrong
	})
	for i := range workloads {
		pod := tenant.RunningPod(t, fmt.Sprintf("app-%d", i), within)
		got, err := lab.Exec(t.Context(), tenant.Key(pod.Name), "cat", "/etc/secrets/a/password", "/etc/secrets/b/password")
		if want := "changed-2changed-2"; got != want || err != nil {
			t.Errorf("app-%d has %q, %v", i, got, err)
		}
	}
	t.Logf("%d workloads were restarted for %d changes, at most %d at once", workloads, 3*2*workloads, peak)
}

// A value that does not work is put into one workload, which goes first and
// crashes. The others go on with the old one until the value is mended.
func TestANewVersionThatCrashesStopsTheRest(t *testing.T) {
	lab := brokertest.NewLab(t, brokertest.Node)
	lab.Install(t, fast)
	tenant := lab.NewTenant(t, "crash")
	put := func(password string) {
		t.Helper()
		lab.Vault.Put(t, tenant.Path("db"), map[string]any{"password": password})
	}
	put("first")
	patchEnvironment(t, lab, tenant, `{"restarts":{"canary":{"soak":"3s"}}}`)
	apps := []string{"app-0", "app-1", "app-2"}
	for _, name := range apps {
		manifest := reader(tenant, name, `privyseal.io/secret.db: "db", privyseal.io/env.db: "password=PASSWORD"`, "")
		manifest = strings.Replace(manifest, "[sleep, infinity]", `[sh, -c, 'test "$PASSWORD" != broken && sleep infinity']`, 1)
		// A container that ends at once counts as ready for a moment.
		manifest = strings.Replace(manifest, "spec:\n  selector", "spec:\n  minReadySeconds: 2\n  selector", 1)
		if name == "app-1" {
			manifest = strings.Replace(manifest, "metadata: {name", "metadata: {annotations: {privyseal.io/canary: \"true\"}, name", 1)
		}
		lab.Apply(t, manifest)
	}
	before := map[string]string{}
	for _, name := range apps {
		before[name] = string(tenant.RunningPod(t, name, within).UID)
	}
	claim := claimsOf(t, lab, tenant, 1)[0]

	put("broken")
	brokertest.Eventually(t, within, func(ctx context.Context) error {
		message, _, err := conditionOf(ctx, lab, tenant, claim, v1alpha1.ConditionRestartDeferred)
		if err == nil && !strings.Contains(message, "Deployment/app-1 was restarted for the same change, and its rollout fails") {
			err = fmt.Errorf("RestartDeferred says %q", message)
		}
		return err
	})
	brokertest.Throughout(t, calm, func(ctx context.Context) error {
		return errors.Join(rolledOut(lab, tenant, "app-0", 1)(ctx), rolledOut(lab, tenant, "app-2", 1)(ctx))
	})
	for _, name := range apps {
		if !stillThere(t, lab, tenant, before[name]) {
			t.Errorf("the pod of %s with the value that works is gone", name)
		}
	}

	put("mended")
	for name, templates := range map[string]int{"app-0": 2, "app-1": 3, "app-2": 2} {
		brokertest.Eventually(t, within, rolledOut(lab, tenant, name, templates))
	}
	brokertest.Eventually(t, within, nothingWaits(lab, tenant, claim))
}

func patchEnvironment(t *testing.T, lab *brokertest.Lab, tenant *brokertest.Tenant, spec string) {
	t.Helper()
	lab.Kubectl(t, "patch", "environment", tenant.Environment, "--type=merge", "-p", `{"spec":`+spec+`}`)
}

// waiting says that so many claims tell that restarts wait for a window, with
// what the store holds now.
func waiting(ctx context.Context, lab *brokertest.Lab, tenant *brokertest.Tenant, want int) error {
	claims := &v1alpha1.SecretClaimList{}
	if err := lab.Client.List(ctx, claims, client.InNamespace(tenant.Namespace)); err != nil {
		return err
	}
	wait := 0
	for _, claim := range claims.Items {
		for _, condition := range claim.Status.Conditions {
			if condition.Type == v1alpha1.ConditionRestartDeferred && condition.Reason == v1alpha1.ReasonWindowClosed {
				wait++
			}
		}
	}
	if wait != want {
		return fmt.Errorf("%d claims tell that restarts wait, want %d", wait, want)
	}
	return nil
}

// rollouts of a tenant's Deployments that are under way now, and how many were
// restarted for a change.
func rollouts(ctx context.Context, lab *brokertest.Lab, tenant *brokertest.Tenant) (underWay, restarted int, err error) {
	list := &appsv1.DeploymentList{}
	if err := lab.Client.List(ctx, list, client.InNamespace(tenant.Namespace)); err != nil {
		return 0, 0, err
	}
	for _, deployment := range list.Items {
		if deployment.Spec.Template.Annotations[v1alpha1.AnnotationRestartedFor] == "" {
			continue
		}
		restarted++
		status := deployment.Status
		if status.ObservedGeneration < deployment.Generation || status.UpdatedReplicas < 1 || status.Replicas > 1 || status.AvailableReplicas < 1 {
			underWay++
		}
	}
	return underWay, restarted, nil
}

func stillThere(t *testing.T, lab *brokertest.Lab, tenant *brokertest.Tenant, uid string) bool {
	t.Helper()
	there := lab.Kubectl(t, "get", "pods", "-n", tenant.Namespace, "-o", `jsonpath={range .items[?(@.status.phase=="Running")]}{.metadata.uid} {end}`)
	return strings.Contains(there, uid)
}
