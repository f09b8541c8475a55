package sealingkey

import (
	"errors"
	"fmt"
	"slices"

	ssv1alpha1 "github.com/bitnami-labs/sealed-secrets/pkg/apis/sealedsecrets/v1alpha1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/manifest"
)

// Inventory is which SealedSecrets of a cluster need which key. It says nothing
// of those that lie in git and not in the cluster.
type Inventory struct {
	// Needs are the SealedSecrets by the id of a key that one of their items
	// opens with, sorted.
	Needs map[string][]client.ObjectKey

	// Closed are those that do not open, with the reason.
	Closed map[client.ObjectKey]error
}

// TakeInventory opens every SealedSecret and forgets what came out. home gives
// the environment of a namespace. Errors are those of home.
func TakeInventory(snapshot Snapshot, sealed []ssv1alpha1.SealedSecret, home func(namespace string) (string, error)) (Inventory, error) {
	found := Inventory{Needs: map[string][]client.ObjectKey{}, Closed: map[client.ObjectKey]error{}}
	for i := range sealed {
		name := client.ObjectKeyFromObject(&sealed[i])
		environment, err := home(name.Namespace)
		if err != nil {
			return Inventory{}, fmt.Errorf("looking for the environment of %s: %w", name, err)
		}
		opened, err := manifest.Open(&sealed[i], environment, snapshot.Open)
		if err != nil {
			found.Closed[name] = err
			continue
		}
		opened.Clear()
		for _, key := range opened.Keys {
			found.Needs[key] = append(found.Needs[key], name)
		}
	}
	for _, names := range found.Needs {
		slices.SortFunc(names, func(a, b client.ObjectKey) int {
			return slices.Compare([]string{a.Namespace, a.Name}, []string{b.Namespace, b.Name})
		})
	}
	return found, nil
}

// ErrNeeded: a key cannot be retired.
var ErrNeeded = errors.New("the key is still needed")

// MayRetire says whether nothing in the cluster needs a key: no SealedSecret
// opens with it, and new ones are not sealed to it. Errors wrap ErrNeeded.
func (i Inventory) MayRetire(key Key) error {
	if key.State == Sealing {
		return fmt.Errorf("%w: new items are sealed to %s; wait until it is renewed, or have the daemon renew it (--sealing-key-cutoff)", ErrNeeded, key.Secret)
	}
	if needs := i.Needs[key.ID]; len(needs) > 0 {
		return fmt.Errorf("%w: %d SealedSecrets open with %s, the first is %s; seal them anew with: privyseal reseal", ErrNeeded, len(needs), key.Secret, needs[0])
	}
	return nil
}
