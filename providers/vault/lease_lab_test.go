package vault_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/providers"
	"github.com/privyseal/privyseal/providers/providertest"
	"github.com/privyseal/privyseal/providers/vault"
)

// lender is a tenant with a database engine, before the lab's own PostgreSQL.
type lender struct {
	*tenant
	engine string
	prefix string // of the users' names: "v-approle-<role>-"
}

// sql is what a query gives, as PostgreSQL's superuser.
func (l *lab) sql(tb testing.TB, query string) string {
	tb.Helper()
	out, err := exec.Command(l.env["LAB_PSQL"], l.env["LAB_POSTGRES_ADMIN"], "-XAtqc", query).CombinedOutput()
	if err != nil {
		tb.Fatalf("%s: %v\n%s", query, err, out)
	}
	return strings.TrimSpace(string(out))
}

func newLender(tb testing.TB) *lender {
	tb.Helper()
	x := newTenant(tb)
	if x.env["LAB_PSQL"] == "" {
		tb.Skip("the lab has no PostgreSQL (make lab starts one)")
	}
	l := &lender{tenant: x, engine: x.name + "/db", prefix: strings.ToLower(rand.Text()[:8])}
	l.do(tb, "POST", "sys/mounts/"+l.engine, map[string]any{"type": "database"})
	tb.Cleanup(func() { _, _, _ = l.try("DELETE", "sys/mounts/"+l.engine, nil) })
	admin := l.env["LAB_POSTGRES_ADMIN"]
	login, host, _ := strings.Cut(strings.TrimPrefix(admin, "postgres://"), "@")
	user, password, _ := strings.Cut(login, ":")
	l.do(tb, "POST", l.engine+"/config/main", map[string]any{
		"plugin_name": "postgresql-database-plugin", "allowed_roles": "*",
		"connection_url": "postgres://{{username}}:{{password}}@" + host, "username": user, "password": password,
		"username_template": l.prefix + "-{{random 12}}",
	})
	l.dbRole(tb, "rw", time.Minute, time.Hour)
	l.allow(tb, l.name, x.v1+"/open/*", x.v2+"/data/open/*", l.engine+"/creds/*")
	return l
}

// dbRole makes users that live so long.
func (l *lender) dbRole(tb testing.TB, name string, life, most time.Duration) {
	tb.Helper()
	l.do(tb, "POST", l.engine+"/roles/"+name, map[string]any{
		"db_name": "main", "default_ttl": life.String(), "max_ttl": most.String(),
		"creation_statements": []string{`CREATE ROLE "{{name}}" LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'`},
	})
}

func (l *lender) users(tb testing.TB) int {
	tb.Helper()
	n, err := strconv.Atoi(l.sql(tb, fmt.Sprintf("SELECT count(*) FROM pg_roles WHERE rolname LIKE '%s-%%'", l.prefix)))
	if err != nil {
		tb.Fatal(err)
	}
	return n
}

func (l *lender) ref(tb testing.TB, role string) providers.Ref {
	tb.Helper()
	ref, err := providers.ParseRef(l.engine + "/creds/" + role)
	if err != nil {
		tb.Fatal(err)
	}
	return ref
}

func keepNothing(context.Context, providers.Value) error { return nil }

func mustIssue(tb testing.TB, session *vault.Session, ref providers.Ref) providers.Lease {
	tb.Helper()
	lease, err := session.Issue(tb.Context(), ref, keepNothing)
	if err != nil {
		tb.Fatal(err)
	}
	return lease
}

func TestTheDatabaseEngineLeases(t *testing.T) {
	providertest.Run(t, func(t *testing.T) providertest.Harness {
		l := newLender(t)
		session := l.vault.As(l.login)
		folder := l.v1 + "/open/" + rand.Text()
		return providertest.Harness{
			Reader: session, Leaser: session,
			Leased: func(t *testing.T) providers.Ref { return l.ref(t, "rw") },
			Lives:  func(t *testing.T, _ providers.Ref) int { return l.users(t) },
			Ref:    func(name string) providers.Ref { return request(t, folder+"/"+name).Ref },
			Set:    func(t *testing.T, ref providers.Ref, values map[string]any) { l.put(t, ref.String(), values) },
			Delete: func(t *testing.T, ref providers.Ref) { l.do(t, "DELETE", ref.String(), nil) },
			Unavailable: func(t *testing.T) providers.Reader {
				return l.open(t, func(c *vault.Config) { c.Address = "https://127.0.0.1:1" }).As(l.login)
			},
		}
	})
}

// What ends first ends a lease: the user's greatest age, or that of the token
// that owns it, and a renewal gives back what the roles say.
func TestALeaseKnowsItsGreatestAge(t *testing.T) {
	l := newLender(t)
	about := func(got, want time.Duration) bool { return got <= want && got > want-10*time.Second }
	for _, row := range []struct {
		role       map[string]any
		life, most time.Duration
	}{
		{map[string]any{"token_ttl": "10m", "token_max_ttl": "4h"}, time.Minute, time.Hour},
		{map[string]any{"token_ttl": "10m", "token_max_ttl": "30m"}, time.Minute, 30 * time.Minute},
		{map[string]any{"token_ttl": "20s", "token_max_ttl": "40m"}, 20 * time.Second, 40 * time.Minute},
		{map[string]any{"token_ttl": "0", "token_max_ttl": "0", "token_period": "30s"}, 30 * time.Second, time.Hour},
		{map[string]any{"token_period": "30s", "token_explicit_max_ttl": "20m"}, 30 * time.Second, 20 * time.Minute},
	} {
		l.role(t, row.role)
		session := l.vault.As(l.login)
		lease := mustIssue(t, session, l.ref(t, "rw"))
		life, err := session.Renew(t.Context(), lease.Token, lease.ID)
		if err != nil || !lease.Renewable || !about(lease.Life, row.life) || !about(lease.Max, row.most) || !about(life, row.life) {
			t.Errorf("%v: life %s, max %s, renewed for %s, %v; want %s and %s", row.role, lease.Life, lease.Max, life, err, row.life, row.most)
		}
	}
}

func TestTheEndOfALeaseShowsInItsRenewals(t *testing.T) {
	l := newLender(t)
	l.dbRole(t, "brief", 30*time.Second, 40*time.Second)
	session := l.vault.As(l.login)
	lease := mustIssue(t, session, l.ref(t, "brief"))
	eventually(t, "a renewal is cut short", func() bool {
		life, err := session.Renew(t.Context(), lease.Token, lease.ID)
		return err == nil && life < 29*time.Second
	})
}

func TestALeaseThatIsGoneIsTellableFromADatabaseThatIsAway(t *testing.T) {
	l := newLender(t)
	session := l.vault.As(l.login)
	lease := mustIssue(t, session, l.ref(t, "rw"))

	l.do(t, "POST", l.engine+"/config/main", map[string]any{
		"plugin_name": "postgresql-database-plugin", "allowed_roles": "*", "verify_connection": false,
		"connection_url": "postgres://{{username}}:{{password}}@127.0.0.1:1/postgres", "username": "postgres", "password": "x",
	})
	if _, err := session.Renew(t.Context(), lease.Token, lease.ID); !errors.Is(err, providers.ErrUnavailable) {
		t.Errorf("the database is away: %v", err)
	}
	if _, err := session.Issue(t.Context(), l.ref(t, "rw"), keepNothing); !errors.Is(err, providers.ErrUnavailable) {
		t.Errorf("issuing while the database is away: %v", err)
	}

	l.do(t, "PUT", "sys/leases/revoke-force/"+l.engine+"/creds/rw", nil)
	if _, err := session.Renew(t.Context(), lease.Token, lease.ID); !errors.Is(err, providers.ErrNotFound) {
		t.Errorf("the lease is gone: %v", err)
	}
}

func TestAnIssueThatCannotBeTakenBackIsRefusedBeforeAnythingIsMade(t *testing.T) {
	l := newLender(t)
	for _, row := range []struct {
		role  map[string]any
		path  string
		fact  error
		words string
	}{
		{map[string]any{"token_type": "batch"}, "rw", providers.ErrInvalid, "batch tokens"},
		{map[string]any{"token_type": "service", "token_no_default_policy": true}, "rw", providers.ErrDenied, "default policy"},
		{map[string]any{"token_no_default_policy": false}, "nobody", providers.ErrNotFound, "no such role"},
	} {
		l.role(t, row.role)
		_, err := l.vault.As(l.login).Issue(t.Context(), l.ref(t, row.path), keepNothing)
		if !errors.Is(err, row.fact) || !strings.Contains(err.Error(), row.words) {
			t.Errorf("%v: %v", row.role, err)
		}
	}
	shared := vault.Token{Value: func(context.Context) (providers.Value, error) {
		return providers.NewValue([]byte(l.root)), nil
	}}
	_, err := l.vault.As(shared).Issue(t.Context(), l.ref(t, "rw"), keepNothing)
	if !errors.Is(err, providers.ErrInvalid) || !strings.Contains(err.Error(), "token of its own") {
		t.Errorf("a token that is everybody's: %v", err)
	}
	if users := l.users(t); users != 0 {
		t.Errorf("%d users were made", users)
	}
}
