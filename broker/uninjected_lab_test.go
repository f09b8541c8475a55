package broker_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/broker/brokertest"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// A pod that slipped past the webhook while the policy that refuses such pods
// was off is replaced, once, when the webhook is back.
func TestAPodThatRanWithoutItsSecretIsReplacedOnceTheWebhookIsBack(t *testing.T) {
	lab := brokertest.NewLab(t, brokertest.Ours)
	lab.Install(t, fast)
	tenant := lab.NewTenant(t, "uninjected")
	lab.Vault.Put(t, tenant.Path("db"), map[string]any{"password": "first"})
	binding := lab.Kubectl(t, "get", "validatingadmissionpolicybinding", "privyseal-injected", "-o", "yaml")
	webhook := func(replicas int) {
		t.Helper()
		lab.Kubectl(t, "scale", "-n", brokertest.System, "deployment/privyseal-webhook", fmt.Sprintf("--replicas=%d", replicas))
		if replicas == 0 {
			lab.Kubectl(t, "wait", "-n", brokertest.System, "pods", "-l", "app.kubernetes.io/component=webhook", "--for=delete", "--timeout=60s")
			return
		}
		lab.Kubectl(t, "rollout", "status", "-n", brokertest.System, "deployment/privyseal-webhook", "--timeout=90s")
	}
	defer func() {
		webhook(2)
		lab.Apply(t, withoutVersion(binding))
		lab.Install(t, fast)
	}()
	lab.Kubectl(t, "delete", "validatingadmissionpolicybinding", "privyseal-injected")
	webhook(0)

	// The API server takes a moment to forget the policy: until then the
	// Deployment's controller tries again.
	lab.Apply(t, reader(tenant, "app", `privyseal.io/secret.db: "db"`, ""))
	before := tenant.RunningPod(t, "app", within)
	if len(before.Spec.Volumes) > 0 && before.Spec.Volumes[0].Secret != nil {
		t.Fatal("the pod has its secret, so the test does not test")
	}
	claim := claimOf(t, lab, tenant)
	brokertest.Eventually(t, within, func(ctx context.Context) error {
		message, _, err := conditionOf(ctx, lab, tenant, claim, v1alpha1.ConditionUninjected)
		if err == nil && !strings.Contains(message, "Deployment app: they are replaced once the webhook answers") {
			err = fmt.Errorf("Uninjected says %q", message)
		}
		return err
	})
	// While nothing would come of it, nothing is restarted.
	brokertest.Throughout(t, 6*time.Second, rolledOut(lab, tenant, "app", 1))

	webhook(2)
	brokertest.Eventually(t, within, rolledOut(lab, tenant, "app", 2))
	after := tenant.RunningPod(t, "app", within)
	if got, err := lab.Exec(t.Context(), tenant.Key(after.Name), "cat", "/etc/secrets/db/password"); err != nil || got != "first" {
		t.Errorf("the new pod has %q, %v", got, err)
	}
	brokertest.Eventually(t, within, func(ctx context.Context) error {
		message, _, err := conditionOf(ctx, lab, tenant, claim, v1alpha1.ConditionUninjected)
		if err == nil && message != "" {
			err = fmt.Errorf("Uninjected still says %q", message)
		}
		return err
	})
	brokertest.Throughout(t, 8*time.Second, rolledOut(lab, tenant, "app", 2))
}

// claimOf is the one claim of a tenant.
func claimOf(t *testing.T, lab *brokertest.Lab, tenant *brokertest.Tenant) string {
	t.Helper()
	return claimsOf(t, lab, tenant, 1)[0]
}

// claimsOf are a tenant's claims, sorted, once there are so many.
func claimsOf(t *testing.T, lab *brokertest.Lab, tenant *brokertest.Tenant, count int) []string {
	t.Helper()
	var names []string
	brokertest.Eventually(t, within, func(context.Context) error {
		names = strings.Fields(lab.Kubectl(t, "get", "sclaim", "-n", tenant.Namespace, "-o", "jsonpath={.items[*].metadata.name}"))
		if len(names) != count {
			return fmt.Errorf("claims %q, want %d", names, count)
		}
		slices.Sort(names)
		return nil
	})
	return names
}

// withoutVersion is a manifest that can be applied though the object was
// deleted meanwhile.
func withoutVersion(manifest string) string {
	lines := strings.Split(manifest, "\n")
	kept := lines[:0]
	for _, line := range lines {
		if !strings.HasPrefix(line, "  resourceVersion:") && !strings.HasPrefix(line, "  uid:") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "\n")
}
