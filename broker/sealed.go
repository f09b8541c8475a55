package broker

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	ssv1alpha1 "github.com/bitnami-labs/sealed-secrets/pkg/apis/sealedsecrets/v1alpha1"
	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/privyseal/privyseal/broker/environment"
	"github.com/privyseal/privyseal/broker/installkey"
	"github.com/privyseal/privyseal/broker/kubeseal"
	"github.com/privyseal/privyseal/broker/seal"
	"github.com/privyseal/privyseal/broker/sealedsecret"
	"github.com/privyseal/privyseal/broker/sealingkey"
	"github.com/privyseal/privyseal/broker/target"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// SealedSecrets says what is done with SealedSecrets.
type SealedSecrets struct {
	// Enabled makes Secrets of them.
	Enabled bool

	// KeyNamespace is where the sealing keys are. Empty: the daemon's namespace.
	KeyNamespace string

	// Address to answer kubeseal on. Empty: not at all.
	Address string

	// RenewPeriod after which a sealing key is followed by a new one. 0: never.
	RenewPeriod time.Duration

	// CutOff has sealing keys that are older followed by new ones. Zero: none.
	CutOff time.Time
}

// kindThere is how often a kind that is not there is looked for.
const kindThere = 15 * time.Second

// wireSealedSecrets puts the keys and the controller of SealedSecrets in place.
// The kind may come later than the daemon: claims do not wait for it.
func wireSealedSecrets(mgr manager.Manager, config Config, writer *target.Writer, rings *installkey.Keeper) error {
	turned := make(chan event.GenericEvent, 1)
	keys := sealingkey.New(sealingkey.Config{
		Reader: mgr.GetAPIReader(), Writer: mgr.GetClient(), Namespace: orDefault(config.SealedSecrets.KeyNamespace, config.Namespace),
		RenewPeriod: config.SealedSecrets.RenewPeriod, CutOff: config.SealedSecrets.CutOff,
		Clock: config.Clock, Log: config.Log.WithName("sealing-keys"), Events: mgr.GetEventRecorder("privyseal"),
		Changed: func() {
			select {
			case turned <- event.GenericEvent{Object: &ssv1alpha1.SealedSecret{}}:
			default: // somebody is told already
			}
		},
	})
	keys.Register(metrics.Registry)
	if err := keys.SetupWithManager(mgr); err != nil {
		return err
	}
	controller := sealedsecret.New(sealedsecret.Config{
		Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Metadata: mgr.GetCache(), Targets: writer, Keyrings: rings,
		Keys: func(ctx context.Context) (*seal.Keys, error) {
			snapshot, err := keys.Snapshot(ctx)
			return snapshot.Open, err
		},
		Environments: homes{mgr.GetCache()},
		Events:       mgr.GetEventRecorder("sealed-secrets"), Registerer: metrics.Registry,
		Log: config.Log.WithName("sealedsecret"), Clock: config.Clock,
	})
	if address := config.SealedSecrets.Address; address != "" {
		server := kubeseal.New(kubeseal.Config{
			Address: address, Keys: keys, Environments: homes{mgr.GetCache()},
			Registerer: metrics.Registry, Log: config.Log.WithName("kubeseal"), Clock: config.Clock,
		})
		if err := mgr.Add(server); err != nil {
			return fmt.Errorf("adding the API for kubeseal: %w", err)
		}
	}
	kind := schema.GroupKind{Group: ssv1alpha1.SchemeGroupVersion.Group, Kind: "SealedSecret"}
	return mgr.Add(manager.RunnableFunc(func(ctx context.Context) error {
		if err := untilThere(ctx, mgr.GetRESTMapper(), kind, config.Log); err != nil {
			return nil //nolint:nilerr // the daemon ends
		}
		return controller.SetupWithManager(mgr, turned)
	}))
}

// untilThere waits until the API server has a kind.
func untilThere(ctx context.Context, mapper meta.RESTMapper, kind schema.GroupKind, log logr.Logger) error {
	var told atomic.Bool
	return wait.PollUntilContextCancel(ctx, kindThere, true, func(context.Context) (bool, error) {
		_, err := mapper.RESTMapping(kind)
		if err != nil && !told.Swap(true) {
			log.Info("SealedSecrets are not seen to until their kind is there; the chart installs it with sealedSecrets.enabled", "kind", kind.String(), "reason", err.Error())
		}
		return err == nil, nil
	})
}

func orDefault(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

// homes says which environment a namespace is in, by the cache.
type homes struct{ cache client.Reader }

// Environment implements sealedsecret.Environments and kubeseal.Environments.
func (h homes) Environment(ctx context.Context, name string) (string, error) {
	namespace := &metav1.PartialObjectMetadata{}
	namespace.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	err := h.cache.Get(ctx, client.ObjectKey{Name: name}, namespace, client.UnsafeDisableDeepCopy)
	if client.IgnoreNotFound(err) != nil {
		return "", fmt.Errorf("looking up namespace %s: %w", name, err)
	}
	var all v1alpha1.EnvironmentList
	if err := h.cache.List(ctx, &all, client.UnsafeDisableDeepCopy); err != nil {
		return "", fmt.Errorf("listing environments: %w", err)
	}
	home, err := environment.Home(all.Items, name, namespace.Labels)
	if home == nil {
		return "", err
	}
	return home.Name, err
}
