package broker_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/brokertest"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// borrower is a service that logs in to a database all the time, as users that
// Vault makes for it.
type borrower struct {
	*testing.T
	lab    *brokertest.Lab
	tenant *brokertest.Tenant
	db     *brokertest.DB
}

// lentFor and lentAtMost are the life of a user, and the longest. A third of a life is
// longer than another daemon needs to take over from one that was killed.
const (
	lentFor    = 60 * time.Second
	lentAtMost = 75 * time.Second
)

func newBorrower(t *testing.T) *borrower {
	t.Helper()
	lab := brokertest.NewLab(t, brokertest.Node)
	db := brokertest.Database(t)
	lab.Install(t, fast)
	b := &borrower{T: t, lab: lab, db: db, tenant: lab.NewTenant(t, "borrower")}
	db.Attempts(t)
	db.Connect(t, lab.Vault)
	db.DynamicRole(t, lab.Vault, db.Name, lentFor, lentAtMost)
	policy := fmt.Sprintf(`path "database/creds/%s" { capabilities = ["read"] }`, db.Name)
	if err := lab.Vault.Client().Sys().PutPolicyWithContext(t.Context(), "privyseal-"+b.tenant.Namespace, policy); err != nil {
		t.Fatal(err)
	}
	lab.Kubectl(t, "patch", "environment", b.tenant.Environment, "--type=json",
		"-p", fmt.Sprintf(`[{"op": "add", "path": "/spec/paths/-", "value": "database/creds/%s"}]`, db.Name))
	lab.Apply(t, fmt.Sprintf(`
apiVersion: privyseal.io/v1alpha1
kind: SecretClaim
metadata: {name: db, namespace: %[1]s}
spec:
  sources: [{path: /database/creds/%[2]s}]
  refresh: {interval: 1h}
---`, b.tenant.Namespace, db.Name)+db.Client(b.tenant, "app", 2, `        - {name: PGUSER, valueFrom: {secretKeyRef: {name: db, key: username}}}
        - {name: PGPASSWORD, valueFrom: {secretKeyRef: {name: db, key: password}}}`))
	return b
}

// lent is what the claim tells of its lease.
func (b *borrower) lent(ctx context.Context) (v1alpha1.Lease, error) {
	claim := &v1alpha1.SecretClaim{}
	if err := b.lab.Client.Get(ctx, b.tenant.Key("db"), claim); err != nil {
		return v1alpha1.Lease{}, err
	}
	if len(claim.Status.Leases) != 1 {
		return v1alpha1.Lease{}, fmt.Errorf("it has %d leases: %+v", len(claim.Status.Leases), claim.Status.Conditions)
	}
	return claim.Status.Leases[0], nil
}

// reissued waits for another lease than that before.
func (b *borrower) reissued(before v1alpha1.Lease) (now v1alpha1.Lease) {
	b.Helper()
	brokertest.Eventually(b.T, 2*lentAtMost, func(ctx context.Context) (err error) {
		if now, err = b.lent(ctx); err != nil {
			return err
		}
		if now.IssuedAt.Equal(&before.IssuedAt) {
			return fmt.Errorf("it has that of %s still", now.IssuedAt)
		}
		return nil
	})
	return now
}

// users waits until the database has so many that were lent.
func (b *borrower) users(want int) {
	b.Helper()
	brokertest.Eventually(b.T, within, func(context.Context) error {
		had := b.db.SQL(b.T, fmt.Sprintf("SELECT count(*) FROM pg_auth_members a JOIN pg_roles r ON r.oid = a.roleid WHERE r.rolname = '%s_users'", b.db.Name))
		if had != fmt.Sprint(want) {
			return fmt.Errorf("the database has %s users, not %d", had, want)
		}
		return nil
	})
}

// noFailures of logins, nor of connections that were there.
func (b *borrower) noFailures() {
	b.Helper()
	if failed := b.db.SQL(b.T, "SELECT pod, at, login, held FROM attempts WHERE login IS NOT NULL OR held IS NOT NULL LIMIT 10"); failed != "" {
		b.Errorf("logins failed, or connections broke:\n%s", failed)
	}
}

// Users are made anew again and again, and the daemon is killed meanwhile. Nobody
// fails to log in, each lease is one rollout, and the users before are gone when the
// pods before are. With PRIVYSEAL_TEST_CRASHES=all, as make test-long has it, that is
// done twenty times.
func TestAServiceLogsInWithLeasedCredentialsThroughReissuesAndDeaths(t *testing.T) {
	b := newBorrower(t)
	reissues := 2
	if os.Getenv("PRIVYSEAL_TEST_CRASHES") == "all" {
		reissues = 20
	}
	now := b.reissued(v1alpha1.Lease{})
	b.users(1)
	for i := 1; i <= reissues; i++ {
		b.lab.Kubectl(t, "delete", "pods", "-n", brokertest.System, "-l", "app.kubernetes.io/component=serve", "--force", "--grace-period=0")
		now = b.reissued(now)
		b.lab.Kubectl(t, "rollout", "status", "-n", b.tenant.Namespace, "deployment/app", "--timeout=90s")
		b.users(1)
		b.noFailures()
		t.Logf("re-issue %d: %s logins so far, none failed", i, b.db.SQL(t, "SELECT count(*) FROM attempts"))
	}
	if rollouts := b.tenant.Rollouts(t, "app"); rollouts != reissues+1 {
		t.Errorf("the Deployment has had %d templates, not %d", rollouts, reissues+1)
	}

	// A claim that goes takes nothing from pods that run.
	claim := &v1alpha1.SecretClaim{}
	if err := b.lab.Client.Get(t.Context(), b.tenant.Key("db"), claim); err != nil {
		t.Fatal(err)
	}
	b.lab.Kubectl(t, "delete", "sclaim", "db", "-n", b.tenant.Namespace)
	brokertest.Throughout(t, 15*time.Second, func(context.Context) error {
		b.noFailures()
		return nil
	})
	b.users(1)
	b.lab.Kubectl(t, "delete", "deployment", "app", "-n", b.tenant.Namespace)
	b.users(0)
	brokertest.Eventually(t, within, func(ctx context.Context) error {
		record := &corev1.Secret{}
		err := b.lab.Client.Get(ctx, client.ObjectKey{Namespace: brokertest.System, Name: "privyseal-lease-" + string(claim.UID)}, record)
		if err == nil {
			return errors.New("the record is there")
		}
		return client.IgnoreNotFound(err)
	})
	b.noFailures()
}
