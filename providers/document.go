package providers

import (
	"context"
	"maps"
	"time"
)

// Document is what a store holds at one path.
type Document struct {
	// Values by the store's own keys. A string is its bytes; anything else
	// (number, boolean, list, object) is its JSON.
	Values map[string]Value

	// JSON are the keys whose values are that: no strings, in the store.
	JSON map[string]bool

	// Version is the store's version of the document; 0 where it has none.
	Version int64
}

// Clear overwrites every value.
func (d Document) Clear() {
	for _, value := range d.Values {
		value.Clear()
	}
}

// Clone is a copy that lives and is cleared on its own.
func (d Document) Clone() Document {
	values := make(map[string]Value, len(d.Values))
	for key, value := range d.Values {
		values[key] = value.Clone()
	}
	return Document{Values: values, JSON: maps.Clone(d.JSON), Version: d.Version}
}

// Request is one document that is wanted.
type Request struct {
	Ref Ref

	// Version pins a version; 0 is the newest.
	Version int64

	// Since is how old the answer may be: one to a question that was asked at
	// or after this time will do, so that all who wait since then can share it.
	// Zero: it has to be asked now.
	Since time.Time
}

// Identity is who asks: a store logs in as this tenant, not as Privyseal, so
// that the store itself denies what the tenant may not read.
type Identity struct {
	// Namespace whose service account presents itself.
	Namespace string

	// Environment of that namespace; empty where it is in none.
	Environment string
}

// Reader reads documents from one store as one identity. Implementations are
// safe for concurrent use.
//
// Its errors wrap ErrNotFound, ErrDeleted, ErrDenied, ErrUnavailable, ErrLeased
// or ErrInvalid; one that wraps none of them is treated as ErrUnavailable.
type Reader interface {
	Read(ctx context.Context, request Request) (Document, error)
}
