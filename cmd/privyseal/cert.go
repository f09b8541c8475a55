package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func certCommand() *cobra.Command {
	var at controller
	var output string
	command := &cobra.Command{
		Use:   "cert",
		Short: "Print the keys that the cluster has to seal to",
		Long: `Cert prints the certificate and the key of version 2 that the cluster gives out.
They are public; keep the file in git, and seal without the cluster by --cert.`,
		Args:    noArguments,
		PreRunE: fromEnvironment,
		RunE: func(command *cobra.Command, _ []string) error {
			controller, err := at.dial(command.Context())
			if err != nil {
				return err
			}
			text, err := controller.certificate(command.Context())
			if err != nil {
				return err
			}
			if _, err := readOffer("what the cluster gives out", text); err != nil {
				return err
			}
			if output != "" {
				return writeFile(output, text, 0o644)
			}
			if _, err := command.OutOrStdout().Write(text); err != nil {
				return fmt.Errorf("writing the certificate: %w", err)
			}
			return nil
		},
	}
	at.addTo(command.Flags())
	command.Flags().StringVarP(&output, "output-file", "w", "", "file to write (default: standard output)")
	return command
}
