package providers

import (
	"context"
	"time"
)

// Lease is a document that a store made for whoever asked, and takes back when
// the lease ends. It hangs on a token of its own: when that ends, so does the
// lease, and no other does.
type Lease struct {
	// Document that was made.
	Document Document

	// ID by which the store knows the lease.
	ID string

	// Token that owns the lease, and nothing else.
	Token Value

	// Life is how long both hold if nobody renews them.
	Life time.Duration

	// Max is how long the one holds that ends first, however often they are
	// renewed. 0: there is no end.
	Max time.Duration

	// Renewable says whether Life can be given anew.
	Renewable bool
}

// Clear overwrites the values and the token.
func (l Lease) Clear() {
	l.Document.Clear()
	l.Token.Clear()
}

// Leaser issues documents of one store as one identity: what a Reader of the same
// store refuses with ErrLeased. Implementations are safe for concurrent use.
// Errors wrap those of a Reader.
type Leaser interface {
	// Issue logs in anew, hands the token to keep, and has a document made once
	// keep has put it where it is found again. So whatever is made, somebody knows
	// what it hangs on. An error, keep's own too, leaves nothing behind that the
	// store could be told to take back; what it could not be told ends with the
	// token. keep does not hold on to the token when it has returned.
	Issue(ctx context.Context, ref Ref, keep func(ctx context.Context, token Value) error) (Lease, error)

	// Renew gives a lease and its token the life that they had at first, and says
	// how much that is: less, where the end is near. ErrNotFound: they are gone.
	Renew(ctx context.Context, token Value, id string) (time.Duration, error)

	// Revoke ends a token, and with it what it owns. One that is no more is no
	// error.
	Revoke(ctx context.Context, token Value) error
}
