package providers

import "errors"

// The facts that a Reader or a Writer reports. A provider wraps them with what it was
// doing; it never puts a store's response body into an error, since a body can
// hold the value, the token, or what a tenant's own server chose to say.
var (
	// ErrNotFound: the store answered, and there is nothing at the path (nor,
	// perhaps, a mount that it could lie in).
	ErrNotFound = errors.New("not found in the store")

	// ErrDeleted: the store answered, and the version at the path was deleted.
	// It can still be undeleted, so it is not ErrNotFound.
	ErrDeleted = errors.New("deleted in the store")

	// ErrDenied: the store answered, and refuses the login or the path.
	ErrDenied = errors.New("denied by the store")

	// ErrUnavailable: the store did not answer, or answered that it cannot
	// (sealed, standby, overloaded, rate-limited). Ask again later.
	ErrUnavailable = errors.New("store unavailable")

	// ErrConflict: the document is not at the version that a change was made for.
	// Nothing was written.
	ErrConflict = errors.New("changed in the store meanwhile")

	// ErrLeased: the store makes what lies at the path anew for each who asks, and
	// takes it back when its lease ends. Nothing was asked for, since nobody would
	// know of it: it is issued by a Leaser.
	ErrLeased = errors.New("leased by the store")

	// ErrInvalid: the store's configuration cannot work, whenever it is tried.
	ErrInvalid = errors.New("store configuration invalid")
)
