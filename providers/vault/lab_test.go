package vault_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/privyseal/privyseal/providers"
	"github.com/privyseal/privyseal/providers/providertest"
	"github.com/privyseal/privyseal/providers/vault"
)

// The tests of this file ask the lab's Vault, which is a real one (make lab).
// Each makes mounts, policies and roles of its own, and removes them, so they
// disturb neither each other nor whoever else uses the lab.

// lab is a Vault and its administrator.
type lab struct {
	address string
	ca      []byte
	root    string
	env     map[string]string // all that the lab left
	client  *http.Client
}

// findLab reads the env file that a lab leaves at the root of the repository.
func findLab(tb testing.TB) *lab {
	tb.Helper()
	folder, err := os.Getwd()
	for err == nil {
		if _, err := os.Stat(filepath.Join(folder, "go.mod")); err == nil || folder == "/" {
			break
		}
		folder = filepath.Dir(folder)
	}
	env := make(map[string]string)
	file, err := os.Open(filepath.Join(folder, ".lab", "env"))
	if err != nil {
		if os.Getenv("CI") == "true" {
			tb.Fatalf("there is no lab, and in CI there has to be one: %v", err)
		}
		tb.Skipf("there is no lab (make lab starts one): %v", err)
	}
	defer func() { _ = file.Close() }()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if key, value, ok := strings.Cut(lines.Text(), "="); ok {
			env[strings.TrimPrefix(key, "export ")] = strings.Trim(value, `"'`)
		}
	}
	l := &lab{address: env["VAULT_ADDR"], root: env["VAULT_TOKEN"], env: env}
	if l.ca, err = os.ReadFile(env["VAULT_CACERT"]); err != nil {
		tb.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(l.ca)
	l.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}}
	tb.Cleanup(l.client.CloseIdleConnections)
	return l
}

// try is one request of the administrator.
func (l *lab) try(method, path string, body any) (code int, data map[string]any, err error) {
	encoded, err := json.Marshal(body)
	if err != nil {
		return 0, nil, err
	}
	r, err := http.NewRequest(method, l.address+"/v1/"+path, bytes.NewReader(encoded))
	if err != nil {
		return 0, nil, err
	}
	r.Header.Set("X-Vault-Token", l.root)
	response, err := l.client.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = response.Body.Close() }()
	var got struct{ Data, Auth map[string]any }
	_ = json.NewDecoder(response.Body).Decode(&got) // mostly there is none
	if got.Data == nil {
		got.Data = got.Auth
	}
	return response.StatusCode, got.Data, nil
}

// do is one request that has to work.
func (l *lab) do(tb testing.TB, method, path string, body any) map[string]any {
	tb.Helper()
	code, data, err := l.try(method, path, body)
	if err != nil || code >= 300 {
		tb.Fatalf("%s %s: %d, %v", method, path, code, err)
	}
	return data
}

// engine mounts a key-value engine and waits until it takes documents.
func (l *lab) engine(tb testing.TB, path string, version int) {
	tb.Helper()
	l.do(tb, "POST", "sys/mounts/"+path, map[string]any{
		"type": "kv", "options": map[string]string{"version": fmt.Sprint(version)},
	})
	tb.Cleanup(func() { _, _, _ = l.try("DELETE", "sys/mounts/"+path, nil) })
	if version == 2 {
		l.upgraded(tb, path)
	}
}

// upgraded waits until a version 2 engine has made its storage.
func (l *lab) upgraded(tb testing.TB, path string) {
	tb.Helper()
	eventually(tb, path+" is ready", func() bool {
		code, _, err := l.try("POST", path+"/data/ready", map[string]any{"data": map[string]any{}})
		return err == nil && code < 300
	})
}

// tenant is an identity with a role, a policy and mounts of its own.
type tenant struct {
	*lab
	name   string // of the policy, the login's mount and its role
	v1, v2 string // mounts
	clock  *clock
	diary  *diary
	login  vault.AppRole
	vault  *vault.Vault
}

func newTenant(tb testing.TB) *tenant {
	tb.Helper()
	l := findLab(tb)
	name := "privyseal-test-" + strings.ToLower(rand.Text()[:10])
	x := &tenant{lab: l, name: name, v1: name + "/v1", v2: name + "/v2", clock: newClock(), diary: &diary{}}
	l.engine(tb, x.v1, 1)
	l.engine(tb, x.v2, 2)
	x.allow(tb, name, x.v1+"/open/*", x.v2+"/data/open/*")
	tb.Cleanup(func() { _, _, _ = l.try("DELETE", "sys/policies/acl/"+name, nil) })
	l.do(tb, "POST", "sys/auth/"+name, map[string]any{"type": "approle"})
	tb.Cleanup(func() { _, _, _ = l.try("DELETE", "sys/auth/"+name, nil) })
	x.role(tb, map[string]any{"token_policies": name, "token_ttl": "1h"})
	id := l.do(tb, "GET", "auth/"+name+"/role/tenant/role-id", nil)["role_id"].(string)
	x.login = vault.AppRole{Mount: name, RoleID: id, SecretID: func(context.Context) (providers.Value, error) {
		secret := l.do(tb, "POST", "auth/"+name+"/role/tenant/secret-id", nil)["secret_id"].(string)
		return providers.NewValue([]byte(secret)), nil
	}}
	x.vault = x.open(tb)
	return x
}

func (x *tenant) role(tb testing.TB, settings map[string]any) {
	tb.Helper()
	x.do(tb, "POST", "auth/"+x.name+"/role/tenant", settings)
}

// allow lets a policy read and write paths.
func (x *tenant) allow(tb testing.TB, policy string, paths ...string) {
	tb.Helper()
	var rules strings.Builder
	for _, path := range paths {
		fmt.Fprintf(&rules, "path %q { capabilities = [\"read\", \"create\", \"update\"] }\n", path)
	}
	x.do(tb, "POST", "sys/policies/acl/"+policy, map[string]any{"policy": rules.String()})
}

// open makes a Vault of its own connections.
func (x *tenant) open(tb testing.TB, changes ...func(*vault.Config)) *vault.Vault {
	tb.Helper()
	config := vault.Config{Address: x.address, CA: x.ca, Now: x.clock.Now, Observer: x.diary}
	for _, change := range changes {
		change(&config)
	}
	v, err := vault.New(config)
	if err != nil {
		tb.Fatal(err)
	}
	return v
}

func (x *tenant) put(tb testing.TB, path string, values map[string]any) {
	tb.Helper()
	if rest, ok := strings.CutPrefix(path, x.v2+"/"); ok {
		x.do(tb, "POST", x.v2+"/data/"+rest, map[string]any{"data": values})
		return
	}
	x.do(tb, "POST", path, values)
}

// mustOps wants this many requests of a kind since the last time.
func (x *tenant) mustOps(tb testing.TB, want string) {
	tb.Helper()
	x.diary.mu.Lock()
	defer x.diary.mu.Unlock()
	ops := make([]string, 0, len(x.diary.entries))
	for _, entry := range x.diary.entries {
		op, rest, _ := strings.Cut(entry, " ")
		if strings.HasPrefix(rest, "true") {
			op += "!"
		}
		ops = append(ops, op)
	}
	x.diary.entries = nil
	if got := strings.Join(ops, " "); got != want {
		tb.Errorf("the requests were %q, want %q (! is one that failed)", got, want)
	}
}

func mustHold(tb testing.TB, document providers.Document, value string) {
	tb.Helper()
	if !document.Values["password"].Equal(providers.NewValue([]byte(value))) {
		tb.Error("the value is another than was written")
	}
}

func TestAnEngineWithoutVersionsIsNotWritten(t *testing.T) {
	x := newTenant(t)
	x.put(t, x.v1+"/open/db", map[string]any{"password": providertest.Marker})
	change := providers.Change{Ref: request(t, x.v1+"/open/db").Ref, From: 1, Values: map[string]providers.Value{"password": providers.NewValue([]byte("x"))}}
	if _, err := x.vault.As(x.login).Write(t.Context(), change); !errors.Is(err, providers.ErrInvalid) || !strings.Contains(err.Error(), "upgrade it to version 2") {
		t.Error(err)
	}
}

// Whether a rotation can be carried out is known before it is tried.
func TestLabWhatMayBeReadAndNotWrittenIsToldBefore(t *testing.T) {
	x := newTenant(t)
	session := x.vault.As(x.login)
	if err := session.Probe(t.Context(), request(t, x.v1+"/open/db").Ref); !errors.Is(err, providers.ErrInvalid) || !strings.Contains(err.Error(), "upgrade it to version 2") {
		t.Errorf("version 1: %v", err)
	}
	open := request(t, x.v2+"/open/db").Ref
	if err := session.Probe(t.Context(), open); err != nil {
		t.Errorf("open: %v", err)
	}
	rule := fmt.Sprintf("path %q { capabilities = [\"read\"] }", x.v2+"/data/open/*")
	x.do(t, "POST", "sys/policies/acl/"+x.name, map[string]any{"policy": rule})
	if err := session.Probe(t.Context(), open); !errors.Is(err, providers.ErrDenied) || !strings.Contains(err.Error(), "lack create, update on "+x.v2+"/data/open/db") {
		t.Errorf("read only: %v", err)
	}
}

func TestVaultIsAProvider(t *testing.T) {
	x := newTenant(t)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	for name, mount := range map[string]string{"version 1": x.v1, "version 2": x.v2} {
		t.Run(name, func(t *testing.T) {
			providertest.Run(t, func(t *testing.T) providertest.Harness {
				folder := mount + "/open/" + rand.Text()
				h := providertest.Harness{
					Reader: x.vault.As(x.login),
					Ref:    func(name string) providers.Ref { return request(t, folder+"/"+name).Ref },
					Set: func(t *testing.T, ref providers.Ref, values map[string]any) {
						x.put(t, ref.String(), values)
					},
					Delete: func(t *testing.T, ref providers.Ref) { x.do(t, "DELETE", ref.String(), nil) },
					Denied: func(t *testing.T) providers.Ref {
						x.put(t, mount+"/closed/db", map[string]any{"password": providertest.Marker})
						return request(t, mount+"/closed/db").Ref
					},
					Unavailable: func(t *testing.T) providers.Reader {
						return x.open(t, func(c *vault.Config) { c.Address = "https://" + closed.Addr().String() }).As(x.login)
					},
				}
				if mount == x.v2 {
					in := func(kind string, ref providers.Ref) string {
						return x.v2 + "/" + kind + strings.TrimPrefix(ref.String(), x.v2)
					}
					h.Versions = true
					h.Writer = x.vault.As(x.login)
					h.Delete = func(t *testing.T, ref providers.Ref) { x.do(t, "DELETE", in("metadata", ref), nil) }
					h.SoftDelete = func(t *testing.T, ref providers.Ref) { x.do(t, "DELETE", in("data", ref), nil) }
				}
				return h
			})
		})
	}
}

func TestLabHealth(t *testing.T) {
	x := newTenant(t)
	if err := x.vault.Health(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestLabThousandClaimsOfOneTenant(t *testing.T) {
	x := newTenant(t)
	x.put(t, x.v2+"/open/db", map[string]any{"password": planted})
	session := x.vault.As(x.login)
	together(t, 1000, session, func(int) string { return x.v2 + "/open/db" })
	x.diary.mu.Lock()
	reads := len(x.diary.entries) - 2
	x.diary.mu.Unlock()
	t.Logf("1,000 reads of one path, begun together: one login, one mount, %d reads", reads)
	if reads < 1 || reads > 10 {
		t.Errorf("%d reads went to the store, want at most 10", reads)
	}
}

func TestLabRoleThatWasGivenAPolicy(t *testing.T) {
	x := newTenant(t)
	session, path := x.vault.As(x.login), x.v2+"/later/db"
	x.put(t, path, map[string]any{"password": "there"})
	mustFail(t, session, path, providers.ErrDenied, "denied by the store (HTTP 403): ")
	x.mustOps(t, "login mount read!")

	// A token has the policies of its login: the new one needs a new token.
	x.allow(t, x.name+"-later", x.v2+"/data/later/*")
	t.Cleanup(func() { _, _, _ = x.try("DELETE", "sys/policies/acl/"+x.name+"-later", nil) })
	x.role(t, map[string]any{"token_policies": []string{x.name, x.name + "-later"}})
	x.clock.step(time.Minute)
	mustHold(t, mustRead(t, session, path), "there")
	x.mustOps(t, "read! login read")

	// A policy that changes by itself is seen by the token that has it.
	x.allow(t, x.name+"-later", x.v2+"/data/elsewhere/*")
	mustFail(t, session, path, providers.ErrDenied, "(HTTP 403)")
	x.mustOps(t, "read!")
	x.allow(t, x.name+"-later", x.v2+"/data/later/*")
	mustHold(t, mustRead(t, session, path), "there")
	x.mustOps(t, "read")
}

func TestLabRevokedToken(t *testing.T) {
	x := newTenant(t)
	session, path := x.vault.As(x.login), x.v2+"/open/db"
	x.put(t, path, map[string]any{"password": "there"})
	mustHold(t, mustRead(t, session, path), "there")
	x.mustOps(t, "login mount read")
	x.do(t, "PUT", "sys/leases/revoke-prefix/auth/"+x.name+"/login", nil)
	x.clock.step(time.Minute)
	var wait sync.WaitGroup
	for range 50 {
		wait.Go(func() { mustHold(t, mustRead(t, session, path), "there") })
	}
	wait.Wait()
	x.diary.mu.Lock()
	defer x.diary.mu.Unlock()
	logins := strings.Count(strings.Join(x.diary.entries, " "), "login")
	if logins != 1 {
		t.Errorf("50 readers of a revoked token logged in %d times", logins)
	}
}

func TestLabTokenThatGrowsOld(t *testing.T) {
	x := newTenant(t)
	path := x.v2 + "/open/db"
	x.put(t, path, map[string]any{"password": "there"})
	session := x.vault.As(x.login)
	mustRead(t, session, path)
	x.clock.step(41 * time.Minute)
	mustRead(t, session, path)
	x.mustOps(t, "login mount read renew read")

	x.role(t, map[string]any{"token_ttl": "1h", "token_max_ttl": "1h"})
	session = x.vault.As(x.login)
	mustRead(t, session, path)
	x.clock.step(41 * time.Minute)
	mustRead(t, session, path) // Vault's clock has not moved: it renews for nearly the hour
	x.mustOps(t, "login mount read renew read")

	x.role(t, map[string]any{"token_type": "batch"}) // which cannot be renewed
	session = x.vault.As(x.login)
	mustRead(t, session, path)
	x.clock.step(41 * time.Minute)
	mustRead(t, session, path)
	x.mustOps(t, "login mount read login read")
}

func TestLabTokenLogin(t *testing.T) {
	x := newTenant(t)
	path := x.v1 + "/open/db"
	x.put(t, path, map[string]any{"password": "there"})
	made := func() string {
		return x.do(t, "POST", "auth/token/create", map[string]any{"policies": []string{x.name}, "ttl": "10m"})["client_token"].(string)
	}
	current := made()
	session := x.vault.As(vault.Token{Value: func(context.Context) (providers.Value, error) {
		return providers.NewValue([]byte(current + "\n")), nil
	}})
	mustHold(t, mustRead(t, session, path), "there")

	x.do(t, "POST", "auth/token/revoke", map[string]any{"token": current})
	x.clock.step(time.Minute)
	mustFail(t, session, path, providers.ErrDenied, "(HTTP 403)")
	current = made() // somebody replaced it
	x.clock.step(time.Minute)
	mustHold(t, mustRead(t, session, path), "there")
}

func TestLabLoginThatIsRefused(t *testing.T) {
	x := newTenant(t)
	path := x.v2 + "/open/db"
	wrong := func(context.Context) (providers.Value, error) { return providers.NewValue([]byte("MARKER-wrong")), nil }
	for name, row := range map[string]struct {
		login vault.Login
		fact  error
		words string
	}{
		"a wrong secret id":   {vault.AppRole{Mount: x.name, RoleID: x.login.RoleID, SecretID: wrong}, providers.ErrDenied, "logging in: denied by the store (HTTP 400)"},
		"a wrong role id":     {vault.AppRole{Mount: x.name, RoleID: "nobody", SecretID: wrong}, providers.ErrDenied, "logging in: denied by the store (HTTP 400)"},
		"no such login mount": {vault.AppRole{Mount: x.name + "-absent", RoleID: "nobody", SecretID: wrong}, providers.ErrDenied, "logging in: denied by the store (HTTP 403)"},
		"a wrong jwt":         {vault.Kubernetes{Role: "nobody", Token: wrong}, providers.ErrDenied, "logging in: denied by the store (HTTP 400)"},
		"a wrong token":       {vault.Token{Value: wrong}, providers.ErrDenied, "finding its mount: denied by the store (HTTP 403)"},
	} {
		t.Run(name, func(t *testing.T) { mustFail(t, x.vault.As(row.login), path, row.fact, row.words) })
	}
}

func TestLabDeletedDestroyedAndUndeleted(t *testing.T) {
	x := newTenant(t)
	session, name := x.vault.As(x.login), "/open/db"
	path := x.v2 + name
	x.put(t, path, map[string]any{"password": "one"})
	x.put(t, path, map[string]any{"password": "two"})

	x.do(t, "DELETE", x.v2+"/data"+name, nil)
	mustFail(t, session, path, providers.ErrDeleted, "was deleted: undelete it")
	x.do(t, "POST", x.v2+"/undelete"+name, map[string]any{"versions": []int{2}})
	mustHold(t, mustRead(t, session, path), "two")

	x.do(t, "PUT", x.v2+"/destroy"+name, map[string]any{"versions": []int{2}})
	mustFail(t, session, path, providers.ErrDeleted, "was destroyed")
	first := request(t, path)
	first.Version = 1
	document, err := session.Read(t.Context(), first)
	if err != nil || document.Version != 1 {
		t.Errorf("version 1 beside a destroyed one: %v", err)
	}
	mustHold(t, document, "one")

	x.do(t, "DELETE", x.v2+"/metadata"+name, nil)
	mustFail(t, session, path, providers.ErrNotFound, "there is no such document")

	x.put(t, path, map[string]any{})
	if document := mustRead(t, session, path); len(document.Values) != 0 || document.Version != 1 {
		t.Error("a document without keys is not read as one")
	}
}

func TestLabMountThatGoesAndComesBack(t *testing.T) {
	x := newTenant(t)
	session, path := x.vault.As(x.login), x.v2+"/open/db"
	x.put(t, path, map[string]any{"password": "before"})
	mustHold(t, mustRead(t, session, path), "before")

	x.do(t, "DELETE", "sys/mounts/"+x.v2, nil)
	mustFail(t, session, path, providers.ErrNotFound, "(HTTP 404)")
	x.clock.step(2 * time.Minute)
	mustFail(t, session, path, providers.ErrNotFound, "(HTTP 404)")
	mustFail(t, session, path, providers.ErrNotFound, "(HTTP 404)")
	x.mustOps(t, "login mount read read! read! mount! read!")
	// A session that never saw it is not told whether it is gone or closed.
	mustFail(t, x.vault.As(x.login), path, providers.ErrDenied, "or there is no such mount")

	x.engine(t, x.v2, 2)
	mustFail(t, session, path, providers.ErrNotFound, "(HTTP 404)")
	x.put(t, path, map[string]any{"password": "after"})
	mustHold(t, mustRead(t, session, path), "after")

	// Back as the other version: a document there is not where it was.
	x.do(t, "DELETE", "sys/mounts/"+x.v2, nil)
	x.engine(t, x.v2, 1)
	x.do(t, "POST", x.v2+"/open/db", map[string]any{"password": "as version 1"})
	x.do(t, "POST", x.v2+"/data/open/db", map[string]any{"password": "another document"})
	x.allow(t, x.name, x.v2+"/open/*", x.v2+"/data/open/*")
	mustHold(t, mustRead(t, session, path), "as version 1")
}

func TestLabMountThatIsUpgraded(t *testing.T) {
	x := newTenant(t)
	session, path := x.vault.As(x.login), x.v1+"/open/db"
	x.put(t, path, map[string]any{"password": "there"})
	mustHold(t, mustRead(t, session, path), "there")
	x.do(t, "POST", "sys/mounts/"+x.v1+"/tune", map[string]any{"options": map[string]string{"version": "2"}})
	x.upgraded(t, x.v1)
	x.allow(t, x.name, x.v1+"/open/*", x.v1+"/data/open/*")
	x.clock.step(2 * time.Minute)
	document := mustRead(t, session, path)
	mustHold(t, document, "there")
	if document.Version != 1 {
		t.Errorf("after the upgrade it is version %d", document.Version)
	}
}

// TestLabNoDocumentHasTwoSpellings: kv/data/x is not kv/x, on an engine that
// keeps kv/x at kv/data/x, nor on one that began to a moment ago.
func TestLabNoDocumentHasTwoSpellings(t *testing.T) {
	x := newTenant(t)
	x.allow(t, x.name, x.v2+"/*", x.v1+"/*")
	session := x.vault.As(x.login)
	x.put(t, x.v2+"/x", map[string]any{"password": "x"})
	for _, infix := range []string{"data", "metadata", "subkeys", "config", "delete", "destroy", "undelete"} {
		mustFail(t, session, x.v2+"/"+infix+"/x", providers.ErrNotFound, "(HTTP 404)")
	}
	x.do(t, "POST", x.v2+"/data/data/x", map[string]any{"data": map[string]any{"password": "data/x"}})
	mustHold(t, mustRead(t, session, x.v2+"/x"), "x")
	mustHold(t, mustRead(t, session, x.v2+"/data/x"), "data/x")

	x.put(t, x.v1+"/x", map[string]any{"password": "x"})
	x.put(t, x.v1+"/data/y", map[string]any{"password": "data/y"})
	mustHold(t, mustRead(t, session, x.v1+"/x"), "x")
	mustHold(t, mustRead(t, session, x.v1+"/data/y"), "data/y")
	mustFail(t, session, x.v1+"/data/x", providers.ErrNotFound, "(HTTP 404)")
	x.do(t, "POST", "sys/mounts/"+x.v1+"/tune", map[string]any{"options": map[string]string{"version": "2"}})
	x.upgraded(t, x.v1)
	mustFail(t, session, x.v1+"/data/x", providers.ErrNotFound, "(HTTP 404)")
}

func TestLabOddNamesAreAskedForAsTheyAre(t *testing.T) {
	x := newTenant(t)
	session := x.vault.As(x.login)
	for _, name := range []string{"two words", "a+b", "a&b=c", "a;b,c", "a:b@c", "(a)!'$", "...", "..a", "~a", `"<a>"`, "{a}", "a|b^c`d", "[a]", "UPPER"} {
		for mount, kind := range map[string]string{x.v1: "/", x.v2: "/data/"} {
			path := mount + kind + "open/" + strings.NewReplacer(" ", "%20", ";", "%3B").Replace(name)
			body := map[string]any{"password": name}
			if mount == x.v2 {
				body = map[string]any{"data": body}
			}
			if code, _, err := x.try("POST", path, body); err != nil || code >= 300 {
				t.Logf("Vault itself takes no %q: %d, %v", name, code, err)
				continue
			}
			mustHold(t, mustRead(t, session, mount+"/open/"+name), name)
		}
	}
}

func TestLabNothingButKeyValueIsRead(t *testing.T) {
	x := newTenant(t)
	root := x.vault.As(vault.Token{Value: func(context.Context) (providers.Value, error) {
		return providers.NewValue([]byte(x.root)), nil
	}})
	for _, path := range []string{
		"sys/health", "sys/mounts", "sys/internal/ui/mounts/kv", "auth/token/lookup-self", "cubbyhole/x", "identity/entity", "kv", x.v2,
	} {
		mustFail(t, root, path, providers.ErrInvalid, "reading "+path+": ")
	}
	mustFail(t, root, "nowhere/at/all", providers.ErrDenied, "no such mount")
}

func TestLabWrongAuthority(t *testing.T) {
	x := newTenant(t)
	stranger := newServer(t)
	for name, change := range map[string]func(*vault.Config){
		"another authority":     func(c *vault.Config) { c.CA = stranger.ca() },
		"the system's":          func(c *vault.Config) { c.CA = nil },
		"another server's name": func(c *vault.Config) { c.ServerName = "vault.elsewhere" },
	} {
		t.Run(name, func(t *testing.T) {
			v := x.open(t, change)
			mustFail(t, v.As(x.login), x.v2+"/open/db", providers.ErrUnavailable, "certificate is not trusted: check spec.vault.tls")
			mustBe(t, v.Health(t.Context()), providers.ErrUnavailable, "certificate is not trusted")
		})
	}
}

// TestLabKubernetesLogin has the lab's API server make a token, and the lab's
// Vault ask that API server about it.
func TestLabKubernetesLogin(t *testing.T) {
	x := newTenant(t)
	kubectl := func(arguments ...string) []byte {
		command := exec.Command(x.env["LAB_KUBECTL"], append([]string{"--kubeconfig", x.env["LAB_KUBECONFIG"]}, arguments...)...)
		output, err := command.Output()
		if err != nil {
			t.Fatalf("kubectl %s: %v", arguments[0], err)
		}
		return bytes.TrimSpace(output)
	}
	kubectl("create", "namespace", x.name)
	t.Cleanup(func() { kubectl("delete", "namespace", x.name, "--wait=false") })
	kubectl("create", "serviceaccount", "privyseal", "--namespace", x.name)
	kubectl("create", "serviceaccount", "other", "--namespace", x.name)
	x.do(t, "POST", "auth/kubernetes/role/"+x.name, map[string]any{
		"bound_service_account_names": "privyseal", "bound_service_account_namespaces": x.name,
		"audience": x.address, "token_policies": x.name, "token_ttl": "10m",
	})
	t.Cleanup(func() { _, _, _ = x.try("DELETE", "auth/kubernetes/role/"+x.name, nil) })
	path := x.v2 + "/open/db"
	x.put(t, path, map[string]any{"password": "there"})
	as := func(account, audience string) *vault.Session {
		return x.vault.As(vault.Kubernetes{Role: x.name, Token: func(context.Context) (providers.Value, error) {
			return providers.NewValue(kubectl("create", "token", account, "--namespace", x.name, "--audience", audience)), nil
		}})
	}
	mustHold(t, mustRead(t, as("privyseal", x.address), path), "there")
	mustFail(t, as("other", x.address), path, providers.ErrDenied, "logging in: denied by the store (HTTP 403)")
	mustFail(t, as("privyseal", "https://another.vault"), path, providers.ErrDenied, "logging in: denied by the store (HTTP 4")
	mustFail(t, x.vault.As(vault.Kubernetes{Role: x.name + "-absent", Token: func(context.Context) (providers.Value, error) {
		return providers.NewValue(kubectl("create", "token", "privyseal", "--namespace", x.name)), nil
	}}), path, providers.ErrDenied, "logging in: denied by the store (HTTP 400)")
}

// BenchmarkLabRead is a read of a document of three keys by a session that is
// logged in, and beside it the bare request that it is made of.
func BenchmarkLabRead(b *testing.B) {
	x := newTenant(b)
	x.put(b, x.v2+"/open/db", map[string]any{"user": "u", "password": "p", "host": "h"})
	ref, err := providers.ParseRef(x.v2 + "/open/db")
	if err != nil {
		b.Fatal(err)
	}
	made := x.do(b, "POST", "auth/token/create", map[string]any{"policies": []string{x.name}})
	bare := *x.lab
	bare.root = made["client_token"].(string) // so that both are judged by the same policies
	session := x.vault.As(vault.Token{Value: func(context.Context) (providers.Value, error) {
		return providers.NewValue([]byte(bare.root)), nil
	}})
	b.Run("session", func(b *testing.B) {
		for b.Loop() {
			document, err := session.Read(b.Context(), providers.Request{Ref: ref})
			if err != nil {
				b.Fatal(err)
			}
			document.Clear()
		}
	})
	b.Run("bare", func(b *testing.B) {
		for b.Loop() {
			if code, _, err := bare.try("GET", x.v2+"/data/open/db", nil); err != nil || code != 200 {
				b.Fatal(code, err)
			}
		}
	})
}
