package repository

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"github.com/go-git/go-git/v5/plumbing/transport"
)

// short is git's own short form of an ssh address: git@example.com:ops/x.git.
var short = regexp.MustCompile(`^[A-Za-z0-9_][-A-Za-z0-9._]*@[A-Za-z0-9][-A-Za-z0-9.]*:[A-Za-z0-9_~.][^:]*$`)

// scheme checks a repository's address and gives how it is reached: https or
// ssh, and with allowHTTP http too. Errors wrap ErrInvalid.
func scheme(address string, allowHTTP bool) (string, error) {
	if short.MatchString(address) {
		return "ssh", nil
	}
	parsed, err := url.Parse(address)
	if err != nil || parsed.Host == "" || strings.Trim(parsed.Path, "/") == "" {
		// url.Parse quotes the address, which may hold a password.
		return "", fmt.Errorf("%w: url: write https://HOST/PATH, ssh://USER@HOST/PATH or USER@HOST:PATH", ErrInvalid)
	}
	_, password := parsed.User.Password()
	switch {
	case parsed.Scheme == "http" && !allowHTTP:
		return "", fmt.Errorf("%w: url: plain http is refused: the token would be readable on the way; write https", ErrInvalid)
	case parsed.Scheme != "https" && parsed.Scheme != "ssh" && parsed.Scheme != "http":
		return "", fmt.Errorf("%w: url: scheme %q: write https or ssh", ErrInvalid, parsed.Scheme)
	case password, parsed.Scheme != "ssh" && parsed.User != nil:
		return "", fmt.Errorf("%w: url: credentials do not belong in it; put them into the Secret of credentialsRef", ErrInvalid)
	case parsed.RawQuery != "", parsed.Fragment != "":
		return "", fmt.Errorf("%w: url: leave out what follows the path", ErrInvalid)
	}
	return parsed.Scheme, nil
}

// user of an ssh address; git where it names none.
func user(address string) (string, error) {
	endpoint, err := transport.NewEndpoint(address)
	if err != nil {
		return "", fmt.Errorf("%w: url: write ssh://USER@HOST/PATH or USER@HOST:PATH", ErrInvalid)
	}
	if endpoint.User == "" {
		return "git", nil
	}
	return endpoint.User, nil
}
