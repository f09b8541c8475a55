package broker

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	ssv1alpha1 "github.com/bitnami-labs/sealed-secrets/pkg/apis/sealedsecrets/v1alpha1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/privyseal/privyseal/broker/home"
	"github.com/privyseal/privyseal/broker/installkey"
	"github.com/privyseal/privyseal/broker/kubeseal"
	"github.com/privyseal/privyseal/broker/sealedsecret"
	"github.com/privyseal/privyseal/broker/sealingkey"
	"github.com/privyseal/privyseal/broker/target"
)

// SealedSecrets says how SealedSecrets are served.
type SealedSecrets struct {
	// Enabled has them served at all.
	Enabled bool

	// KeyNamespace is where the sealing keys are. Empty: the daemon's.
	KeyNamespace string

	// Address to answer kubeseal on. Empty: not at all.
	Address string

	// RenewPeriod is how old a sealing key gets before the next one is made. 0:
	// none is made but the first.
	RenewPeriod time.Duration

	// CutOff is a time: a sealing key that is older is followed by a new one.
	// Zero: none.
	CutOff time.Time

	// AllowedMetadata are labels and annotations that templates may set anywhere;
	// see sealedsecret.Config.
	AllowedMetadata []string
}

// keyNamespace is where the sealing keys are.
func (c Config) keyNamespace() string {
	if c.SealedSecrets.KeyNamespace != "" {
		return c.SealedSecrets.KeyNamespace
	}
	return c.Namespace
}

// wireSealingKeys has the sealing keys looked after. What is turned on the
// channel says that they are others now.
func wireSealingKeys(mgr manager.Manager, config Config) (*sealingkey.Keeper, <-chan event.GenericEvent, error) {
	turned := make(chan event.GenericEvent, 1)
	keys := sealingkey.New(sealingkey.Config{
		Reader: mgr.GetAPIReader(), Writer: mgr.GetClient(), Namespace: config.keyNamespace(),
		RenewPeriod: config.SealedSecrets.RenewPeriod, CutOff: config.SealedSecrets.CutOff,
		Changed: func() {
			select {
			case turned <- event.GenericEvent{Object: &ssv1alpha1.SealedSecret{}}:
			default: // one is waiting that says as much
			}
		},
		Events: mgr.GetEventRecorder("privyseal"), Log: mgr.GetLogger().WithName("sealing-keys"), Clock: config.Clock,
	})
	keys.Register(metrics.Registry)
	if err := keys.SetupWithManager(mgr); err != nil {
		return nil, nil, fmt.Errorf("setting up sealing keys: %w", err)
	}
	return keys, turned, nil
}

// sealing is what SealedSecrets are served with.
type sealing struct {
	keys        *sealingkey.Keeper
	turned      <-chan event.GenericEvent
	installKeys *installkey.Keeper
	targets     *target.Writer
}

// wireSealedSecrets has SealedSecrets served, once the API server knows them.
func wireSealedSecrets(mgr manager.Manager, config Config, with sealing) error {
	if !config.SealedSecrets.Enabled {
		return nil
	}
	reconciler := sealedsecret.New(sealedsecret.Config{
		Client: mgr.GetClient(), Metadata: mgr.GetCache(), Live: mgr.GetAPIReader(), Keys: keysThere{with.keys}, InstallKeys: with.installKeys, Targets: with.targets,
		AllowedMetadata: config.SealedSecrets.AllowedMetadata, Events: mgr.GetEventRecorder("sealed-secrets"),
		Clock: config.Clock, Later: later, Registerer: metrics.Registry, Revision: revision(), Log: mgr.GetLogger(),
	})
	if address := config.SealedSecrets.Address; address != "" {
		server := kubeseal.New(kubeseal.Config{
			Address: address, Keys: with.keys, Environments: homes{mgr.GetCache()},
			Registerer: metrics.Registry, Log: mgr.GetLogger().WithName("kubeseal"), Clock: config.Clock,
		})
		if err := mgr.Add(server); err != nil {
			return fmt.Errorf("setting up the API for kubeseal: %w", err)
		}
	}
	return await(mgr, awaitedKind{
		kind: ssv1alpha1.SchemeGroupVersion.WithKind("SealedSecret"), definition: "sealedsecrets.bitnami.com",
		remedy: "install the definition with the chart (crds.enabled) or switch them off (sealedSecrets.enabled)",
		setup:  func(context.Context) error { return reconciler.SetupWithManager(mgr, with.turned) },
	})
}

// revision of the source that this was built from.
func revision() string {
	build, known := debug.ReadBuildInfo()
	if !known {
		return ""
	}
	for _, setting := range build.Settings {
		if setting.Key == "vcs.revision" {
			return setting.Value
		}
	}
	return build.Main.Version
}

// keysThere are the sealing keys once there are some. Until the first are made,
// which takes a moment, that something does not open says nothing about it.
type keysThere struct{ *sealingkey.Keeper }

// Snapshot implements sealedsecret.Keys.
func (k keysThere) Snapshot(ctx context.Context) (sealingkey.Snapshot, error) {
	snapshot, err := k.Keeper.Snapshot(ctx)
	if err == nil && len(snapshot.Keys) == 0 {
		err = errors.New("there are no sealing keys yet")
	}
	return snapshot, err
}

// homes says which environment a namespace is in, by the cache.
type homes struct{ cache client.Reader }

// Environment implements kubeseal.Environments.
func (h homes) Environment(ctx context.Context, namespace string) (string, error) {
	return home.NameOf(ctx, h.cache, namespace)
}
