package providers

import (
	"bytes"
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
)

// Redacted is what a Value prints as, everywhere.
const Redacted = "[redacted]"

// Value is a secret value. It prints as [redacted] through every formatting,
// encoding and logging path, so that no reader of the code has to check which
// log line carries what; the only way to the bytes is Bytes.
//
// The zero Value is the empty value.
type Value struct {
	// A function, since fmt calls no method on what it reaches through an
	// unexported field of someone else's struct, nor under a verb like %p: it
	// walks on by reflection, through pointers too, and a closure is the one
	// thing that reflection cannot look into. It also makes == on Values a
	// compile error; Equal is the way.
	held func() []byte
}

// NewValue wraps b without copying it: the Value owns it from here on.
func NewValue(b []byte) Value { return Value{held: func() []byte { return b }} }

// Bytes is the value itself. The caller must not modify it, print it, or keep
// it longer than its own use.
func (v Value) Bytes() []byte {
	if v.held == nil {
		return nil
	}
	return v.held()
}

// Clone is a copy that lives and is cleared on its own.
func (v Value) Clone() Value { return NewValue(bytes.Clone(v.Bytes())) }

// Equal compares in time that depends on the lengths alone.
func (v Value) Equal(other Value) bool {
	return subtle.ConstantTimeCompare(v.Bytes(), other.Bytes()) == 1
}

// Clear overwrites the bytes. Copies that the garbage collector made, or that
// an encoder holds, are beyond its reach.
func (v Value) Clear() { clear(v.Bytes()) }

// Format implements fmt.Formatter, which fmt asks before any other method and
// for every verb.
func (v Value) Format(state fmt.State, _ rune) { _, _ = io.WriteString(state, Redacted) }

// String implements fmt.Stringer.
func (v Value) String() string { return Redacted }

// GoString implements fmt.GoStringer.
func (v Value) GoString() string { return Redacted }

// MarshalText implements encoding.TextMarshaler.
func (v Value) MarshalText() ([]byte, error) { return []byte(Redacted), nil }

// MarshalJSON implements json.Marshaler.
func (v Value) MarshalJSON() ([]byte, error) { return []byte(`"` + Redacted + `"`), nil }

// LogValue implements slog.LogValuer.
func (v Value) LogValue() slog.Value { return slog.StringValue(Redacted) }
