// Package vault reads documents from HashiCorp Vault and OpenBao: the key-value
// engine, versions 1 and 2, and static roles of the database engine; it leases those
// users that the latter makes, and has engines rotate.
//
// A Vault is one server, or one cluster behind one address, with one bounded
// pool of connections. A Session is one identity at it: its login, its token,
// and the mounts that it has found. The two are apart because the pool belongs
// to the server and the rights to the tenant: a thousand tenants share sixteen
// connections and no token.
//
// Nothing runs between reads. A token is renewed, or replaced, by the read that
// finds it two thirds through its life, so an identity that nobody asks for
// costs nothing and ends by itself, and there is no goroutine to own. The price
// is one slower read in two thirds of a token's life.
//
// What a reader of this package has to know of Vault:
//
//   - 403 says "this token may not" and "this token is no more" alike. So a
//     token that is refused something is replaced, once, by a fresh login, and
//     what the fresh token is refused is refused. See Session.
//   - 404 says "no such document", "deleted, and can be undeleted" and "no such
//     mount" alike; the body tells the second, and asking for the mount again
//     the third.
//   - The key-value engine, version 2, keeps the document kv/x at kv/data/x.
//     The infix is put in here and nowhere else: a Ref of kv/data/x is the
//     document data/x, at kv/data/data/x, so no document has two spellings.
//
// Requests are made here, with net/http, except for logins, which go through
// hashicorp/vault/api since every login method there is (api/auth/...) takes
// its client. That client reads VAULT_* variables, follows a redirect with the
// token in hand, and puts whatever body it got into its errors; its guards are
// in login.go. No error of this package holds anything that a server said
// beyond the HTTP code: on a tenant's own store, all else is what the tenant
// chose to say.
package vault
