package vault

import (
	"strings"

	"github.com/privyseal/privyseal/providers"
)

// credentials is the part of a database engine in which each answer is a new
// user: it is leased, and not read.
//
// See https://developer.hashicorp.com/vault/api-docs/secret/databases.
const credentials = "creds"

// readDatabase says why a path of a database engine is not read.
func readDatabase(rest string) error {
	part, role, _ := strings.Cut(rest, "/")
	if part == credentials && role != "" {
		return fault(providers.ErrLeased, 0, "each answer is a new user of the database")
	}
	return fault(providers.ErrInvalid, 0, "its mount is a database engine, of which creds/<role> alone is given out")
}
