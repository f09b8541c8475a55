package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/privyseal/privyseal/broker"
	"github.com/privyseal/privyseal/broker/address"
	"github.com/privyseal/privyseal/broker/claim"
	"github.com/privyseal/privyseal/broker/sealingkey"
)

// common are the flags of every command that talks to a cluster for long.
type common struct {
	kubeconfig string
	namespace  string
	logLevel   string
	metrics    string
	probes     string
}

func (c *common) addTo(command *cobra.Command) {
	flags := command.Flags()
	flags.StringVar(&c.kubeconfig, "kubeconfig", "", "file to reach the cluster with (default: the pod's own service account)")
	flags.StringVar(&c.namespace, "namespace", os.Getenv("POD_NAMESPACE"), "namespace that this runs in (default: $POD_NAMESPACE)")
	flags.StringVar(&c.logLevel, "log-level", "info", "error, warn, info or debug")
	flags.StringVar(&c.metrics, "metrics-address", ":8080", "address to serve metrics on; empty for none")
	flags.StringVar(&c.probes, "probe-address", ":8081", "address to serve /healthz and /readyz on; empty for none")
}

// connect checks the flags and gives the way to the cluster, and the log.
func (c *common) connect() (*rest.Config, logr.Logger, error) {
	if c.namespace == "" {
		return nil, logr.Logger{}, usageError{errors.New("--namespace is missing: name the namespace that this runs in")}
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(strings.ToUpper(c.logLevel))); err != nil {
		return nil, logr.Logger{}, usageError{fmt.Errorf("--log-level %q: want error, warn, info or debug", c.logLevel)}
	}
	handler := slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: level})
	log := logr.FromSlogHandler(handler)
	ctrl.SetLogger(log)
	klog.SetSlogLogger(slog.New(handler))

	access, err := c.access()
	if err != nil {
		return nil, log, err
	}
	return access, log, crashing(access)
}

func (c *common) access() (*rest.Config, error) {
	if c.kubeconfig != "" {
		access, err := clientcmd.BuildConfigFromFlags("", c.kubeconfig)
		if err != nil {
			return nil, fmt.Errorf("reading --kubeconfig %s: %w", c.kubeconfig, err)
		}
		return access, nil
	}
	access, err := rest.InClusterConfig()
	if err != nil {
		return nil, fmt.Errorf("reading the pod's service account (outside a cluster, give --kubeconfig): %w", err)
	}
	return access, nil
}

func serveCommand() *cobra.Command {
	var flags common
	var allowed []string
	var cutOff string
	config := broker.Config{}
	command := &cobra.Command{
		Use:   "serve",
		Short: "Run the controllers: claims to Secrets, and restarts of what reads them",
		Args:  cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			access, log, err := flags.connect()
			if err != nil {
				return err
			}
			if config.RefreshInterval < time.Second {
				return usageError{fmt.Errorf("--refresh-interval %s: want at least 1s", config.RefreshInterval)}
			}
			if config.Allowed, err = address.Parse(allowed); err != nil {
				return usageError{fmt.Errorf("--allowed-address: %w", err)}
			}
			if config.StaleAfter < time.Second {
				return usageError{fmt.Errorf("--stale-after %s: want at least 1s", config.StaleAfter)}
			}
			if config.MaxConcurrentRestarts < 0 {
				return usageError{fmt.Errorf("--max-concurrent-restarts %d: want 1 or more, or 0 for any number", config.MaxConcurrentRestarts)}
			}
			if err := checkSealedSecrets(&config.SealedSecrets, cutOff); err != nil {
				return err
			}
			if err := checkReloader(config.Reloader); err != nil {
				return err
			}
			config.REST, config.Log, config.Namespace = access, log, flags.namespace
			config.MetricsAddress, config.ProbeAddress = flags.metrics, flags.probes
			return broker.Run(command.Context(), config)
		},
	}
	flags.addTo(command)
	command.Flags().StringSliceVar(&config.Namespaces, "namespaces", nil, "namespaces to serve, separated by commas (default: all)")
	command.Flags().DurationVar(&config.RefreshInterval, "refresh-interval", claim.DefaultInterval, "how often a claim is read that does not say")
	command.Flags().StringArrayVar(&allowed, "allowed-address", nil, "an address that SecretStores may have, as scheme://host:port; may be given many times (default: none, and SecretStores are switched off)")
	command.Flags().DurationVar(&config.StaleAfter, "stale-after", claim.DefaultStaleAfter, "how long a claim goes unread before it is stale; never less than three of its intervals")
	command.Flags().IntVar(&config.MaxConcurrentRestarts, "max-concurrent-restarts", 0, "how many workloads of the whole cluster roll out at once for changed secrets, beside what each environment allows; 0 for any number")
	command.Flags().BoolVar(&config.RotationJobs, "rotation-jobs", true, "run the Jobs that SecretRotations have set and verify new values")
	command.Flags().BoolVar(&config.ArgoRollouts, "argo-rollouts", false, "restart Rollouts of Argo (argoproj.io) as Deployments are, once the API server has that kind")
	command.Flags().BoolVar(&config.AllowHTTP, "dev-allow-http", false, "allow stores with plain http addresses; for development only")
	addSealedSecrets(command, &config.SealedSecrets, &cutOff)
	addReloader(command, &config.Reloader)
	return command
}

func addReloader(command *cobra.Command, to *broker.Reloader) {
	flags := command.Flags()
	flags.BoolVar(&to.Enabled, "reloader", false, "restart workloads for Secrets and ConfigMaps of others as the annotations of Stakater's Reloader ask, which must not run at the same time")
	flags.BoolVar(&to.AutoAll, "reloader-auto-reload-all", false, "with --reloader: restart every workload for all that it refers to, unless it says reloader.stakater.com/auto: \"false\"")
}

func checkReloader(of broker.Reloader) error {
	if of.AutoAll && !of.Enabled {
		return usageError{errors.New("--reloader-auto-reload-all has no effect without --reloader: give both, or neither")}
	}
	return nil
}

func addSealedSecrets(command *cobra.Command, to *broker.SealedSecrets, cutOff *string) {
	flags := command.Flags()
	flags.BoolVar(&to.Enabled, "sealed-secrets", true, "make the Secrets of SealedSecrets (bitnami.com)")
	flags.StringVar(&to.Address, "kubeseal-address", "", "address to answer kubeseal on, such as :8082 (default: not at all)")
	flags.StringVar(&to.KeyNamespace, "sealing-key-namespace", "", "namespace of the sealing keys (default: that of --namespace)")
	flags.DurationVar(&to.RenewPeriod, "sealing-key-renewal", sealingkey.DefaultRenewPeriod, "how old a sealing key gets before the next one is made; 0 for never")
	flags.StringVar(cutOff, "sealing-key-cutoff", "", "a time; a sealing key that is older is followed by a new one, as 2026-01-02T15:04:05Z or Mon, 02 Jan 2026 15:04:05 +0000")
	flags.StringSliceVar(&to.AllowedMetadata, "sealed-secrets-metadata", nil, "labels and annotations that SealedSecrets' templates may set though other controllers trust them, separated by commas; what ends in a slash is a prefix")
}

// checkSealedSecrets checks the flags. A cut-off may be written as upstream has
// it.
func checkSealedSecrets(to *broker.SealedSecrets, cutOff string) error {
	if to.RenewPeriod != 0 && to.RenewPeriod < time.Hour {
		return usageError{fmt.Errorf("--sealing-key-renewal %s: want at least 1h, or 0 for never", to.RenewPeriod)}
	}
	if cutOff == "" {
		return nil
	}
	for _, format := range []string{time.RFC3339, time.RFC1123Z} {
		if at, err := time.Parse(format, cutOff); err == nil {
			to.CutOff = at
			return nil
		}
	}
	return usageError{fmt.Errorf("--sealing-key-cutoff %q: want a time as 2026-01-02T15:04:05Z or Mon, 02 Jan 2026 15:04:05 +0000", cutOff)}
}
