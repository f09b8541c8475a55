package brokertest

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// DB is a database of one test's own in the lab's PostgreSQL.
type DB struct {
	// Name of the database, and what the names of its roles begin with.
	Name string
	// Host and Port are where the host, pods and Vault reach it.
	Host, Port string

	psql  string
	admin string // URL of the superuser
}

// Database makes a database. It goes when the test ends, with its roles and
// whoever is still logged in.
func Database(t testing.TB) *DB {
	t.Helper()
	env := labEnv(t)
	if env["LAB_POSTGRES"] == "" {
		t.Skipf("lab: it has no PostgreSQL (LAB=%s)", env["LAB_MODE"])
	}
	host, port, err := net.SplitHostPort(env["LAB_POSTGRES"])
	if err != nil {
		t.Fatal(err)
	}
	db := &DB{Name: "t" + strings.ToLower(rand.Text()[:8]), Host: host, Port: port, psql: env["LAB_PSQL"], admin: env["LAB_POSTGRES_ADMIN"]}
	for _, statement := range []string{"CREATE DATABASE " + db.Name, "CREATE ROLE " + db.Name + "_users NOLOGIN"} {
		if _, err := db.run(t.Context(), db.admin, statement); err != nil {
			t.Fatalf("making database %s: %v", db.Name, err)
		}
	}
	t.Cleanup(func() { db.remove(t) })
	return db
}

// remove takes the database first: then nothing depends on the roles.
func (db *DB) remove(t testing.TB) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	script := fmt.Sprintf(`DROP DATABASE IF EXISTS %[1]s WITH (FORCE);
SELECT format('DROP ROLE %%I', m.rolname) FROM pg_auth_members a JOIN pg_roles m ON m.oid = a.member JOIN pg_roles r ON r.oid = a.roleid
  WHERE r.rolname = '%[1]s_users' AND m.rolname NOT LIKE '%[1]s\_%%' \gexec
SELECT format('DROP ROLE %%I', rolname) FROM pg_roles WHERE rolname LIKE '%[1]s\_%%' \gexec
`, db.Name)
	if _, err := db.run(ctx, db.admin, script); err != nil {
		t.Logf("removing database %s: %v", db.Name, err)
	}
}

// SQL runs statements in the database as the superuser, and gives the rows that
// they give, each in a line with | between the columns.
func (db *DB) SQL(t testing.TB, statements string) string {
	t.Helper()
	said, err := db.Try(t.Context(), "", "", statements)
	if err != nil {
		t.Fatalf("%s: %v", statements, err)
	}
	return said
}

// Try runs statements as somebody; nobody is the superuser.
func (db *DB) Try(ctx context.Context, user, password, statements string) (string, error) {
	as, err := url.Parse(db.admin)
	if err != nil {
		return "", err
	}
	as.Path = "/" + db.Name
	if user != "" {
		as.User = url.UserPassword(user, password)
	}
	return db.run(ctx, as.String(), statements)
}

// LogIn tries a password.
func (db *DB) LogIn(ctx context.Context, user, password string) error {
	_, err := db.Try(ctx, user, password, "SELECT 1")
	return err
}

func (db *DB) run(ctx context.Context, as, statements string) (string, error) {
	command := exec.CommandContext(ctx, db.psql, "--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--set=ON_ERROR_STOP=1", as)
	command.Env = []string{"PATH=" + os.Getenv("PATH"), "PGCONNECT_TIMEOUT=10"}
	command.Stdin = strings.NewReader(statements)
	var problems strings.Builder
	command.Stderr = &problems
	output, err := command.Output()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, strings.TrimSpace(problems.String()))
	}
	return strings.TrimSpace(string(output)), err
}

// Role makes a user who may log in, and gives its name in PostgreSQL.
func (db *DB) Role(t testing.TB, name, password string) string {
	t.Helper()
	role := db.Name + "_" + name
	db.SQL(t, fmt.Sprintf("CREATE ROLE %s LOGIN PASSWORD '%s' IN ROLE %s_users", role, password, db.Name))
	return role
}

// Connect lets a Vault manage the database's users: connection NAME of its engine
// at database/, as a superuser of the database's own.
func (db *DB) Connect(t testing.TB, vault *Vault) {
	t.Helper()
	password := rand.Text()
	db.SQL(t, fmt.Sprintf("CREATE ROLE %s_vault LOGIN SUPERUSER PASSWORD '%s'", db.Name, password))
	vault.Write(t, "database/config/"+db.Name, map[string]any{
		"plugin_name":    "postgresql-database-plugin",
		"connection_url": fmt.Sprintf("postgresql://{{username}}:{{password}}@%s/%s?sslmode=disable", net.JoinHostPort(db.Host, db.Port), db.Name),
		"username":       db.Name + "_vault",
		"password":       password,
		"allowed_roles":  "*",
	})
	t.Cleanup(func() { vault.forget("database/config/" + db.Name) })
}

// StaticRole lets Vault keep the password of a user: database/static-creds/NAME
// gives it, and database/rotate-role/NAME changes it. Vault itself changes it
// once a year.
func (db *DB) StaticRole(t testing.TB, vault *Vault, name, user string) {
	t.Helper()
	vault.Write(t, "database/static-roles/"+name, map[string]any{"db_name": db.Name, "username": user, "rotation_period": "8760h"})
	t.Cleanup(func() { vault.forget("database/static-roles/" + name) })
}

// DynamicRole lets Vault make users: each read of database/creds/NAME makes one,
// which may do what Attempts allows, for a time and by renewal for a longer one.
func (db *DB) DynamicRole(t testing.TB, vault *Vault, name string, ttl, longest time.Duration) {
	t.Helper()
	vault.Write(t, "database/roles/"+name, map[string]any{
		"db_name": db.Name, "default_ttl": ttl.String(), "max_ttl": longest.String(),
		"creation_statements": fmt.Sprintf(
			`CREATE ROLE "{{name}}" LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}' IN ROLE %s_users`, db.Name),
		"revocation_statements": `DROP ROLE IF EXISTS "{{name}}"`,
	})
	t.Cleanup(func() {
		vault.revoke("database/creds/" + name)
		vault.forget("database/roles/" + name)
	})
}

// Client is a Deployment of pods that log in ten times a second and hold one
// connection, by the lab's program for that; Attempts has what came of it. What
// envFrom a container needs for PGUSER and PGPASSWORD is the caller's to say.
func (db *DB) Client(tenant *Tenant, app string, replicas int, environment string) string {
	return fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: %[2]s, namespace: %[1]s}
spec:
  replicas: %[3]d
  selector: {matchLabels: {app: %[2]s}}
  strategy: {rollingUpdate: {maxUnavailable: 0, maxSurge: 1}}
  template:
    metadata: {labels: {app: %[2]s}}
    spec:
      terminationGracePeriodSeconds: 20
      containers:
      - name: client
        image: pgclient:stable
        imagePullPolicy: Never
        args: [login]
        readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
        env:
        - {name: PGHOST, value: %[4]q}
        - {name: PGPORT, value: %[5]q}
        - {name: PGDATABASE, value: %[6]q}
        - {name: PGSSLMODE, value: disable}
%[7]s
`, tenant.Namespace, app, replicas, db.Host, db.Port, db.Name, environment)
}

// Attempts makes the table that clients write to, for every user of the database.
func (db *DB) Attempts(t testing.TB) {
	t.Helper()
	db.SQL(t, fmt.Sprintf(`CREATE TABLE attempts (pod text, at timestamptz, login text, held text);
GRANT INSERT ON attempts TO %s_users`, db.Name))
}
