package broker_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/brokertest"
)

func TestStatefulSetsAndDaemonSetsAreRestartedOnceForOneChange(t *testing.T) {
	t.Parallel()
	lab := brokertest.NewLab(t, brokertest.Node)
	lab.Install(t, fast)
	tenant := lab.NewTenant(t, "sets")
	change := func(password string) {
		t.Helper()
		lab.Vault.Put(t, tenant.Path("db"), map[string]any{"password": password})
	}
	change("first")
	lab.Apply(t, set(tenant, "StatefulSet", "stateful", "serviceName: stateful"))
	lab.Apply(t, set(tenant, "DaemonSet", "everywhere", "updateStrategy: {type: RollingUpdate}"))
	before := map[string]corev1.Pod{}
	for _, app := range []string{"stateful", "everywhere"} {
		before[app] = tenant.RunningPod(t, app, within)
	}

	change("second")
	for app, old := range before {
		brokertest.Eventually(t, within, func(ctx context.Context) error { return revisionsAre(ctx, lab, tenant, app, 2) })
		brokertest.Eventually(t, within, func(ctx context.Context) error {
			pods, err := tenant.Pods(ctx, app)
			if err != nil {
				return err
			}
			if len(pods) != 1 || pods[0].UID == old.UID {
				return fmt.Errorf("%d pods of %s, want one that is new", len(pods), app)
			}
			return nil
		})
		pod := tenant.RunningPod(t, app, within)
		got, err := lab.Exec(t.Context(), tenant.Key(pod.Name), "sh", "-c", "echo env=$PASSWORD file=$(cat /etc/db/password)")
		if want := "env=second file=second"; strings.TrimSpace(got) != want || err != nil {
			t.Errorf("the new pod of %s has %q, want %q (%v)", app, strings.TrimSpace(got), want, err)
		}
	}
	brokertest.Throughout(t, calm, func(ctx context.Context) error {
		return errors.Join(revisionsAre(ctx, lab, tenant, "stateful", 2), revisionsAre(ctx, lab, tenant, "everywhere", 2))
	})
}

// set is a workload with ControllerRevisions, of one pod on the one node, that
// has its secret as a variable and as a file.
func set(tenant *brokertest.Tenant, kind, name, spec string) string {
	return fmt.Sprintf(`
apiVersion: apps/v1
kind: %[1]s
metadata: {name: %[2]s, namespace: %[3]s}
spec:
  %[4]s
  selector: {matchLabels: {app: %[2]s}}
  template:
    metadata:
      labels: {app: %[2]s}
      annotations:
        privyseal.io/secret.db: "db"
        privyseal.io/env.db: "password=PASSWORD"
        privyseal.io/volume.db: "/etc/db"
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{name: app, image: "busybox:stable", command: [sleep, infinity]}]
`, kind, name, tenant.Namespace, spec)
}

// revisionsAre says how many templates a set has had.
func revisionsAre(ctx context.Context, lab *brokertest.Lab, tenant *brokertest.Tenant, name string, want int) error {
	var all appsv1.ControllerRevisionList
	if err := lab.Client.List(ctx, &all, client.InNamespace(tenant.Namespace)); err != nil {
		return err
	}
	count := 0
	for i := range all.Items {
		if owner := metav1.GetControllerOf(&all.Items[i]); owner != nil && owner.Name == name {
			count++
		}
	}
	if count != want {
		return fmt.Errorf("%s has had %d templates, want %d", name, count, want)
	}
	return nil
}
