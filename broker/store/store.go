// Package store connects claims to the stores that they read from.
//
// A connection belongs to one version of a store object; a session on it, with
// one login, to one tenant. Both are made when they are first needed and shared
// by every claim of that tenant, so a thousand claims cost one login. A tenant
// logs in as a service account of its own namespace, with a token made for
// this store's audience alone, or with the credentials that the store names:
// Privyseal's own token is never sent anywhere. A SecretStore is connected to
// only where the administrator allows its address, be it for a read or to ask
// for its health.
package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/address"
	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/providers"
	"github.com/privyseal/privyseal/providers/vault"
)

// recheckCertificates is how often the certificates of a store that cannot be
// reached are looked at again: they may have been renewed.
const recheckCertificates = 30 * time.Second

// TokenSource makes service account tokens.
type TokenSource interface {
	// Token is a short-lived token of a service account for these audiences.
	Token(ctx context.Context, serviceAccount types.NamespacedName, audiences []string) (providers.Value, error)
}

// Config of Connections. Live, Tokens, Namespace and Clock are required.
type Config struct {
	// Live reads the Secrets and ConfigMaps that stores name, with certificates
	// and credentials, from the API server itself.
	Live client.Reader

	// Tokens makes the tokens that tenants log in with.
	Tokens TokenSource

	// Namespace of the daemon, in which a ClusterSecretStore's references are
	// resolved.
	Namespace string

	// Allowed are the addresses that SecretStores may have. The zero value:
	// none, and SecretStores are switched off.
	Allowed address.Allowed

	// AllowHTTP permits plain http addresses, for development only.
	AllowHTTP bool

	// Clock is the time.
	Clock clock.PassiveClock

	// Later runs a function when a time has passed, as time.AfterFunc does: an
	// answer is kept for a moment, for claims that wait for the same. Nil: each
	// claim is read for by itself.
	Later func(time.Duration, func())

	// Observer is told of every request to a Vault. Nil: nobody is.
	Observer vault.Observer
}

// Connections are the open connections to all stores. It is safe for
// concurrent use.
type Connections struct {
	config Config

	mu   sync.Mutex
	open map[types.NamespacedName]*connection // :: store's name → connection
}

// connection to one version of a store.
type connection struct {
	store        v1alpha1.Store
	vault        *vault.Vault
	certificates certificates // without the key
	checked      time.Time    // when these were last looked at

	mu       sync.Mutex
	sessions map[providers.Identity]*vault.Session
}

// New makes Connections; none is open yet.
func New(config Config) *Connections {
	return &Connections{config: config, open: map[types.NamespacedName]*connection{}}
}

// Read reads one document of a store as a tenant. Its errors wrap those of
// package providers.
func (c *Connections) Read(ctx context.Context, store v1alpha1.Store, as providers.Identity, request providers.Request) (providers.Document, error) {
	return within(ctx, c, store, as, func(session *vault.Session) (providers.Document, error) {
		return session.Read(ctx, request)
	})
}

// Write changes one document of a store as a tenant, and gives its new version.
// Errors are those of a providers.Writer.
func (c *Connections) Write(ctx context.Context, store v1alpha1.Store, as providers.Identity, change providers.Change) (int64, error) {
	return within(ctx, c, store, as, func(session *vault.Session) (int64, error) {
		return session.Write(ctx, change)
	})
}

// Probe says whether a tenant could change a document of a store. Errors are those
// of a providers.Prober.
func (c *Connections) Probe(ctx context.Context, store v1alpha1.Store, as providers.Identity, ref providers.Ref) error {
	_, err := within(ctx, c, store, as, func(session *vault.Session) (struct{}, error) {
		return struct{}{}, session.Probe(ctx, ref)
	})
	return err
}

// within does something in a tenant's session at a store.
func within[T any](ctx context.Context, c *Connections, store v1alpha1.Store, as providers.Identity, do func(*vault.Session) (T, error)) (done T, err error) {
	connection, err := c.connect(ctx, store)
	if err != nil {
		return done, err
	}
	session, err := c.session(connection, as)
	if err != nil {
		return done, err
	}
	done, err = do(session)
	if errors.Is(err, providers.ErrUnavailable) {
		c.recheck(ctx, connection)
	}
	return done, err
}

// Health asks whether a store can serve reads, without logging in.
func (c *Connections) Health(ctx context.Context, store v1alpha1.Store) error {
	connection, err := c.connect(ctx, store)
	if err != nil {
		return err
	}
	err = connection.vault.Health(ctx)
	if errors.Is(err, providers.ErrUnavailable) {
		c.recheck(ctx, connection)
	}
	return err
}

// Forget closes what belongs to a store that is gone.
func (c *Connections) Forget(store types.NamespacedName) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.open, store)
}

// connect gives the connection to this version of a store, or to a later one
// that another caller has seen.
func (c *Connections) connect(ctx context.Context, store v1alpha1.Store) (*connection, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	known := c.open[store.NamespacedName]
	if known != nil && known.store.UID == store.UID && known.store.Generation >= store.Generation {
		return known, nil
	}
	opened, err := c.dial(ctx, store)
	if err != nil {
		return nil, err
	}
	c.open[store.NamespacedName] = opened
	return opened, nil
}

func (c *Connections) dial(ctx context.Context, store v1alpha1.Store) (*connection, error) {
	spec := store.Vault
	if store.Kind == v1alpha1.KindSecretStore {
		if err := c.config.Allowed.Check(spec.Address); err != nil {
			return nil, invalid(store, fmt.Errorf("spec.vault.address: %w", err))
		}
	}
	if err := spec.Check(); err != nil {
		return nil, invalid(store, err)
	}
	found, err := c.referencesOf(store).certificates(ctx, spec.TLS)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", store, err)
	}
	defer found.key.Clear()
	config := vault.Config{
		Address: spec.Address, AllowHTTP: c.config.AllowHTTP,
		Namespace: spec.Namespace, AuthNamespace: spec.Auth.Namespace,
		CA: found.ca, ClientCert: found.client, ClientKey: found.key,
		Now: c.config.Clock.Now, Later: c.config.Later, Observer: c.config.Observer,
	}
	if spec.TLS != nil {
		config.ServerName = spec.TLS.ServerName
	}
	opened, err := vault.New(config)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", store, err)
	}
	return &connection{
		store: store, vault: opened,
		certificates: certificates{ca: found.ca, client: found.client}, checked: c.config.Clock.Now(),
		sessions: map[providers.Identity]*vault.Session{},
	}, nil
}

// invalid says that a store cannot be used as it is written.
func invalid(store v1alpha1.Store, err error) error {
	return fmt.Errorf("opening %s: %w: %w", store, providers.ErrInvalid, err)
}

// recheck replaces a connection whose certificates were renewed.
func (c *Connections) recheck(ctx context.Context, used *connection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	store, now := used.store, c.config.Clock.Now()
	if c.open[store.NamespacedName] != used || now.Sub(used.checked) < recheckCertificates {
		return
	}
	used.checked = now
	found, err := c.referencesOf(store).certificates(ctx, store.Vault.TLS)
	found.key.Clear()
	if err == nil && !found.same(used.certificates) {
		delete(c.open, store.NamespacedName)
	}
}

// session is a tenant's session on a connection.
func (c *Connections) session(connection *connection, as providers.Identity) (*vault.Session, error) {
	connection.mu.Lock()
	defer connection.mu.Unlock()
	as = identityAt(connection.store, as)
	if known := connection.sessions[as]; known != nil {
		return known, nil
	}
	login, err := c.login(connection.store, as)
	if err != nil {
		return nil, err
	}
	session := connection.vault.As(login)
	connection.sessions[as] = session
	return session, nil
}
