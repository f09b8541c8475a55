package vault_test

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/privyseal/privyseal/providers"
	"github.com/privyseal/privyseal/providers/vault"
)

// timers are what is to be run later: the test says when.
type timers struct {
	mu   sync.Mutex
	runs []func()
}

func (t *timers) later(_ time.Duration, run func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.runs = append(t.runs, run)
}

func (t *timers) fire() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, run := range t.runs {
		run()
	}
	t.runs = nil
}

// sharing is a session that keeps answers.
func sharing(s *server, clock *clock, timers *timers) *vault.Session {
	return s.vault(clock, func(c *vault.Config) { c.Later = timers.later }).As(jwt())
}

func since(t *testing.T, path string, at time.Time) providers.Request {
	t.Helper()
	wanted := request(t, path)
	wanted.Since = at
	return wanted
}

func mustReadSince(t *testing.T, reader providers.Reader, path string, at time.Time) providers.Document {
	t.Helper()
	document, err := reader.Read(t.Context(), since(t, path, at))
	if err != nil {
		t.Fatal(err)
	}
	return document
}

func TestThoseWhoWaitedWhenAnAnswerWasAskedForShareIt(t *testing.T) {
	s, clock, timers := newServer(t), newClock(), &timers{}
	session := sharing(s, clock, timers)
	due := clock.Now()
	clock.step(time.Second)
	for range 1000 {
		document := mustReadSince(t, session, "kv/db", due)
		if !document.Values["password"].Equal(providers.NewValue([]byte(planted))) {
			t.Fatal("a reader got another value than the store holds")
		}
		document.Clear() // it is the reader's own
	}
	s.mustCount(1, "GET /v1/kv/data/db")

	// Whoever came after the question, or says nothing, has it asked anew.
	clock.step(time.Second)
	mustReadSince(t, session, "kv/db", clock.Now())
	mustRead(t, session, "kv/db")
	s.mustCount(3, "GET /v1/kv/data/db")
}

func TestAnAnswerIsKeptForAMomentOnly(t *testing.T) {
	s, clock, timers := newServer(t), newClock(), &timers{}
	session := sharing(s, clock, timers)
	due := clock.Now()
	mustReadSince(t, session, "kv/db", due)
	timers.fire()
	mustReadSince(t, session, "kv/db", due)
	s.mustCount(2, "GET /v1/kv/data/db")

	// A newer answer outlives the end of the one before.
	old := timers.runs
	timers.runs = nil
	clock.step(time.Second)
	mustReadSince(t, session, "kv/db", clock.Now())
	for _, run := range old {
		run()
	}
	mustReadSince(t, session, "kv/db", clock.Now())
	s.mustCount(3, "GET /v1/kv/data/db")
}

func TestVersionsAndIdentitiesDoNotShareAnswers(t *testing.T) {
	s, clock, timers := newServer(t), newClock(), &timers{}
	v := s.vault(clock, func(c *vault.Config) { c.Later = timers.later })
	one, other := v.As(jwt()), v.As(jwt())
	due := clock.Now()
	mustReadSince(t, one, "kv/db", due)
	mustReadSince(t, other, "kv/db", due)
	pinned := since(t, "kv/db", due)
	pinned.Version = 3
	if _, err := one.Read(t.Context(), pinned); err != nil {
		t.Fatal(err)
	}
	s.mustCount(3, "GET /v1/kv/data/db")
}

func TestNeitherFailuresNorLargeAnswersAreKept(t *testing.T) {
	s, clock, timers := newServer(t), newClock(), &timers{}
	session := sharing(s, clock, timers)
	due := clock.Now()
	for range 2 {
		if _, err := session.Read(t.Context(), since(t, "nowhere/db", due)); err == nil {
			t.Error("a document that is not there was read")
		}
	}
	s.set(func() {
		s.answer = func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != "/v1/kv/data/large" {
				return false
			}
			reply(w, 200, `{"data":{"data":{"a":"`+strings.Repeat("x", 17<<10)+`"},"metadata":{"version":1}}}`)
			return true
		}
	})
	for range 2 {
		mustReadSince(t, session, "kv/large", due)
	}
	s.mustCount(2, "GET /v1/kv/data/large")
	if len(timers.runs) > 0 {
		t.Errorf("%d answers were kept", len(timers.runs))
	}
}
