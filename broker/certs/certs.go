package certs

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/clock"
)

// Config of the webhook's certificates.
type Config struct {
	// Client of the API server; required. It needs get and update on Secret,
	// create on leases and get and update on Lease, all in Namespace, and get
	// and patch on Configuration.
	Client kubernetes.Interface

	// Namespace of Secret, Lease and Service; required.
	Namespace string

	// Secret that holds the authority; required. It must be there, though it
	// may be empty: a right to create Secrets cannot be limited to one name,
	// so whoever installs the webhook makes it.
	Secret string

	// Configuration is the MutatingWebhookConfiguration whose webhooks all get
	// the bundle; required.
	Configuration string

	// Service that the API server calls; required. The certificate is for
	// <Service>.<Namespace>.svc.
	Service string

	// Lease by which one replica becomes the only one that writes. Default:
	// the Service's name.
	Lease string

	// Hosts are names and addresses that the certificate is for too, where the
	// configuration calls the webhook by URL. Default: none.
	Hosts []string

	// AuthorityLifetime. Default: 10 years. Renewed when a third is left.
	AuthorityLifetime time.Duration

	// LeafLifetime of each replica's certificate. Default: 24 hours. Renewed
	// when a third is left. At most half of AuthorityLifetime.
	LeafLifetime time.Duration

	// Settle is how long a new authority is trusted before it signs: the time
	// that API servers may take to see the bundle. Default: 5 minutes, or a
	// sixth of LeafLifetime if that is less. At most a third of LeafLifetime.
	Settle time.Duration

	// Clock that certificates are judged by. Nil for the real one. The Lease
	// is always in real time.
	Clock clock.Clock

	// Log gets one line for each change. Nil for none.
	Log *slog.Logger
}

// While something is not as it should be, it is looked at this often.
const impatient = time.Second

// Certs serves the webhook's certificate, and keeps its authority while it
// holds the Lease. Its methods are safe for concurrent use.
type Certs struct {
	config    Config
	lifetimes lifetimes
	hosts     []string

	leaf      atomic.Pointer[leaf]
	published atomic.Bool // the leaf's issuer was once seen in the configuration
}

// New checks a configuration. Nothing happens before Start.
func New(config Config) (*Certs, error) {
	for field, value := range map[string]string{
		"Namespace": config.Namespace, "Secret": config.Secret,
		"Configuration": config.Configuration, "Service": config.Service,
	} {
		if value == "" {
			return nil, fmt.Errorf("configuring the webhook's certificates: %s is empty", field)
		}
	}
	if config.Client == nil {
		return nil, errors.New("configuring the webhook's certificates: there is no Client")
	}
	if config.Lease == "" {
		config.Lease = config.Service
	}
	if config.Clock == nil {
		config.Clock = clock.RealClock{}
	}
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	c := &Certs{
		config:    config,
		lifetimes: config.lifetimes(),
		hosts:     append([]string{config.Service + "." + config.Namespace + ".svc"}, config.Hosts...),
	}
	if l := c.lifetimes; l.leaf <= 0 || l.settle <= 0 || l.leaf > l.authority/2 || l.settle > l.leaf/3 {
		return nil, fmt.Errorf("configuring the webhook's certificates: lifetimes of %s for the authority, %s for a leaf and %s to settle do not fit into each other",
			l.authority, l.leaf, l.settle)
	}
	return c, nil
}

func (c Config) lifetimes() lifetimes {
	const year = 365 * 24 * time.Hour
	l := lifetimes{authority: c.AuthorityLifetime, leaf: c.LeafLifetime, settle: c.Settle}
	if l.authority == 0 {
		l.authority = 10 * year
	}
	if l.leaf == 0 {
		l.leaf = min(24*time.Hour, l.authority/2)
	}
	if l.settle == 0 {
		l.settle = min(5*time.Minute, l.leaf/6)
	}
	return l
}

// every is the time between two looks when all is well.
func (l lifetimes) every() time.Duration {
	return min(30*time.Second, l.leaf/10, l.settle/2)
}

// GetCertificate is tls.Config's.
func (c *Certs) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	leaf := c.leaf.Load()
	if leaf == nil {
		return nil, errors.New("there is no certificate yet")
	}
	return &tls.Certificate{Certificate: [][]byte{leaf.cert.Raw}, PrivateKey: leaf.key, Leaf: leaf.cert}, nil
}

// Ready says what is wanting until the API server can call this replica: a
// certificate, and an authority for it in the webhook's configuration. A bundle
// that is lost later makes no replica unready; it is put back.
func (c *Certs) Ready() error {
	leaf := c.leaf.Load()
	switch {
	case leaf == nil:
		return errors.New("there is no certificate yet")
	case !c.config.Clock.Now().Before(leaf.cert.NotAfter):
		return errors.New("the certificate has expired")
	case !c.published.Load():
		return fmt.Errorf("MutatingWebhookConfiguration %s does not trust the certificate's authority yet", c.config.Configuration)
	}
	return nil
}

// NeedLeaderElection implements manager.LeaderElectionRunnable: every replica
// has a certificate. Who keeps the authority is settled in here, since a
// manager that loses its Lease ends its process, and with it the serving.
func (c *Certs) NeedLeaderElection() bool { return false }

// Start serves and keeps until ctx ends. It implements manager.Runnable.
func (c *Certs) Start(ctx context.Context) error {
	elector, err := c.elector()
	if err != nil {
		return err
	}
	var running sync.WaitGroup
	running.Go(func() {
		for ctx.Err() == nil {
			elector.Run(ctx) // until the Lease is lost
			c.sleep(ctx, impatient)
		}
	})
	for ctx.Err() == nil {
		if err := c.serve(ctx); err != nil && ctx.Err() == nil {
			c.config.Log.Error("cannot renew the webhook's certificate", "error", err)
		}
		pause := c.lifetimes.every()
		if c.Ready() != nil {
			pause = min(pause, impatient)
		}
		c.sleep(ctx, pause)
	}
	running.Wait()
	return nil
}

func (c *Certs) sleep(ctx context.Context, duration time.Duration) {
	timer := c.config.Clock.NewTimer(duration)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C():
	}
}

func (c *Certs) secret(ctx context.Context) (*corev1.Secret, error) {
	secret, err := c.config.Client.CoreV1().Secrets(c.config.Namespace).Get(ctx, c.config.Secret, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("reading Secret %s/%s (it has to be there, empty at first): %w", c.config.Namespace, c.config.Secret, err)
	}
	return secret, nil
}

func (c *Certs) configuration(ctx context.Context) (*admissionregistrationv1.MutatingWebhookConfiguration, error) {
	configuration, err := c.config.Client.AdmissionregistrationV1().MutatingWebhookConfigurations().
		Get(ctx, c.config.Configuration, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("reading MutatingWebhookConfiguration %s: %w", c.config.Configuration, err)
	}
	return configuration, nil
}

// serve is one pass over this replica's certificate. Until the replica is
// ready, it also looks whether the API server would trust it.
func (c *Certs) serve(ctx context.Context) error {
	secret, err := c.secret(ctx)
	if err != nil {
		return err
	}
	a, err := parseAuthority(secret.Data)
	if err != nil {
		return fmt.Errorf("reading Secret %s/%s: %w", c.config.Namespace, c.config.Secret, err)
	}
	old := c.leaf.Load()
	renewed, err := c.lifetimes.renewed(old, a, c.hosts, c.config.Clock.Now())
	if err != nil {
		return err
	}
	if renewed != old {
		c.leaf.Store(renewed)
		c.config.Log.Info("webhook certificate issued", "until", renewed.cert.NotAfter)
	}
	if renewed == nil || c.published.Load() {
		return nil
	}
	configuration, err := c.configuration(ctx)
	if err != nil {
		return err
	}
	if trusts(inConfiguration(configuration), renewed.issuer) {
		c.published.Store(true)
	}
	return nil
}
