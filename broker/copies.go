package broker

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/privyseal/privyseal/broker/copies"
	"github.com/privyseal/privyseal/broker/seal"
	"github.com/privyseal/privyseal/broker/sealingkey"
)

// keepCopies has sealed copies kept.
func keepCopies(mgr manager.Manager, config Config, keys *sealingkey.Keeper, told func(types.NamespacedName)) (*copies.Keeper, error) {
	kept := copies.New(copies.Config{
		Cache: mgr.GetCache(), Live: mgr.GetAPIReader(), Keys: copyKeys{keys}, Namespace: config.Namespace,
		AllowHTTP: config.AllowHTTP, Clock: config.Clock, Told: told, Events: mgr.GetEventRecorder("privyseal"), Registerer: metrics.Registry,
	})
	if err := kept.SetupWithManager(mgr); err != nil {
		return nil, fmt.Errorf("setting up sealed copies: %w", err)
	}
	return kept, nil
}

// copyKeys are the keys of version 2 alone.
type copyKeys struct{ *sealingkey.Keeper }

// SealingKeys implements copies.KeySource.
func (k copyKeys) SealingKeys(ctx context.Context) (copies.SealingKeys, error) {
	now, err := k.Snapshot(ctx)
	if err != nil {
		return copies.SealingKeys{}, err
	}
	return copyKeysOf(now)
}

func copyKeysOf(now sealingkey.Snapshot) (copies.SealingKeys, error) {
	if now.Hybrid == nil {
		return copies.SealingKeys{}, fmt.Errorf("%w: there is no key of version 2", seal.ErrKey)
	}
	keys := copies.SealingKeys{Seal: now.Hybrid.Public(), Open: now.Open}
	for _, key := range now.Keys {
		opens := slices.Contains([]sealingkey.State{sealingkey.Sealing, sealingkey.Opening, sealingkey.Future}, key.State)
		if id, err := hex.DecodeString(key.ID); err == nil && opens && key.Kind == sealingkey.V2 && len(id) == len(seal.KeyID{}) {
			keys.Known = append(keys.Known, seal.KeyID(id))
		}
	}
	return keys, nil
}
