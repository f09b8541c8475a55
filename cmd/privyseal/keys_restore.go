package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/privyseal/privyseal/broker/recovery"
)

func keysRestoreCommand() *cobra.Command {
	var kubeconfig, key string
	var apply bool
	command := &cobra.Command{
		Use:   "restore BUNDLE --key FILE [--apply]",
		Short: "Open a bundle, and print what is in it or make it in a cluster",
		Long: `Open a bundle with a recovery key. Without --apply, print its objects to standard
output as YAML, for "kubectl create -f -"; they hold private keys. With it, make
them in the cluster: only those that are not there, and none is overwritten. Do
that before the daemon starts, or it makes keys of its own.`,
		Args: oneBundle,
		RunE: func(command *cobra.Command, args []string) error {
			if kubeconfig != "" && !apply {
				return usageError{errors.New("--kubeconfig is for --apply")}
			}
			keys, err := readRecoveryKeys(key)
			if err != nil {
				return err
			}
			text, err := os.ReadFile(args[0])
			if err != nil {
				return err
			}
			bundle, err := openBundle(args[0], text, key, keys)
			if err != nil {
				return err
			}
			defer bundle.Clear()
			if !apply {
				return printBundle(command.OutOrStdout(), bundle)
			}
			cluster, err := reach(kubeconfig)
			if err != nil {
				return err
			}
			done, err := recovery.Restore(command.Context(), cluster, bundle)
			differ := 0
			for _, one := range done {
				kind, name := one.Object.GetObjectKind().GroupVersionKind().Kind, one.Object.GetName()
				if namespace := one.Object.GetNamespace(); namespace != "" {
					name = namespace + "/" + name
				}
				fmt.Fprintf(command.OutOrStdout(), "%s %s: %s\n", kind, name, one.Fate)
				if one.Fate == recovery.Differs {
					differ++
				}
			}
			if err == nil && differ > 0 {
				return fmt.Errorf("%d objects differ from the bundle's and were left alone: compare them, and delete those that are to be the bundle's", differ)
			}
			return err
		},
	}
	flags := command.Flags()
	flags.StringVar(&key, "key", "", "file with the recovery key")
	flags.BoolVar(&apply, "apply", false, "make the objects in the cluster, instead of printing them")
	flags.StringVar(&kubeconfig, "kubeconfig", "", "file to reach the cluster with (default: as kubectl)")
	return command
}

func oneBundle(_ *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usageError{fmt.Errorf("want one bundle, got %d", len(args))}
	}
	return nil
}

func printBundle(to io.Writer, bundle recovery.Bundle) error {
	var objects []any
	for _, namespace := range bundle.Namespaces {
		objects = append(objects, namespace)
	}
	for _, secret := range bundle.Secrets {
		objects = append(objects, secret)
	}
	for _, environment := range bundle.Environments {
		objects = append(objects, environment)
	}
	for _, object := range objects {
		text, err := yaml.Marshal(object)
		if err != nil {
			return fmt.Errorf("writing the objects: %w", err)
		}
		_, err = fmt.Fprintf(to, "---\n%s", text)
		clear(text)
		if err != nil {
			return err
		}
	}
	return nil
}
