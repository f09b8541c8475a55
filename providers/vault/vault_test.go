package vault_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/privyseal/privyseal/providers"
	"github.com/privyseal/privyseal/providers/vault"
)

func TestNewNamesTheFieldThatIsWrong(t *testing.T) {
	good := func() vault.Config { return vault.Config{Address: "https://vault:8200", Now: newClock().Now} }
	if _, err := vault.New(good()); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		field  string
		change func(*vault.Config)
	}{
		{"Address", func(c *vault.Config) { c.Address = "" }},
		{"Address", func(c *vault.Config) { c.Address = "vault:8200" }},
		{"Address", func(c *vault.Config) { c.Address = "unix:///run/vault" }},
		{"Address", func(c *vault.Config) { c.Address = "http://vault:8200" }},
		{"Address", func(c *vault.Config) { c.Address = "https://" }},
		{"Address", func(c *vault.Config) { c.Address = "https://:8200" }},
		{"Address", func(c *vault.Config) { c.Address = "https://user:MARKER@vault:8200" }},
		{"Address", func(c *vault.Config) { c.Address = "https://user:MARKER\x7f@vault:8200" }},
		{"Address", func(c *vault.Config) { c.Address = "https://vault:8200/v1" }},
		{"Address", func(c *vault.Config) { c.Address = "https://vault:8200/?x" }},
		{"Address", func(c *vault.Config) { c.Address = "https://vault:8200#x" }},
		{"Now", func(c *vault.Config) { c.Now = nil }},
		{"Namespace", func(c *vault.Config) { c.Namespace = "a\r\nX-Vault-Token: b" }},
		{"Namespace", func(c *vault.Config) { c.Namespace = "a/../b" }},
		{"AuthNamespace", func(c *vault.Config) { c.AuthNamespace = "a//b" }},
		{"CA", func(c *vault.Config) { c.CA = []byte("MARKER no PEM") }},
		{"ClientKey", func(c *vault.Config) { c.ClientCert = []byte("x") }},
		{"ClientCert", func(c *vault.Config) { c.ClientKey = providers.NewValue([]byte("MARKER")) }},
		{"ClientCert", func(c *vault.Config) {
			c.ClientCert, c.ClientKey = []byte("MARKER"), providers.NewValue([]byte("MARKER"))
		}},
		{"MaxConnections", func(c *vault.Config) { c.MaxConnections = -1 }},
		{"Timeout", func(c *vault.Config) { c.Timeout = -1 }},
	} {
		config := good()
		row.change(&config)
		_, err := vault.New(config)
		mustBe(t, err, providers.ErrInvalid, "invalid: "+row.field+": ")
	}
}

// TestTheEnvironmentHasNoEffect: vault/api reads VAULT_* wherever it can.
func TestTheEnvironmentHasNoEffect(t *testing.T) {
	var mu sync.Mutex
	trapped := 0
	trap := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		trapped++
	}))
	defer trap.Close()
	for name, value := range map[string]string{
		"VAULT_ADDR": trap.URL, "VAULT_AGENT_ADDR": trap.URL, "VAULT_TOKEN": "MARKER", "VAULT_NAMESPACE": "evil",
		"VAULT_HEADERS": `{"X-Evil":"yes"}`, "VAULT_WRAP_TTL": "60", "VAULT_SKIP_VERIFY": "true",
		"VAULT_PROXY_ADDR": trap.URL, "VAULT_HTTP_PROXY": trap.URL, "VAULT_MAX_RETRIES": "5",
		"VAULT_RATE_LIMIT": "0.001:1", "VAULT_CLIENT_TIMEOUT": "1ns", "VAULT_TLS_SERVER_NAME": "evil",
		"VAULT_SRV_LOOKUP": "true", "VAULT_DISABLE_REDIRECTS": "false", "VAULT_MFA": "evil",
	} {
		t.Setenv(name, value)
	}
	s, clock := newServer(t), newClock()
	session := s.vault(clock).As(jwt())
	mustRead(t, session, "kv/db")
	clock.step(40 * time.Minute)
	mustRead(t, session, "kv/db")
	if trapped != 0 {
		t.Errorf("%d requests went where the environment said", trapped)
	}
	for _, header := range s.seen {
		for _, name := range []string{"X-Evil", "X-Vault-Namespace", "X-Vault-Wrap-Ttl", "X-Vault-Mfa"} {
			if header.Get(name) != "" {
				t.Errorf("a request had the header %s of the environment", name)
			}
		}
		if strings.Contains(header.Get("X-Vault-Token"), "MARKER") {
			t.Error("a request had the token of the environment")
		}
		if header.Get("X-Vault-Request") != "true" {
			t.Error("a request did not have the header that Vault may insist on")
		}
	}
	s.set(func() {
		s.answer = func(w http.ResponseWriter, _ *http.Request) bool { reply(w, 500, planted); return true }
	})
	mustFail(t, s.vault(clock).As(jwt()), "kv/db", providers.ErrUnavailable, "HTTP 500")
	s.mustCount(2, loginPath) // not five times more

	untrusted, err := vault.New(vault.Config{Address: s.URL, Now: clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	mustFail(t, untrusted.As(jwt()), "kv/db", providers.ErrUnavailable, "certificate is not trusted")

	// The library cannot be made to pass over what it cannot parse.
	t.Setenv("VAULT_CACERT", "/nowhere")
	_, err = vault.New(vault.Config{Address: s.URL, Now: clock.Now})
	mustBe(t, err, providers.ErrInvalid, "unset the VAULT_* variables")
}

// TestEveryAnswerIsAFact: each code that a read, a question for a mount or a
// login can be answered with, and what is said of it. The bodies are traps.
func TestEveryAnswerIsAFact(t *testing.T) {
	s := newServer(t)
	for _, row := range []struct {
		code int
		fact error
	}{
		{200, providers.ErrUnavailable}, // with a body that is no Vault's
		{204, providers.ErrUnavailable},
		{400, providers.ErrUnavailable},
		{401, providers.ErrUnavailable},
		{403, providers.ErrDenied},
		{404, providers.ErrNotFound},
		{405, providers.ErrUnavailable},
		{412, providers.ErrUnavailable},
		{418, providers.ErrUnavailable},
		{429, providers.ErrUnavailable},
		{472, providers.ErrUnavailable},
		{473, providers.ErrUnavailable},
		{500, providers.ErrUnavailable},
		{502, providers.ErrUnavailable},
		{503, providers.ErrUnavailable},
		{504, providers.ErrUnavailable},
		{599, providers.ErrUnavailable},
	} {
		for _, body := range []string{`{"errors":["` + planted + `"]}`, planted, `"` + planted + `"`, `{"data":null}`, ``} {
			for _, at := range []string{"/v1/kv/data/", "/v1/kv1/", "/v1/sys/internal/"} {
				s.set(func() {
					s.answer = func(w http.ResponseWriter, r *http.Request) bool {
						if !strings.HasPrefix(r.URL.Path, at) {
							return false
						}
						w.WriteHeader(row.code)
						if row.code != 204 {
							_, _ = w.Write([]byte(body))
						}
						return true
					}
				})
				path := "kv/db"
				if at == "/v1/kv1/" {
					path = "kv1/db"
				}
				words := "reading " + path + ": "
				if row.code > 204 {
					words = fmt.Sprintf("%v (HTTP %d): ", row.fact, row.code)
				}
				mustFail(t, s.vault(newClock()).As(jwt()), path, row.fact, words)
			}
		}
	}
}

func TestAnAnswerOfAnotherShapeIsNeverADocument(t *testing.T) {
	for _, body := range []string{
		`{`, `[]`, `null`, `{}`, `{"data":{}}`, `{"data":{"data":{}}}`, `{"data":{"data":null,"metadata":{"version":1}}}`,
		`{"data":{"data":{"a":"` + planted + `"}}}`, `{"data":{"data":{"a":"` + planted + `"},"metadata":{}}}`,
		`{"data":{"data":["` + planted + `"],"metadata":{"version":1}}}`, `{"data":{"a":"` + planted + `"}}`,
		`{"data":{"data":{"a":"` + planted + `"},"metadata":{"version":"1"}}}`,
		`<html>` + planted + `</html>`,
	} {
		s := newServer(t)
		s.set(func() {
			s.answer = func(w http.ResponseWriter, r *http.Request) bool {
				if strings.HasPrefix(r.URL.Path, "/v1/kv/data/") {
					reply(w, 200, body)
					return true
				}
				return false
			}
		})
		mustFail(t, s.vault(newClock()).As(jwt()), "kv/db", providers.ErrUnavailable, "not that of its engine")
	}
}

func TestNobodyIsFollowedElsewhere(t *testing.T) {
	for _, code := range []int{301, 302, 303, 307, 308} {
		elsewhere := newServer(t)
		for _, at := range []string{"/v1/auth/kubernetes/login", "/v1/sys/internal/ui/mounts/kv/db", "/v1/kv/data/db"} {
			s := newServer(t)
			s.set(func() {
				s.answer = func(w http.ResponseWriter, r *http.Request) bool {
					if r.URL.Path != at {
						return false
					}
					http.Redirect(w, r, elsewhere.URL+r.URL.Path, code)
					return true
				}
			})
			mustFail(t, s.vault(newClock()).As(jwt()), "kv/db", providers.ErrUnavailable, "it redirects us")
		}
		if len(elsewhere.asked) != 0 {
			t.Errorf("%d led to %v", code, elsewhere.asked)
		}
	}
}

func TestAnAnswerIsBounded(t *testing.T) {
	for _, at := range []string{"/v1/auth/kubernetes/login", "/v1/sys/internal/ui/mounts/kv/db", "/v1/kv/data/db"} {
		for _, code := range []int{200, 500} {
			s := newServer(t)
			s.set(func() {
				s.answer = func(w http.ResponseWriter, r *http.Request) bool {
					if r.URL.Path != at {
						return false
					}
					w.WriteHeader(code)
					chunk := []byte(strings.Repeat(planted, 1024))
					for range 1 << 30 / len(chunk) { // a GiB, if it were let
						if _, err := w.Write(chunk); err != nil {
							return true
						}
					}
					return true
				}
			})
			mustFail(t, s.vault(newClock()).As(jwt()), "kv/db", providers.ErrInvalid, "larger than 4 MiB")
		}
	}
}

func TestADocumentBelowTheBoundIsRead(t *testing.T) {
	s := newServer(t)
	large := strings.Repeat("x", 3<<20)
	s.set(func() {
		s.answer = func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != "/v1/kv/data/db" {
				return false
			}
			reply(w, 200, `{"data":{"data":{"password":"`+large+`"},"metadata":{"version":1}}}`)
			return true
		}
	})
	document := mustRead(t, s.vault(newClock()).As(jwt()), "kv/db")
	if len(document.Values["password"].Bytes()) != len(large) {
		t.Error("the value is cut")
	}
}

func TestASlowServerIsUnavailable(t *testing.T) {
	for _, at := range []string{"/v1/auth/", "/v1/sys/", "/v1/kv/"} {
		s := newServer(t)
		release := s.hold(at)
		session := s.vault(newClock(), func(c *vault.Config) { c.Timeout = 50 * time.Millisecond }).As(jwt())
		mustFail(t, session, "kv/db", providers.ErrUnavailable, "did not answer in time")
		release()
	}
}

func TestABodyThatStopsHalfwayIsUnavailable(t *testing.T) {
	s := newServer(t)
	s.set(func() {
		s.answer = func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != "/v1/kv/data/db" {
				return false
			}
			w.Header().Set("Content-Length", "1000")
			_, _ = w.Write([]byte(planted))
			return true
		}
	})
	mustFail(t, s.vault(newClock()).As(jwt()), "kv/db", providers.ErrUnavailable, "the connection failed")
}

func TestNoServerIsUnavailable(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := "https://" + listener.Addr().String()
	_ = listener.Close()

	s := newServer(t)
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	old := httptest.NewUnstartedServer(http.NotFoundHandler())
	old.Config.ErrorLog = s.Config.ErrorLog
	old.TLS = &tls.Config{MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10} // to be refused
	old.StartTLS()
	defer old.Close()
	demanding := httptest.NewUnstartedServer(http.NotFoundHandler())
	demanding.Config.ErrorLog = s.Config.ErrorLog
	demanding.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert, MinVersion: tls.VersionTLS12}
	demanding.StartTLS()
	defer demanding.Close()

	for _, row := range []struct {
		address, name, words string
		ca                   []byte
	}{
		{closed, "", "the connection was refused", nil},
		{strings.Replace(plain.URL, "http:", "https:", 1), "", "does not speak TLS", nil},
		{s.URL, "", "certificate is not trusted", nil},
		{s.URL, "vault.elsewhere", "certificate is not trusted", s.ca()},
		{old.URL, "", "TLS 1.2 or newer", s.ca()},
		{demanding.URL, "", "check the client certificate", s.ca()},
		{"https://vault.invalid:8200", "", "store unavailable: ", nil}, // whether a name resolves is the resolver's to say
	} {
		v, err := vault.New(vault.Config{Address: row.address, ServerName: row.name, CA: row.ca, Now: newClock().Now})
		if err != nil {
			t.Fatal(err)
		}
		mustFail(t, v.As(jwt()), "kv/db", providers.ErrUnavailable, row.words)
		mustBe(t, v.Health(t.Context()), providers.ErrUnavailable, row.words)
	}
}

func TestConnectionsAreBoundedAndKept(t *testing.T) {
	s := newServer(t)
	v := s.vault(newClock(), func(c *vault.Config) { c.MaxConnections = 4 })
	for range 3 {
		session := v.As(jwt())
		together(t, 100, session, func(i int) string { return fmt.Sprintf("kv/db%d", i) })
	}
	if len(s.from) > 4 {
		t.Errorf("%d connections were opened, of 4", len(s.from))
	}
}

func TestHealth(t *testing.T) {
	for _, row := range []struct {
		code  int
		body  string
		words string // empty: it is well
	}{
		{200, `{"initialized":true,"sealed":false,"standby":false}`, ""},
		{200, `{"initialized":true,"sealed":false,"standby":true,"performance_standby":true}`, ""},
		{200, `{"initialized":true,"sealed":false,"standby":true,"ha_connection_healthy":true}`, ""},
		{200, `{"initialized":true,"sealed":false,"standby":true,"ha_connection_healthy":false}`, "lost the active node"},
		{200, `{"initialized":true,"sealed":true}`, "not an answer of Vault"},
		{200, `{}`, "not an answer of Vault"},
		{200, planted, "not an answer of Vault"},
		{429, planted, "(HTTP 429): it says that it is not healthy"},
		{472, planted, "(HTTP 472): it is a disaster-recovery standby"},
		{500, planted, "(HTTP 500): "},
		{501, planted, "(HTTP 501): it is not initialized"},
		{503, planted, "(HTTP 503): it is sealed"},
		{530, planted, "(HTTP 530): it was removed from its cluster"},
	} {
		s := newServer(t)
		s.set(func() {
			s.answer = func(w http.ResponseWriter, _ *http.Request) bool { reply(w, row.code, row.body); return true }
		})
		err := s.vault(newClock(), func(c *vault.Config) { c.Namespace = "team-a" }).Health(t.Context())
		if row.words == "" {
			if err != nil {
				t.Errorf("%+v: %v", row, err)
			}
		} else {
			mustBe(t, err, providers.ErrUnavailable, row.words)
		}
		for _, header := range s.seen {
			if header.Get("X-Vault-Token") != "" || header.Get("X-Vault-Namespace") != "" {
				t.Error("the probe has a token or namespace")
			}
		}
	}
	s := newServer(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.vault(newClock()).Health(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled probe ended with %v", err)
	}
}

// diary is an Observer.
type diary struct {
	mu      sync.Mutex
	entries []string
}

func (d *diary) Observe(op string, err error, seconds float64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.entries = append(d.entries, fmt.Sprintf("%s %v %v", op, err != nil, seconds))
}

func TestTheObserverIsToldOfEveryRequest(t *testing.T) {
	s, clock := newServer(t), newClock()
	d := &diary{}
	v := s.vault(clock, func(c *vault.Config) { c.Observer = d })
	s.set(func() {
		s.answer = func(_ http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/v1/kv/data/db" {
				clock.step(2 * time.Second) // while it was asked
			}
			return false
		}
	})
	session := v.As(jwt())
	mustRead(t, session, "kv/db")
	clock.step(40 * time.Minute)
	mustRead(t, session, "kv/db")
	_ = v.Health(t.Context())
	want := "login false 0, mount false 0, read false 2, renew false 0, read false 2, health true 0"
	if got := strings.Join(d.entries, ", "); got != want {
		t.Errorf("the observer was told\n%s, want\n%s", got, want)
	}
}
