package vault_test

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/privyseal/privyseal/providers"
	"github.com/privyseal/privyseal/providers/vault"
)

// What a Vault says and does is tested against a real one, in lab_test.go. The
// server here is for what a real one cannot be made to do on demand: count what
// it is asked, answer late, wrongly, hugely or with a redirect, and give out
// tokens that live as long as the test wants.

const planted = "MARKER-planted-by-the-server"

// server answers as a Vault with a key-value engine of version 2 at kv/, of
// version 1 at kv1/, and a login that anyone may use, until told otherwise.
type server struct {
	*httptest.Server
	t *testing.T

	mu     sync.Mutex
	asked  map[string]int // :: "GET /v1/path?query" → times
	seen   []http.Header
	from   map[string]bool // :: remote address → true
	logins int
	life   int                     // of tokens, in seconds
	long   int                     // of renewed tokens
	valid  func(token string) bool // what is not, gets 403
	answer func(w http.ResponseWriter, r *http.Request) bool
}

func newServer(t *testing.T) *server {
	s := &server{t: t, asked: make(map[string]int), from: make(map[string]bool), life: 3600, long: 3600, valid: func(string) bool { return true }}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // handshakes that fail are what is tested
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

func (s *server) ca() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
}

// set changes how the server behaves.
func (s *server) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

func (s *server) count(key string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[key]
}

func (s *server) mustCount(want int, key string) {
	s.t.Helper()
	if got := s.count(key); got != want {
		s.t.Errorf("%s was asked %d times, want %d", key, got, want)
	}
}

func (s *server) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	key := r.Method + " " + r.URL.Path
	s.asked[key]++
	s.from[r.RemoteAddr] = true
	s.seen = append(s.seen, r.Header.Clone())
	answer, valid, life, long := s.answer, s.valid(r.Header.Get("X-Vault-Token")), s.life, s.long
	login := strings.HasPrefix(r.URL.Path, "/v1/auth/") && strings.HasSuffix(r.URL.Path, "/login")
	if login {
		s.logins++
	}
	logins := s.logins
	s.mu.Unlock()

	switch {
	case answer != nil && answer(w, r):
	case login:
		reply(w, 200, fmt.Sprintf(`{"auth":{"client_token":"token-%d","lease_duration":%d,"renewable":true}}`, logins, life))
	case !valid:
		reply(w, 403, `{"errors":["permission denied `+planted+`"]}`)
	case r.URL.Path == "/v1/auth/token/renew-self":
		reply(w, 200, fmt.Sprintf(`{"auth":{"client_token":"x","lease_duration":%d,"renewable":true}}`, long))
	case strings.HasPrefix(r.URL.Path, "/v1/sys/internal/ui/mounts/kv/"):
		reply(w, 200, `{"data":{"path":"kv/","type":"kv","options":{"version":"2"}}}`)
	case strings.HasPrefix(r.URL.Path, "/v1/sys/internal/ui/mounts/kv1/"):
		reply(w, 200, `{"data":{"path":"kv1/","type":"kv","options":null}}`)
	case strings.HasPrefix(r.URL.Path, "/v1/kv/data/"):
		reply(w, 200, `{"data":{"data":{"password":"`+planted+`"},"metadata":{"version":3,"deletion_time":"","destroyed":false}}}`)
	case strings.HasPrefix(r.URL.Path, "/v1/kv1/"):
		reply(w, 200, `{"data":{"password":"`+planted+`"}}`)
	default:
		reply(w, 404, `{"errors":["no handler `+planted+`"]}`)
	}
}

func reply(w http.ResponseWriter, code int, body string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write([]byte(body))
}

// clock is a time that tests turn.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) step(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// vault is a Vault at this server, with changes to its configuration.
func (s *server) vault(clock *clock, changes ...func(*vault.Config)) *vault.Vault {
	s.t.Helper()
	config := vault.Config{Address: s.URL, CA: s.ca(), Now: clock.Now}
	for _, change := range changes {
		change(&config)
	}
	v, err := vault.New(config)
	if err != nil {
		s.t.Fatal(err)
	}
	return v
}

func jwt() vault.Kubernetes {
	return vault.Kubernetes{Role: "payments", Token: func(context.Context) (providers.Value, error) {
		return providers.NewValue([]byte("MARKER-jwt")), nil
	}}
}

func request(t *testing.T, path string) providers.Request {
	t.Helper()
	ref, err := providers.ParseRef(path)
	if err != nil {
		t.Fatal(err)
	}
	return providers.Request{Ref: ref}
}

func mustRead(t *testing.T, reader providers.Reader, path string) providers.Document {
	t.Helper()
	document, err := reader.Read(t.Context(), request(t, path))
	if err != nil {
		t.Errorf("%v", err)
	}
	return document
}

// mustFail reads, and wants the fact, the words, and nothing of the server's.
func mustFail(t *testing.T, reader providers.Reader, path string, fact error, words string) {
	t.Helper()
	_, err := reader.Read(t.Context(), request(t, path))
	mustBe(t, err, fact, words)
}

func mustBe(t *testing.T, err, fact error, words string) {
	t.Helper()
	for _, other := range []error{
		providers.ErrNotFound, providers.ErrDeleted, providers.ErrDenied, providers.ErrUnavailable, providers.ErrInvalid,
	} {
		if is(err, other) != is(other, fact) {
			t.Errorf("%v: want %v alone", err, fact)
		}
	}
	if err == nil || !strings.Contains(err.Error(), words) {
		t.Errorf("%v: it does not say %q", err, words)
	}
	if text := fmt.Sprintf("%v %+v %#v", err, err, err); strings.Contains(text, "MARKER") {
		t.Errorf("it tells what it must not: %v", text)
	}
	if encoded, _ := json.Marshal(err); strings.Contains(string(encoded), "MARKER") {
		t.Errorf("its JSON tells what it must not: %s", encoded)
	}
}
