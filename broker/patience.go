package broker

import (
	"context"
	"fmt"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/cache"
)

// knock is how often an API server that is not there is asked for again.
const knock = time.Second

// patientCache begins to read when there is an API server. Its watches, begun
// before that, would each wait for longer after each failure, up to a minute,
// and the last of them would be what the daemon waits for.
type patientCache struct {
	cache.Cache
	answers func(context.Context) error
	log     logr.Logger
}

// patient makes patient caches.
func patient(log logr.Logger) cache.NewCacheFunc {
	return func(access *rest.Config, options cache.Options) (cache.Cache, error) {
		inner, err := cache.New(access, options)
		if err != nil {
			return nil, err
		}
		client, err := discovery.NewDiscoveryClientForConfigAndClient(access, options.HTTPClient)
		if err != nil {
			return nil, fmt.Errorf("making a client for the API server's health: %w", err)
		}
		return &patientCache{Cache: inner, log: log, answers: func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, answerTimeout)
			defer cancel()
			return client.RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
		}}, nil
	}
}

// Start implements cache.Cache.
func (p *patientCache) Start(ctx context.Context) error {
	if p.await(ctx) != nil {
		return nil // ctx ended, which is no failure
	}
	return p.Cache.Start(ctx)
}

func (p *patientCache) await(ctx context.Context) error {
	told := false
	return wait.PollUntilContextCancel(ctx, knock, true, func(ctx context.Context) (bool, error) {
		err := p.answers(ctx)
		// Whoever may not ask for the health was answered all the same.
		if err == nil || apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) {
			return true, nil
		}
		if !told && ctx.Err() == nil {
			p.log.Info("waiting for the API server", "error", err.Error())
			told = true
		}
		return false, nil
	})
}
