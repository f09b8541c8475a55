// Package store connects claims to the stores that they read from.
//
// A connection belongs to one version of a store object; a session on it, with
// one login, to one tenant. Both are made when they are first needed and shared
// by every claim of that tenant, so a thousand claims cost one login. A tenant
// logs in as a service account of its own namespace, with a token made for
// this store's audience alone: Privyseal's own token is never sent anywhere.
package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/environment"
	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/providers"
	"github.com/privyseal/privyseal/providers/vault"
)

const (
	defaultMount          = "kubernetes"
	defaultServiceAccount = "privyseal"

	// recheckCA is how often the certificate authorities of a store that
	// cannot be reached are looked at again: they may have been replaced.
	recheckCA = 30 * time.Second
)

// TokenSource makes service account tokens.
type TokenSource interface {
	// Token is a short-lived token of a service account for these audiences.
	Token(ctx context.Context, serviceAccount types.NamespacedName, audiences []string) (providers.Value, error)
}

// Config of Connections. Live, Tokens, Namespace and Clock are required.
type Config struct {
	// Live reads the Secrets and ConfigMaps with certificate authorities from
	// the API server itself.
	Live client.Reader

	// Tokens makes the tokens that tenants log in with.
	Tokens TokenSource

	// Namespace of the daemon, in which a ClusterSecretStore's references are
	// resolved.
	Namespace string

	// AllowHTTP permits plain http addresses, for development only.
	AllowHTTP bool

	// Clock is the time.
	Clock clock.PassiveClock

	// Observer is told of every request to a Vault. Nil: nobody is.
	Observer vault.Observer
}

// Connections are the open connections to all stores. It is safe for
// concurrent use.
type Connections struct {
	config Config

	mu   sync.Mutex
	open map[string]*connection // :: store's name → connection
}

// connection to one version of a store.
type connection struct {
	uid        types.UID
	generation int64
	vault      *vault.Vault
	ca         []byte
	checkedCA  time.Time

	mu       sync.Mutex
	sessions map[providers.Identity]*vault.Session
}

// New makes Connections; none is open yet.
func New(config Config) *Connections {
	return &Connections{config: config, open: map[string]*connection{}}
}

// Read reads one document of a store as a tenant. Its errors wrap those of
// package providers.
func (c *Connections) Read(ctx context.Context, store *v1alpha1.ClusterSecretStore, as providers.Identity, request providers.Request) (providers.Document, error) {
	connection, err := c.connect(ctx, store)
	if err != nil {
		return providers.Document{}, err
	}
	session, err := c.session(connection, store, as)
	if err != nil {
		return providers.Document{}, err
	}
	document, err := session.Read(ctx, request)
	if errors.Is(err, providers.ErrUnavailable) {
		c.recheck(ctx, store, connection)
	}
	return document, err
}

// Health asks whether a store can serve reads, without logging in.
func (c *Connections) Health(ctx context.Context, store *v1alpha1.ClusterSecretStore) error {
	connection, err := c.connect(ctx, store)
	if err != nil {
		return err
	}
	err = connection.vault.Health(ctx)
	if errors.Is(err, providers.ErrUnavailable) {
		c.recheck(ctx, store, connection)
	}
	return err
}

// Forget closes what belongs to a store that is gone.
func (c *Connections) Forget(store string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.open, store)
}

// connect gives the connection to this version of a store.
func (c *Connections) connect(ctx context.Context, store *v1alpha1.ClusterSecretStore) (*connection, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if known := c.open[store.Name]; known != nil && known.uid == store.UID && known.generation >= store.Generation {
		return known, nil
	}
	opened, err := c.dial(ctx, store)
	if err != nil {
		return nil, err
	}
	c.open[store.Name] = opened
	return opened, nil
}

func (c *Connections) dial(ctx context.Context, store *v1alpha1.ClusterSecretStore) (*connection, error) {
	spec := store.Spec.Vault
	ca, err := c.authorities(ctx, spec.TLS)
	if err != nil {
		return nil, fmt.Errorf("opening ClusterSecretStore %s: %w", store.Name, err)
	}
	config := vault.Config{
		Address: spec.Address, AllowHTTP: c.config.AllowHTTP,
		Namespace: spec.Namespace, AuthNamespace: spec.Auth.Namespace,
		CA: ca, Now: c.config.Clock.Now, Observer: c.config.Observer,
	}
	if spec.TLS != nil {
		config.ServerName = spec.TLS.ServerName
	}
	opened, err := vault.New(config)
	if err != nil {
		return nil, fmt.Errorf("opening ClusterSecretStore %s: %w", store.Name, err)
	}
	return &connection{
		uid: store.UID, generation: store.Generation, vault: opened, ca: ca, checkedCA: c.config.Clock.Now(),
		sessions: map[providers.Identity]*vault.Session{},
	}, nil
}

// recheck replaces a connection whose certificate authorities were replaced.
func (c *Connections) recheck(ctx context.Context, store *v1alpha1.ClusterSecretStore, used *connection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.config.Clock.Now()
	if c.open[store.Name] != used || now.Sub(used.checkedCA) < recheckCA {
		return
	}
	used.checkedCA = now
	if ca, err := c.authorities(ctx, store.Spec.Vault.TLS); err == nil && !bytes.Equal(ca, used.ca) {
		delete(c.open, store.Name)
	}
}

// session is a tenant's session on a connection.
func (c *Connections) session(connection *connection, store *v1alpha1.ClusterSecretStore, as providers.Identity) (*vault.Session, error) {
	connection.mu.Lock()
	defer connection.mu.Unlock()
	if known := connection.sessions[as]; known != nil {
		return known, nil
	}
	login, err := c.login(store, as)
	if err != nil {
		return nil, err
	}
	session := connection.vault.As(login)
	connection.sessions[as] = session
	return session, nil
}

// login is the tenant's way to log in: as a service account of its own
// namespace.
func (c *Connections) login(store *v1alpha1.ClusterSecretStore, as providers.Identity) (vault.Login, error) {
	auth := store.Spec.Vault.Auth.Kubernetes
	role, err := environment.Expand(auth.Role, as.Environment, as.Namespace)
	if err != nil {
		return nil, fmt.Errorf("%w: ClusterSecretStore %s spec.vault.auth.kubernetes.role: %w", providers.ErrInvalid, store.Name, err)
	}
	account := types.NamespacedName{Namespace: as.Namespace, Name: defaultServiceAccount}
	if ref := auth.ServiceAccountRef; ref != nil {
		account.Name = ref.Name
	}
	audiences := auth.Audiences
	if len(audiences) == 0 {
		audiences = []string{store.Spec.Vault.Address}
	}
	mount := auth.Mount
	if mount == "" {
		mount = defaultMount
	}
	return vault.Kubernetes{
		Mount: mount, Role: role,
		Token: func(ctx context.Context) (providers.Value, error) {
			return c.config.Tokens.Token(ctx, account, audiences)
		},
	}, nil
}
