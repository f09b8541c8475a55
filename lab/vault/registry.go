package main

import (
	"slices"

	jwt "github.com/hashicorp/vault-plugin-auth-jwt"
	kubernetes "github.com/hashicorp/vault-plugin-auth-kubernetes"
	kv "github.com/hashicorp/vault-plugin-secrets-kv"
	"github.com/hashicorp/vault/audit"
	"github.com/hashicorp/vault/builtin/credential/approle"
	"github.com/hashicorp/vault/builtin/credential/cert"
	"github.com/hashicorp/vault/builtin/credential/userpass"
	"github.com/hashicorp/vault/builtin/logical/database"
	"github.com/hashicorp/vault/builtin/logical/pki"
	"github.com/hashicorp/vault/builtin/logical/transit"
	"github.com/hashicorp/vault/plugins/database/postgresql"
	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
)

// What this Vault has. Nothing else can be mounted.
var (
	engines = map[string]logical.Factory{
		"kv":       kv.Factory,
		"pki":      pki.Factory,
		"transit":  transit.Factory,
		"database": database.Factory,
	}
	logins = map[string]logical.Factory{
		"approle":    approle.Factory,
		"cert":       cert.Factory,
		"jwt":        jwt.Factory,
		"kubernetes": kubernetes.Factory,
		"userpass":   userpass.Factory,
	}
	audits = map[string]audit.Factory{
		"file": audit.NewFileBackend,
	}
	databases = map[string]func() (any, error){
		"postgresql-database-plugin": postgresql.New,
	}
)

// registry tells Vault's plugin catalog of the above. The catalog asks it
// about databases, which are plugins even where they are built in.
type registry struct{}

func (registry) Get(name string, kind consts.PluginType) (func() (any, error), bool) {
	switch kind {
	case consts.PluginTypeDatabase:
		factory, ok := databases[name]
		return factory, ok
	case consts.PluginTypeCredential:
		factory, ok := logins[name]
		return func() (any, error) { return factory, nil }, ok
	case consts.PluginTypeSecrets:
		factory, ok := engines[name]
		return func() (any, error) { return factory, nil }, ok
	}
	return nil, false
}

func (registry) Keys(kind consts.PluginType) []string {
	switch kind {
	case consts.PluginTypeDatabase:
		return names(databases)
	case consts.PluginTypeCredential:
		return names(logins)
	case consts.PluginTypeSecrets:
		return names(engines)
	}
	return nil
}

func (r registry) Contains(name string, kind consts.PluginType) bool {
	return slices.Contains(r.Keys(kind), name)
}

func (r registry) DeprecationStatus(name string, kind consts.PluginType) (consts.DeprecationStatus, bool) {
	return consts.Supported, r.Contains(name, kind)
}

func (registry) IsBuiltinEntPlugin(string, consts.PluginType) bool { return false }

func names[V any](of map[string]V) []string {
	all := make([]string, 0, len(of))
	for name := range of {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}
