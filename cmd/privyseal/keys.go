package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/recovery"
	"github.com/privyseal/privyseal/broker/seal"
)

func keysCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "keys",
		Short: "Make recovery keys; back up, check, restore and retire the keys of a cluster",
		Args:  cobra.NoArgs,
		RunE:  func(command *cobra.Command, _ []string) error { return command.Help() },
	}
	command.AddCommand(keysGenerateCommand(), keysBackupCommand(), keysCheckCommand(), keysRestoreCommand(), keysRetireCommand())
	return command
}

// writeNew writes a file that nobody else may read, and overwrites none.
func writeNew(path string, content []byte) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("%s exists, and is not overwritten: name another file", path)
	}
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	return errors.Join(err, file.Sync(), file.Close())
}

// reach gives a client for the cluster that a person works with.
func reach(kubeconfig string) (client.Client, error) {
	var access *rest.Config
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = kubeconfig
	access, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, nil).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("reading the kubeconfig (give --kubeconfig): %w", err)
	}
	return clientFor(access)
}

// readRecoveryKeys reads the file that --key names.
func readRecoveryKeys(path string) ([]*seal.PrivateKey, error) {
	if path == "" {
		return nil, usageError{errors.New("--key is missing: name the file with the recovery key")}
	}
	private, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	defer clear(private)
	keys, err := seal.ParsePrivateKeys(private)
	if err != nil {
		return nil, fmt.Errorf("--key %s: %w", path, err)
	}
	return keys, nil
}

// openBundle opens a bundle, which was read from a path, with the keys of a
// file.
func openBundle(path string, text []byte, keyPath string, keys []*seal.PrivateKey) (recovery.Bundle, error) {
	bundle, err := recovery.Open(text, seal.NewKeys(nil, keys))
	if errors.Is(err, seal.ErrNoKey) {
		wanted, recipientsErr := recovery.Recipients(text)
		return bundle, errors.Join(fmt.Errorf("%s is sealed to the keys %v, and %s holds %v", path, wanted, keyPath, keys), recipientsErr)
	}
	if err != nil {
		return bundle, fmt.Errorf("%s: %w", path, err)
	}
	return bundle, nil
}
