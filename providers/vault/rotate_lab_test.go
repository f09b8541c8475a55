package vault_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/providers"
)

func mustEngine(tb testing.TB, kind providers.EngineKind, path string) providers.Engine {
	tb.Helper()
	engine, err := providers.ParseEngine(kind, path)
	if err != nil {
		tb.Fatal(err)
	}
	return engine
}

// staticRole has Vault keep the password of a user of the lab's PostgreSQL.
func (l *lender) staticRole(tb testing.TB, name string) (user string) {
	tb.Helper()
	user = l.prefix + "-" + name
	l.sql(tb, `CREATE ROLE "`+user+`" LOGIN PASSWORD 'first'`)
	tb.Cleanup(func() { l.sql(tb, `DROP ROLE IF EXISTS "`+user+`"`) })
	l.do(tb, "POST", l.engine+"/static-roles/"+name, map[string]any{"db_name": "main", "username": user, "rotation_period": "8760h"})
	return user
}

// rules are all that the tenant may do.
func (x *tenant) rules(tb testing.TB, rules ...string) {
	tb.Helper()
	x.do(tb, "POST", "sys/policies/acl/"+x.name, map[string]any{"policy": strings.Join(rules, "\n")})
}

// may is a rule of a policy.
func may(do, path string) string { return `path "` + path + `" { capabilities = ["` + do + `"] }` }

func (l *lender) static(tb testing.TB, session providers.Reader, name string) providers.Document {
	tb.Helper()
	ref, err := providers.ParseRef(l.engine + "/static-creds/" + name)
	if err != nil {
		tb.Fatal(err)
	}
	document, err := session.Read(tb.Context(), providers.Request{Ref: ref})
	if err != nil {
		tb.Fatal(err)
	}
	return document
}

func TestAStaticRoleIsReadAsADocumentAndRotated(t *testing.T) {
	t.Parallel()
	l := newLender(t)
	user := l.staticRole(t, "pay")
	engine := mustEngine(t, providers.RotateRole, l.engine+"/rotate-role/pay")
	l.rules(t, may("read", l.engine+"/static-creds/pay"))
	session := l.vault.As(l.login)

	err := session.Rotatable(t.Context(), engine)
	if !errors.Is(err, providers.ErrDenied) || !strings.Contains(err.Error(), "update on "+engine.String()) {
		t.Errorf("without a right to it: %v", err)
	}
	if err := session.Rotate(t.Context(), engine); !errors.Is(err, providers.ErrDenied) {
		t.Errorf("without a right to it, it was rotated: %v", err)
	}
	l.rules(t, may("read", l.engine+"/static-creds/pay"), may("update", engine.String()))
	if err := session.Rotatable(t.Context(), engine); err != nil {
		t.Error(err)
	}

	before := l.static(t, session, "pay")
	if got := string(before.Values["username"].Bytes()); got != user || len(before.Values) != 2 || before.Version == 0 {
		t.Errorf("it has %d keys, user %q, version %d", len(before.Values), got, before.Version)
	}
	if turn, err := session.Turn(t.Context(), engine); err != nil || turn != before.Version {
		t.Errorf("its turn is %d, not the document's version %d: %v", turn, before.Version, err)
	}
	if err := session.Rotate(t.Context(), engine); err != nil {
		t.Fatal(err)
	}
	after := l.static(t, session, "pay")
	if after.Version <= before.Version || after.Values["password"].Equal(before.Values["password"]) {
		t.Errorf("rotated, it is of version %d after %d", after.Version, before.Version)
	}
	if again := l.static(t, session, "pay"); again.Version != after.Version || !again.Values["password"].Equal(after.Values["password"]) {
		t.Error("it changes when it is read")
	}
}

func TestWhatIsNoStaticRoleIsNotThere(t *testing.T) {
	t.Parallel()
	l := newLender(t)
	l.allow(t, l.name, l.engine+"/*")
	session := l.vault.As(l.login)
	engine := mustEngine(t, providers.RotateRole, l.engine+"/rotate-role/nobody")
	if _, err := session.Turn(t.Context(), engine); !errors.Is(err, providers.ErrNotFound) {
		t.Errorf("its turn: %v", err)
	}
	if err := session.Rotate(t.Context(), engine); !errors.Is(err, providers.ErrNotFound) {
		t.Errorf("rotated: %v", err)
	}
}

func TestADatabaseThatIsAwayIsNotRotated(t *testing.T) {
	t.Parallel()
	l := newLender(t)
	user := l.staticRole(t, "pay")
	l.allow(t, l.name, l.engine+"/*")
	session := l.vault.As(l.login)
	engine := mustEngine(t, providers.RotateRole, l.engine+"/rotate-role/pay")
	before := l.static(t, session, "pay")
	l.sql(t, `ALTER ROLE "`+user+`" RENAME TO "`+user+`-away"`)
	err := session.Rotate(t.Context(), engine)
	l.sql(t, `ALTER ROLE "`+user+`-away" RENAME TO "`+user+`"`)
	if !errors.Is(err, providers.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	if after := l.static(t, session, "pay"); after.Version != before.Version {
		t.Errorf("what was not rotated is of version %d after %d", after.Version, before.Version)
	}
}

func TestAKeyOfTransitIsRotated(t *testing.T) {
	t.Parallel()
	x := newTenant(t)
	mount := x.name + "/transit"
	x.do(t, "POST", "sys/mounts/"+mount, map[string]any{"type": "transit"})
	t.Cleanup(func() { _, _, _ = x.try("DELETE", "sys/mounts/"+mount, nil) })
	x.do(t, "POST", mount+"/keys/pay", map[string]any{})
	x.rules(t, may("read", mount+"/keys/pay"), may("update", mount+"/keys/pay/rotate"))
	session, engine := x.vault.As(x.login), mustEngine(t, providers.RotateKey, mount+"/keys/pay")
	if err := session.Rotatable(t.Context(), engine); err != nil {
		t.Error(err)
	}
	for want := int64(1); want < 4; want++ {
		if turn, err := session.Turn(t.Context(), engine); err != nil || turn != want {
			t.Fatalf("its turn is %d, want %d: %v", turn, want, err)
		}
		if err := session.Rotate(t.Context(), engine); err != nil {
			t.Fatal(err)
		}
	}
}

func TestADatabasesOwnUserIsRotated(t *testing.T) {
	t.Parallel()
	l := newLender(t)
	user := l.prefix + "-root"
	l.sql(t, `CREATE ROLE "`+user+`" LOGIN SUPERUSER PASSWORD 'first'`)
	t.Cleanup(func() { l.sql(t, `DROP ROLE IF EXISTS "`+user+`"`) })
	_, host, _ := strings.Cut(l.env["LAB_POSTGRES_ADMIN"], "@")
	l.do(t, "POST", l.engine+"/config/own", map[string]any{
		"plugin_name": "postgresql-database-plugin", "allowed_roles": "*",
		"connection_url": "postgres://{{username}}:{{password}}@" + host, "username": user, "password": "first",
	})
	l.rules(t, may("update", l.engine+"/rotate-root/own"))
	session, engine := l.vault.As(l.login), mustEngine(t, providers.RotateRoot, l.engine+"/rotate-root/own")
	if err := session.Rotatable(t.Context(), engine); err != nil {
		t.Error(err)
	}
	if turn, err := session.Turn(t.Context(), engine); err != nil || turn != 0 {
		t.Errorf("its turn is %d, and it says none: %v", turn, err)
	}
	was := l.sql(t, `SELECT rolpassword FROM pg_authid WHERE rolname = '`+user+`'`)
	if err := session.Rotate(t.Context(), engine); err != nil {
		t.Fatal(err)
	}
	if is := l.sql(t, `SELECT rolpassword FROM pg_authid WHERE rolname = '`+user+`'`); is == was {
		t.Error("PostgreSQL has the password from before")
	}
	l.dbRole(t, "still", time.Minute, time.Hour)
}
