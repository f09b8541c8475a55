package store

import (
	"bytes"
	"cmp"
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/providers"
)

const defaultCAKey = "ca.crt"

// references reads what one store names: Secrets and ConfigMaps of one
// namespace, from the API server itself and never from a cache.
type references struct {
	live      client.Reader
	namespace string
}

// referencesOf a store lie in its own namespace; those of a ClusterSecretStore,
// which has none, in the daemon's.
func (c *Connections) referencesOf(store v1alpha1.Store) references {
	return references{live: c.config.Live, namespace: cmp.Or(store.Namespace, c.config.Namespace)}
}

// certificates are what a connection's TLS is made of, in PEM.
type certificates struct {
	ca     []byte // nil: the system's authorities
	client []byte // nil: none is shown
	key    providers.Value
}

// same compares what a renewal changes. A certificate has one key, which need
// not be kept to be compared.
func (c certificates) same(other certificates) bool {
	return bytes.Equal(c.ca, other.ca) && bytes.Equal(c.client, other.client)
}

// certificates that a store names. The key is the caller's to clear.
func (r references) certificates(ctx context.Context, tls *v1alpha1.VaultTLS) (certificates, error) {
	if tls == nil {
		return certificates{}, nil
	}
	var (
		found certificates
		err   error
	)
	switch {
	case tls.CASecretRef != nil:
		key := cmp.Or(tls.CASecretRef.Key, defaultCAKey)
		found.ca, err = r.secretKey(ctx, "spec.vault.tls.caSecretRef", v1alpha1.SecretKeyRef{Name: tls.CASecretRef.Name, Key: key})
	case tls.CAConfigMapRef != nil:
		found.ca, err = r.configMapKey(ctx, "spec.vault.tls.caConfigMapRef", tls.CAConfigMapRef)
	}
	if err != nil || tls.ClientCertSecretRef == nil {
		return found, err
	}
	const field = "spec.vault.tls.clientCertSecretRef"
	pair, err := r.secretKeys(ctx, field, tls.ClientCertSecretRef.Name, corev1.TLSCertKey, corev1.TLSPrivateKeyKey)
	if err != nil {
		return certificates{}, err
	}
	found.client, found.key = pair[0], providers.NewValue(pair[1])
	return found, nil
}

// credential is a way to read what a store logs in with. The value is the
// caller's to clear.
func (r references) credential(field string, ref v1alpha1.SecretKeyRef) func(context.Context) (providers.Value, error) {
	return func(ctx context.Context) (providers.Value, error) {
		found, err := r.secretKey(ctx, field, ref)
		return providers.NewValue(found), err
	}
}

func (r references) secretKey(ctx context.Context, field string, ref v1alpha1.SecretKeyRef) ([]byte, error) {
	found, err := r.secretKeys(ctx, field, ref.Name, ref.Key)
	if err != nil {
		return nil, err
	}
	return found[0], nil
}

// secretKeys are the values of some keys of a Secret, which all have to be
// there. Of the others nothing is kept.
func (r references) secretKeys(ctx context.Context, field, name string, keys ...string) ([][]byte, error) {
	secret := &corev1.Secret{}
	if err := r.get(ctx, field, "Secret", name, secret); err != nil {
		return nil, err
	}
	defer func() {
		for _, value := range secret.Data {
			clear(value)
		}
	}()
	var found [][]byte
	for _, key := range keys {
		if len(secret.Data[key]) == 0 {
			return nil, r.noKey(field, "Secret", name, key)
		}
		found = append(found, bytes.Clone(secret.Data[key]))
	}
	return found, nil
}

func (r references) configMapKey(ctx context.Context, field string, ref *v1alpha1.KeyRef) ([]byte, error) {
	configMap := &corev1.ConfigMap{}
	if err := r.get(ctx, field, "ConfigMap", ref.Name, configMap); err != nil {
		return nil, err
	}
	key := cmp.Or(ref.Key, defaultCAKey)
	if configMap.Data[key] == "" {
		return nil, r.noKey(field, "ConfigMap", ref.Name, key)
	}
	return []byte(configMap.Data[key]), nil
}

func (r references) get(ctx context.Context, field, kind, name string, into client.Object) error {
	err := r.live.Get(ctx, client.ObjectKey{Namespace: r.namespace, Name: name}, into)
	switch {
	case apierrors.IsNotFound(err):
		return fmt.Errorf("%w: %s: %s %s/%s is not there; create it, or correct the name", providers.ErrInvalid, field, kind, r.namespace, name)
	case err != nil:
		return fmt.Errorf("%w: %s: reading %s %s/%s: %w", providers.ErrUnavailable, field, kind, r.namespace, name, err)
	}
	return nil
}

func (r references) noKey(field, kind, name, key string) error {
	return fmt.Errorf("%w: %s: %s %s/%s has nothing under the key %s; write it there, or correct the key",
		providers.ErrInvalid, field, kind, r.namespace, name, key)
}
