package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// need is something that the lab cannot do without.
type need struct {
	program string       // looked for in PATH, or a path of its own
	debian  string       // the Debian package that has it; empty: not ours to install
	there   func() error // how one looks for it; nil: in PATH
	hint    string
}

var buildNeeds = []need{
	{program: "go", hint: "install Go (see go.mod for the version) from go.dev"},
	{program: "git", hint: "apt-get install git"},
	{program: "make", hint: "apt-get install make"},
	{program: "gcc", hint: "apt-get install gcc (for tests with the race detector)"},
}

var nodeNeeds = []need{
	{program: "containerd", debian: "containerd"},
	{program: "ctr", debian: "containerd"},
	{program: "runc", debian: "runc"},
	{program: filepath.Join(pluginFolder, "bridge"), debian: "containernetworking-plugins"},
	{program: "nft", debian: "nftables"},
	{program: "iptables", debian: "iptables"},
	{program: "ip", debian: "iproute2"},
	{program: "nsenter", debian: "util-linux"},
	{program: "/bin/busybox", debian: "busybox-static"},
	{program: "initdb of PostgreSQL 15 or later", debian: "postgresql", there: func() error {
		_, err := postgresFolder()
		return err
	}},
}

// check looks for what the lab needs and, as root on Debian, installs what is
// missing for a node. It prints only what is wrong.
func check(ctx context.Context, config Config) error {
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		return fmt.Errorf("this is %s/%s: the lab runs on Linux on x86-64 only", runtime.GOOS, runtime.GOARCH)
	}
	if absent := missing(buildNeeds); len(absent) > 0 {
		return errors.New(strings.Join(hints(absent), "\n"))
	}
	if err := checkGo(ctx, config); err != nil || config.Mode != ModeNode {
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("a lab with a node needs root; LAB=control-plane runs API server and Vault without pods, and needs none")
	}
	absent := missing(nodeNeeds)
	if len(absent) == 0 {
		return nil
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		return fmt.Errorf("missing, and no apt-get to install it with:\n%s", strings.Join(hints(absent), "\n"))
	}
	return install(ctx, absent)
}

// checkGo asks the Go tool itself: it knows what go.mod wants, and may fetch it.
func checkGo(ctx context.Context, config Config) error {
	if config.Source == "" {
		return errNoSource
	}
	cmd := exec.CommandContext(ctx, "go", "list", "-m")
	cmd.Dir = config.Source
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("asking Go about %s/go.mod: %w: %s", config.Source, err, strings.TrimSpace(string(out)))
	}
	return nil
}

func missing(needs []need) []need {
	var absent []need
	for _, n := range needs {
		look := n.there
		if look == nil {
			look = func() error { _, err := exec.LookPath(n.program); return err }
		}
		if look() != nil {
			absent = append(absent, n)
		}
	}
	return absent
}

func hints(absent []need) []string {
	var lines []string
	for _, n := range absent {
		hint := n.hint
		if n.debian != "" {
			hint = "apt-get install --no-install-recommends " + n.debian
		}
		lines = append(lines, n.program+" is missing: "+hint)
	}
	return lines
}

const (
	noServices = "/usr/sbin/policy-rc.d"
	// Debian's PostgreSQL makes a database when it is installed, unless this
	// file of its says otherwise.
	newClusters = "/etc/postgresql-common/createcluster.conf"
)

// meanwhile gives a file another content, and what puts the one before back.
func meanwhile(path, content string, mode os.FileMode) (putBack func(), err error) {
	before, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		putBack = func() { _ = os.Remove(path) }
	case err != nil:
		return nil, err
	default:
		putBack = func() { _ = os.WriteFile(path, before, mode) }
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	return putBack, os.WriteFile(path, []byte(content), mode)
}

// install adds Debian packages, removes none, and starts no service of theirs:
// the lab runs its own containerd and PostgreSQL.
func install(ctx context.Context, absent []need) error {
	var packages []string
	for _, n := range absent {
		fmt.Printf("%s is missing: installing %s\n", n.program, n.debian)
		packages = append(packages, n.debian)
	}
	if !exists(noServices) {
		if err := os.WriteFile(noServices, []byte("#!/bin/sh\nexit 101\n"), 0o755); err != nil {
			return fmt.Errorf("keeping services from being started: %w", err)
		}
		defer os.Remove(noServices)
	}
	putBack, err := meanwhile(newClusters, "create_main_cluster = false\n", 0o644)
	if err != nil {
		return fmt.Errorf("keeping databases from being made: %w", err)
	}
	defer putBack()
	for _, args := range [][]string{{"update"}, append([]string{"install", "-y", "--no-install-recommends", "--no-remove"}, packages...)} {
		cmd := exec.CommandContext(ctx, "apt-get", args...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("apt-get %s: %w\n%s", strings.Join(args, " "), err, out)
		}
	}
	if absent := missing(nodeNeeds); len(absent) > 0 {
		return fmt.Errorf("still missing after the installation:\n%s", strings.Join(hints(absent), "\n"))
	}
	return nil
}
