package providers

import (
	"errors"
	"fmt"
	"strings"
)

// maxRef bounds a path, in bytes. Vault's own limit lies far above.
const maxRef = 512

// ErrPath: a path is malformed. It is wrapped with the rule that it breaks.
var ErrPath = errors.New("malformed path")

// Ref is the canonical path of a document in a store: "kv/prod/payments/db".
// There is one way to write each path, made here and nowhere else, because a
// path is checked against what a tenant may read before it is asked for: were
// there two ways to write it, the check could see one and the store the other.
//
// The zero Ref is no path.
type Ref struct {
	path string
}

// ParseRef makes a Ref of an absolute path, with or without its leading slash.
// It refuses, rather than repairs, whatever could be read in two ways: empty,
// "." and ".." segments, a trailing slash, percent signs, backslashes,
// wildcards, control characters and everything outside ASCII. Errors wrap
// ErrPath.
func ParseRef(path string) (Ref, error) {
	path = strings.TrimPrefix(path, "/")
	if path == "" {
		return Ref{}, fmt.Errorf("%w: it is empty", ErrPath)
	}
	if len(path) > maxRef {
		return Ref{}, fmt.Errorf("%w: it is longer than %d bytes", ErrPath, maxRef)
	}
	for _, segment := range strings.Split(path, "/") {
		if err := checkSegment(segment); err != nil {
			return Ref{}, fmt.Errorf("%w %q: %w", ErrPath, path, err)
		}
	}
	return Ref{path: path}, nil
}

func checkSegment(segment string) error {
	switch segment {
	case "":
		return errors.New("it has an empty segment (a doubled or trailing slash)")
	case ".", "..":
		return errors.New("it has a segment \".\" or \"..\"")
	}
	for _, r := range []byte(segment) {
		switch {
		case r < 0x20 || r > 0x7e:
			return errors.New("it has a control or non-ASCII character")
		case strings.IndexByte(`%\*?#`, r) >= 0:
			return fmt.Errorf("it has the character %q", string(r))
		}
	}
	if strings.TrimSpace(segment) != segment {
		return errors.New("it has a segment that begins or ends with a space")
	}
	return nil
}

// String is the path without a leading slash.
func (r Ref) String() string { return r.path }

// Segments are the parts between the slashes.
func (r Ref) Segments() []string { return strings.Split(r.path, "/") }

// IsZero says that r is no path.
func (r Ref) IsZero() bool { return r.path == "" }
