package vault

import (
	"context"

	"github.com/hashicorp/vault/api"
	"github.com/hashicorp/vault/api/auth/approle"

	"github.com/privyseal/privyseal/providers"
)

// AppRole logs in with a role's id and secret id.
// See https://developer.hashicorp.com/vault/api-docs/auth/approle.
type AppRole struct {
	// Mount of the method. Empty: "approle".
	Mount string

	// RoleID names the role. Required.
	RoleID string

	// SecretID is asked for at each login, and cleared after it. Required.
	SecretID func(context.Context) (providers.Value, error)
}

var _ Login = AppRole{}

// Login implements Login.
func (a AppRole) Login(ctx context.Context, client *api.Client) (*api.Secret, error) {
	mount, err := authMount(a.Mount, "approle")
	if err != nil {
		return nil, err
	}
	if err := required("the login's role id", a.RoleID); err != nil {
		return nil, err
	}
	secretID, err := credential(ctx, "the secret id", a.SecretID)
	if err != nil {
		return nil, err
	}
	defer secretID.Clear()
	method, err := approle.NewAppRoleAuth(a.RoleID,
		&approle.SecretID{FromString: string(secretID.Bytes())}, approle.WithMountPath(mount))
	if err != nil {
		return nil, err // unreachable: both that it checks were checked
	}
	return method.Login(ctx, client)
}
