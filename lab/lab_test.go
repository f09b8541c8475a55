package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// trial is a lab of the test's own, beside the one that is in use.
type trial struct {
	*testing.T
	program string
	config  Config
	envFile string
}

func newTrial(t *testing.T) *trial {
	if os.Getenv("LAB_TEST") != "1" {
		t.Skip("starts and kills a lab of its own (about a minute): set LAB_TEST=1 to run it")
	}
	if os.Geteuid() != 0 {
		t.Skip("a lab with a node needs root")
	}
	t.Setenv("LAB", "node")
	t.Setenv("LAB_NAME", "labtest")
	// What a developer may be logged in to: none of it may be met.
	t.Setenv("KUBECONFIG", "/nonexistent")
	t.Setenv("VAULT_ADDR", "http://192.0.2.1")
	t.Setenv("VAULT_TOKEN", "foreign")
	t.Setenv("HTTPS_PROXY", "http://192.0.2.1:1")
	config, err := newConfig(options{})
	if err != nil {
		t.Fatal(err)
	}
	lab := &trial{T: t, config: config, program: filepath.Join(t.TempDir(), "lab"), envFile: filepath.Join(t.TempDir(), "env")}
	lab.host("go", "build", "-trimpath", "-o", lab.program, ".")
	lab.host("env", "HTTPS_PROXY=", lab.program, "build")
	t.Cleanup(func() { lab.host(lab.program, "clean") })
	lab.host(lab.program, "clean")
	return lab
}

// host runs a command and gives its output.
func (l *trial) host(args ...string) string {
	l.Helper()
	began := time.Now()
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	l.Logf("%s (%.1f s)\n%s", strings.Join(args, " "), time.Since(began).Seconds(), out)
	if err != nil {
		l.Fatalf("%s: %v", args[0], err)
	}
	return string(out)
}

func (l *trial) lab(args ...string) string {
	l.Helper()
	return l.host(append([]string{l.program}, args...)...)
}

func (l *trial) up() string {
	l.Helper()
	return l.host(l.program, "up", "--env-file", l.envFile)
}

func (l *trial) kubectl(args ...string) string {
	l.Helper()
	return l.host(append([]string{"env", "NO_PROXY=" + noProxy(), l.config.path("bin", "kubectl"), "--kubeconfig", l.config.path("kubeconfig")}, args...)...)
}

// killed ends the lab's first process as a machine's out-of-memory killer would.
func (l *trial) killed() {
	l.Helper()
	r, live, err := l.config.live()
	if err != nil || !live {
		l.Fatalf("no lab to kill: %v", err)
	}
	if err := syscall.Kill(r.PID, syscall.SIGKILL); err != nil {
		l.Fatal(err)
	}
	l.nothingLeft()
}

// nothingLeft waits until no process, mount, device or open port of the lab is
// there. No code of ours runs meanwhile: the kernel does it.
func (l *trial) nothingLeft() {
	l.Helper()
	var s site
	if err := readJSON(l.config.path("site.json"), &s); err != nil {
		l.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(l.Context(), 20*time.Second)
	defer cancel()
	err := until(ctx, 20*time.Millisecond, func(context.Context) error {
		if found := grep("/proc/[0-9]*/cmdline", l.config.State); found != "" {
			return fmt.Errorf("a process is left: %s", found)
		}
		if found := grep("/proc/[0-9]*/mountinfo", l.config.State); found != "" {
			return fmt.Errorf("a mount is left: %s", found)
		}
		if _, err := net.InterfaceByName(s.link()); err == nil {
			return fmt.Errorf("device %s is left", s.link())
		}
		if s.answers(l.config.path("pki", "ca.crt")) {
			return fmt.Errorf("the lab's API server still listens at %s", s.apiURL())
		}
		return nil
	})
	if err != nil {
		l.Fatal(err)
	}
}

// answers asks for the lab's own certificate: with the lab gone its address
// leads out of the machine, where a proxy may take any connection.
func (s site) answers(authority string) bool {
	content, err := os.ReadFile(authority)
	if err != nil {
		return false
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(content)
	connection, err := tls.DialWithDialer(&net.Dialer{Timeout: time.Second}, "tcp", fmt.Sprintf("%s:%d", s.Host, s.API), &tls.Config{RootCAs: roots})
	if err == nil {
		_ = connection.Close()
	}
	return err == nil
}

func grep(glob, text string) string {
	paths, _ := filepath.Glob(glob)
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err == nil && bytes.Contains(content, []byte(text)) {
			return path
		}
	}
	return ""
}

// vault asks the lab's Vault from the host.
func (l *trial) vault() (vaultAdmin, *asker) {
	l.Helper()
	var p plan
	if err := readJSON(l.config.path("plan.json"), &p); err != nil {
		l.Fatal(err)
	}
	asker, err := newAsker(p)
	if err != nil {
		l.Fatal(err)
	}
	return vaultAdmin{p, asker}, asker
}

func TestALabSurvivesEveryKillAndLeavesNothing(t *testing.T) {
	l := newTrial(t)
	l.killHalfWay()
	l.up()
	l.found()
	l.runsPods()
	l.vaultComesBack()
	l.postgresComesBack()

	l.Log("killed when it is up")
	l.killed()
	l.up()
	l.keptItsData()

	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGHUP} {
		l.Logf("ended by %v", signal)
		r, _, _ := l.config.live()
		if err := syscall.Kill(r.PID, signal); err != nil {
			l.Fatal(err)
		}
		l.nothingLeft()
		l.up()
	}

	l.lab("down")
	l.nothingLeft()
	if left, _ := filepath.Glob("/sys/fs/cgroup/*/" + l.config.cgroupName()); len(left) > 0 {
		l.Errorf("cgroups are left: %v", left)
	}
	if !exists(l.config.path("etcd")) {
		l.Error("down removed the state")
	}
}

// killHalfWay ends the supervisor while it waits for the API server.
func (l *trial) killHalfWay() {
	l.Log("killed half-way up")
	cmd := exec.Command(l.program, "up", "--env-file", l.envFile)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		l.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(l.Context(), time.Minute)
	defer cancel()
	err := until(ctx, 10*time.Millisecond, func(context.Context) error {
		if info, err := os.Stat(l.config.path("logs", "kube-apiserver.log")); err != nil || info.Size() == 0 {
			return fmt.Errorf("the API server has not said anything")
		}
		return nil
	})
	if err != nil {
		l.Fatal(err)
	}
	l.killed()
	if cmd.Wait() == nil {
		l.Error("up says that a killed lab is up")
	}
	l.Logf("up said:\n%s", out.String())
}

func (l *trial) found() {
	l.Helper()
	if out := l.up(); !strings.Contains(out, "is up already") {
		l.Error("a second up did not find the first one's lab")
	}
	written, err := os.ReadFile(l.envFile)
	if err != nil || strings.Contains(string(written), "192.0.2.1") || strings.Contains(string(written), "foreign") {
		l.Errorf("the env has something of the user's: %v", err)
	}
}

// runsPods shows what a pod of the lab reaches, and that it reaches no more.
func (l *trial) runsPods() {
	l.Helper()
	probe := filepath.Join(l.TempDir(), "probe")
	l.host("env", "CGO_ENABLED=0", "go", "build", "-trimpath", "-o", probe, "./testdata/probe")
	l.lab("image", "privyseal-lab/probe:test", "--entrypoint", "/probe", "--user", "65532:65532", probe+"=/probe")
	if out := l.lab("image", "privyseal-lab/probe:test", "--entrypoint", "/probe", "--user", "65532:65532", probe+"=/probe"); !strings.Contains(out, "already") {
		l.Error("the same image was given twice")
	}
	l.kubectl("run", "probe", "--image=privyseal-lab/probe:test", "--restart=Never", "--",
		"https://vault.vault.svc:8200/v1/sys/health", "https://kubernetes.default.svc/version", "!192.0.2.2:22", "!1.1.1.1:53")
	l.kubectl("wait", "pod/probe", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=60s")
	l.kubectl("logs", "probe")
	l.kubectl("run", "shell", "--image=busybox:stable", "--restart=Always", "--", "sleep", "3600")
	l.kubectl("wait", "pod/shell", "--for=condition=Ready", "--timeout=60s")
	if out := l.kubectl("exec", "shell", "--", "cat", "/etc/resolv.conf"); !strings.Contains(out, dnsAddress) {
		l.Error("a pod does not ask the lab's DNS")
	}
	if out := l.lab("exec", "--", "kubectl", "get", "nodes"); !strings.Contains(out, " Ready ") {
		l.Error("exec does not reach the cluster")
	}
}

// vaultComesBack stops, kills and seals Vault.
func (l *trial) vaultComesBack() {
	l.Helper()
	v, ask := l.vault()
	healthy := ask.answers(v.plan.Site.vaultURL() + "/v1/sys/health")
	if err := v.do(l.Context(), http.MethodPost, "kv/data/kept", map[string]any{"data": map[string]string{"k": "v"}}, nil); err != nil {
		l.Fatal(err)
	}
	for _, c := range [][2]string{{"stop vault", "start vault"}, {"vault seal", "vault unseal"}} {
		l.lab(strings.Fields(c[0])...)
		if healthy(l.Context()) == nil {
			l.Errorf("Vault answers after %s", c[0])
		}
		l.lab(strings.Fields(c[1])...)
		if err := healthy(l.Context()); err != nil {
			l.Errorf("after %s: %v", c[1], err)
		}
	}
	for _, server := range []string{"vault", "kube-apiserver", "etcd", "kubelet"} {
		l.lab("kill", server)
	}
	ctx, cancel := context.WithTimeout(l.Context(), time.Minute)
	defer cancel()
	if err := until(ctx, 100*time.Millisecond, healthy); err != nil {
		l.Errorf("Vault was killed and did not come back: %v", err)
	}
	if err := until(ctx, 100*time.Millisecond, ask.answers(v.plan.Site.apiURL()+"/readyz")); err != nil {
		l.Errorf("the API server was killed and did not come back: %v", err)
	}
}

// sql asks PostgreSQL as its superuser.
func (l *trial) sql(ctx context.Context, statement string) error {
	l.Helper()
	var s site
	keys, err := l.config.postgresKeys()
	if err := errors.Join(err, readJSON(l.config.path("site.json"), &s)); err != nil {
		l.Fatal(err)
	}
	return quietly(ctx, l.config.path("bin", "psql"), s.postgresURL(keys), "-v", "ON_ERROR_STOP=1", "-c", statement)
}

// postgresComesBack stops and kills PostgreSQL, while somebody is logged in.
func (l *trial) postgresComesBack() {
	l.Helper()
	ctx, cancel := context.WithTimeout(l.Context(), time.Minute)
	defer cancel()
	if err := l.sql(ctx, "CREATE TABLE kept ()"); err != nil {
		l.Fatal(err)
	}
	held := make(chan error, 1)
	go func() { held <- l.sql(ctx, "SELECT pg_sleep(600)") }()
	err := until(ctx, 50*time.Millisecond, func(ctx context.Context) error {
		return l.sql(ctx, "SELECT 1 / count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)%' AND pid <> pg_backend_pid()")
	})
	if err != nil {
		l.Fatal(err)
	}
	began := time.Now()
	l.lab("stop", "postgres")
	if took := time.Since(began); took > stopGrace/2 {
		l.Errorf("stopping it took %s: it waits for who is logged in", took)
	}
	if <-held == nil || l.sql(ctx, "SELECT 1") == nil {
		l.Error("stopped, PostgreSQL answers")
	}
	l.lab("start", "postgres")
	if err := l.sql(ctx, "SELECT FROM kept"); err != nil {
		l.Errorf("started again: %v", err)
	}
	l.lab("kill", "postgres")
	if err := until(ctx, 100*time.Millisecond, func(ctx context.Context) error { return l.sql(ctx, "SELECT FROM kept") }); err != nil {
		l.Errorf("PostgreSQL was killed and did not come back: %v", err)
	}
}

// keptItsData shows that the state outlived the lab.
func (l *trial) keptItsData() {
	l.Helper()
	v, _ := l.vault()
	if err := v.do(l.Context(), http.MethodGet, "kv/data/kept", nil, nil); err != nil {
		l.Errorf("Vault lost its data: %v", err)
	}
	if err := l.sql(l.Context(), "SELECT FROM kept"); err != nil {
		l.Errorf("PostgreSQL lost its data: %v", err)
	}
	l.kubectl("wait", "pod/shell", "--for=condition=Ready", "--timeout=60s")
	l.kubectl("exec", "shell", "--", "true")
}
