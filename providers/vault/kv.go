package vault

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/privyseal/privyseal/providers"
)

// engine is what keeps, or makes, the documents of a mount.
type engine int

const (
	keyValue engine = iota + 1
	database
)

// mount is an engine, and where it lies.
type mount struct {
	path    string // with its slash: "kv/"
	engine  engine
	version int // of a key-value engine: 1 or 2
	asked   time.Time
}

// same says that two answers speak of the same engine.
func (m mount) same(other mount) bool {
	return m.path == other.path && m.engine == other.engine && m.version == other.version
}

// rest is the part of ref below the mount.
func (m mount) rest(ref providers.Ref) (string, bool) {
	rest, ok := strings.CutPrefix(ref.String(), m.path)
	return rest, ok && rest != "" && m.path != ""
}

// document reads what is wanted with one token. What is known of the mount may
// be out of date; a 404, or an answer of another shape, is the sign to ask for
// it again.
func (s *Session) document(ctx context.Context, held token, wanted providers.Request) (providers.Document, error) {
	known, ok := s.known(wanted.Ref)
	if !ok {
		found, err := s.find(ctx, held, wanted.Ref, s.known)
		if err != nil {
			return providers.Document{}, err
		}
		return s.get(ctx, held, found, wanted)
	}
	document, err := s.get(ctx, held, known, wanted)
	if !s.doubtful(known, err) {
		return document, err
	}
	found, findErr := s.find(ctx, held, wanted.Ref, nothing)
	switch {
	case errors.Is(findErr, providers.ErrUnavailable):
		return providers.Document{}, findErr
	case findErr != nil || found.same(known):
		// Gone, or as before. That it is gone is told by a refusal, so that
		// nobody can guess mounts; the read's own answer says more.
		s.believe(known)
		return providers.Document{}, err
	}
	return s.get(ctx, held, found, wanted)
}

// known is the mount of ref, if it was found before.
func (s *Session) known(ref providers.Ref) (mount, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.mounts { // a handful, of which no one lies in another
		if rest, ok := m.rest(ref); ok {
			return m, !ambiguous(m, rest)
		}
	}
	return mount{}, false
}

// ambiguous says that the engine's version has to be known for certain: were
// a mount of version 1 upgraded to version 2 since it was found, a read of its
// document data/x would be answered with the document x.
func ambiguous(m mount, rest string) bool {
	first, _, _ := strings.Cut(rest, "/")
	switch first {
	case "config", "data", "metadata", "subkeys": // what version 2 answers a GET at
		return m.version == 1
	}
	return false
}

// doubtful says whether err could come from what is known of a mount.
func (s *Session) doubtful(m mount, err error) bool {
	switch {
	case errors.Is(err, errShape):
		return true
	case errors.Is(err, providers.ErrNotFound):
		return s.vault.now().Sub(m.asked) >= mountTrust
	}
	return false
}

// believe keeps what is known of a mount for another while.
func (s *Session) believe(m mount) {
	m.asked = s.vault.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mounts[m.path] = m
}

// find asks for the mount of ref. Whoever asks for a path with the same first
// segment waits for the answer, which mostly is theirs as well: mounts are
// mostly named by one segment. Somebody may have found the mount between the
// caller's own look and here, so it looks once more, with look.
func (s *Session) find(ctx context.Context, held token, ref providers.Ref, look func(providers.Ref) (mount, bool)) (mount, error) {
	var ours bool
	ask := func(ctx context.Context) (mount, error) {
		ours = true
		if found, ok := look(ref); ok {
			return found, nil
		}
		return s.ask(ctx, held, ref)
	}
	found, err := s.finds.do(ctx, ref.Segments()[0], ask)
	if ctx.Err() != nil {
		return mount{}, ctx.Err()
	}
	if _, ok := found.rest(ref); ok || ours || errors.Is(err, providers.ErrUnavailable) {
		return found, err
	}
	return s.finds.do(ctx, ref.String(), ask)
}

// nothing is the look of one who doubts what is known.
func nothing(providers.Ref) (mount, bool) { return mount{}, false }

func (s *Session) ask(ctx context.Context, held token, ref providers.Ref) (mount, error) {
	began := s.vault.now()
	found, err := s.vault.mountOf(ctx, held, ref)
	s.vault.observe("mount", began, err)
	if err != nil {
		return mount{}, fmt.Errorf("finding its mount: %w", err)
	}
	found.asked = began
	s.mu.Lock()
	defer s.mu.Unlock()
	for path, other := range s.mounts { // what lay there before is gone
		if _, ok := other.rest(ref); ok {
			delete(s.mounts, path)
		}
	}
	s.mounts[found.path] = found
	return found, nil
}

// mountOf asks the endpoint that the vault command itself uses for it. It needs
// no policy of its own, only a right to something in the mount.
func (v *Vault) mountOf(ctx context.Context, held token, ref providers.Ref) (mount, error) {
	got, err := v.call(ctx, request{
		method: http.MethodGet, path: "sys/internal/ui/mounts/" + ref.String(), namespace: v.namespace, token: held.value,
	})
	if err != nil {
		return mount{}, err
	}
	if got.code != http.StatusOK {
		return mount{}, refused(got.code)
	}
	found, err := parseMount(got.body)
	if err != nil {
		return mount{}, err
	}
	if _, ok := found.rest(ref); !ok {
		return mount{}, fault(providers.ErrInvalid, 0,
			"the path has to name a document below a mount of spec.vault.namespace")
	}
	return found, nil
}

// get reads a document of a mount.
func (s *Session) get(ctx context.Context, held token, m mount, wanted providers.Request) (providers.Document, error) {
	rest, ok := m.rest(wanted.Ref)
	if !ok {
		return providers.Document{}, fault(providers.ErrInvalid, 0, "the path lies in no mount") // unreachable
	}
	if m.engine == database {
		if err := readDatabase(rest); err != nil {
			return providers.Document{}, err
		}
	}
	asked := request{method: http.MethodGet, path: m.path + rest, namespace: s.vault.namespace, token: held.value}
	parse := parseV1
	switch {
	case m.engine == database && wanted.Version > 0:
		return providers.Document{}, fault(providers.ErrInvalid, 0,
			"a version is wanted, and a static role has none but the password of the moment")
	case m.engine == database:
		parse = parseStatic
	case m.version == 2:
		asked.path, parse = m.path+"data/"+rest, parseV2
		if wanted.Version > 0 {
			asked.query = url.Values{"version": {strconv.FormatInt(wanted.Version, 10)}}
		}
	case wanted.Version > 0:
		return providers.Document{}, fault(providers.ErrInvalid, 0,
			"a version is wanted, and its mount keeps none (key-value engine, version 1)")
	}
	began := s.vault.now()
	document, err := s.vault.fetch(ctx, asked, parse)
	s.vault.observe("read", began, err)
	return document, err
}

func (v *Vault) fetch(ctx context.Context, asked request, parse func(answer) (providers.Document, error)) (providers.Document, error) {
	got, err := v.call(ctx, asked)
	if err != nil {
		return providers.Document{}, err
	}
	defer clear(got.body)
	return parse(got)
}
