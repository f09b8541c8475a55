package broker

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"

	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/manager"
)

var errCachesNotSynced = errors.New("caches are not synced yet")

// cachesSynced says whether this replica could lead. A store's state is not
// part of it: a daemon that cannot reach Vault has to stay, and keep serving
// what it can.
func cachesSynced(mgr manager.Manager) healthz.Checker {
	var synced, watching atomic.Bool
	return func(request *http.Request) error {
		if synced.Load() {
			return nil
		}
		if watching.CompareAndSwap(false, true) {
			go func() {
				synced.Store(mgr.GetCache().WaitForCacheSync(context.WithoutCancel(request.Context())))
				watching.Store(false)
			}()
		}
		return errCachesNotSynced
	}
}
