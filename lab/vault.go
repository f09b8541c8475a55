package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"time"
)

// vaultKeys are what Vault tells once, at its initialisation.
type vaultKeys struct {
	RootToken string `json:"root_token"`
	UnsealKey string `json:"unseal_key"`
}

func (c Config) vaultKeysFile() string { return c.path("vault.json") }

// vaultAdmin is somebody with the root token.
type vaultAdmin struct {
	plan plan
	ask  *asker
}

func (v vaultAdmin) keys() (vaultKeys, error) {
	var keys vaultKeys
	return keys, readJSON(v.plan.Config.vaultKeysFile(), &keys)
}

// do asks as root.
func (v vaultAdmin) do(ctx context.Context, method, path string, body, into any) error {
	keys, err := v.keys()
	if err != nil {
		return err
	}
	return v.ask.do(ctx, question{method: method, url: v.plan.Site.vaultURL() + "/v1/" + path, token: keys.RootToken, body: body, into: into})
}

// prepare makes room for a first start where there was none, or where a kill
// came between Vault's initialisation and our writing its keys down: data that
// nobody has a key to is no data.
func (v vaultAdmin) prepare() error {
	if _, err := v.keys(); errors.Is(err, fs.ErrNotExist) {
		return os.RemoveAll(v.plan.Config.path("vault"))
	} else if err != nil {
		return err
	}
	return nil
}

// unseal initialises Vault where it is new, and waits until it answers for its
// data.
func (v vaultAdmin) unseal(ctx context.Context) error {
	var seal struct{ Initialized, Sealed bool }
	if err := v.open(ctx, http.MethodGet, "sys/seal-status", nil, &seal); err != nil {
		return fmt.Errorf("asking for Vault's seal: %w", err)
	}
	if !seal.Initialized {
		if err := v.initialise(ctx); err != nil {
			return fmt.Errorf("initialising Vault: %w", err)
		}
	}
	keys, err := v.keys()
	if err != nil {
		return err
	}
	if err := v.open(ctx, http.MethodPut, "sys/unseal", map[string]any{"key": keys.UnsealKey}, &seal); err != nil {
		return fmt.Errorf("unsealing Vault: %w", err)
	}
	return until(ctx, 50*time.Millisecond, v.ask.answers(v.plan.Site.vaultURL()+"/v1/sys/health"))
}

func (v vaultAdmin) seal(ctx context.Context) error {
	return v.do(ctx, http.MethodPut, "sys/seal", nil, nil)
}

// open asks without a token, as the seal's own endpoints want it.
func (v vaultAdmin) open(ctx context.Context, method, path string, body, into any) error {
	return v.ask.do(ctx, question{method: method, url: v.plan.Site.vaultURL() + "/v1/" + path, body: body, into: into})
}

func (v vaultAdmin) initialise(ctx context.Context) error {
	var born struct {
		Keys      []string `json:"keys_base64"`
		RootToken string   `json:"root_token"`
	}
	err := v.open(ctx, http.MethodPut, "sys/init", map[string]any{"secret_shares": 1, "secret_threshold": 1}, &born)
	if err != nil {
		return err
	}
	return writeJSON(v.plan.Config.vaultKeysFile(), vaultKeys{RootToken: born.RootToken, UnsealKey: born.Keys[0]}, 0o600)
}

// mount is an engine or a login method that a fresh lab has.
type mount struct {
	path string
	body map[string]any
}

var mounts = []mount{
	{"kv", map[string]any{"type": "kv", "options": map[string]string{"version": "2"}}},
	{"kv1", map[string]any{"type": "kv", "options": map[string]string{"version": "1"}}},
	{"transit", map[string]any{"type": "transit"}},
	{"pki", map[string]any{"type": "pki", "config": map[string]string{"max_lease_ttl": "87600h"}}},
	{"database", map[string]any{"type": "database"}},
}

// furnish mounts what is missing. Vault is a lab's user's to change: what is
// there already stays as it is.
func (v vaultAdmin) furnish(ctx context.Context) error {
	var devices, engines, logins struct{ Data map[string]any }
	for path, into := range map[string]any{"sys/audit": &devices, "sys/mounts": &engines, "sys/auth": &logins} {
		if err := v.do(ctx, http.MethodGet, path, nil, into); err != nil {
			return fmt.Errorf("listing %s: %w", path, err)
		}
	}
	if devices.Data["file/"] == nil {
		options := map[string]string{"file_path": v.plan.Config.path("vault-audit.log"), "log_raw": "false", "mode": "0640"}
		if err := v.do(ctx, http.MethodPut, "sys/audit/file", map[string]any{"type": "file", "options": options}, nil); err != nil {
			return fmt.Errorf("enabling the audit log: %w", err)
		}
	}
	for _, m := range mounts {
		if engines.Data[m.path+"/"] != nil {
			continue
		}
		if err := v.do(ctx, http.MethodPost, "sys/mounts/"+m.path, m.body, nil); err != nil {
			return fmt.Errorf("mounting %s: %w", m.path, err)
		}
	}
	for _, login := range []string{"kubernetes", "approle"} {
		if logins.Data[login+"/"] != nil {
			continue
		}
		if err := v.do(ctx, http.MethodPost, "sys/auth/"+login, map[string]any{"type": login}, nil); err != nil {
			return fmt.Errorf("enabling login %s: %w", login, err)
		}
	}
	return v.finish(ctx)
}

// finish gives the PKI engine its root and waits for KV v2, which refuses
// writes for a moment after it is mounted.
func (v vaultAdmin) finish(ctx context.Context) error {
	var issuers struct{ Data struct{ Keys []string } }
	if err := v.do(ctx, "LIST", "pki/issuers", nil, &issuers); err != nil && statusOf(err) != http.StatusNotFound {
		return fmt.Errorf("listing the PKI engine's issuers: %w", err)
	}
	if len(issuers.Data.Keys) == 0 {
		root := map[string]any{"common_name": "privyseal-lab Vault root", "ttl": "87600h", "key_type": "ec", "key_bits": 256}
		if err := v.do(ctx, http.MethodPost, "pki/root/generate/internal", root, nil); err != nil {
			return fmt.Errorf("making the PKI engine's root: %w", err)
		}
	}
	return until(ctx, 50*time.Millisecond, func(ctx context.Context) error {
		return v.do(ctx, http.MethodGet, "kv/config", nil, nil)
	})
}

// trust lets Vault check service-account tokens against the lab's API server,
// by the TokenReview of a ServiceAccount of its own.
func (v vaultAdmin) trust(ctx context.Context, reviewer string) error {
	authority, err := os.ReadFile(v.plan.pki("ca.crt"))
	if err != nil {
		return err
	}
	err = v.do(ctx, http.MethodPost, "auth/kubernetes/config", map[string]any{
		"kubernetes_host":      v.plan.Site.apiURL(),
		"kubernetes_ca_cert":   string(authority),
		"token_reviewer_jwt":   reviewer,
		"disable_local_ca_jwt": true,
	}, nil)
	if err != nil {
		return fmt.Errorf("configuring Vault's Kubernetes login: %w", err)
	}
	return nil
}

// writeVault writes at a path of the running lab's Vault, as root.
func writeVault(ctx context.Context, config Config, path, body string) error {
	p := plan{Config: config}
	if err := readJSON(config.path("site.json"), &p.Site); err != nil {
		return fmt.Errorf("%w (%w)", errDown, err)
	}
	if !json.Valid([]byte(body)) {
		return fmt.Errorf("writing %s: the body is not JSON", path)
	}
	ask, err := newAsker(p)
	if err != nil {
		return err
	}
	return vaultAdmin{plan: p, ask: ask}.do(ctx, http.MethodPost, path, json.RawMessage(body), nil)
}
