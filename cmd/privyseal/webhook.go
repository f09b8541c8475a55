package main

import (
	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/broker/inject"
)

func webhookCommand() *cobra.Command {
	var flags common
	config := inject.Config{}
	command := &cobra.Command{
		Use:   "webhook",
		Short: "Run the webhook that points annotated pods at their Secrets",
		Args:  cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			access, log, err := flags.connect()
			if err != nil {
				return err
			}
			config.REST, config.Log, config.Namespace = access, log, flags.namespace
			config.MetricsAddress, config.ProbeAddress = flags.metrics, flags.probes
			server, err := inject.NewServer(config)
			if err != nil {
				return err
			}
			return server.Run(command.Context())
		},
	}
	flags.addTo(command)
	local := command.Flags()
	local.StringVar(&config.ListenAddress, "listen-address", inject.DefaultListenAddress, "address for the API server's calls")
	local.StringVar(&config.ConfigurationName, "webhook-configuration", "privyseal", "MutatingWebhookConfiguration that calls this webhook")
	local.StringVar(&config.ServiceName, "service", "privyseal-webhook", "Service that the configuration names")
	local.StringVar(&config.CASecretName, "ca-secret", "privyseal-webhook-ca", "Secret in --namespace that holds the webhook's certificate authority")
	local.StringSliceVar(&config.Hosts, "hosts", nil, "further names or addresses by which the API server calls, where the configuration has a URL")
	return command
}
