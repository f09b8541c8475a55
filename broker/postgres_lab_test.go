package broker_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/privyseal/privyseal/broker/brokertest"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// newLoggingIn is a service of two pods that log in all the time, by what the
// tenant's document says.
func newLoggingIn(t *testing.T, name string) *kept {
	t.Helper()
	lab := brokertest.NewLab(t, brokertest.Node)
	db := brokertest.Database(t)
	lab.Install(t, fast)
	k := &kept{T: t, lab: lab, db: db, tenant: lab.NewTenant(t, name)}
	lab.Kubectl(t, "create", "serviceaccount", "privyseal-rotation", "-n", k.tenant.Namespace)
	lab.Vault.MayWrite(t, k.tenant)
	db.Attempts(t)
	k.user = db.Role(t, "app", "first")
	service := db.Client(k.tenant, "app", 2, `        - {name: PGUSER, valueFrom: {secretKeyRef: {name: db, key: username}}}
        - {name: PGPASSWORD, valueFrom: {secretKeyRef: {name: db, key: password}}}`)
	lab.Vault.Put(t, k.tenant.Path("db"), map[string]any{"username": k.user, "password": "first", "host": "db.pay"})
	lab.Apply(t, fmt.Sprintf(`
apiVersion: privyseal.io/v1alpha1
kind: SecretClaim
metadata: {name: db, namespace: %s}
spec:
  sources: [{path: db}]
  refresh: {interval: 1h}
---`, k.tenant.Namespace)+strings.Replace(service, "maxSurge: 1", "maxSurge: 2", 1)) // both at once, since it is many times
	k.running(2)
	k.triedBy(k.names(), 5)
	return k
}

// rotation of the password: its hooks are the lab's client.
func (k *kept) rotation(more, set, verify string) {
	k.Helper()
	k.lab.Apply(k.T, fmt.Sprintf(`
apiVersion: privyseal.io/v1alpha1
kind: SecretRotation
metadata: {name: db, namespace: %s}
spec:
  path: db
  schedule: "0 3 29 2 *"
  generate: {password: {password: {length: 24, symbols: "-_."}}}
  set: {job: %s}
  verify: {consumers: Ready, job: %s, timeout: 2m}
%s
`, k.tenant.Namespace, set, verify, more))
}

// hook is a Job that does something for a user, where the values do not say for whom.
func (k *kept) hook(does, database, user string) string {
	return fmt.Sprintf(`{image: 'pgclient:stable', imagePullPolicy: Never, args: [%s, /var/run/privyseal],
    env: [{name: PGHOST, value: %q}, {name: PGPORT, value: %q}, {name: PGDATABASE, value: %q}, {name: PGSSLMODE, value: disable}, {name: ROLE, value: %q}]}`,
		does, k.db.Host, k.db.Port, database, user)
}

// twoUsers is a rotation between the service's user and another one, whose password
// nobody knows, and gives the other one. Each may change the other's.
func (k *kept) twoUsers(verifiedIn string) string {
	k.Helper()
	other := k.db.Role(k.T, "app2", "nobody knows")
	// From PostgreSQL 16 on, it takes being the other's admin to change its
	// password, and two roles cannot be each other's.
	k.db.SQL(k.T, fmt.Sprintf(`ALTER ROLE %[1]s CREATEROLE; ALTER ROLE %[2]s CREATEROLE;
SELECT format('ALTER ROLE %%I SUPERUSER', r) FROM unnest(ARRAY['%[1]s', '%[2]s']) r WHERE current_setting('server_version_num')::int >= 160000 \gexec`, k.user, other))
	k.rotation(fmt.Sprintf(`  strategy: AlternateUsers
  users: {key: username, names: [%s, %s]}`, k.user, other), k.hook("set", k.db.Name, ""), k.hook("verify", verifiedIn, ""))
	return other
}

// revision is how many templates the Deployment has had.
func (k *kept) revision() string {
	k.Helper()
	return k.lab.Kubectl(k.T, "get", "deployment", "app", "-n", k.tenant.Namespace, "-o", `jsonpath={.metadata.annotations.deployment\.kubernetes\.io/revision}`)
}

// inUse is the user whom the document has.
func (k *kept) inUse() string {
	k.Helper()
	mount, path, _ := strings.Cut(k.tenant.Path("db"), "/")
	document, err := k.lab.Vault.Client().KVv2(mount).Get(k.Context(), path)
	if err != nil {
		k.Fatal(err)
	}
	return fmt.Sprint(document.Data["username"])
}

// counted is how often the service has tried.
func (k *kept) counted() (times int) {
	k.Helper()
	if _, err := fmt.Sscan(k.db.SQL(k.T, "SELECT count(*) FROM attempts"), &times); err != nil {
		k.Fatal(err)
	}
	return times
}

// nobodyWaited says that there was no time at which no pod could log in. Seconds may
// be the machine's, which others use too; a pod takes longer to be replaced.
func (k *kept) nobodyWaited() {
	k.Helper()
	said := k.db.SQL(k.T, `SELECT round(extract(epoch FROM max(gap)), 1) FROM
  (SELECT at - lag(at) OVER (ORDER BY at) AS gap FROM attempts WHERE login IS NULL) gaps`)
	longest, err := time.ParseDuration(said + "s")
	if err != nil {
		k.Fatal(err)
	}
	k.Logf("the longest time without a login was %s, in %d attempts", longest, k.counted())
	if longest > 5*time.Second {
		k.Errorf("for %s nobody could log in", longest)
	}
}

// nothingFailed says that every login worked, and every question by a connection
// that was there.
func (k *kept) nothingFailed() {
	k.Helper()
	if failed := k.db.SQL(k.T, "SELECT pod, at, login, held FROM attempts WHERE login IS NOT NULL OR held IS NOT NULL LIMIT 20"); failed != "" {
		k.Fatalf("failed have\n%s", failed)
	}
}

// inARow is how many rotations a service goes through: five, or twenty with
// PRIVYSEAL_TEST_CRASHES=all, as make test-long has it.
func inARow() int {
	if os.Getenv("PRIVYSEAL_TEST_CRASHES") == "all" {
		return 20
	}
	return 5
}

func TestAServiceLogsInThroughRotationsBetweenTwoUsers(t *testing.T) {
	t.Parallel()
	k := newLoggingIn(t, "alternating")
	users := []string{k.user, ""}
	users[1] = k.twoUsers(k.db.Name)
	for i := 1; i <= inARow(); i++ {
		before, began := k.counted(), time.Now()
		rotateNow(t, k.lab, k.tenant, fmt.Sprintf("%d", i))
		k.running(2)
		k.triedBy(k.names(), 2)
		k.nothingFailed()
		if now := k.inUse(); now != users[i%2] {
			t.Fatalf("after rotation %d user %s is in use", i, now)
		}
		if said := k.revision(); said != fmt.Sprint(i+1) {
			t.Fatalf("after rotation %d the Deployment has had %s templates", i, said)
		}
		t.Logf("rotation %d: %d attempts in %s, none failed", i, k.counted()-before, time.Since(began).Round(100*time.Millisecond))
	}
	k.nobodyWaited()
	if total := k.db.SQL(t, "SELECT count(DISTINCT pod) FROM attempts"); total != fmt.Sprint(2*(inARow()+1)) {
		t.Errorf("%s pods have logged in, not %d: it was rolled out more often, or less", total, 2*(inARow()+1))
	}
	if err := k.db.LogIn(t.Context(), k.user, "first"); err == nil {
		t.Error("the first password still works")
	}
}

// As with a static role: the database knows one password of a user.
func TestAPasswordIsReplacedUnderAServiceThatLogsInAllTheTime(t *testing.T) {
	t.Parallel()
	k := newLoggingIn(t, "replaced")
	k.rotation("", k.hook("set", k.db.Name, k.user), k.hook("verify", k.db.Name, k.user))
	for i := 1; i <= 3; i++ {
		old := k.names()
		rotateNow(t, k.lab, k.tenant, fmt.Sprintf("%d", i))
		k.running(2)
		k.triedBy(k.names(), 5)
		k.gaps(i, old)
		if said := k.revision(); said != fmt.Sprint(i+1) {
			t.Errorf("after rotation %d the Deployment has had %s templates", i, said)
		}
	}
}

// The hook gives the password to a user whom the service is not. So it works, and no
// new pod can log in.
func TestAPasswordThatWasSetForAnotherIsTakenBackAndTheServiceGoesOn(t *testing.T) {
	t.Parallel()
	k := newLoggingIn(t, "mistaken")
	another := k.db.Role(t, "another", "first")
	k.rotation("", k.hook("set", k.db.Name, another), k.hook("verify", k.db.Name, k.user))
	k.lab.Kubectl(t, "patch", "srot", "db", "-n", k.tenant.Namespace, "--type=merge", "-p", `{"spec": {"verify": {"timeout": "20s"}}}`)
	k.takenBack("Deployment/"+k.tenant.Namespace+"/app", 3)
	password, version := stored(t, k.lab, k.tenant)
	if password != "first" || version != 3 {
		t.Errorf("the Vault has %q in version %d", password, version)
	}
	if err := k.db.LogIn(t.Context(), another, "first"); err != nil {
		t.Errorf("the other user was not set back: %v", err)
	}
	k.noLonger(2, another, k.user)
}

// The other user gets a password that works, and all pods have it; but it may not do
// what the service needs.
func TestAnotherUserWhoMayNotDoItIsTakenBackAndNoLoginFails(t *testing.T) {
	t.Parallel()
	k := newLoggingIn(t, "lacking")
	closed := brokertest.Database(t)
	closed.SQL(t, "REVOKE CONNECT ON DATABASE "+closed.Name+" FROM PUBLIC")
	k.twoUsers(closed.Name)
	k.takenBack("verify failed", 3)
	if password, version := stored(t, k.lab, k.tenant); password != "first" || version != 3 || k.inUse() != k.user {
		t.Errorf("the Vault has user %s with %q in version %d", k.inUse(), password, version)
	}
}

// takenBack begins a rotation that does not work, waits until it is taken back and
// all pods have what they had, and looks at what it says and at what the service felt.
func (k *kept) takenBack(because string, revision int) {
	k.Helper()
	k.lab.Kubectl(k.T, "annotate", "srot", "db", "-n", k.tenant.Namespace, "privyseal.io/rotate-now=it leaked")
	of := ends(k.T, k.lab, k.tenant, "RolledBack")
	said := meta.FindStatusCondition(of.Status.Conditions, v1alpha1.ConditionRotated)
	if said == nil || said.Reason != v1alpha1.ReasonRolledBack || !strings.Contains(said.Message, because) {
		k.Errorf("the condition says %+v", said)
	}
	k.Logf("it says: %s", of.Status.Why)
	tellsOfRollback(k.T, k.lab, k.tenant)
	brokertest.Eventually(k.T, within, func(context.Context) error {
		if now := k.revision(); now != fmt.Sprint(revision) {
			return fmt.Errorf("the Deployment has had %s templates, not %d", now, revision)
		}
		return nil
	})
	k.running(2)
	k.triedBy(k.names(), 5)
	k.nothingFailed()
	k.nobodyWaited()
}

// noLonger says that the password of a version of the document is nobody's.
func (k *kept) noLonger(version int, users ...string) {
	k.Helper()
	mount, path, _ := strings.Cut(k.tenant.Path("db"), "/")
	document, err := k.lab.Vault.Client().KVv2(mount).GetVersion(k.Context(), path, version)
	if err != nil {
		k.Fatal(err)
	}
	for _, user := range users {
		if err := k.db.LogIn(k.Context(), user, fmt.Sprint(document.Data["password"])); err == nil {
			k.Errorf("%s can log in with the password that was taken back", user)
		}
	}
}
