package store

import (
	"context"
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/types"

	"github.com/privyseal/privyseal/broker/environment"
	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/providers"
	"github.com/privyseal/privyseal/providers/vault"
)

const (
	defaultMount          = "kubernetes"
	defaultServiceAccount = "privyseal"
)

// login is a tenant's way to log in to a store.
func (c *Connections) login(store v1alpha1.Store, as providers.Identity) (vault.Login, error) {
	auth, references := store.Vault.Auth, c.referencesOf(store)
	switch {
	case auth.Kubernetes != nil:
		return c.kubernetesLogin(store, auth.Kubernetes, as)
	case auth.AppRole != nil:
		return vault.AppRole{
			Mount: auth.AppRole.Mount, RoleID: auth.AppRole.RoleID,
			SecretID: references.credential("spec.vault.auth.appRole.secretIdSecretRef", auth.AppRole.SecretIDSecretRef),
		}, nil
	case auth.Token != nil:
		return vault.Token{Value: references.credential("spec.vault.auth.token.secretRef", auth.Token.SecretRef)}, nil
	}
	return nil, invalid(store, errors.New("spec.vault.auth: it has no login")) // unreachable: dial checks
}

// kubernetesLogin is as a service account of the tenant's own namespace.
func (c *Connections) kubernetesLogin(store v1alpha1.Store, auth *v1alpha1.VaultKubernetesAuth, as providers.Identity) (vault.Login, error) {
	role, err := environment.Expand(auth.Role, as.Environment, as.Namespace)
	if err != nil {
		return nil, invalid(store, fmt.Errorf("spec.vault.auth.kubernetes.role: %w", err))
	}
	account := types.NamespacedName{Namespace: as.Namespace, Name: defaultServiceAccount}
	if ref := auth.ServiceAccountRef; ref != nil {
		account.Name = ref.Name
	}
	audiences := auth.Audiences
	if len(audiences) == 0 {
		audiences = []string{store.Vault.Address}
	}
	mount := auth.Mount
	if mount == "" {
		mount = defaultMount
	}
	return vault.Kubernetes{
		Mount: mount, Role: role,
		Token: func(ctx context.Context) (providers.Value, error) {
			return c.config.Tokens.Token(ctx, account, audiences)
		},
	}, nil
}

// identityAt is who a tenant is to a store: itself where it logs in as itself,
// else the one identity that the store's own credentials make of all tenants,
// which then share one login.
func identityAt(store v1alpha1.Store, as providers.Identity) providers.Identity {
	if store.Vault.Auth.Kubernetes != nil {
		return as
	}
	return providers.Identity{}
}
