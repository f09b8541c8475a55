package rotate_test

import (
	"context"
	"fmt"
	"reflect"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/privyseal/privyseal/broker/rotate"
	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/providers"
)

// mortal is a daemon's ways out, of which it gets to use just so many: at one request
// it dies, before that was sent or after it was done.
type mortal struct {
	at   int
	done bool
	n    int
	died string
	// sent are all requests so far, by what they were for.
	sent []string
}

func (m *mortal) request(what string, send func() error) error {
	if m.died != "" {
		return errKilled
	}
	m.sent = append(m.sent, what)
	if m.n++; m.n != m.at {
		return send()
	}
	m.died = what
	if m.done {
		_ = send() // nobody is left to hear of it
	}
	return errKilled
}

func (m *mortal) client(api client.WithWatch) client.Client {
	return interceptor.NewClient(api, interceptor.Funcs{
		Create: func(ctx context.Context, to client.WithWatch, object client.Object, options ...client.CreateOption) error {
			return m.request("making a "+kindOf(object), func() error { return to.Create(ctx, object, options...) })
		},
		Delete: func(ctx context.Context, to client.WithWatch, object client.Object, options ...client.DeleteOption) error {
			return m.request("dropping a "+kindOf(object), func() error { return to.Delete(ctx, object, options...) })
		},
		Update: func(ctx context.Context, to client.WithWatch, object client.Object, options ...client.UpdateOption) error {
			return m.request("emptying a "+kindOf(object), func() error { return to.Update(ctx, object, options...) })
		},
		Patch: func(ctx context.Context, to client.WithWatch, object client.Object, patch client.Patch, options ...client.PatchOption) error {
			return m.request("changing a "+kindOf(object), func() error { return to.Patch(ctx, object, patch, options...) })
		},
		SubResourcePatch: func(ctx context.Context, to client.Client, resource string, object client.Object, patch client.Patch, options ...client.SubResourcePatchOption) error {
			what := fmt.Sprintf("status %s", object.(*v1alpha1.SecretRotation).Status.Phase)
			return m.request(what, func() error { return to.SubResource(resource).Patch(ctx, object, patch, options...) })
		},
	})
}

func kindOf(object client.Object) string { return reflect.TypeOf(object).Elem().Name() }

type mortalStore struct {
	rotate.Store
	m *mortal
}

func (m *mortal) store(of rotate.Store) rotate.Store { return mortalStore{of, m} }

func (s mortalStore) Write(ctx context.Context, store v1alpha1.Store, as providers.Identity, change providers.Change) (version int64, err error) {
	err = s.m.request("writing to the store", func() error {
		version, err = s.Store.Write(ctx, store, as, change)
		return err
	})
	return version, err
}
