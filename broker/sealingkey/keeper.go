package sealingkey

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// DefaultRenewPeriod is after how long a sealing key is followed by a new one:
// upstream's.
const DefaultRenewPeriod = 720 * time.Hour

// Config of a Keeper.
type Config struct {
	// Reader reads Secrets from the API server itself, not from a cache.
	// Required.
	Reader client.Reader

	// Writer creates key Secrets. Required.
	Writer client.Writer

	// Namespace that the key Secrets lie in. Required.
	Namespace string

	// RenewPeriod after which a key is followed by a new one. 0: never.
	RenewPeriod time.Duration

	// CutOff is a time: a key that is older is followed by a new one. Zero:
	// none.
	CutOff time.Time

	// Changed is called when the keys are others than before. Nil: nobody
	// cares.
	Changed func()

	// Events tells of keys that somebody should see to. Nil: the log alone.
	Events events.EventRecorder

	// Clock is the time. Required.
	Clock clock.PassiveClock

	// Log takes what happens to keys. The zero value drops it.
	Log logr.Logger
}

// Keeper knows the keys.
type Keeper struct {
	config Config
	policy policy

	loading sync.Mutex
	// read are the Secrets that were read, by UID: to parse an RSA key is to
	// check that its primes are prime.
	read map[types.UID]version

	mu       sync.Mutex
	current  Snapshot
	loaded   bool
	reported map[string]string // by Secret, the problem that was told of
}

type version struct {
	resourceVersion string
	held            held
}

// New makes a Keeper; it does nothing yet.
func New(config Config) *Keeper {
	return &Keeper{
		config: config, policy: policy{period: config.RenewPeriod, cutOff: config.CutOff},
		read: map[types.UID]version{}, reported: map[string]string{},
	}
}

// Snapshot is the keys as they were last seen, and now if they never were. All
// of them are in the cluster.
func (k *Keeper) Snapshot(ctx context.Context) (Snapshot, error) {
	k.mu.Lock()
	current, loaded := k.current, k.loaded
	k.mu.Unlock()
	if loaded {
		return current, nil
	}
	return k.load(ctx)
}

// load looks at the Secrets.
func (k *Keeper) load(ctx context.Context) (Snapshot, error) {
	k.loading.Lock()
	defer k.loading.Unlock()
	all, err := k.list(ctx)
	if err != nil {
		return Snapshot{}, err
	}
	snapshot := judge(all, k.config.Clock.Now())

	k.mu.Lock()
	changed := !k.loaded || !slices.Equal(k.current.Keys, snapshot.Keys)
	k.current, k.loaded = snapshot, true
	k.mu.Unlock()
	if changed {
		k.tell(snapshot)
		if k.config.Changed != nil {
			k.config.Changed()
		}
	}
	return snapshot, nil
}

// list reads all key Secrets, those that are not used among them.
func (k *Keeper) list(ctx context.Context) ([]held, error) {
	var all []held
	seen := map[types.UID]version{}
	take := func(kind Kind, secret *corev1.Secret) {
		if _, twice := seen[secret.UID]; twice {
			return
		}
		known, found := k.read[secret.UID]
		if !found || known.resourceVersion != secret.ResourceVersion {
			known = version{resourceVersion: secret.ResourceVersion, held: read(kind, secret)}
		}
		clearData(secret.Data)
		seen[secret.UID] = known
		all = append(all, known.held)
	}
	for _, kind := range []Kind{V1, V2} {
		var secrets corev1.SecretList
		if err := k.config.Reader.List(ctx, &secrets, client.InNamespace(k.config.Namespace), client.HasLabels{label(kind)}); err != nil {
			return nil, fmt.Errorf("listing the sealing keys in namespace %s: %w", k.config.Namespace, err)
		}
		for i := range secrets.Items {
			take(kind, &secrets.Items[i])
		}
	}
	legacy := &corev1.Secret{}
	err := k.config.Reader.Get(ctx, client.ObjectKey{Namespace: k.config.Namespace, Name: PrefixV1}, legacy)
	if client.IgnoreNotFound(err) != nil {
		return nil, fmt.Errorf("reading sealing key %s/%s: %w", k.config.Namespace, PrefixV1, err)
	}
	if err == nil {
		take(V1, legacy)
	}
	k.read = seen
	return all, nil
}

// tell logs what the keys are, when they changed.
func (k *Keeper) tell(snapshot Snapshot) {
	for _, key := range snapshot.Keys {
		log := k.config.Log.WithValues("kind", key.Kind, "state", key.State, "secret", key.Secret, "key", key.ID)
		if key.Problem != "" {
			log.Info("sealing key with a problem", "problem", key.Problem)
		} else {
			log.V(1).Info("sealing key")
		}
	}
}

// report makes an event of each problem that is new.
func (k *Keeper) report(snapshot Snapshot) {
	if k.config.Events == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	reported := map[string]string{}
	for _, key := range snapshot.Keys {
		if key.Problem == "" {
			continue
		}
		reported[key.Secret] = key.Problem
		if k.reported[key.Secret] == key.Problem {
			continue
		}
		about := &corev1.Secret{}
		about.APIVersion, about.Kind = "v1", "Secret"
		about.Namespace, about.Name = k.config.Namespace, key.Secret
		k.config.Events.Eventf(about, nil, corev1.EventTypeWarning, "SealingKey", "Load", "%s sealing key: %s", key.State, key.Problem)
	}
	k.reported = reported
}
