package sealingkey

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"
)

// SetupWithManager has the keys looked at whenever one comes, goes or changes,
// by every replica; and has the one that leads make what is due.
//
// The watches are the Keeper's own and not the manager's cache: that one holds
// the namespaces that are served, and of labels only ours.
func (k *Keeper) SetupWithManager(mgr manager.Manager) error {
	watched, err := k.watches(mgr)
	if err != nil {
		return err
	}
	if err := mgr.Add(watched); err != nil {
		return fmt.Errorf("adding the watches on sealing keys: %w", err)
	}
	for _, one := range []struct {
		name  string
		leads bool
		does  reconcile.Func
	}{
		{"sealing-keys", false, func(ctx context.Context, _ reconcile.Request) (reconcile.Result, error) {
			snapshot, err := k.load(ctx)
			if err != nil {
				return reconcile.Result{}, err
			}
			return reconcile.Result{RequeueAfter: k.nextLook(snapshot)}, nil
		}},
		{"sealing-key-renewal", true, func(ctx context.Context, _ reconcile.Request) (reconcile.Result, error) {
			later, err := k.Renew(ctx)
			return reconcile.Result{RequeueAfter: later}, err
		}},
	} {
		made := builder.ControllerManagedBy(mgr).Named(one.name).WatchesRawSource(once())
		for _, informer := range watched {
			made = made.WatchesRawSource(&source.Informer{Informer: informer, Handler: whatever()})
		}
		err := made.WithOptions(controller.Options{NeedLeaderElection: &one.leads, MaxConcurrentReconciles: 1}).Complete(one.does)
		if err != nil {
			return fmt.Errorf("watching sealing keys: %w", err)
		}
	}
	return nil
}

// all is the one thing to look at: all keys, whichever of them turned.
func all() reconcile.Request { return reconcile.Request{} }

// once has the keys looked at when the daemon starts, also where there is none.
func once() source.Source {
	return source.Func(func(_ context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
		queue.Add(all())
		return nil
	})
}

func whatever() handler.EventHandler {
	return handler.EnqueueRequestsFromMapFunc(func(context.Context, client.Object) []reconcile.Request {
		return []reconcile.Request{all()}
	})
}

// informers run on every replica.
type informers []cache.SharedIndexInformer

// watches are metadata alone, of what could be a key.
func (k *Keeper) watches(mgr manager.Manager) (informers, error) {
	access, err := metadata.NewForConfigAndClient(mgr.GetConfig(), mgr.GetHTTPClient())
	if err != nil {
		return nil, fmt.Errorf("making a client for the metadata of sealing keys: %w", err)
	}
	var made informers
	for _, narrow := range []func(*metav1.ListOptions){
		func(options *metav1.ListOptions) { options.LabelSelector = LabelV1 },
		func(options *metav1.ListOptions) { options.LabelSelector = LabelV2 },
		func(options *metav1.ListOptions) {
			options.FieldSelector = fields.OneTermEqualSelector("metadata.name", PrefixV1).String()
		},
	} {
		informer := metadatainformer.NewFilteredMetadataInformer(access, corev1.SchemeGroupVersion.WithResource("secrets"),
			k.config.Namespace, 0, cache.Indexers{}, narrow).Informer()
		if err := informer.SetTransform(strip); err != nil {
			return nil, fmt.Errorf("setting up a watch on sealing keys: %w", err)
		}
		made = append(made, informer)
	}
	return made, nil
}

// strip leaves of a Secret's metadata what tells that it turned.
func strip(object any) (any, error) {
	if meta, is := object.(*metav1.PartialObjectMetadata); is {
		meta.ManagedFields, meta.Annotations, meta.OwnerReferences = nil, nil, nil
	}
	return object, nil
}

// Start implements manager.Runnable.
func (i informers) Start(ctx context.Context) error {
	for _, informer := range i {
		go informer.RunWithContext(ctx)
	}
	<-ctx.Done()
	return nil
}

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (i informers) NeedLeaderElection() bool { return false }
