package broker

import (
	"context"
	"fmt"
	"time"

	ssv1alpha1 "github.com/bitnami-labs/sealed-secrets/pkg/apis/sealedsecrets/v1alpha1"
	"github.com/go-logr/logr"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	batchv1 "k8s.io/api/batch/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/privyseal/privyseal/broker/address"
	"github.com/privyseal/privyseal/broker/claim"
	"github.com/privyseal/privyseal/broker/installkey"
	"github.com/privyseal/privyseal/broker/restart"
	"github.com/privyseal/privyseal/broker/sealedsecret"
	"github.com/privyseal/privyseal/broker/store"
	"github.com/privyseal/privyseal/broker/target"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// WebhookConfiguration is the name of the MutatingWebhookConfiguration by which
// pods get the secrets that they ask for.
const WebhookConfiguration = "privyseal"

// LeaseName is the Lease in the daemon's namespace that its leader holds.
const LeaseName = "privyseal"

// Config of the daemon.
type Config struct {
	// REST is the way to the API server. Required.
	REST *rest.Config

	// Namespace of the daemon: its Lease, its install key and the references
	// of ClusterSecretStores lie there. Required.
	Namespace string

	// Namespaces to serve. Empty: all.
	Namespaces []string

	// RefreshInterval is how often a claim is read that does not say. 0:
	// claim.DefaultInterval.
	RefreshInterval time.Duration

	// Allowed are the addresses that SecretStores may have. The zero value:
	// none, and SecretStores are switched off.
	Allowed address.Allowed

	// StaleAfter is how long a claim goes without a successful read before its
	// Stale condition is True. 0: claim.DefaultStaleAfter.
	StaleAfter time.Duration

	// AllowHTTP permits stores with plain http addresses, for development.
	AllowHTTP bool

	// SealedSecrets says how those are served. The zero value: not at all.
	SealedSecrets SealedSecrets

	// MaxConcurrentRestarts is how many workloads of the whole cluster roll out at
	// once for changed secrets. 0: any number.
	MaxConcurrentRestarts int

	// RotationJobs says whether rotations may run Jobs. The zero value: those with
	// any are refused.
	RotationJobs bool

	// Reloader says whether workloads are restarted as Reloader's annotations ask.
	// The zero value: they are not.
	Reloader Reloader

	// ArgoRollouts has Rollouts of Argo restarted as Deployments are, once there
	// are any.
	ArgoRollouts bool

	// MetricsAddress to serve metrics on. Empty: not at all.
	MetricsAddress string

	// ProbeAddress to serve /healthz and /readyz on. Empty: not at all.
	ProbeAddress string

	// Log takes the daemon's log. The zero value drops it.
	Log logr.Logger

	// Clock is the time. Nil: the system's.
	Clock clock.PassiveClock
}

// Run runs the daemon until ctx ends. Of several daemons one leads; the others
// wait to take over.
func Run(ctx context.Context, config Config) error {
	if config.Clock == nil {
		config.Clock = clock.RealClock{}
	}
	mgr, err := newManager(config)
	if err != nil {
		return err
	}
	if err := wire(ctx, mgr, config); err != nil {
		return err
	}
	if err := mgr.Start(ctx); err != nil {
		return fmt.Errorf("running the daemon: %w", err)
	}
	return nil
}

// Scheme knows every kind that Privyseal reads or writes.
func Scheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		return nil, fmt.Errorf("adding the Kubernetes kinds: %w", err)
	}
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return nil, fmt.Errorf("adding Privyseal's kinds: %w", err)
	}
	if err := ssv1alpha1.AddToScheme(scheme); err != nil {
		return nil, fmt.Errorf("adding the kind SealedSecret: %w", err)
	}
	return scheme, nil
}

func newManager(config Config) (manager.Manager, error) {
	scheme, err := Scheme()
	if err != nil {
		return nil, err
	}
	access := rest.CopyConfig(config.REST)
	access.QPS = -1 // the API server's own priority and fairness is the limit
	mgr, err := ctrl.NewManager(access, ctrl.Options{
		Scheme: scheme, Logger: config.Log, MapperProvider: mapper, NewCache: patient(config.Log),
		Cache: cacheOptions(config),
		Client: client.Options{Cache: &client.CacheOptions{
			// Values are never cached: Secrets are read one by one when needed.
			DisableFor: []client.Object{&corev1.Secret{}, &corev1.ConfigMap{}},
		}},
		Metrics:                 metricsserver.Options{BindAddress: orNone(config.MetricsAddress)},
		HealthProbeBindAddress:  orNone(config.ProbeAddress),
		LeaderElection:          true,
		LeaderElectionID:        LeaseName,
		LeaderElectionNamespace: config.Namespace,
		// The lease is given up on a clean stop, so that the next takes over at
		// once. Nothing is written after that: Run returns when this ends.
		LeaderElectionReleaseOnCancel: true,
	})
	if err != nil {
		return nil, fmt.Errorf("making the manager: %w", err)
	}
	return mgr, nil
}

// cacheOptions keep little of much: of Secrets and ReplicaSets metadata alone,
// of pods and workloads what a restart is judged by.
func cacheOptions(config Config) cache.Options {
	options := cache.Options{
		DefaultTransform: cache.TransformStripManagedFields(),
		ByObject:         restart.ByObject(),
	}
	options.ByObject[&ssv1alpha1.SealedSecret{}] = cache.ByObject{Transform: sealedsecret.Keep}
	options.ByObject[&corev1.Secret{}] = cache.ByObject{Transform: restart.KeepMetadata}
	options.ByObject[&corev1.ConfigMap{}] = cache.ByObject{Transform: restart.KeepMetadata}
	// The daemon may see no other.
	options.ByObject[&admissionregistrationv1.MutatingWebhookConfiguration{}] = cache.ByObject{
		Field: fields.OneTermEqualSelector("metadata.name", WebhookConfiguration),
	}
	options.ByObject[&batchv1.Job{}] = cache.ByObject{Transform: cache.TransformStripManagedFields()}
	options.ByObject[&batchv1.CronJob{}] = cache.ByObject{Transform: cache.TransformStripManagedFields()}
	if config.ArgoRollouts {
		options.ByObject[restart.NewArgoRollout()] = cache.ByObject{Transform: restart.KeepWorkload}
	}
	if len(config.Namespaces) > 0 {
		options.DefaultNamespaces = map[string]cache.Config{}
		for _, namespace := range config.Namespaces {
			options.DefaultNamespaces[namespace] = cache.Config{}
		}
	}
	return options
}

func orNone(address string) string {
	if address == "" {
		return "0"
	}
	return address
}

// wire puts the line together.
func wire(ctx context.Context, mgr manager.Manager, config Config) error {
	settled := make(chan event.TypedGenericEvent[types.NamespacedName], 1024)
	// again has a target's claim looked at again.
	again := func(target types.NamespacedName) {
		news := event.TypedGenericEvent[types.NamespacedName]{Object: target}
		select {
		case settled <- news:
		default: // every target at once, as at the start: nobody waits for it
			go func() {
				select {
				case settled <- news:
				case <-ctx.Done():
				}
			}()
		}
	}
	keys := installkey.NewKeeper(installkey.Config{
		Reader: mgr.GetAPIReader(), Writer: mgr.GetClient(), Namespace: config.Namespace,
	})
	restarts := restart.New(restart.Config{
		Clock: config.Clock, Registerer: metrics.Registry, Webhook: WebhookConfiguration, Settled: again,
		MaxConcurrent: config.MaxConcurrentRestarts,
		Foreign:       config.Reloader.keeper(mgr, keys, config.Clock), Reloader: config.Reloader.Options,
	})
	if err := restarts.SetupWithManager(mgr); err != nil {
		return fmt.Errorf("setting up restarts: %w", err)
	}
	if err := wireRollouts(mgr, config, restarts); err != nil {
		return err
	}

	connections := store.New(store.Config{
		Live: mgr.GetAPIReader(), Tokens: store.TokenRequests{Client: mgr.GetClient()},
		Namespace: config.Namespace, Allowed: config.Allowed, AllowHTTP: config.AllowHTTP,
		Clock: config.Clock, Later: later, Observer: newStoreMetrics(metrics.Registry),
	})
	for _, kind := range []v1alpha1.StoreKind{v1alpha1.KindClusterSecretStore, v1alpha1.KindSecretStore} {
		status := &store.Status{Kind: kind, Prober: connections, Client: mgr.GetClient(), Clock: config.Clock}
		if err := status.SetupWithManager(mgr); err != nil {
			return fmt.Errorf("setting up %ss: %w", kind, err)
		}
	}

	writer := target.NewWriter(target.Config{
		Metadata: mgr.GetCache(), Live: mgr.GetAPIReader(), Writer: mgr.GetClient(),
		Keys: keys, Clock: config.Clock, DaemonNamespace: config.Namespace,
		KeyNamespace: config.SealedSecrets.KeyNamespace,
	})
	sealingKeys, turned, err := wireSealingKeys(mgr, config)
	if err != nil {
		return err
	}
	kept, err := keepCopies(mgr, config, sealingKeys, again)
	if err != nil {
		return err
	}
	var claims *claim.Reconciler
	leases, err := wireLeases(mgr, config, leasing{
		stores: connections, restarts: restarts, keys: sealingKeys, settled: again,
		reread: func(ctx context.Context, name types.NamespacedName) { claims.Reread(ctx, name) },
	})
	if err != nil {
		return err
	}
	events, gatherer := mgr.GetEventRecorder("privyseal"), claim.Gatherer{Cache: mgr.GetCache(), Allowed: config.Allowed}
	claims = claim.New(claim.Config{
		Line: &claim.Line{
			Gatherer: gatherer,
			Store:    connections, Targets: writer, Restarts: roller{restarts}, Copies: kept, Leases: leases,
		},
		Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Metadata: mgr.GetCache(), Events: events, Pods: restarts,
		Interval: config.RefreshInterval, StaleAfter: config.StaleAfter,
		Clock: config.Clock, LastAlive: lastAlive(ctx, mgr.GetAPIReader(), config.Namespace),
	})
	registerStaleClaims(metrics.Registry, claims.StaleClaims)
	if err := claims.SetupWithManager(ctx, mgr, settled); err != nil {
		return fmt.Errorf("setting up claims: %w", err)
	}
	if err := claim.SetupAnnotated(mgr, events); err != nil {
		return fmt.Errorf("setting up annotated workloads: %w", err)
	}
	if err := wireRotations(mgr, config, rotating{
		stores: connections, claims: claims, gatherer: gatherer, restarts: restarts, keys: sealingKeys,
	}); err != nil {
		return err
	}
	if err := wireSealedSecrets(mgr, config, sealing{keys: sealingKeys, turned: turned, installKeys: keys, targets: writer}); err != nil {
		return err
	}
	if err := mgr.AddHealthzCheck("alive", healthz.Ping); err != nil {
		return fmt.Errorf("adding the health check: %w", err)
	}
	if err := mgr.AddReadyzCheck("caches", cachesSynced(mgr)); err != nil {
		return fmt.Errorf("adding the readiness check: %w", err)
	}
	return nil
}

// roller joins the two things that the line wants of a restart controller.
type roller struct{ *restart.Controller }

// Roll implements claim.Roller.
func (r roller) Roll(ctx context.Context, target types.NamespacedName) (v1alpha1.Consumers, error) {
	if err := r.Controller.Roll(ctx, target); err != nil {
		return v1alpha1.Consumers{}, err
	}
	return r.Consumers(ctx, target)
}

// later runs a function when a time has passed.
func later(wait time.Duration, run func()) { clock.RealClock{}.AfterFunc(wait, run) }

// answerTimeout bounds the questions that are asked before the daemon works:
// the first of them before it tells kubelet that it lives.
const answerTimeout = 5 * time.Second

// lastAlive is when a daemon last renewed the Lease; zero where there was none,
// or nobody to ask.
func lastAlive(ctx context.Context, reader client.Reader, namespace string) time.Time {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	lease := &coordinationv1.Lease{}
	err := reader.Get(ctx, client.ObjectKey{Namespace: namespace, Name: LeaseName}, lease)
	if err != nil || lease.Spec.RenewTime == nil {
		return time.Time{}
	}
	return lease.Spec.RenewTime.Time
}
