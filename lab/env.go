package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// pair is one line of the env.
type pair struct{ key, value string }

type env []pair

// lines are KEY=value with nothing quoted: no value of ours needs it, and the
// file can be read by a Makefile, a shell and a test alike.
func (e env) lines() []string {
	var lines []string
	for _, p := range e {
		lines = append(lines, p.key+"="+p.value)
	}
	return lines
}

func (e env) write(path string) error {
	for _, p := range e {
		if strings.ContainsAny(p.value, " \t\n'\"$\\#") {
			return fmt.Errorf("writing %s: %s=%q would need quotes: keep the lab in a folder with a plain name", path, p.key, p.value)
		}
	}
	return write(path, []byte(strings.Join(e.lines(), "\n")+"\n"), 0o600)
}

// env says how the lab is reached.
func (c Config) env() (env, error) {
	var s site
	if err := readJSON(c.path("site.json"), &s); err != nil {
		return nil, fmt.Errorf("%w (%w)", errDown, err)
	}
	var keys vaultKeys
	if err := readJSON(c.vaultKeysFile(), &keys); err != nil {
		return nil, fmt.Errorf("reading Vault's keys: %w", err)
	}
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	fromPods := s.vaultURL()
	if c.Mode == ModeNode {
		fromPods = "https://vault.vault.svc:8200"
	}
	e := env{
		{"LAB_NAME", c.Name},
		{"LAB_MODE", string(c.Mode)},
		{"LAB_STATE", c.State},
		{"LAB_BIN", program},
		{"LAB_KUBECONFIG", c.path("kubeconfig")},
		{"LAB_KUBECTL", c.path("bin", "kubectl")},
		{"LAB_AUDIT_LOG", c.path("audit.log")},
		{"LAB_VAULT_AUDIT_LOG", c.path("vault-audit.log")},
		{"LAB_CA_FILE", c.path("pki", "ca.crt")},
		{"LAB_HOST_IP", c.hostIP(s)},
		{"LAB_VAULT_IN_CLUSTER_ADDR", fromPods},
		{"KUBEBUILDER_ASSETS", c.path("bin")},
		{"VAULT_ADDR", s.vaultURL()},
		{"VAULT_TOKEN", keys.RootToken},
		{"VAULT_CACERT", c.path("pki", "ca.crt")},
		{"NO_PROXY", noProxy()},
	}
	if c.Mode != ModeNode {
		return e, nil
	}
	postgres, err := c.postgresKeys()
	if err != nil {
		return nil, fmt.Errorf("reading PostgreSQL's password: %w", err)
	}
	return append(e, pair{"LAB_POSTGRES", s.postgresAddress()}, pair{"LAB_POSTGRES_ADMIN", s.postgresURL(postgres)},
		pair{"LAB_PSQL", c.path("bin", "psql")}), nil
}

// noProxy adds the lab to what its user reaches without a proxy already.
func noProxy() string {
	set := cmp.Or(os.Getenv("NO_PROXY"), os.Getenv("no_proxy"))
	var all []string
	for _, host := range append(strings.Split(set, ","), "localhost", "127.0.0.1", labRange) {
		if host = strings.TrimSpace(host); host != "" && !slices.Contains(all, host) {
			all = append(all, host)
		}
	}
	return strings.Join(all, ",")
}

// hostIP is where the lab's servers and pods reach a process on the host.
func (c Config) hostIP(s site) string {
	if c.Mode == ModeNode {
		return s.hostSide()
	}
	return s.Host
}

func (c Config) writeEnv() error {
	e, err := c.env()
	if err != nil {
		return err
	}
	if c.EnvFile == "" {
		return nil
	}
	return e.write(c.EnvFile)
}

func printEnv(c Config) error {
	if _, live, err := c.live(); err != nil || !live {
		return errors.Join(err, errDown)
	}
	e, err := c.env()
	if err != nil {
		return err
	}
	fmt.Println(strings.Join(e.lines(), "\n"))
	return nil
}

// external takes a cluster and a Vault that somebody else runs. It says first
// which ones, since tests write to them.
func external(ctx context.Context, c Config) error {
	kubeconfig := os.Getenv("LAB_KUBECONFIG")
	if kubeconfig == "" || os.Getenv("VAULT_ADDR") == "" || os.Getenv("VAULT_TOKEN") == "" {
		return errors.New("LAB=external wants LAB_KUBECONFIG, VAULT_ADDR and VAULT_TOKEN")
	}
	kubeconfig, err := filepath.Abs(kubeconfig)
	if err != nil {
		return err
	}
	kubectl, err := exec.LookPath("kubectl")
	if err != nil {
		return fmt.Errorf("LAB=external wants kubectl: %w", err)
	}
	which := exec.CommandContext(ctx, kubectl, "--kubeconfig", kubeconfig, "config", "view", "--minify",
		"-o", "jsonpath=context {.current-context}, API server {.clusters[0].cluster.server}")
	out, err := which.Output()
	if err != nil {
		return fmt.Errorf("reading %s: %w", kubeconfig, err)
	}
	fmt.Printf("external lab: %s, Vault %s\n", out, os.Getenv("VAULT_ADDR"))
	if c.EnvFile == "" {
		return errNoSource
	}
	return env{
		{"LAB_NAME", c.Name},
		{"LAB_MODE", string(c.Mode)},
		{"LAB_KUBECONFIG", kubeconfig},
		{"LAB_KUBECTL", kubectl},
		{"VAULT_ADDR", os.Getenv("VAULT_ADDR")},
		{"VAULT_TOKEN", os.Getenv("VAULT_TOKEN")},
		{"VAULT_CACERT", os.Getenv("VAULT_CACERT")},
		{"LAB_VAULT_IN_CLUSTER_ADDR", os.Getenv("VAULT_ADDR")},
	}.write(c.EnvFile)
}
