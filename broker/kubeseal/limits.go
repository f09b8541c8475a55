package kubeseal

import "time"

// Limits of what is taken in and of how long it may take.
const (
	// maxBody bounds a request, in bytes: an object as an API server takes it,
	// with room for indentation.
	maxBody = 2 << 20

	// maxHeader bounds a request's header.
	maxHeader = 16 << 10

	// The API server waits no longer than this either.
	headerTimeout = 10 * time.Second
	readTimeout   = 30 * time.Second
	writeTimeout  = 60 * time.Second
	idleTimeout   = 2 * time.Minute

	// maxOpening is how many objects are opened at a time: what remains of the
	// machine's cores is the controllers'.
	maxOpening = 2

	// maxClients bounds the table of clients. Anyone can claim to be many.
	maxClients = 4096
)

// pace is a bound to requests: so many a second, and so many at once.
type pace struct {
	perSecond float64
	burst     int
}

// verifyPace is upstream's. A client is an address, as far as the API server
// tells it.
func verifyPace() pace { return pace{2, 2} }

// rotatePace is wider: upstream has none, and a tree of files comes one by one.
func rotatePace() pace { return pace{10, 20} }

// globalPace is that of all clients together, for each path.
func globalPace() pace { return pace{30, 60} }
