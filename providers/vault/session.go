package vault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/privyseal/privyseal/providers"
)

// Session is one identity at one Vault. It is safe for concurrent use, and
// ends by being forgotten: its token is left to expire.
//
// However many ask at once, there is one login, one question for each mount
// and one read for each document and version under way; each reader gets
// values of its own, to clear when it likes.
//
// A token that is refused something (HTTP 403) may have been revoked, or be
// older than the right to read. So there is a new login, if the last is older
// than loginPause, and the read is made once more; what the new token is
// refused is ErrDenied. The old token is kept until there is a new one: that
// one path is refused does not take the others away.
type Session struct {
	vault *Vault
	login Login

	tokens flight[token]
	finds  flight[mount]
	reads  flight[providers.Document]
	recent recent

	mu      sync.Mutex
	held    token
	serial  uint64           // logins begun so far
	tried   time.Time        // when the last of them began
	failure error            // what it ended with; nil while it has not
	mounts  map[string]mount // :: path, with its slash → mount
}

var _ providers.Reader = (*Session)(nil)

func newSession(v *Vault, login Login) *Session {
	return &Session{
		vault: v,
		login: login,
		reads: flight[providers.Document]{
			clone: providers.Document.Clone,
			drop:  providers.Document.Clear,
		},
		mounts: make(map[string]mount),
	}
}

// Read implements providers.Reader. An answer may be as old as a read of the
// same document and version that was under way when Read was called, or as the
// request allows.
func (s *Session) Read(ctx context.Context, wanted providers.Request) (providers.Document, error) {
	document, err := s.checkedRead(ctx, wanted)
	if err != nil {
		return providers.Document{}, fmt.Errorf("reading %s: %w", wanted.Ref, err)
	}
	return document, nil
}

func (s *Session) checkedRead(ctx context.Context, wanted providers.Request) (providers.Document, error) {
	switch {
	case ctx.Err() != nil:
		return providers.Document{}, ctx.Err()
	case wanted.Ref.IsZero():
		return providers.Document{}, fault(providers.ErrInvalid, 0, "there is no path")
	case wanted.Version < 0:
		return providers.Document{}, fault(providers.ErrInvalid, 0, "a version is never negative")
	}
	key := strconv.FormatInt(wanted.Version, 10) + " " + wanted.Ref.String()
	if document, found := s.recent.get(key, wanted.Since); found {
		return document, nil
	}
	return s.reads.do(ctx, key, func(ctx context.Context) (providers.Document, error) {
		asked := s.vault.now()
		document, err := s.read(ctx, wanted)
		if err == nil && !wanted.Since.IsZero() {
			s.keep(key, asked, document)
		}
		return document, err
	})
}

// keep has an answer serve those who ask for the same in the next moment.
func (s *Session) keep(key string, asked time.Time, document providers.Document) {
	if s.vault.later != nil && s.recent.put(key, asked, document) {
		s.vault.later(keepAnswer, func() { s.recent.drop(key, asked) })
	}
}

func (s *Session) read(ctx context.Context, wanted providers.Request) (providers.Document, error) {
	return withToken(ctx, s, func(held token) (providers.Document, error) { return s.document(ctx, held, wanted) })
}

// withToken does what takes one, and once more with a new one if the token may
// be what was refused. What was refused has changed nothing.
func withToken[T any](ctx context.Context, s *Session, do func(token) (T, error)) (done T, err error) {
	var none T
	held, err := s.token(ctx, 0)
	if err != nil {
		return none, err
	}
	done, err = do(held)
	if !errors.Is(err, providers.ErrDenied) || !s.mayLogInAgain(held) {
		return done, err
	}
	fresh, loginErr := s.token(ctx, held.serial)
	if loginErr != nil {
		return none, loginErr
	}
	if fresh.serial == held.serial {
		return none, err
	}
	return do(fresh)
}

// mayLogInAgain says whether a login could tell a refused token from a refused
// path: one was begun since this token's, this token was at its end, or the
// last login is long enough ago.
func (s *Session) mayLogInAgain(refused token) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.vault.now()
	return s.serial != refused.serial || refused.due(now) || !s.paused(now)
}

// paused says that the last login began just now. The lock is held.
func (s *Session) paused(now time.Time) bool { return now.Sub(s.tried) < loginPause }

// token is one to read with, newer than the login numbered suspect.
func (s *Session) token(ctx context.Context, suspect uint64) (token, error) {
	if held, ok := s.good(suspect); ok {
		return held, nil
	}
	return s.tokens.do(ctx, "", func(ctx context.Context) (token, error) { return s.refresh(ctx, suspect) })
}

// good is the token that is held, and whether it needs nothing done.
func (s *Session) good(suspect uint64) (token, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.vault.now()
	usable := s.held.serial > suspect && s.held.alive(now)
	return s.held, usable && (!s.held.due(now) || s.paused(now))
}

// refresh renews or replaces the token; one at a time. Where neither works, a
// token that is alive, and not suspect, is as good as before.
func (s *Session) refresh(ctx context.Context, suspect uint64) (token, error) {
	held, ok := s.good(suspect)
	if ok {
		return held, nil // another's refresh ended since we looked
	}
	usable := held.serial > suspect && held.alive(s.vault.now())
	if usable && held.renewable {
		if renewed, err := s.vault.renew(ctx, held); err == nil {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.held = renewed
			return renewed, nil
		}
	}
	fresh, err := s.replace(ctx)
	if err != nil && usable {
		return held, nil
	}
	return fresh, err
}

// replace logs in, unless that failed just now in a way that another try, so
// soon, will not mend, or that can wait since there is a token that lives.
func (s *Session) replace(ctx context.Context) (token, error) {
	s.mu.Lock()
	now, failure := s.vault.now(), s.failure
	if failure != nil && s.paused(now) && (s.held.alive(now) || !errors.Is(failure, providers.ErrUnavailable)) {
		s.mu.Unlock()
		return token{}, failure
	}
	s.serial++
	s.tried, s.failure = now, nil
	serial := s.serial
	s.mu.Unlock()

	fresh, err := s.vault.logIn(ctx, s.login)

	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		if ctx.Err() == nil { // else nobody waits any longer, and nothing was learnt
			s.failure = err
		}
		return token{}, err
	}
	fresh.serial = serial
	s.held = fresh
	return fresh, nil
}

// renew gives a token more life, in the namespace that it was made in.
func (v *Vault) renew(ctx context.Context, held token) (token, error) {
	began := v.now()
	life, renewable, err := v.renewed(ctx, held)
	v.observe("renew", began, err)
	if err != nil {
		return token{}, err
	}
	held.asked, held.life = began, life
	// A life cut short says that the greatest age is near: next time, log in,
	// rather than renew for ever less.
	held.renewable = renewable && life >= held.first/2
	return held, nil
}

func (v *Vault) renewed(ctx context.Context, held token) (time.Duration, bool, error) {
	got, err := v.call(ctx, request{
		method: http.MethodPost, path: "auth/token/renew-self", namespace: v.authNamespace, token: held.value,
	})
	if err != nil {
		return 0, false, err
	}
	defer clear(got.body)
	if got.code != http.StatusOK {
		return 0, false, loginRefused(got.code)
	}
	var renewal struct {
		Auth struct {
			LeaseDuration int64 `json:"lease_duration"`
			Renewable     bool  `json:"renewable"`
		} `json:"auth"`
	}
	if err := json.Unmarshal(got.body, &renewal); err != nil || renewal.Auth.LeaseDuration <= 0 {
		return 0, false, fault(providers.ErrUnavailable, got.code, notVault)
	}
	return time.Duration(renewal.Auth.LeaseDuration) * time.Second, renewal.Auth.Renewable, nil
}
