package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"k8s.io/utils/clock"

	"github.com/privyseal/privyseal/broker/recovery"
	"github.com/privyseal/privyseal/broker/seal"
)

func keysBackupCommand() *cobra.Command {
	var kubeconfig, namespace, out string
	var keyNamespaces, recipients []string
	command := &cobra.Command{
		Use:   "backup --recipient FILE --out FILE",
		Short: "Write the cluster's keys into a bundle that only a recovery key opens",
		Long: `Write the sealing keys, the install key, the environments and their namespaces
into one file, sealed to recovery keys. Make a new one whenever a key was made:
what was sealed to a key that is in no bundle is lost with the cluster.`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			switch {
			case len(recipients) == 0:
				return usageError{errors.New("--recipient is missing: name a file with a public recovery key, as keys generate prints it")}
			case out == "":
				return usageError{errors.New("--out is missing: name a file for the bundle")}
			}
			keys, err := readRecipients(recipients)
			if err != nil {
				return err
			}
			cluster, err := reach(kubeconfig)
			if err != nil {
				return err
			}
			bundle, err := recovery.Gather(command.Context(), cluster, namespace, keyNamespaces...)
			defer bundle.Clear()
			if err != nil {
				return err
			}
			bundle.Made = clock.RealClock{}.Now().UTC()
			text, err := recovery.Seal(bundle, keys)
			if errors.Is(err, recovery.ErrEmpty) {
				return fmt.Errorf("%w in namespace %s: give the daemon's with --namespace, and others with --key-namespace", err, namespace)
			}
			if err != nil {
				return err
			}
			if err := writeNew(out, text); err != nil {
				return err
			}
			for _, line := range bundle.Contents() {
				fmt.Fprintln(command.OutOrStdout(), line)
			}
			return nil
		},
	}
	flags := command.Flags()
	flags.StringVar(&kubeconfig, "kubeconfig", "", "file to reach the cluster with (default: as kubectl)")
	flags.StringVar(&namespace, "namespace", "privyseal-system", "namespace of the daemon")
	flags.StringArrayVar(&keyNamespaces, "key-namespace", nil, "a further namespace with sealing keys, as kube-system; may be given many times")
	flags.StringArrayVar(&recipients, "recipient", nil, "a file with public recovery keys; may be given many times")
	flags.StringVar(&out, "out", "", "file for the bundle; must not exist")
	return command
}

func readRecipients(paths []string) ([]*seal.PublicKey, error) {
	var all []*seal.PublicKey
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		keys, err := seal.ParsePublicKeys(text)
		if err != nil {
			return nil, fmt.Errorf("--recipient %s: %w", path, err)
		}
		all = append(all, keys...)
	}
	return all, nil
}
