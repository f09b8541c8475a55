package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/broker/seal"
)

func keysGenerateCommand() *cobra.Command {
	var out string
	command := &cobra.Command{
		Use:   "generate --out FILE",
		Short: "Make a recovery key: the private key into a file, the public key to standard output",
		Long: `Make a recovery key pair, offline. The private key goes into a file that only
its owner may read; whoever has it reads everything that is sealed to the key, so
it belongs on paper or a medium in a safe. The public key is what environments
take in spec.sealing.recipients, and "privyseal keys backup" with --recipient.`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			if out == "" {
				return usageError{errors.New("--out is missing: name a file for the private key")}
			}
			key, err := seal.GenerateKey()
			if err != nil {
				return err
			}
			private, err := key.PEM()
			if err != nil {
				return err
			}
			defer clear(private)
			if err := writeNew(out, private); err != nil {
				return err
			}
			fmt.Fprintf(command.ErrOrStderr(), "the private key of %s is in %s\n", key.Public().ID(), out)
			_, err = command.OutOrStdout().Write(key.Public().PEM())
			return err
		},
	}
	command.Flags().StringVar(&out, "out", "", "file for the private key; must not exist")
	return command
}
