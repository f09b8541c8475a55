package inject

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/webhook"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/privyseal/privyseal/broker/certs"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// Path at which pods are reviewed.
const Path = "/inject"

// DefaultListenAddress is where the API server finds the webhook's pods.
const DefaultListenAddress = ":9443"

// Config of the webhook's server. What it does takes these rights, and no
// others:
//
//   - everywhere: get, list, watch secretclaims.privyseal.io,
//     environments.privyseal.io and namespaces (metadata only);
//   - get, patch mutatingwebhookconfigurations, by the name ConfigurationName;
//   - in Namespace: get, update secrets, by the name CASecretName; create
//     leases; get, update leases, by the name ServiceName.
//
// The Secret is the webhook's own certificate authority. Whoever installs the
// webhook makes it, empty, since a right to create Secrets would be one to
// create any; no other Secret is ever read.
type Config struct {
	// REST is the way to the API server. Required.
	REST *rest.Config

	// Namespace of the webhook: its Service, Secret and Lease. Required.
	Namespace string

	// ConfigurationName is the MutatingWebhookConfiguration that calls us. It
	// gets our certificate authority, and nothing else of it is touched.
	// Required.
	ConfigurationName string

	// ServiceName is the Service that the configuration names, and the Lease by
	// which one replica keeps the certificate authority. Required.
	ServiceName string

	// CASecretName is the Secret with the certificate authority. It has to be
	// there, empty at first. Required.
	CASecretName string

	// Hosts are names and addresses by which the API server calls us where the
	// configuration has a URL in place of the Service. Empty: none.
	Hosts []string

	// ListenAddress for the API server's calls. Empty: DefaultListenAddress.
	ListenAddress string

	// MetricsAddress to serve metrics on. Empty: not at all.
	MetricsAddress string

	// ProbeAddress to serve /healthz and /readyz on. Empty: not at all.
	ProbeAddress string

	// Sidecars are containers that get no secret unless a pod names them. Nil:
	// DefaultSidecars.
	Sidecars []string

	// AuthorityLifetime of the certificate authority. 0: 10 years. Tests take
	// minutes, to see it renewed.
	AuthorityLifetime time.Duration

	// Log takes the webhook's log. The zero value drops it.
	Log logr.Logger

	// Clock that certificates are judged by. Nil: the system's.
	Clock clock.Clock
}

// Server is one replica of the webhook.
type Server struct {
	manager manager.Manager
}

// NewServer makes a replica of the webhook. It asks the API server whether
// SecretClaims are there to be read, and reads and writes nothing before Run.
func NewServer(config Config) (*Server, error) {
	if config.Log.GetSink() == nil {
		config.Log = logr.Discard()
	}
	scheme, err := newScheme()
	if err != nil {
		return nil, err
	}
	host, port, err := listenAddress(config.ListenAddress)
	if err != nil {
		return nil, err
	}
	certificates, err := newCertificates(config)
	if err != nil {
		return nil, err
	}
	server := webhook.NewServer(webhook.Options{
		Host: host, Port: port,
		TLSOpts: []func(*tls.Config){func(c *tls.Config) {
			c.MinVersion = tls.VersionTLS12
			c.GetCertificate = certificates.GetCertificate
		}},
	})
	mgr, err := newManager(config, scheme, server)
	if err != nil {
		return nil, err
	}
	if err := mgr.Add(certificates); err != nil {
		return nil, fmt.Errorf("adding the webhook's certificates: %w", err)
	}
	checks, err := watched(mgr)
	if err != nil {
		return nil, err
	}
	// Asking for the server is what has the manager run it.
	server = mgr.GetWebhookServer()
	server.Register(Path, &admission.Webhook{
		Handler: &Handler{
			Decoder:      admission.NewDecoder(scheme),
			Claims:       mgr.GetClient(),
			Environments: mgr.GetClient(),
			Live:         mgr.GetAPIReader(),
			Sidecars:     config.Sidecars,
		},
		LogConstructor: func(_ logr.Logger, request *admission.Request) logr.Logger {
			return admission.DefaultLogConstructor(mgr.GetLogger(), request)
		},
	})
	checks["certificate"] = func(*http.Request) error { return certificates.Ready() }
	checks["webhook"] = server.StartedChecker()
	for name, check := range checks {
		if err := mgr.AddReadyzCheck(name, check); err != nil {
			return nil, fmt.Errorf("adding readiness check %s: %w", name, err)
		}
	}
	if err := mgr.AddHealthzCheck("ping", healthz.Ping); err != nil {
		return nil, fmt.Errorf("adding the health check: %w", err)
	}
	return &Server{manager: mgr}, nil
}

// Run serves until ctx ends, then answers what it was asked already.
func (s *Server) Run(ctx context.Context) error {
	if err := s.manager.Start(ctx); err != nil {
		return fmt.Errorf("running the webhook: %w", err)
	}
	return nil
}

// newScheme knows what the webhook decodes: pods, and claims.
func newScheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		return nil, fmt.Errorf("adding the core kinds: %w", err)
	}
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return nil, fmt.Errorf("adding Privyseal's kinds: %w", err)
	}
	return scheme, nil
}

func listenAddress(address string) (host string, port int, err error) {
	if address == "" {
		address = DefaultListenAddress
	}
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, fmt.Errorf("reading the address to listen on: %w", err)
	}
	number, err := strconv.ParseUint(text, 10, 16)
	if err != nil || number == 0 {
		return "", 0, fmt.Errorf("reading the address to listen on: %q is no port", text)
	}
	return host, int(number), nil
}

func newCertificates(config Config) (*certs.Certs, error) {
	if config.REST == nil {
		return nil, errors.New("configuring the webhook: there is no way to the API server")
	}
	clientset, err := kubernetes.NewForConfig(config.REST)
	if err != nil {
		return nil, fmt.Errorf("making a client: %w", err)
	}
	return certs.New(certs.Config{
		Client:            clientset,
		Namespace:         config.Namespace,
		Secret:            config.CASecretName,
		Configuration:     config.ConfigurationName,
		Service:           config.ServiceName,
		Hosts:             config.Hosts,
		AuthorityLifetime: config.AuthorityLifetime,
		Clock:             config.Clock,
		Log:               slog.New(logr.ToSlogHandler(config.Log)),
	})
}

// newManager makes a manager without a leader: every replica answers.
func newManager(config Config, scheme *runtime.Scheme, server webhook.Server) (manager.Manager, error) {
	mgr, err := ctrl.NewManager(config.REST, ctrl.Options{
		Scheme:        scheme,
		Logger:        config.Log,
		WebhookServer: server,
		Cache: cache.Options{
			DefaultTransform: cache.TransformStripManagedFields(),
			ByObject: map[client.Object]cache.ByObject{
				&v1alpha1.SecretClaim{}: {Transform: keepTarget},
			},
		},
		Metrics:                metricsserver.Options{BindAddress: orNone(config.MetricsAddress)},
		HealthProbeBindAddress: orNone(config.ProbeAddress),
	})
	if err != nil {
		return nil, fmt.Errorf("making the manager: %w", err)
	}
	return mgr, nil
}

// orNone: an empty address means off here, and a default in controller-runtime.
func orNone(address string) string {
	if address == "" {
		return "0"
	}
	return address
}

// keepTarget leaves of a claim what the webhook reads, for the cache holds
// every claim of the cluster, with templates of up to 4 MiB.
func keepTarget(object any) (any, error) {
	claim, is := object.(*v1alpha1.SecretClaim)
	if !is {
		return object, nil // a tombstone
	}
	return &v1alpha1.SecretClaim{
		TypeMeta: claim.TypeMeta,
		ObjectMeta: metav1.ObjectMeta{
			Namespace:       claim.Namespace,
			Name:            claim.Name,
			UID:             claim.UID,
			ResourceVersion: claim.ResourceVersion,
		},
		Spec:   v1alpha1.SecretClaimSpec{Target: claim.Spec.Target},
		Status: v1alpha1.SecretClaimStatus{Target: claim.Status.Target, Sequence: claim.Status.Sequence},
	}, nil
}

// watched starts to watch, with the manager, what pods are judged by, and says
// of each kind whether all of it is there: an environment that was not read yet
// would refuse nothing.
func watched(mgr manager.Manager) (map[string]healthz.Checker, error) {
	namespaces := &metav1.PartialObjectMetadata{}
	namespaces.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	checks := map[string]healthz.Checker{}
	for name, kind := range map[string]client.Object{
		"claims": &v1alpha1.SecretClaim{}, "environments": &v1alpha1.Environment{}, "namespaces": namespaces,
	} {
		informer, err := mgr.GetCache().GetInformer(context.Background(), kind, cache.BlockUntilSynced(false))
		if err != nil {
			return nil, fmt.Errorf("watching %s: %w", name, err)
		}
		checks[name] = func(*http.Request) error {
			if !informer.HasSynced() {
				return errors.New("they are not all read yet")
			}
			return nil
		}
	}
	return checks, nil
}
