package brokertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// OnHost is the lab as a process of the host reaches it, for which the names
// of Services mean nothing.
func (l *Lab) OnHost() *Lab {
	there := *l
	there.env = maps.Clone(l.env)
	there.env["LAB_VAULT_IN_CLUSTER_ADDR"] = l.env["VAULT_ADDR"]
	return &there
}

// WithoutServe ends the chart's controllers, and gives what puts them back.
func (l *Lab) WithoutServe(t testing.TB) (putBack func()) {
	t.Helper()
	l.Kubectl(t, "scale", "-n", System, "deployment/privyseal", "--replicas=0")
	l.Kubectl(t, "wait", "-n", System, "pods", "-l", "app.kubernetes.io/component=serve", "--for=delete", "--timeout=60s")
	return func() {
		l.Kubectl(t, "scale", "-n", System, "deployment/privyseal", "--replicas=1")
		l.Kubectl(t, "rollout", "status", "-n", System, "deployment/privyseal", "--timeout=90s")
	}
}

// KubeconfigOfServe writes a kubeconfig of the chart's service account, which
// has the rights that the chart gives it and no others.
func (l *Lab) KubeconfigOfServe(t testing.TB) string {
	t.Helper()
	config := clientcmdapi.NewConfig()
	config.Clusters["lab"] = &clientcmdapi.Cluster{
		Server: l.Access.Host, CertificateAuthorityData: l.Access.CAData, CertificateAuthority: l.Access.CAFile,
	}
	config.AuthInfos["serve"] = &clientcmdapi.AuthInfo{
		Token: strings.TrimSpace(l.Kubectl(t, "create", "token", "privyseal", "-n", System, "--duration=2h")),
	}
	config.Contexts["lab"] = &clientcmdapi.Context{Cluster: "lab", AuthInfo: "serve"}
	config.CurrentContext = "lab"
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// Daemon is privyseal serve as a process of the host.
type Daemon struct {
	process *exec.Cmd
	log     *safeBuffer
	ended   chan struct{}
}

// StartDaemon starts a program of bin, with these variables and no others, and
// kills it when the test ends, if it still runs then.
func (l *Lab) StartDaemon(t testing.TB, program string, environment []string, arguments ...string) *Daemon {
	t.Helper()
	d := &Daemon{
		process: exec.Command(filepath.Join(l.root, "bin", program), append([]string{"serve", "--namespace", System,
			"--log-level", "debug", "--metrics-address", "", "--probe-address", ""}, arguments...)...),
		log: &safeBuffer{}, ended: make(chan struct{}),
	}
	d.process.Env, d.process.Stderr = environment, d.log
	if d.process.Env == nil {
		d.process.Env = []string{} // nil would be this process's own
	}
	if err := d.process.Start(); err != nil {
		skipWithout(t, fmt.Sprintf("bin/%[1]s is missing; make it with: make bin/%[1]s", program))
	}
	go func() {
		_ = d.process.Wait()
		close(d.ended)
	}()
	t.Cleanup(func() {
		_ = d.process.Process.Kill()
		<-d.ended
		if t.Failed() {
			t.Logf("the log of the daemon that was process %d:\n%s", d.process.Process.Pid, d.Log())
		}
	})
	return d
}

// Log is what the daemon said so far.
func (d *Daemon) Log() string { return d.log.String() }

// Kill ends the daemon as kill -9 does, and waits until it is gone.
func (d *Daemon) Kill() {
	_ = d.process.Process.Kill()
	<-d.ended
}

// Exited gives the daemon's exit code, once it has one.
func (d *Daemon) Exited(t testing.TB, within time.Duration) int {
	t.Helper()
	Eventually(t, within, func(context.Context) error {
		if d.Running() {
			return errors.New("the daemon still runs")
		}
		return nil
	})
	return d.process.ProcessState.ExitCode()
}

// Running says that the daemon has not ended.
func (d *Daemon) Running() bool {
	select {
	case <-d.ended:
		return false
	default:
		return true
	}
}

// Stop ends the daemon as Kubernetes would.
func (d *Daemon) Stop(t testing.TB) {
	t.Helper()
	_ = d.process.Process.Signal(syscall.SIGTERM)
	if code := d.Exited(t, 30*time.Second); code != 0 {
		t.Errorf("the daemon ended with code %d", code)
	}
}

// safeBuffer is written by a process and read by a test.
type safeBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
