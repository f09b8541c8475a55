package sealingkey

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"
)

// ErrNotYet: the keys were not read yet.
var ErrNotYet = errors.New("the sealing keys are not read yet")

// Config of a Keeper.
type Config struct {
	// Live reads Secrets from the API server itself. Required.
	Live client.Reader

	// Writer creates key Secrets. Required.
	Writer client.Writer

	// Namespace of the key Secrets. Required.
	Namespace string

	// Renewal of keys. The zero value makes the first ones only.
	Renewal Renewal

	// RSABits of new keys; 0 is 4096.
	RSABits int

	// Changed is called with each new Snapshot; nil is nobody.
	Changed func(Snapshot)

	// Log takes what goes wrong with keys. The zero value drops it.
	Log logr.Logger

	// Clock is the time. Required.
	Clock clock.PassiveClock
}

// Keeper keeps the Snapshot current on every replica, and on the leader makes
// keys when they are due.
type Keeper struct {
	config Config

	mu   sync.RWMutex
	last *Snapshot
}

// New makes a Keeper.
func New(config Config) *Keeper { return &Keeper{config: config} }

// Snapshot is the keys as they were last seen. The error is ErrNotYet.
func (k *Keeper) Snapshot() (Snapshot, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if k.last == nil {
		return Snapshot{}, ErrNotYet
	}
	return *k.last, nil
}

// keysOnly is the one thing that both controllers are asked for.
var keysOnly = reconcile.Request{}

// SetupWithManager watches the key Secrets, and nothing else of their namespace
// is kept.
func (k *Keeper) SetupWithManager(mgr manager.Manager) error {
	secrets, err := k.watch(mgr.GetConfig(), mgr.GetScheme(), mgr)
	if err != nil {
		return err
	}
	anyKey := handler.EnqueueRequestsFromMapFunc(func(context.Context, client.Object) []reconcile.Request {
		return []reconcile.Request{keysOnly}
	})
	everywhere := false
	for _, c := range []struct {
		name   string
		leader *bool
		do     reconcile.Func
	}{
		{"sealing-keys", &everywhere, k.load(secrets)},
		{"sealing-key-renewal", nil, k.renew(secrets)},
	} {
		err := ctrl.NewControllerManagedBy(mgr).Named(c.name).
			WithOptions(controller.Options{NeedLeaderElection: c.leader}).
			WatchesRawSource(source.Kind(secrets, client.Object(&corev1.Secret{}), anyKey)).
			// There may be no key, and so no event.
			WatchesRawSource(source.Func(func(_ context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
				queue.Add(keysOnly)
				return nil
			})).
			Complete(c.do)
		if err != nil {
			return fmt.Errorf("setting up %s: %w", c.name, err)
		}
	}
	return nil
}

// watch is a cache of the namespace's key Secrets with their content.
func (k *Keeper) watch(config *rest.Config, scheme *runtime.Scheme, mgr manager.Manager) (cache.Cache, error) {
	secrets, err := cache.New(config, cache.Options{
		Scheme: scheme, HTTPClient: mgr.GetHTTPClient(), Mapper: mgr.GetRESTMapper(),
		ByObject: map[client.Object]cache.ByObject{&corev1.Secret{}: {
			Namespaces: map[string]cache.Config{k.config.Namespace: {}},
			Transform:  keepKeys,
		}},
	})
	if err != nil {
		return nil, fmt.Errorf("making the cache of sealing keys: %w", err)
	}
	return secrets, mgr.Add(secrets)
}

// keepKeys leaves nothing of Secrets that hold no sealing key but their names.
func keepKeys(object any) (any, error) {
	secret, ok := object.(*corev1.Secret)
	if !ok {
		return object, nil
	}
	secret.ManagedFields = nil
	if versionOf(secret) == 0 {
		clearData(secret)
		secret.Data, secret.Annotations = nil, nil
	}
	return secret, nil
}

func clearData(secret *corev1.Secret) {
	for _, value := range secret.Data {
		clear(value)
	}
}

// load reads the keys anew.
func (k *Keeper) load(secrets client.Reader) reconcile.Func {
	return func(ctx context.Context, _ reconcile.Request) (reconcile.Result, error) {
		now := k.config.Clock.Now()
		snapshot, err := k.read(ctx, secrets, now)
		if err != nil {
			return reconcile.Result{}, err
		}
		k.mu.Lock()
		before := k.last
		k.last = &snapshot
		k.mu.Unlock()
		k.tell(before, snapshot)
		if k.config.Changed != nil {
			k.config.Changed(snapshot)
		}
		return reconcile.Result{RequeueAfter: snapshot.nextFuture(now)}, nil
	}
}

// nextFuture is how long it takes until a key of the future is one of now.
func (s Snapshot) nextFuture(now time.Time) time.Duration {
	var next time.Duration
	for _, key := range s.Keys {
		if wait := key.Since.Sub(now); key.State == Future && (next == 0 || wait < next) {
			next = wait
		}
	}
	return next
}

// tell logs what is wrong with keys, once.
func (k *Keeper) tell(before *Snapshot, now Snapshot) {
	known := map[string]State{}
	if before != nil {
		for _, key := range before.Keys {
			known[key.Secret] = key.State
		}
	}
	for _, key := range now.Keys {
		if known[key.Secret] == key.State {
			continue
		}
		switch key.State {
		case Malformed:
			k.config.Log.Error(key.Problem, "a sealing key cannot be read; nothing opens with it", "secret", key.Secret)
		case Future:
			k.config.Log.Info("a sealing key begins later, and is not sealed to until then", "secret", key.Secret, "since", key.Since)
		}
	}
}

func (k *Keeper) read(ctx context.Context, reader client.Reader, now time.Time) (Snapshot, error) {
	var all corev1.SecretList
	if err := reader.List(ctx, &all, client.InNamespace(k.config.Namespace)); err != nil {
		return Snapshot{}, fmt.Errorf("listing the sealing keys: %w", err)
	}
	return Read(all.Items, now), nil
}

// renew makes the keys that are due. What the cache says is asked again of the
// API server, since a key that was just made may not be in it yet.
func (k *Keeper) renew(secrets client.Reader) reconcile.Func {
	return func(ctx context.Context, _ reconcile.Request) (reconcile.Result, error) {
		now := k.config.Clock.Now()
		snapshot, err := k.read(ctx, secrets, now)
		if err != nil {
			return reconcile.Result{}, err
		}
		due, next := snapshot.missing(k.config.Renewal, now)
		if len(due) > 0 {
			if snapshot, err = k.readLive(ctx, now); err != nil {
				return reconcile.Result{}, err
			}
			due, next = snapshot.missing(k.config.Renewal, now)
		}
		for _, version := range due {
			if err := k.make(ctx, version); err != nil {
				return reconcile.Result{}, err
			}
		}
		if next.IsZero() {
			return reconcile.Result{}, nil
		}
		return reconcile.Result{RequeueAfter: next.Sub(now)}, nil
	}
}

// readLive reads the key Secrets from the API server, without what else lies in
// their namespace.
func (k *Keeper) readLive(ctx context.Context, now time.Time) (Snapshot, error) {
	var all []corev1.Secret
	for _, label := range []string{LabelV1, LabelV2} {
		var some corev1.SecretList
		if err := k.config.Live.List(ctx, &some, client.InNamespace(k.config.Namespace), client.HasLabels{label}); err != nil {
			return Snapshot{}, fmt.Errorf("listing the sealing keys: %w", err)
		}
		all = append(all, some.Items...)
	}
	legacy := corev1.Secret{}
	err := k.config.Live.Get(ctx, client.ObjectKey{Namespace: k.config.Namespace, Name: NameV1}, &legacy)
	if client.IgnoreNotFound(err) != nil {
		return Snapshot{}, fmt.Errorf("reading the sealing key %s: %w", NameV1, err)
	}
	if _, labelled := legacy.Labels[LabelV1]; err == nil && !labelled {
		all = append(all, legacy)
	}
	return Read(all, now), nil
}
