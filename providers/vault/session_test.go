package vault_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/privyseal/privyseal/providers"
	"github.com/privyseal/privyseal/providers/vault"
)

const (
	loginPath = "PUT /v1/auth/kubernetes/login"
	renewPath = "POST /v1/auth/token/renew-self"
)

func is(err, target error) bool { return errors.Is(err, target) }

// together makes n reads at once and returns when all have ended.
func together(t *testing.T, n int, reader providers.Reader, path func(i int) string) {
	t.Helper()
	start := make(chan struct{})
	var wait sync.WaitGroup
	for i := range n {
		wait.Go(func() {
			<-start
			document := mustRead(t, reader, path(i))
			if !document.Values["password"].Equal(providers.NewValue([]byte(planted))) {
				t.Error("a reader got another value than was written")
			}
			document.Clear()
		})
	}
	close(start)
	wait.Wait()
}

// hold makes the server keep requests that begin with prefix until release is
// called, so that what is meant to be concurrent is.
func (s *server) hold(prefix string) (release func()) {
	gate := make(chan struct{})
	s.set(func() {
		s.answer = func(_ http.ResponseWriter, r *http.Request) bool {
			if strings.HasPrefix(r.URL.Path, prefix) {
				<-gate
			}
			return false
		}
	})
	return sync.OnceFunc(func() { close(gate) })
}

// eventually waits for a condition, with a deadline.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-deadline.C:
			t.Errorf("this did not come about: %s", what)
			return
		case <-tick.C:
		}
	}
}

func TestAHundredFirstReadsMakeOneLogin(t *testing.T) {
	s := newServer(t)
	session := s.vault(newClock()).As(jwt())
	release := s.hold("/v1/auth/")
	go func() {
		defer release()
		eventually(t, "a hundred wait", func() bool { return session.Waiting() == 100 })
	}()
	together(t, 100, session, func(i int) string { return fmt.Sprintf("kv/db%d", i) })
	s.mustCount(1, loginPath)
	for i := range 100 {
		s.mustCount(1, fmt.Sprintf("GET /v1/kv/data/db%d", i))
	}
	mounts := 0
	for i := range 100 {
		mounts += s.count(fmt.Sprintf("GET /v1/sys/internal/ui/mounts/kv/db%d", i))
	}
	if mounts != 1 {
		t.Errorf("the mount was asked for %d times, want 1", mounts)
	}
}

func TestAHundredReadsOfOnePathMakeOneRequest(t *testing.T) {
	s := newServer(t)
	session := s.vault(newClock()).As(jwt())
	release := s.hold("/v1/auth/")
	go func() {
		defer release()
		eventually(t, "a hundred wait", func() bool { return session.Waiting() == 100 })
	}()
	together(t, 100, session, func(int) string { return "kv/db" })
	s.mustCount(1, loginPath)
	s.mustCount(1, "GET /v1/sys/internal/ui/mounts/kv/db")
	s.mustCount(1, "GET /v1/kv/data/db")

	mustRead(t, session, "kv/db")
	s.mustCount(2, "GET /v1/kv/data/db") // nothing is kept: the caller decides how fresh
	s.mustCount(1, loginPath)
	s.mustCount(1, "GET /v1/sys/internal/ui/mounts/kv/db")
}

func TestAVersionAndTheNewestAreTwoReads(t *testing.T) {
	s := newServer(t)
	session := s.vault(newClock()).As(jwt())
	var query string
	s.set(func() {
		s.answer = func(_ http.ResponseWriter, r *http.Request) bool { query = r.URL.RawQuery; return false }
	})
	wanted := request(t, "kv/db")
	wanted.Version = 2
	if _, err := session.Read(t.Context(), wanted); err != nil {
		t.Fatal(err)
	}
	if query != "version=2" {
		t.Errorf("the query was %q", query)
	}
	wanted = request(t, "kv1/db")
	wanted.Version = 2
	_, err := session.Read(t.Context(), wanted)
	mustBe(t, err, providers.ErrInvalid, "its mount keeps none")
}

func TestIdentitiesShareNothingButConnections(t *testing.T) {
	s := newServer(t)
	v := s.vault(newClock())
	one, two := v.As(jwt()), v.As(jwt())
	mustRead(t, one, "kv/db")
	mustRead(t, two, "kv/db")
	s.mustCount(2, loginPath)
	s.mustCount(2, "GET /v1/kv/data/db")
	s.mu.Lock()
	defer s.mu.Unlock()
	tokens := make(map[string]int)
	for _, header := range s.seen {
		tokens[header.Get("X-Vault-Token")]++
	}
	if len(tokens) != 3 || tokens["token-1"] != 2 || tokens["token-2"] != 2 || tokens[""] != 2 {
		t.Errorf("the requests came with the tokens %v", tokens)
	}
}

func TestARevokedTokenIsReplacedOnce(t *testing.T) {
	s, clock := newServer(t), newClock()
	session := s.vault(clock).As(jwt())
	mustRead(t, session, "kv/db")
	s.set(func() { s.valid = func(token string) bool { return token == "token-2" } })
	clock.step(time.Minute)
	together(t, 100, session, func(i int) string { return fmt.Sprintf("kv/db%d", i) })
	s.mustCount(2, loginPath)
}

func TestWhatAFreshTokenIsRefusedIsDenied(t *testing.T) {
	s, clock := newServer(t), newClock()
	session := s.vault(clock).As(jwt())
	s.set(func() {
		s.answer = func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != "/v1/kv/data/other" {
				return false
			}
			reply(w, 403, `{"errors":["`+planted+`"]}`)
			return true
		}
	})
	mustFail(t, session, "kv/other", providers.ErrDenied, "reading kv/other: denied by the store (HTTP 403): ")
	s.mustCount(1, loginPath) // the token was made for this read

	mustFail(t, session, "kv/other", providers.ErrDenied, "(HTTP 403)")
	s.mustCount(1, loginPath) // and is still young

	clock.step(10 * time.Second)
	for range 20 {
		mustFail(t, session, "kv/other", providers.ErrDenied, "(HTTP 403)")
	}
	s.mustCount(2, loginPath) // once, not twenty times
	mustRead(t, session, "kv/db")
	s.mustCount(2, loginPath)
}

func TestAPathThatIsRefusedDoesNotTakeTheTokenAway(t *testing.T) {
	s, clock := newServer(t), newClock()
	session := s.vault(clock).As(jwt())
	mustRead(t, session, "kv/db")
	clock.step(time.Minute)
	s.set(func() {
		s.answer = func(w http.ResponseWriter, r *http.Request) bool {
			switch r.URL.Path {
			case "/v1/kv/data/other":
				reply(w, 403, `{}`)
			case "/v1/auth/kubernetes/login":
				reply(w, 500, `{"errors":["`+planted+`"]}`)
			default:
				return false
			}
			return true
		}
	})
	mustFail(t, session, "kv/other", providers.ErrUnavailable, "reading kv/other: logging in: store unavailable (HTTP 500): ")
	mustRead(t, session, "kv/db")
}

func TestARefusedLoginIsRemembered(t *testing.T) {
	for code, fact := range map[int]error{
		400: providers.ErrDenied, 403: providers.ErrDenied, 404: providers.ErrInvalid, 405: providers.ErrInvalid,
	} {
		s, clock := newServer(t), newClock()
		session := s.vault(clock).As(jwt())
		s.set(func() {
			s.answer = func(w http.ResponseWriter, _ *http.Request) bool {
				reply(w, code, `{"errors":["`+planted+`"]}`)
				return true
			}
		})
		words := fmt.Sprintf("logging in: %v (HTTP %d): ", fact, code)
		for i := range 50 {
			mustFail(t, session, fmt.Sprintf("kv/db%d", i), fact, words)
		}
		s.mustCount(1, loginPath)
		clock.step(10 * time.Second)
		mustFail(t, session, "kv/db", fact, words)
		s.mustCount(2, loginPath)

		s.set(func() { s.answer = nil })
		clock.step(10 * time.Second)
		mustRead(t, session, "kv/db")
		s.mustCount(3, loginPath)
	}
}

func TestALoginThatGotNoAnswerIsNotRemembered(t *testing.T) {
	s := newServer(t)
	session := s.vault(newClock()).As(jwt())
	s.set(func() {
		s.answer = func(w http.ResponseWriter, _ *http.Request) bool { reply(w, 503, planted); return true }
	})
	mustFail(t, session, "kv/db", providers.ErrUnavailable, "logging in: store unavailable (HTTP 503): it is sealed")
	s.set(func() { s.answer = nil })
	mustRead(t, session, "kv/db")
}

func TestATokenIsRenewedAtTwoThirds(t *testing.T) {
	s, clock := newServer(t), newClock()
	session := s.vault(clock).As(jwt())
	mustRead(t, session, "kv/db")
	clock.step(39 * time.Minute)
	mustRead(t, session, "kv/db")
	s.mustCount(0, renewPath)
	clock.step(time.Minute)
	together(t, 50, session, func(int) string { return "kv/db" })
	s.mustCount(1, renewPath)
	s.mustCount(1, loginPath)

	// It has an hour again from there on.
	clock.step(39 * time.Minute)
	mustRead(t, session, "kv/db")
	s.mustCount(1, renewPath)
}

func TestATokenNearItsGreatestAgeIsReplaced(t *testing.T) {
	s, clock := newServer(t), newClock()
	session := s.vault(clock).As(jwt())
	mustRead(t, session, "kv/db")
	s.set(func() { s.long = 600 }) // all that is left to give
	clock.step(40 * time.Minute)
	mustRead(t, session, "kv/db")
	s.mustCount(1, renewPath)
	clock.step(7 * time.Minute)
	mustRead(t, session, "kv/db")
	s.mustCount(1, renewPath)
	s.mustCount(2, loginPath)
}

func TestAnExpiredTokenIsReplacedUnasked(t *testing.T) {
	s, clock := newServer(t), newClock()
	session := s.vault(clock).As(jwt())
	mustRead(t, session, "kv/db")
	clock.step(time.Hour)
	mustRead(t, session, "kv/db")
	s.mustCount(0, renewPath)
	s.mustCount(2, loginPath)
	s.mustCount(2, "GET /v1/kv/data/db")
}

func TestATokenThatCannotBeRefreshedIsUsedWhileItLives(t *testing.T) {
	s, clock := newServer(t), newClock()
	session := s.vault(clock).As(jwt())
	mustRead(t, session, "kv/db")
	s.set(func() {
		s.answer = func(w http.ResponseWriter, r *http.Request) bool {
			if strings.HasPrefix(r.URL.Path, "/v1/auth/") {
				reply(w, 500, planted)
				return true
			}
			return false
		}
	})
	clock.step(45 * time.Minute)
	for range 20 {
		mustRead(t, session, "kv/db")
	}
	s.mustCount(1, renewPath)
	s.mustCount(2, loginPath) // tried, and not at each read again
	clock.step(15 * time.Minute)
	mustFail(t, session, "kv/db", providers.ErrUnavailable, "logging in: ")
}

func TestATokenWithoutAnEndIsNeverRenewed(t *testing.T) {
	s, clock := newServer(t), newClock()
	session := s.vault(clock).As(vault.Token{Value: func(context.Context) (providers.Value, error) {
		return providers.NewValue([]byte("hvs.static\n")), nil // as a file has it
	}})
	mustRead(t, session, "kv/db")
	clock.step(1000 * time.Hour)
	mustRead(t, session, "kv/db")
	s.mustCount(0, renewPath)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, header := range s.seen {
		if got := header.Get("X-Vault-Token"); got != "hvs.static" {
			t.Errorf("the token was %q", got)
		}
	}
}

func TestACallerWhoLeavesLeavesTheOthersTheirAnswer(t *testing.T) {
	s := newServer(t)
	session := s.vault(newClock()).As(jwt())
	mustRead(t, session, "kv/db")
	release := s.hold("/v1/kv/data/")
	defer release()

	leaving, leave := context.WithCancel(t.Context())
	left, stayed := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := session.Read(leaving, request(t, "kv/db"))
		left <- err
	}()
	eventually(t, "the read is under way", func() bool { return s.count("GET /v1/kv/data/db") == 2 })
	go func() {
		document, err := session.Read(t.Context(), request(t, "kv/db"))
		document.Clear()
		stayed <- err
	}()
	eventually(t, "both wait", func() bool { return session.Waiting() == 2 })
	leave()
	if err := <-left; !errors.Is(err, context.Canceled) || !strings.HasPrefix(err.Error(), "reading kv/db: ") {
		t.Errorf("who left got %v", err)
	}
	release()
	if err := <-stayed; err != nil {
		t.Errorf("who stayed got %v", err)
	}
}

func TestAReadThatNobodyWaitsForIsCancelled(t *testing.T) {
	s := newServer(t)
	session := s.vault(newClock()).As(jwt())
	mustRead(t, session, "kv/db")
	cancelled := make(chan struct{})
	s.set(func() {
		s.answer = func(_ http.ResponseWriter, r *http.Request) bool {
			<-r.Context().Done() // the client hung up
			close(cancelled)
			return true
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := session.Read(ctx, request(t, "kv/db"))
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the read ended with %v", err)
	}
	<-cancelled
}

func TestLoginsRefuseWhatTheyCannotWorkWith(t *testing.T) {
	value := func(text string) func(context.Context) (providers.Value, error) {
		return func(context.Context) (providers.Value, error) { return providers.NewValue([]byte(text)), nil }
	}
	forbidden := errors.New("serviceaccounts \"privyseal\" not found")
	s := newServer(t)
	for words, row := range map[string]struct {
		login vault.Login
		fact  error
	}{
		"role is missing":    {vault.Kubernetes{Token: value("jwt")}, providers.ErrInvalid},
		"role id is missing": {vault.AppRole{SecretID: value("id")}, providers.ErrInvalid},
		// The library would send the daemon's own token instead.
		"token: store configuration invalid: it is empty":                   {vault.Kubernetes{Role: "r", Token: value(" \n")}, providers.ErrInvalid},
		"secret id: store configuration invalid: it is empty":               {vault.AppRole{RoleID: "r", SecretID: value("")}, providers.ErrInvalid},
		"the token: store configuration invalid: there is no way to get it": {vault.Token{}, providers.ErrInvalid},
		"the login's mount: malformed path":                                 {vault.Kubernetes{Mount: "../sys", Role: "r", Token: value("jwt")}, providers.ErrInvalid},
		"mount: malformed path":                                             {vault.AppRole{Mount: "a//b", RoleID: "r", SecretID: value("id")}, providers.ErrInvalid},
		"serviceaccounts \"privyseal\" not found": {vault.Kubernetes{Role: "r", Token: func(context.Context) (providers.Value, error) {
			return providers.Value{}, forbidden
		}}, providers.ErrUnavailable},
		"denied by the store: the login was answered without a token": {silent{}, providers.ErrDenied},
		"logging in: store unavailable: the connection failed":        {loud{}, providers.ErrUnavailable},
	} {
		session := s.vault(newClock()).As(row.login)
		mustFail(t, session, "kv/db", row.fact, words)
	}
	if len(s.asked) != 0 {
		t.Errorf("the server was asked %v", s.asked)
	}
}

type silent struct{}

func (silent) Login(context.Context, *api.Client) (*api.Secret, error) { return &api.Secret{}, nil }

type loud struct{}

func (loud) Login(context.Context, *api.Client) (*api.Secret, error) { return nil, errors.New(planted) }

func TestEachLoginSaysWhatItsMethodWants(t *testing.T) {
	id := func(context.Context) (providers.Value, error) { return providers.NewValue([]byte("it\n")), nil }
	for path, row := range map[string]struct {
		login vault.Login
		body  string
	}{
		"/v1/auth/kubernetes/login":    {vault.Kubernetes{Role: "r", Token: id}, `{"jwt":"it","role":"r"}`},
		"/v1/auth/clusters/east/login": {vault.Kubernetes{Mount: "clusters/east", Role: "r", Token: id}, `{"jwt":"it","role":"r"}`},
		"/v1/auth/approle/login":       {vault.AppRole{RoleID: "r", SecretID: id}, `{"role_id":"r","secret_id":"it"}`},
		"/v1/auth/machines/login":      {vault.AppRole{Mount: "machines", RoleID: "r", SecretID: id}, `{"role_id":"r","secret_id":"it"}`},
	} {
		s := newServer(t)
		var got string
		s.set(func() {
			s.answer = func(_ http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path == path {
					body := make([]byte, r.ContentLength)
					_, _ = r.Body.Read(body)
					got = string(body)
				}
				return false
			}
		})
		mustRead(t, s.vault(newClock()).As(row.login), "kv/db")
		if got != row.body {
			t.Errorf("%s was sent %s, want %s", path, got, row.body)
		}
	}
}

func TestNamespacesGoWhereTheyBelong(t *testing.T) {
	for _, row := range []struct{ namespace, auth, login, read string }{
		{"", "", "", ""},
		{"team-a", "", "team-a", "team-a"},
		{"team-a", "root", "root", "team-a"},
		{"", "admin", "admin", ""},
		{"admin/team-a", "admin", "admin", "admin/team-a"},
	} {
		s, clock := newServer(t), newClock()
		got := make(map[string]string)
		s.set(func() {
			s.answer = func(_ http.ResponseWriter, r *http.Request) bool {
				got[r.URL.Path] = r.Header.Get("X-Vault-Namespace")
				return false
			}
		})
		session := s.vault(clock, func(c *vault.Config) { c.Namespace, c.AuthNamespace = row.namespace, row.auth }).As(jwt())
		mustRead(t, session, "kv/db")
		clock.step(40 * time.Minute)
		mustRead(t, session, "kv/db")
		for path, want := range map[string]string{
			"/v1/auth/kubernetes/login":        row.login,
			"/v1/auth/token/renew-self":        row.login,
			"/v1/sys/internal/ui/mounts/kv/db": row.read,
			"/v1/kv/data/db":                   row.read,
		} {
			if namespace, asked := got[path]; !asked || namespace != want {
				t.Errorf("with %+v, %s went to the namespace %q", row, path, namespace)
			}
		}
	}
}
