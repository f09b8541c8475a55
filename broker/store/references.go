package store

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/providers"
)

const defaultCAKey = "ca.crt"

// authorities are the certificate authorities that a store names, in PEM; nil
// where it names none and the system's count.
func (c *Connections) authorities(ctx context.Context, tls *v1alpha1.VaultTLS) ([]byte, error) {
	switch {
	case tls == nil:
		return nil, nil
	case tls.CASecretRef != nil:
		secret := &corev1.Secret{}
		return c.bundle(ctx, "caSecretRef", tls.CASecretRef, secret, func(key string) []byte { return secret.Data[key] })
	case tls.CAConfigMapRef != nil:
		configMap := &corev1.ConfigMap{}
		return c.bundle(ctx, "caConfigMapRef", tls.CAConfigMapRef, configMap, func(key string) []byte { return []byte(configMap.Data[key]) })
	}
	return nil, nil
}

// bundle reads one key of an object in the daemon's namespace.
func (c *Connections) bundle(ctx context.Context, field string, ref *v1alpha1.KeyRef, into client.Object, at func(key string) []byte) ([]byte, error) {
	key := ref.Key
	if key == "" {
		key = defaultCAKey
	}
	name := client.ObjectKey{Namespace: c.config.Namespace, Name: ref.Name}
	err := c.config.Live.Get(ctx, name, into)
	if apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("%w: spec.vault.tls.%s: %s is not there", providers.ErrInvalid, field, name)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: spec.vault.tls.%s: reading %s: %w", providers.ErrUnavailable, field, name, err)
	}
	if pem := at(key); len(pem) > 0 {
		return pem, nil
	}
	return nil, fmt.Errorf("%w: spec.vault.tls.%s: %s has no key %s", providers.ErrInvalid, field, name, key)
}
