package vault

import (
	"context"

	"github.com/hashicorp/vault/api"

	"github.com/privyseal/privyseal/providers"
)

// Token logs in with a token that somebody else made and renews. It is asked
// for again when the store refuses it, so a replaced one is found.
type Token struct {
	// Value of the token, cleared after it was taken. Required.
	Value func(context.Context) (providers.Value, error)
}

var _ Login = Token{}

// Login implements Login. It asks nothing of the server: the first read tells
// whether the token is good.
func (t Token) Login(ctx context.Context, _ *api.Client) (*api.Secret, error) {
	value, err := credential(ctx, "the token", t.Value)
	if err != nil {
		return nil, err
	}
	defer value.Clear()
	return &api.Secret{Auth: &api.SecretAuth{ClientToken: string(value.Bytes())}}, nil
}
