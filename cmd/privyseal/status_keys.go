package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
	"time"

	ssv1alpha1 "github.com/bitnami-labs/sealed-secrets/pkg/apis/sealedsecrets/v1alpha1"
	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/sealingkey"
)

// retired is the label of a key that nothing needs. Any value but active takes
// a key out of use; active brings it back.
const retired = "retired"

// keyStatus is one sealing key, and how many SealedSecrets need it.
type keyStatus struct {
	Secret        string           `json:"secret"`
	Kind          sealingkey.Kind  `json:"kind"`
	State         sealingkey.State `json:"state"`
	ID            string           `json:"id,omitempty"`
	Since         time.Time        `json:"since"`
	SealedSecrets []string         `json:"sealedSecrets"`
	Problem       string           `json:"problem,omitempty"`
}

func statusCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "status",
		Short: "Say how things stand in a cluster",
		Args:  cobra.NoArgs,
		RunE:  func(command *cobra.Command, _ []string) error { return command.Help() },
	}
	command.AddCommand(statusKeysCommand(), statusRotationsCommand())
	return command
}

func statusKeysCommand() *cobra.Command {
	var kubeconfig, namespace, daemon, format string
	command := &cobra.Command{
		Use:   "keys",
		Short: "List the sealing keys and what needs them, and the recovery keys",
		Long: `List the sealing keys, and count the SealedSecrets that open with each. It opens
every SealedSecret of the cluster with the keys that you may read, and forgets
what comes out. What lies in git and not in the cluster is not counted.

Of the recovery keys of environments it says when somebody last showed that they
open the sealed copies; see: privyseal keys check --record.`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			if format != "" && format != "json" {
				return usageError{fmt.Errorf("--format %q: want json, or nothing for a table", format)}
			}
			cluster, err := reach(kubeconfig)
			if err != nil {
				return err
			}
			snapshot, inventory, err := takeInventory(command.Context(), cluster, namespace)
			if err != nil {
				return err
			}
			recoveryKeys, err := recoveryKeys(command.Context(), cluster, daemon)
			if err != nil {
				return err
			}
			if format == "json" {
				return printKeysJSON(command.OutOrStdout(), snapshot, inventory, recoveryKeys)
			}
			if err := printKeys(command.OutOrStdout(), snapshot, inventory); err != nil {
				return err
			}
			return printRecoveryKeys(command.OutOrStdout(), recoveryKeys)
		},
	}
	flags := command.Flags()
	flags.StringVar(&kubeconfig, "kubeconfig", "", "file to reach the cluster with (default: as kubectl)")
	flags.StringVar(&namespace, "key-namespace", "privyseal-system", "namespace of the sealing keys")
	flags.StringVar(&daemon, "namespace", "privyseal-system", "namespace of the daemon, where checks of recovery keys are recorded")
	flags.StringVarP(&format, "format", "o", "", "json, or nothing for a table")
	return command
}

func keysRetireCommand() *cobra.Command {
	var kubeconfig, namespace string
	command := &cobra.Command{
		Use:   "retire SECRET",
		Short: "Take a sealing key out of use that nothing in the cluster needs",
		Long: `Take a sealing key out of use: its Secret stays, with the label value "retired",
and "active" brings it back. It is refused while new items are sealed to the key,
or any SealedSecret of the cluster opens with it. Look for what lies in git alone
with: privyseal verify --online.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError{errors.New("name one key Secret, as privyseal status keys lists them")}
			}
			return nil
		},
		RunE: func(command *cobra.Command, args []string) error {
			cluster, err := reach(kubeconfig)
			if err != nil {
				return err
			}
			return retire(command.Context(), command.OutOrStdout(), cluster, client.ObjectKey{Namespace: namespace, Name: args[0]})
		},
	}
	command.Flags().StringVar(&kubeconfig, "kubeconfig", "", "file to reach the cluster with (default: as kubectl)")
	command.Flags().StringVar(&namespace, "key-namespace", "privyseal-system", "namespace of the sealing keys")
	return command
}

func takeInventory(ctx context.Context, cluster client.Client, namespace string) (sealingkey.Snapshot, sealingkey.Inventory, error) {
	keeper := sealingkey.New(sealingkey.Config{Reader: cluster, Writer: cluster, Namespace: namespace, Clock: clock.RealClock{}})
	snapshot, err := keeper.Snapshot(ctx)
	if err != nil {
		return sealingkey.Snapshot{}, sealingkey.Inventory{}, err
	}
	if len(snapshot.Keys) == 0 {
		return sealingkey.Snapshot{}, sealingkey.Inventory{}, fmt.Errorf("namespace %s has no sealing keys: give theirs with --key-namespace", namespace)
	}
	var sealed ssv1alpha1.SealedSecretList
	if err := cluster.List(ctx, &sealed); err != nil {
		return sealingkey.Snapshot{}, sealingkey.Inventory{}, fmt.Errorf("listing SealedSecrets: %w", err)
	}
	homes := map[string]string{}
	inventory, err := sealingkey.TakeInventory(snapshot, sealed.Items, func(namespace string) (string, error) {
		home, known := homes[namespace]
		if known {
			return home, nil
		}
		home, err := askHome(ctx, cluster, namespace)
		homes[namespace] = home
		return home, err
	})
	return snapshot, inventory, err
}

func printKeys(to io.Writer, snapshot sealingkey.Snapshot, inventory sealingkey.Inventory) error {
	table := tabwriter.NewWriter(to, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "SECRET\tKIND\tSTATE\tSINCE\tSEALEDSECRETS\tKEY")
	for _, key := range snapshot.Keys {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%d\t%s\n", key.Secret, key.Kind, key.State, key.Since.UTC().Format(time.DateOnly), len(inventory.Needs[key.ID]), key.ID)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, name := range closed(inventory) {
		fmt.Fprintf(to, "no key opens %s: %v\n", name, inventory.Closed[name])
	}
	return nil
}

func closed(inventory sealingkey.Inventory) []client.ObjectKey {
	return slices.SortedFunc(maps.Keys(inventory.Closed), func(a, b client.ObjectKey) int {
		return slices.Compare([]string{a.Namespace, a.Name}, []string{b.Namespace, b.Name})
	})
}

func printKeysJSON(to io.Writer, snapshot sealingkey.Snapshot, inventory sealingkey.Inventory, recoveryKeys []recoveryKeyStatus) error {
	told := struct {
		Keys         []keyStatus         `json:"keys"`
		Closed       map[string]string   `json:"closed"`
		RecoveryKeys []recoveryKeyStatus `json:"recoveryKeys"`
	}{Closed: map[string]string{}, RecoveryKeys: recoveryKeys}
	for _, key := range snapshot.Keys {
		one := keyStatus{Secret: key.Secret, Kind: key.Kind, State: key.State, ID: key.ID, Since: key.Since.UTC(), Problem: key.Problem, SealedSecrets: []string{}}
		for _, name := range inventory.Needs[key.ID] {
			one.SealedSecrets = append(one.SealedSecrets, name.String())
		}
		told.Keys = append(told.Keys, one)
	}
	for name, err := range inventory.Closed {
		told.Closed[name.String()] = err.Error()
	}
	encoder := json.NewEncoder(to)
	encoder.SetIndent("", "  ")
	return encoder.Encode(told)
}

func retire(ctx context.Context, to io.Writer, cluster client.Client, name client.ObjectKey) error {
	snapshot, inventory, err := takeInventory(ctx, cluster, name.Namespace)
	if err != nil {
		return err
	}
	at := slices.IndexFunc(snapshot.Keys, func(key sealingkey.Key) bool { return key.Secret == name.Name })
	if at < 0 {
		return fmt.Errorf("there is no sealing key %s; privyseal status keys lists them", name)
	}
	key := snapshot.Keys[at]
	if err := inventory.MayRetire(key); err != nil {
		return err
	}
	label := sealingkey.LabelV1
	if key.Kind == sealingkey.V2 {
		label = sealingkey.LabelV2
	}
	secret := &corev1.Secret{}
	secret.Namespace, secret.Name = name.Namespace, name.Name
	patch := fmt.Appendf(nil, `{"metadata": {"labels": {%q: %q}}}`, label, retired)
	if err := cluster.Patch(ctx, secret, client.RawPatch(types.MergePatchType, patch)); err != nil {
		return fmt.Errorf("labelling Secret %s: %w", name, err)
	}
	_, err = fmt.Fprintf(to, "%s is retired: no SealedSecret of the cluster opens with it. Its Secret stays; label %s=%s brings it back.\n", name.Name, label, sealingkey.Active)
	return err
}
