package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/broker/manifest"
	"github.com/privyseal/privyseal/broker/seal"
)

// unsealing is one run of privyseal unseal.
type unsealing struct {
	input, output, format string
	keys                  []string
	environment           string
}

func unsealCommand() *cobra.Command {
	u := &unsealing{}
	command := &cobra.Command{
		Use:   "unseal",
		Short: "Open SealedSecrets with private keys of a backup, without a cluster",
		Long: `Unseal prints Secrets in plain text. It is for the day on which the cluster is
gone; take the keys where nobody else is, and delete what you wrote.`,
		Args:    noArguments,
		PreRunE: fromEnvironment,
		RunE: func(command *cobra.Command, _ []string) error {
			text, err := u.run(command)
			defer clear(text)
			if err != nil {
				return err
			}
			if u.output != "" {
				return writeFile(u.output, text, 0o600)
			}
			_, err = command.OutOrStdout().Write(text)
			return err
		},
	}
	flags := command.Flags()
	flags.StringVarP(&u.input, "sealed-secret-file", "f", "", "file with the SealedSecrets (default: standard input)")
	flags.StringVarP(&u.output, "secret-file", "w", "", "file to write, readable to you alone (default: standard output)")
	flags.StringVarP(&u.format, "format", "o", "", "json or yaml (default: as the output file is called, else json)")
	flags.StringSliceVar(&u.keys, "private-key", nil, "file with private keys: PEM, or key Secrets as kubectl get -o yaml writes them; may be given many times")
	flags.StringSliceVar(&u.keys, "recovery-private-key", nil, "the same, as kubeseal calls it")
	flags.StringVar(&u.environment, "environment", "", "Environment that the namespace is in, for items of version 2")
	return command
}

func (u *unsealing) run(command *cobra.Command) ([]byte, error) {
	if len(u.keys) == 0 {
		return nil, usageError{errors.New("--private-key is missing: give files with the private keys")}
	}
	yaml, err := isYAML(u.output, u.format)
	if err != nil {
		return nil, err
	}
	keys, err := readPrivateKeys(u.keys)
	if err != nil {
		return nil, err
	}
	text, err := readInput(command.InOrStdin(), u.input)
	if err != nil {
		return nil, err
	}
	file, err := manifest.Parse(text)
	if err != nil {
		return nil, err
	}
	var out []byte
	for _, object := range file.Objects {
		one, err := unsealOne(object, u.environment, keys, !yaml)
		if err != nil {
			clear(out)
			return nil, err
		}
		out = append(out, one...)
	}
	if out == nil {
		return nil, errors.New("no SealedSecret in the input")
	}
	return out, nil
}

func unsealOne(object *manifest.Object, environment string, keys *seal.Keys, asJSON bool) ([]byte, error) {
	sealed, err := object.Sealed()
	if err != nil {
		return nil, err
	}
	opened, err := manifest.Open(sealed, environment, keys)
	if err != nil {
		return nil, fmt.Errorf("%s: %w%s", object, err, environmentHint(err, environment))
	}
	defer opened.Clear()
	secret, err := manifest.Render(sealed, opened)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", object, err)
	}
	return manifest.Encode(secret, asJSON)
}

func environmentHint(err error, environment string) string {
	if environment == "" && errors.Is(err, seal.ErrDecrypt) {
		return "; if it is of version 2 and its namespace is in an environment, give --environment"
	}
	return ""
}
