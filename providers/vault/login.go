package vault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/privyseal/privyseal/providers"
)

// Login gets a token. The client has the address and the namespace of the
// logins, and no token; it is shared, so a Login changes nothing about it. The
// methods of github.com/hashicorp/vault/api/auth are Logins.
//
// Of its errors, an *api.ResponseError's code and the facts of package
// providers are told on; their text is not.
type Login interface {
	Login(ctx context.Context, client *api.Client) (*api.Secret, error)
}

// credentialError says that what a login is made with could not be had: it is
// our side's word, not the server's, so its text is told.
type credentialError struct{ error }

func (e credentialError) Unwrap() error { return e.error }

// credential is what get gets, without the line end that a file puts at its
// end. An empty one is refused here, since the libraries below take it as "use
// your own": api/auth/kubernetes would present the daemon's own token.
func credential(ctx context.Context, what string, get func(context.Context) (providers.Value, error)) (providers.Value, error) {
	if get == nil {
		return providers.Value{}, credentialError{fmt.Errorf("getting %s: %w: there is no way to get it", what, providers.ErrInvalid)}
	}
	value, err := get(ctx)
	if err != nil {
		return providers.Value{}, credentialError{fmt.Errorf("getting %s: %w", what, err)}
	}
	trimmed := bytes.TrimSpace(value.Bytes())
	if len(trimmed) == 0 {
		return providers.Value{}, credentialError{fmt.Errorf("getting %s: %w: it is empty", what, providers.ErrInvalid)}
	}
	return providers.NewValue(trimmed), nil
}

// authMount is where a login method is mounted. It goes into a path, so it is
// held to what a path is held to.
func authMount(mount, otherwise string) (string, error) {
	if mount == "" {
		return otherwise, nil
	}
	ref, err := providers.ParseRef(mount)
	if err != nil {
		return "", credentialError{fmt.Errorf("%w: the login's mount: %w", providers.ErrInvalid, err)}
	}
	return ref.String(), nil
}

// loginClient is the client that logins are handed.
func (v *Vault) loginClient() (*api.Client, error) {
	client, err := api.NewClient(&api.Config{
		Address:          v.address.String(),
		HttpClient:       v.http,
		Timeout:          v.timeout,
		MaxRetries:       0, // whoever asked, asks again: retries would multiply
		DisableRedirects: true,
	})
	if err != nil {
		// NewClient reads its defaults, unused here, from VAULT_* variables, and
		// fails where one of them cannot be parsed.
		return nil, fmt.Errorf("%w: making the client for logins: unset the VAULT_* variables of this process", providers.ErrInvalid)
	}
	// What NewClient takes from the environment in spite of the configuration.
	client.SetToken("")
	client.SetHeaders(http.Header{api.RequestHeaderName: {"true"}})
	client.SetNamespace(v.authNamespace)
	client.SetWrappingLookupFunc(func(string, string) string { return "" })
	return client, nil
}

// token is a login's result.
type token struct {
	value     providers.Value
	serial    uint64        // of the login that gave it, from 1; 0: no token
	asked     time.Time     // when its life began, or earlier
	life      time.Duration // 0: no end that we know of
	first     time.Duration // the life that the login gave
	renewable bool
}

func (t token) alive(now time.Time) bool {
	return t.serial > 0 && (t.life == 0 || now.Before(t.asked.Add(t.life)))
}

// due says that two thirds of the life are over.
func (t token) due(now time.Time) bool {
	return t.life > 0 && !now.Before(t.asked.Add(t.life/3*2))
}

// logIn makes a login and says what became of it in our own words.
func (v *Vault) logIn(ctx context.Context, login Login) (token, error) {
	began := v.now()
	ctx, cancel := context.WithTimeout(ctx, v.timeout)
	defer cancel()
	secret, err := login.Login(ctx, v.logins)
	result, err := loggedIn(secret, err)
	result.asked = began
	v.observe("login", began, err)
	if err != nil {
		return token{}, fmt.Errorf("logging in: %w", err)
	}
	return result, nil
}

func loggedIn(secret *api.Secret, err error) (token, error) {
	var (
		credentials credentialError
		response    *api.ResponseError
	)
	switch {
	case errors.As(err, &credentials):
		if isFact(credentials) {
			return token{}, credentials
		}
		return token{}, fmt.Errorf("%w: %w", providers.ErrUnavailable, credentials)
	case errors.As(err, &response):
		return token{}, loginRefused(response.StatusCode)
	case err != nil:
		return token{}, unanswered(err)
	case secret == nil || secret.Auth == nil || secret.Auth.ClientToken == "":
		return token{}, fault(providers.ErrDenied, 0, "the login was answered without a token: does it ask for more, such as MFA?")
	}
	life := time.Duration(max(secret.Auth.LeaseDuration, 0)) * time.Second
	return token{
		value:     providers.NewValue([]byte(secret.Auth.ClientToken)),
		life:      life,
		first:     life,
		renewable: secret.Auth.Renewable,
	}, nil
}

func isFact(err error) bool {
	for _, fact := range []error{
		providers.ErrNotFound, providers.ErrDeleted, providers.ErrDenied, providers.ErrUnavailable, providers.ErrInvalid,
	} {
		if errors.Is(err, fact) {
			return true
		}
	}
	return false
}

// required refuses an empty setting of a login.
func required(what, value string) error {
	if value == "" {
		return credentialError{fmt.Errorf("%w: %s is missing", providers.ErrInvalid, what)}
	}
	return nil
}
