package broker_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/broker/brokertest"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// A blackout holds while a pod runs: what changes in it reaches the Secret and
// no pod, until somebody gives a reason, and then again until it is over.
func TestARestartWaitsForTheEndOfABlackout(t *testing.T) {
	lab := brokertest.NewLab(t, brokertest.Node)
	lab.Install(t, fast)
	tenant := lab.NewTenant(t, "windows")
	put := func(password string) {
		t.Helper()
		lab.Vault.Put(t, tenant.Path("db"), map[string]any{"password": password})
	}
	lab.Vault.Put(t, tenant.Path("tls"), map[string]any{"key": "first"})
	windows := func(list string) {
		t.Helper()
		lab.Kubectl(t, "patch", "environment", tenant.Environment, "--type=merge", "-p", `{"spec":{"windows":`+list+`}}`)
	}
	put("first")
	lab.Apply(t, reader(tenant, "app", `privyseal.io/secret.db: "db", privyseal.io/secret.tls: "tls"`, ""))
	claims := claimsOf(t, lab, tenant, 2)
	claim, other := claims[0], claims[1]
	podHas := func(want string) {
		t.Helper()
		pod := tenant.RunningPod(t, "app", within)
		if got, err := lab.Exec(t.Context(), tenant.Key(pod.Name), "cat", "/etc/secrets/db/password"); err != nil || got != want {
			t.Errorf("the pod has %q, %v", got, err)
		}
	}
	podHas("first")

	began := time.Now().UTC().Add(-5 * time.Minute)
	windows(fmt.Sprintf(`[{"kind":"Blackout","schedule":"%d %d * * *","duration":"3h","timeZone":"UTC"}]`, began.Minute(), began.Hour()))
	opens := began.Truncate(time.Minute).Add(3 * time.Hour).Format(time.RFC3339)
	waits := func(claim, part string) {
		t.Helper()
		brokertest.Eventually(t, within, func(ctx context.Context) error {
			message, _, err := conditionOf(ctx, lab, tenant, claim, v1alpha1.ConditionRestartDeferred)
			if err == nil && !(strings.Contains(message, "wait until "+opens) && strings.Contains(message, part)) {
				err = fmt.Errorf("RestartDeferred says %q", message)
			}
			return err
		})
	}
	before := tenant.RunningPod(t, "app", within)
	put("second")
	waits(claim, "spec.windows[0] is a blackout now")
	brokertest.Throughout(t, calm, rolledOut(lab, tenant, "app", 1))
	if after := tenant.RunningPod(t, "app", within); after.UID != before.UID {
		t.Error("the pod was replaced in the blackout")
	}

	// The next daemon finds it as it is, and has nothing to write.
	_, version, err := conditionOf(t.Context(), lab, tenant, claim, v1alpha1.ConditionRestartDeferred)
	if err != nil {
		t.Fatal(err)
	}
	lab.Kubectl(t, "rollout", "restart", "-n", brokertest.System, "deployment/privyseal")
	lab.Kubectl(t, "rollout", "status", "-n", brokertest.System, "deployment/privyseal", "--timeout=90s")
	brokertest.Throughout(t, calm, func(ctx context.Context) error {
		_, now, err := conditionOf(ctx, lab, tenant, claim, v1alpha1.ConditionRestartDeferred)
		if err == nil && now != version {
			err = errors.New("the claim was written again")
		}
		return errors.Join(err, rolledOut(lab, tenant, "app", 1)(ctx))
	})
	told := lab.Kubectl(t, "get", "events.events.k8s.io", "-n", tenant.Namespace,
		"-o", `jsonpath={range .items[?(@.reason=="RestartDeferred")]}{.regarding.kind} {.series.count};{end}`)
	if told != "SecretClaim ;" {
		t.Errorf("it was told by events on %q, not once on the claim", told)
	}

	// Whoever has to, gives a reason, which is good for this change alone.
	lab.Kubectl(t, "annotate", "deployment", "app", "-n", tenant.Namespace, "privyseal.io/restart-now=customers are locked out")
	brokertest.Eventually(t, within, rolledOut(lab, tenant, "app", 2))
	podHas("second")
	brokertest.Eventually(t, within, nothingWaits(lab, tenant, claim))
	lab.Vault.Put(t, tenant.Path("tls"), map[string]any{"key": "third"})
	waits(other, `says "customers are locked out", which was good for an earlier change`)
	put("third")
	waits(claim, `says "customers are locked out", which was good for an earlier change`)
	brokertest.Throughout(t, calm, rolledOut(lab, tenant, "app", 2))

	windows("[]")
	brokertest.Eventually(t, within, rolledOut(lab, tenant, "app", 3))
	podHas("third")
	brokertest.Eventually(t, within, nothingWaits(lab, tenant, claim))
	brokertest.Eventually(t, within, nothingWaits(lab, tenant, other))
	brokertest.Throughout(t, calm, rolledOut(lab, tenant, "app", 3))
}

func nothingWaits(lab *brokertest.Lab, tenant *brokertest.Tenant, claim string) func(context.Context) error {
	return func(ctx context.Context) error {
		message, _, err := conditionOf(ctx, lab, tenant, claim, v1alpha1.ConditionRestartDeferred)
		if err == nil && message != "" {
			err = errors.New("RestartDeferred still says " + message)
		}
		return err
	}
}
