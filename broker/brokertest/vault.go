package brokertest

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/hashicorp/vault/api"
)

// Vault is the lab's Vault, as its root.
type Vault struct{ client *api.Client }

func newVault(t testing.TB, env map[string]string) *Vault {
	t.Helper()
	config := api.DefaultConfig()
	config.Address = env["VAULT_ADDR"]
	if err := config.ConfigureTLS(&api.TLSConfig{CACert: env["VAULT_CACERT"]}); err != nil {
		t.Fatalf("reading the lab's certificate authority: %v", err)
	}
	client, err := api.NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	client.ClearNamespace()
	client.SetToken(env["VAULT_TOKEN"])
	return &Vault{client: client}
}

// Client is a client with the root token.
func (v *Vault) Client() *api.Client { return v.client }

// Put writes a document at a path of a KV v2 mount: kv/prod/pay/db.
func (v *Vault) Put(t testing.TB, path string, values map[string]any) {
	t.Helper()
	mount, rest, _ := strings.Cut(path, "/")
	if _, err := v.client.KVv2(mount).Put(t.Context(), rest, values); err != nil {
		t.Fatalf("writing %s: %v", path, err)
	}
}

// Delete soft-deletes the newest version at a path of a KV v2 mount.
func (v *Vault) Delete(t testing.TB, path string) {
	t.Helper()
	mount, rest, _ := strings.Cut(path, "/")
	if err := v.client.KVv2(mount).Delete(t.Context(), rest); err != nil {
		t.Fatalf("deleting %s: %v", path, err)
	}
}

// Write writes at any path of the API.
func (v *Vault) Write(t testing.TB, path string, values map[string]any) {
	t.Helper()
	if _, err := v.client.Logical().WriteWithContext(t.Context(), path, values); err != nil {
		t.Fatalf("writing %s: %v", path, err)
	}
}

// forget deletes at a path of the API when a test has ended, if it can.
func (v *Vault) forget(path string) {
	_, _ = v.client.Logical().DeleteWithContext(context.Background(), path)
}

// revoke ends all leases below a path, whatever becomes of what they are for.
func (v *Vault) revoke(path string) {
	_ = v.client.Sys().RevokeForceWithContext(context.Background(), path)
}

// MayWrite lets a tenant write its own paths, too, as rotations do.
func (v *Vault) MayWrite(t testing.TB, tenant *Tenant) {
	t.Helper()
	policy := fmt.Sprintf("path \"kv/data/%s/%s/*\" { capabilities = [\"create\", \"update\", \"read\"] }", tenant.Environment, tenant.Namespace)
	if err := v.client.Sys().PutPolicyWithContext(t.Context(), "privyseal-"+tenant.Namespace, policy); err != nil {
		t.Fatalf("writing policy privyseal-%s: %v", tenant.Namespace, err)
	}
}

// AddTenant makes the role that a namespace's claims log in as, with a policy
// that reads the namespace's own paths.
func (v *Vault) AddTenant(t testing.TB, environment, namespace, audience string) {
	t.Helper()
	role := "privyseal-" + namespace
	policy := fmt.Sprintf("path \"kv/data/%s/%s/*\" { capabilities = [\"read\"] }", environment, namespace)
	if err := v.client.Sys().PutPolicyWithContext(t.Context(), role, policy); err != nil {
		t.Fatalf("writing policy %s: %v", role, err)
	}
	v.Write(t, "auth/kubernetes/role/"+role, map[string]any{
		"bound_service_account_names":      "privyseal",
		"bound_service_account_namespaces": namespace,
		"audience":                         audience,
		"policies":                         role,
		"ttl":                              "10m",
	})
	t.Cleanup(func() {
		ctx := context.Background()
		_, _ = v.client.Logical().DeleteWithContext(ctx, "auth/kubernetes/role/"+role)
		_ = v.client.Sys().DeletePolicyWithContext(ctx, role)
	})
}
