package broker_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/privyseal/privyseal/broker/brokertest"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// Tests of the lab that keep to a tenant of their own run side by side, by
// t.Parallel. They begin when all others are through, which stop parts of the lab
// that everybody uses, or count what happens in a time.

// fast has claims read every other second, which a test can wait for.
const fast = "--refresh-interval=2s"

const within = 90 * time.Second

// reader is a Deployment of one pod that tells, when asked, what it was
// started with.
func reader(tenant *brokertest.Tenant, name, annotations, container string) string {
	return fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s, namespace: %[2]s}
spec:
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata:
      labels: {app: %[1]s}
      annotations: {%[3]s}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
        - name: app
          image: busybox:stable
          command: [sleep, infinity]
          %[4]s
`, name, tenant.Namespace, annotations, container)
}

func TestAClaimBecomesASecret(t *testing.T) {
	t.Parallel()
	lab := brokertest.NewLab(t, brokertest.ControlPlane)
	lab.Install(t, fast)
	tenant := lab.NewTenant(t, "claim")
	lab.Vault.Put(t, tenant.Path("db"), map[string]any{"username": "pay", "password": "first", "port": 5432})
	lab.Apply(t, fmt.Sprintf(`
apiVersion: privyseal.io/v1alpha1
kind: SecretClaim
metadata: {name: db, namespace: %s}
spec:
  sources: [{path: db}]
  template: {data: {DSN: "postgres://{{ .username }}:{{ .password }}@db:{{ .port }}/pay"}}
`, tenant.Namespace))

	holds := func(want string) func(context.Context) error {
		return func(ctx context.Context) error {
			secret := &corev1.Secret{}
			if err := lab.Client.Get(ctx, tenant.Key("db"), secret); err != nil {
				return err
			}
			if got := string(secret.Data["DSN"]); got != want || len(secret.Data) != 1 {
				return fmt.Errorf("the Secret holds %q and %d keys, want %q alone", got, len(secret.Data), want)
			}
			return nil
		}
	}
	brokertest.Eventually(t, within, holds("postgres://pay:first@db:5432/pay"))
	brokertest.Eventually(t, within, readyIs(lab, tenant, "db", v1alpha1.ReasonSynced))

	// A change in Vault arrives; a deleted version changes nothing but the
	// claim's condition.
	lab.Vault.Put(t, tenant.Path("db"), map[string]any{"username": "pay", "password": "second", "port": 5432})
	brokertest.Eventually(t, within, holds("postgres://pay:second@db:5432/pay"))
	lab.Vault.Delete(t, tenant.Path("db"))
	brokertest.Eventually(t, within, readyIs(lab, tenant, "db", v1alpha1.ReasonSourceDeleted))
	brokertest.Throughout(t, 5*time.Second, holds("postgres://pay:second@db:5432/pay"))
}

// The rights that a tenant's own store takes are the chart's to give.
func TestANamespaceOfItsOwnReadsItsOwnStoreByTheChartsRights(t *testing.T) {
	t.Parallel()
	lab := brokertest.NewLab(t, brokertest.ControlPlane)
	lab.Install(t, fast)
	tenant := lab.TenantOf("own", "own-"+strings.ToLower(rand.Text()[:6]))
	lab.Vault.AddTenant(t, tenant.Environment, tenant.Namespace, lab.VaultAddress())
	lab.Vault.Put(t, tenant.Path("db"), map[string]any{"password": "first"})
	lab.Apply(t, fmt.Sprintf(`
{apiVersion: v1, kind: Namespace, metadata: {name: %[1]s}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: privyseal, namespace: %[1]s}}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: vault-ca, namespace: %[1]s}, data: {ca.crt: %[2]q}}
---
apiVersion: privyseal.io/v1alpha1
kind: SecretStore
metadata: {name: own, namespace: %[1]s}
spec:
  vault:
    address: %[3]s
    tls: {caConfigMapRef: {name: vault-ca}}
    auth: {kubernetes: {role: "privyseal-{{ .Namespace }}"}}
---
apiVersion: privyseal.io/v1alpha1
kind: SecretClaim
metadata: {name: db, namespace: %[1]s}
spec:
  storeRef: {kind: SecretStore, name: own}
  sources: [{path: /%[4]s}]
`, tenant.Namespace, lab.VaultCA(t), lab.VaultAddress(), tenant.Path("db")))
	defer lab.Kubectl(t, "delete", "namespace", tenant.Namespace, "--wait=false")
	brokertest.Eventually(t, within, readyIs(lab, tenant, "db", v1alpha1.ReasonSynced))
	secret := &corev1.Secret{}
	if err := lab.Client.Get(t.Context(), tenant.Key("db"), secret); err != nil || string(secret.Data["password"]) != "first" {
		t.Errorf("the Secret holds %d keys, %v", len(secret.Data), err)
	}
	brokertest.Eventually(t, within, func(ctx context.Context) error {
		store := &v1alpha1.SecretStore{}
		if err := lab.Client.Get(ctx, tenant.Key("own"), store); err != nil {
			return err
		}
		return readyBecause(store.Status.Conditions, v1alpha1.ReasonReachable)
	})
}

func TestAnAnnotatedDeploymentHasItsSecretAndOneRestartForOneChange(t *testing.T) {
	lab := brokertest.NewLab(t, brokertest.Node)
	lab.Install(t, fast)
	tenant := lab.NewTenant(t, "annotated")
	lab.Vault.Put(t, tenant.Path("db"), map[string]any{"username": "pay", "password": "first"})
	lab.Apply(t, reader(tenant, "app", `privyseal.io/secret.db: "db", privyseal.io/env.db: "password=PGPASSWORD", privyseal.io/volume.db: "/etc/db"`, ""))
	lab.Apply(t, reader(tenant, "bystander", "", ""))

	inside := func(pod corev1.Pod) string {
		t.Helper()
		output, err := lab.Exec(t.Context(), tenant.Key(pod.Name), "sh", "-c", "echo env=$PGPASSWORD file=$(cat /etc/db/password)")
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(output)
	}
	before := tenant.RunningPod(t, "app", within)
	bystander := tenant.RunningPod(t, "bystander", within)
	if got := inside(before); got != "env=first file=first" {
		t.Fatalf("the first pod has %s", got)
	}

	lab.Vault.Put(t, tenant.Path("db"), map[string]any{"username": "pay", "password": "second"})
	brokertest.Eventually(t, within, rolledOut(lab, tenant, "app", 2))
	after := tenant.RunningPod(t, "app", within)
	if got := inside(after); got != "env=second file=second" {
		t.Fatalf("the new pod has %s", got)
	}
	if after.UID == before.UID {
		t.Error("the pod was not replaced")
	}

	// The daemon starts again, twice, and restarts nothing.
	lab.Kubectl(t, "delete", "pods", "-n", brokertest.System, "--all", "--wait")
	lab.Kubectl(t, "rollout", "status", "-n", brokertest.System, "deployment/privyseal", "--timeout=90s")
	brokertest.Throughout(t, 10*time.Second, rolledOut(lab, tenant, "app", 2))
	if now := tenant.RunningPod(t, "bystander", within); now.UID != bystander.UID {
		t.Error("a pod that reads nothing was replaced")
	}
}

func TestRestartsAreCounted(t *testing.T) {
	lab := brokertest.NewLab(t, brokertest.Node)
	lab.Install(t, fast)
	tenant := lab.NewTenant(t, "restarts")
	lab.Vault.Put(t, tenant.Path("db"), map[string]any{"password": "one", "note": "one"})
	lab.Vault.Put(t, tenant.Path("tls"), map[string]any{"key": "one"})
	// Explicit claims, and pods that the webhook never sees. The claims are not
	// due by themselves while the test runs, but all at once when their
	// environment changes: two that are due at different seconds would bring
	// changes that are more than a quiet period apart, which are two rollouts.
	wakes := 0
	wake := func() {
		wakes++
		lab.Kubectl(t, "patch", "environment", tenant.Environment, "--type=json", "-p",
			fmt.Sprintf(`[{"op": "add", "path": "/spec/paths/-", "value": "kv/nobody/wake-%d"}]`, wakes))
	}
	for _, name := range []string{"db", "tls"} {
		lab.Apply(t, fmt.Sprintf(`
apiVersion: privyseal.io/v1alpha1
kind: SecretClaim
metadata: {name: %s, namespace: %s}
spec: {sources: [{path: %s}], refresh: {interval: 24h}}
`, name, tenant.Namespace, name))
	}
	lab.Apply(t, reader(tenant, "both", "", `env:
            - {name: PASSWORD, valueFrom: {secretKeyRef: {name: db, key: password}}}
            - {name: KEY, valueFrom: {secretKeyRef: {name: tls, key: key}}}`))
	tenant.RunningPod(t, "both", within)

	// Two secrets change together: one rollout.
	lab.Vault.Put(t, tenant.Path("db"), map[string]any{"password": "two", "note": "one"})
	lab.Vault.Put(t, tenant.Path("tls"), map[string]any{"key": "two"})
	wake()
	brokertest.Eventually(t, within, rolledOut(lab, tenant, "both", 2))

	// A key changes that nobody reads: none.
	lab.Vault.Put(t, tenant.Path("db"), map[string]any{"password": "two", "note": "two"})
	wake()
	brokertest.Eventually(t, within, func(ctx context.Context) error {
		secret := &corev1.Secret{}
		if err := lab.Client.Get(ctx, tenant.Key("db"), secret); err != nil {
			return err
		}
		if got := string(secret.Data["note"]); got != "two" {
			return fmt.Errorf("note is %q", got)
		}
		return nil
	})
	brokertest.Throughout(t, 8*time.Second, rolledOut(lab, tenant, "both", 2))

	// The user takes the rollout back: nothing follows it, for the new pods
	// hold the present content.
	lab.Kubectl(t, "rollout", "undo", "-n", tenant.Namespace, "deployment/both")
	lab.Kubectl(t, "rollout", "status", "-n", tenant.Namespace, "deployment/both", "--timeout=60s")
	generation := generationOf(t, lab, tenant, "both")
	brokertest.Throughout(t, 8*time.Second, func(context.Context) error {
		if now := generationOf(t, lab, tenant, "both"); now != generation {
			return fmt.Errorf("generation went from %d to %d after an undo", generation, now)
		}
		return nil
	})
}

// rolledOut says that a Deployment has had so many templates, runs the last
// one alone, and that its claims know of no stale consumer.
func rolledOut(lab *brokertest.Lab, tenant *brokertest.Tenant, name string, templates int) func(context.Context) error {
	return func(ctx context.Context) error {
		deployment := &appsv1.Deployment{}
		if err := lab.Client.Get(ctx, tenant.Key(name), deployment); err != nil {
			return err
		}
		revision := deployment.Annotations["deployment.kubernetes.io/revision"]
		if revision != fmt.Sprint(templates) {
			return fmt.Errorf("%s is at revision %s, want %d", name, revision, templates)
		}
		if deployment.Status.ObservedGeneration != deployment.Generation || deployment.Status.UpdatedReplicas != 1 || deployment.Status.Replicas != 1 {
			return errors.New("the rollout is not over")
		}
		return nil
	}
}

func generationOf(t *testing.T, lab *brokertest.Lab, tenant *brokertest.Tenant, name string) int64 {
	t.Helper()
	deployment := &appsv1.Deployment{}
	if err := lab.Client.Get(t.Context(), tenant.Key(name), deployment); err != nil {
		t.Fatal(err)
	}
	return deployment.Generation
}

// readyIs says that a claim's Ready condition has a reason.
func readyIs(lab *brokertest.Lab, tenant *brokertest.Tenant, name, reason string) func(context.Context) error {
	return func(ctx context.Context) error {
		claim := &v1alpha1.SecretClaim{}
		if err := lab.Client.Get(ctx, tenant.Key(name), claim); err != nil {
			return err
		}
		ready := meta.FindStatusCondition(claim.Status.Conditions, v1alpha1.ConditionReady)
		if ready == nil || ready.Reason != reason {
			return fmt.Errorf("Ready is %+v, want reason %s", ready, reason)
		}
		return nil
	}
}
