// Package address decides which Vaults a tenant may have Privyseal talk to.
//
// Whoever can write a SecretStore chooses its address, and the daemon sends
// there what the store logs in with: a service account's token, a secret id.
// From inside the cluster it also reaches what the tenant cannot. So a tenant
// chooses among the addresses that the administrator lists, and nothing else.
// They are compared as they are written: there is no second way to write an
// address that the check and the connection could understand differently.
package address

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

var (
	// ErrAddress: an address is not written as scheme://host:port.
	ErrAddress = errors.New("malformed address")

	// ErrNotAllowed: the administrator does not list the address.
	ErrNotAllowed = errors.New("address not allowed")
)

// Allowed are the addresses that SecretStores may have. The zero value allows
// none, which switches SecretStores off.
type Allowed struct {
	addresses []string
}

// Parse checks a list of addresses. Errors wrap ErrAddress.
func Parse(addresses []string) (Allowed, error) {
	for _, address := range addresses {
		if err := check(address); err != nil {
			return Allowed{}, err
		}
	}
	return Allowed{addresses: addresses}, nil
}

func check(address string) error {
	parsed, err := url.Parse(address)
	if err != nil {
		// The parser's error repeats the address, which may hold a password.
		return fmt.Errorf("%w: it is not a URL; write scheme://host:port", ErrAddress)
	}
	port, err := strconv.ParseUint(parsed.Port(), 10, 16)
	switch {
	case parsed.User != nil:
		return fmt.Errorf("%w: it has a user in it; write scheme://host:port", ErrAddress)
	case parsed.Scheme != "https" && parsed.Scheme != "http", parsed.Hostname() == "", err != nil, port == 0,
		parsed.Scheme+"://"+parsed.Host != address:
		return fmt.Errorf("%w %q: write scheme://host:port, such as https://vault.vault.svc:8200", ErrAddress, address)
	}
	return nil
}

// Check says whether a SecretStore may have an address. Errors wrap
// ErrNotAllowed and say what to do.
func (a Allowed) Check(address string) error {
	if len(a.addresses) == 0 {
		return fmt.Errorf("%w: SecretStores are switched off; have an administrator list the address in the chart's vault.allowedAddresses", ErrNotAllowed)
	}
	for _, allowed := range a.addresses {
		if strings.TrimSuffix(address, "/") == allowed {
			return nil
		}
	}
	return fmt.Errorf("%w: the chart's vault.allowedAddresses lists %s; write one of these as it is there, or have an administrator add this one",
		ErrNotAllowed, strings.Join(a.addresses, ", "))
}
