package broker

import (
	"context"

	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/privyseal/privyseal/broker/restart"
)

// wireRollouts has Rollouts of Argo restarted, once the API server knows them.
func wireRollouts(mgr manager.Manager, config Config, restarts *restart.Controller) error {
	if !config.ArgoRollouts {
		return nil
	}
	return await(mgr, awaitedKind{
		kind: restart.ArgoRollout(), definition: "rollouts.argoproj.io",
		remedy: "install Argo Rollouts or switch them off (argoRollouts.enabled)",
		setup:  func(ctx context.Context) error { return restarts.WatchRollouts(ctx, mgr.GetCache()) },
	})
}
