package rotate

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/seal"
	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/broker/window"
	"github.com/privyseal/privyseal/providers"
)

// Place is where a document lies, and as whom it is asked for.
type Place struct {
	Store    v1alpha1.Store
	Identity providers.Identity
	Ref      providers.Ref
	// Windows of the namespace's environment, in which runs may begin.
	Windows []window.Window
}

// Places finds documents.
type Places interface {
	// Place finds a path as a claim of the namespace would have it found. An error
	// that is a *Refusal names the field, and lasts until somebody changes
	// something.
	Place(ctx context.Context, namespace, field, path string) (Place, error)
}

// Store is all stores. Errors wrap those of package providers.
type Store interface {
	Read(ctx context.Context, store v1alpha1.Store, as providers.Identity, request providers.Request) (providers.Document, error)
	Write(ctx context.Context, store v1alpha1.Store, as providers.Identity, change providers.Change) (int64, error)
	Probe(ctx context.Context, store v1alpha1.Store, as providers.Identity, ref providers.Ref) error
}

// Reading is how far a claim is that follows the newest version of a document.
type Reading struct {
	Claim, Target types.NamespacedName
	// Version of the document that the target was made of; 0: it is not known.
	Version int64
	// Sequence of the target's content.
	Sequence int64
}

// Claims are those of all namespaces.
type Claims interface {
	// ReadingOf gives those that follow a document.
	ReadingOf(ctx context.Context, place Place) ([]Reading, error)
	// Reread has them read at once, and does not wait for it.
	Reread(ctx context.Context, claims ...types.NamespacedName)
}

// Follower is how far a workload is in taking up a target's content.
type Follower struct {
	// Workload by its kind and name.
	Workload string
	// Behind says what is missing; empty: nothing.
	Behind string
	// Fails says why it does not get on; empty where it does.
	Fails string
	// Held: windows hold its restart back.
	Held bool
}

// Workloads are those that read targets.
type Workloads interface {
	// Followers of a target. known is false while its content of that sequence was
	// not seen yet.
	Followers(ctx context.Context, target types.NamespacedName, sequence int64) (followers []Follower, known bool, err error)
}

// Keys are the daemon's own, of version 2.
type Keys interface {
	// SealingKeys are the one to seal to, and those that open.
	SealingKeys(ctx context.Context) (*seal.PublicKey, *seal.Keys, error)
}

// Refusal is a reason why a rotation cannot be carried out until somebody changes
// something.
type Refusal struct {
	// Reason is one of v1alpha1's Reason constants.
	Reason string
	// Message names the field and says what to do. It holds no value.
	Message string
}

// Error implements error.
func (r *Refusal) Error() string { return r.Message }

func refuse(reason, format string, arguments ...any) *Refusal {
	return &Refusal{Reason: reason, Message: fmt.Sprintf(format, arguments...)}
}

// Config of a Reconciler. Every field is required but Registerer.
type Config struct {
	// Client reads from the cache which rotations and stores there are, and writes
	// statuses and records.
	Client client.Client

	// Live reads rotations and records from the API server itself.
	Live client.Reader

	Places    Places
	Store     Store
	Engines   Engines
	Claims    Claims
	Workloads Workloads
	Keys      Keys

	// Namespace of the daemon, in which the records lie.
	Namespace string

	// Events tells people what happened to their rotation.
	Events events.EventRecorder

	// Registerer takes the metrics, once. Nil: no metrics.
	Registerer prometheus.Registerer

	// Clock is the time.
	Clock clock.PassiveClock
}

// Reconciler carries rotations out. What it remembers saves requests and messages;
// nothing is decided by it but how long something is waited for.
type Reconciler struct {
	config  Config
	metrics *metrics

	// leadsSince is when this daemon saw to its first rotation.
	leadsSince func() time.Time

	mu      sync.Mutex
	memory  map[types.UID]*memory
	ofNames map[types.NamespacedName]types.UID
}

// memory of one rotation.
type memory struct {
	// told is when the claims were last told to read.
	told time.Time
	// held is when windows were last seen to hold restarts back.
	held time.Time
	// rotated is the attempt that an engine rotated for, as it answered.
	rotated int
	// clean: it had ended, and had left no record, when it was last looked at.
	clean bool
	// problem is why the last action could not be done; empty: it could.
	problem string
}

// New makes a Reconciler; SetupWithManager has it woken.
func New(config Config) *Reconciler {
	return &Reconciler{
		config: config, metrics: newMetrics(config.Client),
		leadsSince: sync.OnceValue(config.Clock.Now),
		memory:     map[types.UID]*memory{}, ofNames: map[types.NamespacedName]types.UID{},
	}
}

// remembered changes what is remembered of a rotation, and gives a copy.
func (r *Reconciler) remembered(of *v1alpha1.SecretRotation, change func(*memory)) memory {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.memory[of.UID] == nil {
		r.memory[of.UID] = &memory{}
	}
	r.ofNames[client.ObjectKeyFromObject(of)] = of.UID
	change(r.memory[of.UID])
	return *r.memory[of.UID]
}

// forget a rotation that is gone.
func (r *Reconciler) forget(name types.NamespacedName) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.memory, r.ofNames[name])
	delete(r.ofNames, name)
}
