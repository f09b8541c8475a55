package providers

import "context"

// Change is what is to be written into a document: other keys keep what they
// have, byte for byte.
type Change struct {
	Ref Ref

	// From is the newest version that the document has to have, deleted or not;
	// 0: there has to be no document yet.
	From int64

	// Values by the store's own keys, as text.
	Values map[string]Value

	// JSON are the keys whose values are written as what their JSON says, and not
	// as text.
	JSON map[string]bool

	// Remove are keys to take away. One that is not there is none the less away.
	Remove []string
}

// Writer changes documents of one store as one identity. Implementations are
// safe for concurrent use.
//
// Its errors wrap those of a Reader, or ErrConflict. After ErrUnavailable it is
// not known whether the change was made: read, and compare.
type Writer interface {
	// Write makes a change, if the document still is what it was made for, and
	// gives the new version.
	Write(ctx context.Context, change Change) (version int64, err error)
}

// Prober tells whether a Writer could change a document, without changing it. Its
// errors are those that the Writer would give: ErrDenied, or ErrInvalid where the
// store cannot check that nobody writes at the same time. Whether there is a
// document is not looked at.
type Prober interface {
	Probe(ctx context.Context, ref Ref) error
}
