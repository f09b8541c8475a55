package broker

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/manager"
)

// awaitedKind begins to serve a kind when there is one. A watch on a kind that
// is not there would end the daemon, and claims with it.
type awaitedKind struct {
	kind schema.GroupVersionKind
	// definition is the name of the kind's CustomResourceDefinition.
	definition string
	// remedy says what people can do who are told that there is none.
	remedy string
	served func() (bool, error)
	setup  func(context.Context) error
	log    logr.Logger
}

// await has a kind served once the API server knows it.
func await(mgr manager.Manager, awaited awaitedKind) error {
	var err error
	awaited.log = mgr.GetLogger()
	if awaited.served, err = servedBy(mgr.GetConfig(), mgr.GetHTTPClient(), awaited.kind); err != nil {
		return err
	}
	if err := mgr.Add(&awaited); err != nil {
		return fmt.Errorf("setting up %s: %w", awaited, err)
	}
	return nil
}

// String is how people call objects of the kind.
func (a awaitedKind) String() string { return a.kind.Kind + "s" }

// servedBy asks the API server whether it knows a kind.
func servedBy(access *rest.Config, http *http.Client, kind schema.GroupVersionKind) (func() (bool, error), error) {
	client, err := discovery.NewDiscoveryClientForConfigAndClient(access, http)
	if err != nil {
		return nil, fmt.Errorf("making a client for discovery: %w", err)
	}
	return func() (bool, error) {
		list, err := client.ServerResourcesForGroupVersion(kind.GroupVersion().String())
		if apierrors.IsNotFound(err) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("asking for the kinds of %s: %w", kind.GroupVersion(), err)
		}
		for _, resource := range list.APIResources {
			if resource.Kind == kind.Kind {
				return true, nil
			}
		}
		return false, nil
	}, nil
}

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (a *awaitedKind) NeedLeaderElection() bool { return false }

// knockForKind is how often a kind is asked for that is not there.
const knockForKind = 10 * time.Second

// Start implements manager.Runnable.
func (a *awaitedKind) Start(ctx context.Context) error {
	told := false
	err := wait.PollUntilContextCancel(ctx, knockForKind, true, func(context.Context) (bool, error) {
		found, err := a.served()
		if !found && !told {
			why := "the CustomResourceDefinition " + a.definition + " is missing"
			if err != nil {
				why = err.Error()
			}
			a.log.Info(fmt.Sprintf("%s are not served yet, all else is; %s", a, a.remedy), "reason", why)
			told = true
		}
		return found, nil
	})
	if err != nil {
		return nil // ctx ended, which is no failure
	}
	if err := a.setup(ctx); err != nil && ctx.Err() == nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("setting up %s: %w", a, err)
	}
	if told {
		a.log.Info(fmt.Sprintf("%s are served", a))
	}
	return nil
}
