package vault

import (
	"context"

	"github.com/hashicorp/vault/api"
	"github.com/hashicorp/vault/api/auth/kubernetes"

	"github.com/privyseal/privyseal/providers"
)

// Kubernetes logs in as a service account.
// See https://developer.hashicorp.com/vault/api-docs/auth/kubernetes.
type Kubernetes struct {
	// Mount of the method. Empty: "kubernetes".
	Mount string

	// Role to log in as. Required.
	Role string

	// Token of the service account, asked for at each login, and cleared after
	// it. Required.
	Token func(context.Context) (providers.Value, error)
}

var _ Login = Kubernetes{}

// Login implements Login.
func (k Kubernetes) Login(ctx context.Context, client *api.Client) (*api.Secret, error) {
	mount, err := authMount(k.Mount, "kubernetes")
	if err != nil {
		return nil, err
	}
	if err := required("the login's role", k.Role); err != nil {
		return nil, err
	}
	jwt, err := credential(ctx, "the service account's token", k.Token)
	if err != nil {
		return nil, err
	}
	defer jwt.Clear()
	method, err := kubernetes.NewKubernetesAuth(k.Role,
		kubernetes.WithServiceAccountToken(string(jwt.Bytes())), kubernetes.WithMountPath(mount))
	if err != nil {
		return nil, err // unreachable: both that it checks were checked
	}
	return method.Login(ctx, client)
}
