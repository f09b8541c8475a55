package broker_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/broker/brokertest"
)

// kept is a user of a database, whose password Vault keeps as a static role.
type kept struct {
	*testing.T
	lab    *brokertest.Lab
	tenant *brokertest.Tenant
	db     *brokertest.DB
	user   string
	role   string // Vault's name for it
}

// newKept has a tenant that may read the password and have it rotated, and no more.
func newKept(t *testing.T) *kept {
	t.Helper()
	lab := brokertest.NewLab(t, brokertest.Node)
	db := brokertest.Database(t)
	lab.Install(t, fast)
	k := &kept{T: t, lab: lab, db: db, tenant: lab.NewTenant(t, "kept"), role: db.Name}
	db.Attempts(t)
	k.user = db.Role(t, "app", "first")
	db.Connect(t, lab.Vault)
	db.StaticRole(t, lab.Vault, k.role, k.user)
	policy := fmt.Sprintf(`path "database/static-creds/%[1]s" { capabilities = ["read"] } path "database/rotate-role/%[1]s" { capabilities = ["update"] }`, k.role)
	if err := lab.Vault.Client().Sys().PutPolicyWithContext(t.Context(), "privyseal-"+k.tenant.Namespace, policy); err != nil {
		t.Fatal(err)
	}
	lab.Kubectl(t, "patch", "environment", k.tenant.Environment, "--type=json",
		"-p", fmt.Sprintf(`[{"op": "add", "path": "/spec/paths/-", "value": "database/static-creds/%s"}]`, k.role))
	return k
}

// rotate once, at once, and wait until that is done.
func (k *kept) rotate(word string) {
	k.Helper()
	k.lab.Kubectl(k.T, "annotate", "--overwrite", "srot", "db", "-n", k.tenant.Namespace, "privyseal.io/rotate-now="+word)
	brokertest.Eventually(k.T, 2*within, func(ctx context.Context) error {
		of := k.lab.Kubectl(k.T, "get", "srot", "db", "-n", k.tenant.Namespace, "-o", "jsonpath={.status.run} {.status.phase} {.status.conditions}")
		if !strings.HasPrefix(of, "now:"+word+" Done") {
			return fmt.Errorf("it is at %s", of)
		}
		return nil
	})
}

// A database knows one password of a user, so whoever logs in anew with the old one
// fails until its pod is replaced. How long that is is printed; what must not be is
// that a connection breaks which is there, or that a new pod starts with the old
// password.
func TestAStaticRoleIsRotatedUnderAServiceThatLogsInAllTheTime(t *testing.T) {
	t.Parallel()
	k := newKept(t)
	k.lab.Apply(t, fmt.Sprintf(`
apiVersion: privyseal.io/v1alpha1
kind: SecretClaim
metadata: {name: db, namespace: %[1]s}
spec:
  sources: [{path: /database/static-creds/%[2]s}]
  refresh: {interval: 1h}
---
apiVersion: privyseal.io/v1alpha1
kind: SecretRotation
metadata: {name: db, namespace: %[1]s}
spec:
  schedule: "0 3 29 2 *"
  engine: {rotateRole: database/rotate-role/%[2]s}
  verify: {consumers: Ready, timeout: 2m}
---`, k.tenant.Namespace, k.role)+k.db.Client(k.tenant, "app", 2, `        - {name: PGUSER, valueFrom: {secretKeyRef: {name: db, key: username}}}
        - {name: PGPASSWORD, valueFrom: {secretKeyRef: {name: db, key: password}}}`))
	k.running(2)
	for i := 1; i <= 2; i++ {
		k.triedBy(k.names(), 5)
		old := k.names()
		k.rotate(fmt.Sprintf("%d", i))
		k.running(2)
		k.triedBy(k.names(), 5)
		k.gaps(i, old)
	}
	if total := k.db.SQL(t, "SELECT count(DISTINCT pod) FROM attempts"); total != "6" {
		t.Errorf("%s pods have logged in, not 6: it was rolled out more often, or less", total)
	}
}

// names of the pods that run.
func (k *kept) names() []string {
	k.Helper()
	pods, err := k.tenant.Pods(k.Context(), "app")
	if err != nil {
		k.Fatal(err)
	}
	var names []string
	for _, pod := range pods {
		names = append(names, pod.Name)
	}
	return names
}

// running waits until a rollout is through and the pods before it are gone.
func (k *kept) running(replicas int) {
	k.Helper()
	brokertest.Eventually(k.T, within, func(ctx context.Context) error {
		said := k.lab.Kubectl(k.T, "get", "pods", "-n", k.tenant.Namespace, "-l", "app=app", "-o",
			`jsonpath={range .items[*]}{.status.conditions[?(@.type=="Ready")].status} {end}`)
		if strings.TrimSpace(said) != strings.TrimSpace(strings.Repeat("True ", replicas)) {
			return fmt.Errorf("its pods' readiness is %q", said)
		}
		return nil
	})
}

// triedBy waits until each of some pods has logged in so often.
func (k *kept) triedBy(pods []string, times int) {
	k.Helper()
	brokertest.Eventually(k.T, within, func(context.Context) error {
		for _, pod := range pods {
			said := k.db.SQL(k.T, fmt.Sprintf("SELECT count(*) >= %d FROM attempts WHERE pod = '%s' AND login IS NULL", times, pod))
			if said != "t" {
				return fmt.Errorf("pod %s has not logged in %d times", pod, times)
			}
		}
		return nil
	})
}

// gaps prints how long the old pods could not log in anew, and fails for what must
// not be.
func (k *kept) gaps(rotation int, old []string) {
	k.Helper()
	if broken := k.db.SQL(k.T, "SELECT pod, at, held FROM attempts WHERE held IS NOT NULL"); broken != "" {
		k.Errorf("connections that were there broke:\n%s", broken)
	}
	listed := "'" + strings.Join(old, "', '") + "'"
	fresh := "'" + strings.Join(k.names(), "', '") + "'"
	if failed := k.db.SQL(k.T, fmt.Sprintf("SELECT pod, at, login FROM attempts WHERE login IS NOT NULL AND pod IN (%s)", fresh)); failed != "" {
		k.Errorf("new pods failed to log in:\n%s", failed)
	}
	looked := k.db.SQL(k.T, fmt.Sprintf(`SELECT pod, count(*), count(login),
  coalesce(round(extract(epoch FROM max(at) FILTER (WHERE login IS NOT NULL) - min(at) FILTER (WHERE login IS NOT NULL)), 1), 0)
  FROM attempts WHERE pod IN (%s) GROUP BY pod`, listed))
	if lines := strings.Split(looked, "\n"); len(lines) != len(old) {
		k.Errorf("of pods %s it is known that\n%s", listed, looked)
	}
	for line := range strings.Lines(looked) {
		fields := strings.Split(strings.TrimSpace(line), "|")
		k.Logf("rotation %d: pod %s tried %s times, and failed %s times in a gap of %s s until it was replaced",
			rotation, fields[0], fields[1], fields[2], fields[3])
	}
	if working := k.db.LogIn(k.Context(), k.user, "first"); working == nil {
		k.Error("the first password still works")
	}
}
