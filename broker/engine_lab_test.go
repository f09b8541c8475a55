package broker_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/broker/brokertest"
)

// kept is a user of a database, whose password Vault keeps: as a static role, or in
// the tenant's document db.
type kept struct {
	*testing.T
	lab    *brokertest.Lab
	tenant *brokertest.Tenant
	db     *brokertest.DB
	user   string
	role   string // Vault's name for it, if it is one
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
	mayRotate(t, lab, k.tenant, "database/static-creds/"+k.role, "database/rotate-role/"+k.role)
	return k
}

// mayRotate lets a tenant read what an engine shows, and have it rotated.
func mayRotate(t *testing.T, lab *brokertest.Lab, tenant *brokertest.Tenant, shows, rotates string) {
	t.Helper()
	policy := fmt.Sprintf(`path %q { capabilities = ["read"] } path %q { capabilities = ["update"] }`, shows, rotates)
	if err := lab.Vault.Client().Sys().PutPolicyWithContext(t.Context(), "privyseal-"+tenant.Namespace, policy); err != nil {
		t.Fatal(err)
	}
	lab.Kubectl(t, "patch", "environment", tenant.Environment, "--type=json",
		"-p", fmt.Sprintf(`[{"op": "add", "path": "/spec/paths/-", "value": %q}]`, shows))
}

// rotateNow begins a rotation at once, and waits until it is done.
func rotateNow(t *testing.T, lab *brokertest.Lab, tenant *brokertest.Tenant, word string) {
	t.Helper()
	lab.Kubectl(t, "annotate", "--overwrite", "srot", "db", "-n", tenant.Namespace, "privyseal.io/rotate-now="+word)
	brokertest.Eventually(t, 2*within, func(context.Context) error {
		of := lab.Kubectl(t, "get", "srot", "db", "-n", tenant.Namespace, "-o", "jsonpath={.status.run} {.status.phase} {.status.conditions}")
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
		rotateNow(t, k.lab, k.tenant, fmt.Sprintf("%d", i))
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
	brokertest.Eventually(k.T, within, func(context.Context) error {
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

func TestAKeyOfTransitIsRotatedOncePerRun(t *testing.T) {
	t.Parallel()
	lab := brokertest.NewLab(t, brokertest.Node)
	lab.Install(t, fast)
	tenant := lab.NewTenant(t, "transit")
	path := "transit/keys/" + tenant.Namespace
	lab.Vault.Write(t, path, map[string]any{})
	t.Cleanup(func() {
		_, _ = lab.Vault.Client().Logical().WriteWithContext(context.Background(), path+"/config", map[string]any{"deletion_allowed": true})
		_, _ = lab.Vault.Client().Logical().DeleteWithContext(context.Background(), path)
	})
	rotation := fmt.Sprintf(`
apiVersion: privyseal.io/v1alpha1
kind: SecretRotation
metadata: {name: db, namespace: %s}
spec: {schedule: "0 3 29 2 *", engine: {rotateKey: %s}}
`, tenant.Namespace, path)

	// It is refused before the environment and the Vault allow it.
	lab.Apply(t, rotation)
	brokertest.Eventually(t, within, func(context.Context) error {
		said := lab.Kubectl(t, "get", "srot", "db", "-n", tenant.Namespace, "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].reason}`)
		if said != "PathNotAllowed" {
			return fmt.Errorf("its reason is %q", said)
		}
		return nil
	})
	mayRotate(t, lab, tenant, path, path+"/rotate")
	for want := 2; want <= 3; want++ {
		rotateNow(t, lab, tenant, fmt.Sprintf("%d", want))
		key, err := lab.Vault.Client().Logical().ReadWithContext(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		if latest := fmt.Sprint(key.Data["latest_version"]); latest != fmt.Sprint(want) {
			t.Errorf("its latest version is %s, not %d", latest, want)
		}
	}
}
