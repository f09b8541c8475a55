package providers

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// Engine is something at a store that makes a new value of its own when it is told
// to. Nobody can prepare that value, and nobody can take it back.
//
// The zero Engine is none.
type Engine struct {
	Kind  EngineKind
	Mount string
	Name  string
}

// EngineKind is what an Engine is, by the name that Vault has for it in its paths.
type EngineKind string

// The kinds, and the path that somebody has to be allowed for each.
const (
	// RotateRole: a static role of a database engine, whose password is given out
	// at <mount>/static-creds/<name>.
	RotateRole EngineKind = "rotate-role"
	// RotateRoot: the user by which a database engine itself logs in, that of
	// connection <mount>/config/<name>. The engine gives it to nobody.
	RotateRoot EngineKind = "rotate-root"
	// RotateKey: a key of a transit engine, <mount>/keys/<name>. What was encrypted
	// before still opens.
	RotateKey EngineKind = "keys"
)

// ParseEngine reads a path such as database/rotate-role/payments. Errors wrap
// ErrPath.
func ParseEngine(kind EngineKind, path string) (Engine, error) {
	ref, err := ParseRef(path)
	if err != nil {
		return Engine{}, err
	}
	segments := ref.Segments()
	at := len(segments) - 2
	if at < 1 || segments[at] != string(kind) {
		return Engine{}, fmt.Errorf("%w %q: want <mount>/%s/<name>", ErrPath, path, kind)
	}
	return Engine{Kind: kind, Mount: strings.Join(segments[:at], "/"), Name: segments[at+1]}, nil
}

// EngineOf reads what String wrote; the zero Engine is that of "".
func EngineOf(path string) (Engine, error) {
	if path == "" {
		return Engine{}, nil
	}
	segments := strings.Split(path, "/")
	kind := EngineKind(segments[max(0, len(segments)-2)])
	if !slices.Contains([]EngineKind{RotateRole, RotateRoot, RotateKey}, kind) {
		return Engine{}, fmt.Errorf("%w %q: it is that of no engine", ErrPath, path)
	}
	return ParseEngine(kind, path)
}

// String is the path by which the engine is known; "" for none.
func (e Engine) String() string {
	if e.Kind == "" {
		return ""
	}
	return e.Mount + "/" + string(e.Kind) + "/" + e.Name
}

// Shows is the path of what the engine has made, or is: whoever may have that made
// anew is who is allowed that path.
func (e Engine) Shows() string {
	switch e.Kind {
	case RotateRole:
		return e.Mount + "/static-creds/" + e.Name
	case RotateRoot:
		return e.Mount + "/config/" + e.Name
	}
	return e.String()
}

// Read says whether claims read what it makes.
func (e Engine) Read() bool { return e.Kind == RotateRole }

// Rotator has the engines of one store make new values, as one identity.
// Implementations are safe for concurrent use. Errors wrap those of a Reader.
type Rotator interface {
	// Turn is a number that is greater after each rotation, whoever it was that
	// asked for it. 0: the engine does not say.
	Turn(ctx context.Context, engine Engine) (int64, error)

	// Rotate has a new value made. After an error nobody knows whether it was: look
	// at the Turn.
	Rotate(ctx context.Context, engine Engine) error

	// Rotatable tells whether the other two would be allowed: ErrDenied, where not.
	Rotatable(ctx context.Context, engine Engine) error
}
