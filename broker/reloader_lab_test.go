package broker_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/brokertest"
	"github.com/privyseal/privyseal/broker/foreign"
)

// A team that comes from Reloader leaves its annotations, Secrets and ConfigMaps
// as they are.
func TestReloadersAnnotationsGiveOneRolloutForOneChange(t *testing.T) {
	lab := brokertest.NewLab(t, brokertest.Node)
	lab.Install(t, fast)
	lab.Upgrade(t, "--set", "reloader.enabled=true")
	tenant := lab.NewTenant(t, "reloader")
	lab.Apply(t, fmt.Sprintf(`
apiVersion: v1
kind: Secret
metadata: {name: db, namespace: %[1]s}
stringData: {password: first}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: %[1]s}
data: {level: info}
`, tenant.Namespace))
	// One right after the other, as kubectl does not.
	theirs := func(password, level string) {
		t.Helper()
		for object, patch := range map[client.Object]string{
			&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: tenant.Namespace, Name: "db"}}:          fmt.Sprintf(`{"stringData":{"password":%q}}`, password),
			&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: tenant.Namespace, Name: "settings"}}: fmt.Sprintf(`{"data":{"level":%q}}`, level),
		} {
			if err := lab.Client.Patch(t.Context(), object, client.RawPatch(types.MergePatchType, []byte(patch))); err != nil {
				t.Fatal(err)
			}
		}
	}
	reads := `env:
            - {name: PASSWORD, valueFrom: {secretKeyRef: {name: db, key: password}}}
            - {name: LEVEL, valueFrom: {configMapKeyRef: {name: settings, key: level}}}`
	lab.Apply(t, reader(tenant, "app", `reloader.stakater.com/auto: "true"`, reads))
	lab.Apply(t, reader(tenant, "silent", "", reads))
	podHas := func(want string) {
		t.Helper()
		pod := tenant.RunningPod(t, "app", within)
		got, err := lab.Exec(t.Context(), tenant.Key(pod.Name), "sh", "-c", "echo $PASSWORD $LEVEL")
		if strings.TrimSpace(got) != want || err != nil {
			t.Errorf("the pod has %q, want %q (%v)", strings.TrimSpace(got), want, err)
		}
	}
	podHas("first info")
	silent := tenant.RunningPod(t, "silent", within)
	brokertest.Eventually(t, within, func(context.Context) error {
		record := lab.Kubectl(t, "get", "configmap", foreign.RecordName, "-n", tenant.Namespace, "--ignore-not-found", "-o", "jsonpath={.data}")
		if !strings.Contains(record, "db") || !strings.Contains(record, "settings") {
			return fmt.Errorf("what is remembered: %s", record)
		}
		return nil
	})

	theirs("second", "debug")
	brokertest.Eventually(t, within, rolledOut(lab, tenant, "app", 2))
	podHas("second debug")
	brokertest.Throughout(t, calm, rolledOut(lab, tenant, "app", 2))

	// The daemon starts again, and restarts nothing.
	lab.Kubectl(t, "rollout", "restart", "-n", brokertest.System, "deployment/privyseal")
	lab.Kubectl(t, "rollout", "status", "-n", brokertest.System, "deployment/privyseal", "--timeout=90s")
	brokertest.Throughout(t, calm, rolledOut(lab, tenant, "app", 2))

	// What changes while there is none is one rollout too.
	putBack := lab.WithoutServe(t)
	theirs("third", "debug")
	putBack()
	brokertest.Eventually(t, within, rolledOut(lab, tenant, "app", 3))
	podHas("third debug")
	brokertest.Throughout(t, calm, rolledOut(lab, tenant, "app", 3))
	if now := tenant.RunningPod(t, "silent", within); now.UID != silent.UID {
		t.Error("a pod was replaced whose workload says nothing")
	}
}
