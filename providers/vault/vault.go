package vault

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/privyseal/privyseal/providers"
)

// Config is a Vault and the way to it. Nothing else is consulted: no VAULT_*
// environment variable has an effect.
type Config struct {
	// Address of the API: https://vault.vault.svc:8200. Required. A path,
	// query, fragment or user in it is refused.
	Address string

	// AllowHTTP permits an address with plain http, over which values and
	// tokens can be read by anyone on the way. The zero value refuses it.
	AllowHTTP bool

	// Namespace is the Vault namespace of the documents. Empty: none.
	Namespace string

	// AuthNamespace is the Vault namespace of the logins. Empty: Namespace;
	// "root" is the root namespace.
	AuthNamespace string

	// CA are the certificate authorities, in PEM, that the server's certificate
	// must come from; no others are believed. Empty: the system's.
	CA []byte

	// ServerName is expected in the server's certificate. Empty: the address's
	// host.
	ServerName string

	// ClientCert and ClientKey, in PEM, are what we show to a server that asks
	// for a certificate. Empty: none. Both or neither.
	ClientCert []byte
	ClientKey  providers.Value

	// MaxConnections bounds the connections, and so the requests under way, of
	// all sessions together. 0: 16.
	MaxConnections int

	// Timeout of one request, with the wait for a connection. 0: 10 s.
	Timeout time.Duration

	// Now is the time, by which tokens age. Required: a default would be the
	// system's clock, which no test could turn.
	Now func() time.Time

	// Later runs a function when a time has passed, as time.AfterFunc does.
	// Answers are kept for a moment by it, for others who want the same and may
	// have one that is as old (providers.Request.Since). Nil: none is kept.
	Later func(time.Duration, func())

	// Observer is told of every request. Nil: nobody is.
	Observer Observer
}

// Observer is told of each request when it has ended: its operation ("login",
// "renew", "mount", "read", "health"), its outcome, which wraps one of the
// facts of package providers or is nil, and how long it took. It is called by
// many goroutines at once.
type Observer interface {
	Observe(op string, err error, seconds float64)
}

// Vault is a server. Make one with New, and one Session for each identity with
// As. It is safe for concurrent use.
type Vault struct {
	address       url.URL
	namespace     string
	authNamespace string
	http          *http.Client
	logins        *api.Client // has no token: sessions hold their own
	timeout       time.Duration
	now           func() time.Time
	later         func(time.Duration, func())
	observer      Observer
}

// New makes a Vault. It asks nothing of the server. Errors wrap
// providers.ErrInvalid and name the field.
func New(config Config) (*Vault, error) {
	address, err := parseAddress(config)
	if err != nil {
		return nil, invalid("Address", err)
	}
	if config.Now == nil {
		return nil, invalid("Now", errors.New("it is missing"))
	}
	if config.MaxConnections < 0 {
		return nil, invalid("MaxConnections", errors.New("it is negative"))
	}
	if config.Timeout < 0 {
		return nil, invalid("Timeout", errors.New("it is negative"))
	}
	if err := checkNamespace(config.Namespace); err != nil {
		return nil, invalid("Namespace", err)
	}
	if err := checkNamespace(config.AuthNamespace); err != nil {
		return nil, invalid("AuthNamespace", err)
	}
	tlsConfig, err := tlsOf(config)
	if err != nil {
		return nil, err
	}
	v := &Vault{
		address:       address,
		namespace:     config.Namespace,
		authNamespace: config.AuthNamespace,
		timeout:       config.timeout(),
		now:           config.Now,
		later:         config.Later,
		observer:      config.Observer,
	}
	if v.authNamespace == "" {
		v.authNamespace = v.namespace
	}
	v.http = &http.Client{Transport: newTransport(tlsConfig, config.connections()), Timeout: v.timeout}
	v.logins, err = v.loginClient()
	if err != nil {
		return nil, err
	}
	return v, nil
}

// As is a session of one identity. It logs in when it is first read from.
func (v *Vault) As(login Login) *Session { return newSession(v, login) }

// Health asks, without a login, whether the server can serve reads: it is nil
// for one that is initialized and unsealed, and active or a standby, which
// hands requests on. Errors wrap providers.ErrUnavailable, or the context's
// error.
func (v *Vault) Health(ctx context.Context) error {
	began := v.now()
	err := v.health(ctx)
	v.observe("health", began, err)
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("asking for the store's health: %w", err)
	}
	return nil
}

func (v *Vault) health(ctx context.Context) error {
	// No namespace: sys/health is the server's own. The codes of the standbys
	// are set to 200 because 429 is also what a quota answers.
	query := url.Values{"standbyok": {"true"}, "perfstandbyok": {"true"}}
	got, err := v.call(ctx, request{method: http.MethodGet, path: "sys/health", query: query})
	if err != nil {
		return err
	}
	switch got.code {
	case http.StatusOK:
	case 472:
		return fault(providers.ErrUnavailable, got.code, "it is a disaster-recovery standby and serves nobody")
	case http.StatusNotImplemented:
		return fault(providers.ErrUnavailable, got.code, "it is not initialized: run \"vault operator init\"")
	case http.StatusServiceUnavailable:
		return fault(providers.ErrUnavailable, got.code, "it is sealed: unseal it")
	case 530:
		return fault(providers.ErrUnavailable, got.code, "it was removed from its cluster")
	default:
		return fault(providers.ErrUnavailable, got.code, "it says that it is not healthy")
	}
	var state struct {
		Initialized, Sealed bool
		Connected           *bool `json:"ha_connection_healthy"` // standbys only, since 1.19
	}
	switch err := json.Unmarshal(got.body, &state); {
	case err != nil || !state.Initialized || state.Sealed:
		return fault(providers.ErrUnavailable, got.code, notVault)
	case state.Connected != nil && !*state.Connected:
		return fault(providers.ErrUnavailable, got.code, "it is a standby that has lost the active node")
	}
	return nil
}

func (c Config) connections() int {
	if c.MaxConnections == 0 {
		return defaultConnections
	}
	return c.MaxConnections
}

func (c Config) timeout() time.Duration {
	if c.Timeout == 0 {
		return defaultTimeout
	}
	return c.Timeout
}

func invalid(field string, err error) error {
	return fmt.Errorf("%w: %s: %w", providers.ErrInvalid, field, err)
}

func parseAddress(config Config) (url.URL, error) {
	if config.Address == "" {
		return url.URL{}, errors.New("it is missing")
	}
	address, err := url.Parse(config.Address)
	if err != nil {
		// The parser's error repeats the address, which may hold a password.
		return url.URL{}, errors.New("it is not a URL such as https://vault.example:8200")
	}
	switch {
	case address.Scheme != "https" && address.Scheme != "http":
		return url.URL{}, errors.New("it begins with neither https:// nor http://")
	case address.Scheme == "http" && !config.AllowHTTP:
		return url.URL{}, errors.New("plain http is refused: values and tokens would be readable on the way")
	case address.Hostname() == "":
		return url.URL{}, errors.New("it names no host")
	case address.User != nil:
		return url.URL{}, errors.New("it has a user in it: logins are configured apart")
	case strings.Trim(address.Path, "/") != "":
		return url.URL{}, errors.New("it has a path: give the scheme, host and port alone")
	case strings.ContainsAny(config.Address, "?#"):
		return url.URL{}, errors.New("it has a query or fragment")
	}
	return url.URL{Scheme: address.Scheme, Host: address.Host}, nil
}

// checkNamespace refuses what could not stand in a header, or could be read as
// another namespace.
func checkNamespace(namespace string) error {
	if namespace == "" {
		return nil
	}
	_, err := providers.ParseRef(strings.TrimSuffix(namespace, "/"))
	return err
}

func tlsOf(config Config) (*tls.Config, error) {
	result := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: config.ServerName}
	if len(config.CA) > 0 {
		result.RootCAs = x509.NewCertPool()
		if !result.RootCAs.AppendCertsFromPEM(config.CA) {
			return nil, invalid("CA", errors.New("it holds no certificate in PEM"))
		}
	}
	key := config.ClientKey.Bytes()
	switch {
	case len(config.ClientCert) == 0 && len(key) == 0:
		return result, nil
	case len(key) == 0:
		return nil, invalid("ClientKey", errors.New("it is missing beside ClientCert"))
	case len(config.ClientCert) == 0:
		return nil, invalid("ClientCert", errors.New("it is missing beside ClientKey"))
	}
	pair, err := tls.X509KeyPair(config.ClientCert, key)
	if err != nil {
		return nil, invalid("ClientCert", errors.New("it and ClientKey are not a pair in PEM"))
	}
	// Shown whichever authorities the server says it knows: Vault's cert login
	// checks against certificates that its listener does not list.
	result.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	return result, nil
}

func (v *Vault) observe(op string, began time.Time, err error) {
	if v.observer != nil {
		v.observer.Observe(op, err, v.now().Sub(began).Seconds())
	}
}
