package vault

import (
	"strings"

	"github.com/privyseal/privyseal/providers"
)

// The parts of a database engine that give something out. Each answer of
// credentials is a new user: it is leased, and not read. That of static is the
// password that a user has at the moment.
//
// See https://developer.hashicorp.com/vault/api-docs/secret/databases.
const (
	credentials = "creds"
	static      = "static-creds"
)

// readDatabase says why a path of a database engine is not read; nil: it is.
func readDatabase(rest string) error {
	part, role, _ := strings.Cut(rest, "/")
	switch {
	case role == "" || part != credentials && part != static:
		return fault(providers.ErrInvalid, 0, "its mount is a database engine, of which creds/<role> and static-creds/<role> alone are given out")
	case part == credentials:
		return fault(providers.ErrLeased, 0, "each answer is a new user of the database")
	}
	return nil
}
