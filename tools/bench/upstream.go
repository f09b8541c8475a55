package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/watch"
)

// upstreamDefault is how long Sealed Secrets' controller is watched with its
// default flags, with which it would take a quarter of an hour.
const upstreamDefault = 60 * time.Second

// upstreamTuned are flags that take its limit of requests away.
var upstreamTuned = []string{"--kubeclient-qps=200", "--kubeclient-burst=400"}

// upstreamRound measures Sealed Secrets' own controller, built from its module,
// on a pile of version 1.
func (o options) upstreamRound(ctx context.Context, rows *table, p pile) error {
	log.Print("sealed: Sealed Secrets' own controller, with its default flags")
	slow, _, err := o.upstream(ctx, rows, p, upstreamDefault)
	if err != nil {
		return fmt.Errorf("measuring Sealed Secrets' controller: %w", err)
	}
	log.Printf("Secrets %.1f/s; once more with %s", slow, strings.Join(upstreamTuned, " "))
	tuned, cpu, err := o.upstream(ctx, rows, p, 0, upstreamTuned...)
	if err != nil {
		return fmt.Errorf("measuring Sealed Secrets' controller, tuned: %w", err)
	}
	log.Printf("Secrets %.1f/s", tuned)
	rows.note("Sealed Secrets' controller v0.36.6 on the same work as v1 with 1 key: %.1f Secrets/s with its default flags (watched for %s), %.1f/s and %.1f CPU s with %s.",
		slow, upstreamDefault, tuned, cpu.Seconds(), strings.Join(upstreamTuned, " "))
	return nil
}

// upstream gives Secrets a second and CPU time, of the whole pile, or of what
// was done in a time.
func (o options) upstream(ctx context.Context, rows *table, p pile, watched time.Duration, flags ...string) (float64, time.Duration, error) {
	c, err := o.fresh(ctx, rows)
	if err != nil {
		return 0, 0, err
	}
	if err := c.heap(ctx, p); err != nil {
		return 0, 0, fmt.Errorf("making SealedSecrets: %w", err)
	}
	made, err := c.secretsThat(ctx, watch.Added)
	if err != nil {
		return 0, 0, err
	}
	defer made.stop()
	d, err := c.startUpstream(ctx, flags)
	if err != nil {
		return 0, 0, err
	}
	if watched > 0 {
		if err := pause(ctx, watched); err != nil {
			return 0, 0, stopped(d, err)
		}
		first, last, n := made.times()
		if n < 2 {
			return 0, 0, stopped(d, fmt.Errorf("it made %d Secrets in %s", n, watched))
		}
		return rate(n, last.Sub(first)), 0, d.stop()
	}
	first, last, err := made.wait(ctx, p.objects, 10*time.Minute)
	if err != nil {
		return 0, 0, stopped(d, fmt.Errorf("waiting for Secrets: %w", err))
	}
	cpu, err := d.untilIdle(ctx, 2*time.Minute)
	if err != nil {
		return 0, 0, stopped(d, err)
	}
	return rate(p.objects, last.Sub(first)), cpu, d.stop()
}

// startUpstream starts the controller with rights on everything. It reads its
// way to the API server in one place only, which a mount namespace of its own
// gives it.
func (c *cluster) startUpstream(ctx context.Context, flags []string) (*daemon, error) {
	if err := c.apply(ctx, fmt.Sprintf(`
{apiVersion: v1, kind: ServiceAccount, metadata: {name: upstream, namespace: %[1]s}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: upstream}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}
subjects: [{kind: ServiceAccount, name: upstream, namespace: %[1]s}]
`, system)); err != nil {
		return nil, err
	}
	token, err := c.kubectl(ctx, nil, "create", "token", "upstream", "-n", system, "--duration=12h")
	if err != nil {
		return nil, err
	}
	authority, err := os.ReadFile(c.env["LAB_CA_FILE"])
	if err != nil {
		return nil, fmt.Errorf("reading the lab's certificate authority: %w", err)
	}
	account := filepath.Join(c.state, "serviceaccount")
	err = os.MkdirAll(account, 0o700)
	for name, content := range map[string]string{"token": strings.TrimSpace(token), "ca.crt": string(authority), "namespace": system} {
		err = errors.Join(err, os.WriteFile(filepath.Join(account, name), []byte(content), 0o600))
	}
	if err != nil {
		return nil, fmt.Errorf("writing a service account's files: %w", err)
	}
	server, err := url.Parse(c.access.Host)
	if err != nil {
		return nil, fmt.Errorf("reading the API server's address: %w", err)
	}
	log, err := os.Create(filepath.Join(c.state, "upstream.log"))
	if err != nil {
		return nil, fmt.Errorf("making the controller's log: %w", err)
	}
	script := `there=$(readlink -m /var/run)/secrets/kubernetes.io/serviceaccount
mount -t tmpfs tmpfs "$(readlink -m /var/run)" && mkdir -p "$there" && cp "$0"/* "$there" && exec "$@"`
	arguments := append([]string{"-rm", "sh", "-c", script, account,
		filepath.Join(c.root, "bin", "sealed-secrets-controller"),
		"--listen-addr=127.0.0.1:0", "--listen-metrics-addr=127.0.0.1:0"}, flags...)
	command := exec.Command("unshare", arguments...)
	command.Env = append(os.Environ(), "KUBERNETES_SERVICE_HOST="+server.Hostname(), "KUBERNETES_SERVICE_PORT="+server.Port(), "POD_NAMESPACE="+system)
	command.Stdout, command.Stderr = log, log
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	d := &daemon{command: command, began: time.Now(), ended: make(chan error, 1), log: log}
	if err := command.Start(); err != nil {
		return nil, fmt.Errorf("starting Sealed Secrets' controller: %w", err)
	}
	go func() { d.ended <- command.Wait() }()
	return d, nil
}
