package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/recovery"
	"github.com/privyseal/privyseal/broker/seal"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// recoveryKeyStatus is one recovery key, and what it was last shown to open.
type recoveryKeyStatus struct {
	ID           string          `json:"id"`
	Environments []string        `json:"environments"`
	LastProven   *recovery.Proof `json:"lastProven,omitempty"`
}

// recoveryKeys are those that environments name, by id.
func recoveryKeys(ctx context.Context, cluster client.Reader, daemon string) ([]recoveryKeyStatus, error) {
	var environments v1alpha1.EnvironmentList
	if err := cluster.List(ctx, &environments); err != nil {
		return nil, fmt.Errorf("listing environments: %w", err)
	}
	proofs, err := recovery.Proofs(ctx, cluster, daemon)
	if err != nil {
		return nil, err
	}
	all := []recoveryKeyStatus{}
	for _, environment := range environments.Items {
		ids, err := recipientsOf(environment)
		if err != nil {
			return nil, err
		}
		for _, id := range ids {
			at := slices.IndexFunc(all, func(key recoveryKeyStatus) bool { return key.ID == id })
			if at < 0 {
				at, all = len(all), append(all, recoveryKeyStatus{ID: id})
			}
			all[at].Environments = append(all[at].Environments, environment.Name)
		}
	}
	for i := range all {
		if proof, found := proofs[all[i].ID]; found {
			all[i].LastProven = &proof
		}
	}
	slices.SortFunc(all, func(a, b recoveryKeyStatus) int { return strings.Compare(a.ID, b.ID) })
	return all, nil
}

// recipientsOf are the ids of an environment's recovery keys, each once.
func recipientsOf(environment v1alpha1.Environment) ([]string, error) {
	if environment.Spec.Sealing == nil {
		return nil, nil
	}
	var ids []string
	for i, text := range environment.Spec.Sealing.Recipients {
		keys, err := seal.ParsePublicKeys([]byte(text))
		if err != nil {
			return nil, fmt.Errorf("environment %s, spec.sealing.recipients[%d]: %w", environment.Name, i, err)
		}
		for _, key := range keys {
			ids = append(ids, key.ID().String())
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids), nil
}

func printRecoveryKeys(to io.Writer, keys []recoveryKeyStatus) error {
	if len(keys) == 0 {
		_, err := fmt.Fprintln(to, "\nno environment has a recovery key: without the cluster's own keys, no sealed copy opens")
		return err
	}
	fmt.Fprintln(to)
	table := tabwriter.NewWriter(to, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "RECOVERY KEY\tENVIRONMENTS\tLAST PROVEN TO OPEN")
	for _, key := range keys {
		fmt.Fprintf(table, "%s\t%s\t%s\n", key.ID, strings.Join(key.Environments, ","), lastProven(key.LastProven))
	}
	return table.Flush()
}

func lastProven(proof *recovery.Proof) string {
	if proof == nil {
		return "never"
	}
	text := fmt.Sprintf("%s, %d copies", proof.At.UTC().Format(time.DateOnly), proof.Copies)
	if proof.Bundle != nil {
		text += ", bundle of " + proof.Bundle.UTC().Format(time.DateOnly)
	}
	return text
}
