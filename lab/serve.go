package main

import (
	"context"
	"fmt"
	"path/filepath"
	"syscall"
)

// plan is all that the supervisor needs to know. The starter writes it down;
// the supervisor, in its own namespaces, reads it.
type plan struct {
	Config  Config
	Site    site
	Servers servers
	// Postgres is the folder of PostgreSQL's programs; empty in a lab without a node.
	Postgres string
}

func (p plan) pki(file string) string { return p.Config.path("pki", file) }

func (p plan) kubeconfig(user string) string { return p.Config.path("kubeconfigs", user) }

// server is one program of the lab: how it is called, and how one asks whether
// it is ready.
type server struct {
	name    string
	program string
	args    []string
	as      *syscall.Credential         // nil: as the lab itself
	stop    syscall.Signal              // what ends it; zero: SIGTERM
	ready   func(context.Context) error // asked until it is nil
	after   func(context.Context) error // done after each start, as unsealing Vault; may be nil
}

func (p plan) etcd(ask *asker) server {
	peer := fmt.Sprintf("http://127.0.0.1:%d", p.Site.EtcdPeer)
	return server{
		name:    "etcd",
		program: p.Servers.Programs["etcd"],
		args: []string{
			"--name=lab", "--data-dir=" + p.Config.path("etcd"),
			"--listen-client-urls=" + p.Site.etcdURL(), "--advertise-client-urls=" + p.Site.etcdURL(),
			"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer, "--initial-cluster=lab=" + peer,
			"--cert-file=" + p.pki("etcd.crt"), "--key-file=" + p.pki("etcd.key"),
			"--trusted-ca-file=" + p.pki("ca.crt"), "--client-cert-auth",
			"--quota-backend-bytes=4294967296",
			"--unsafe-no-fsync", // a lab need not survive a power cut; a kill it does
			"--log-level=warn",
		},
		ready: ask.answers(p.Site.etcdURL() + "/readyz"),
	}
}

func (p plan) apiserver(ask *asker) server {
	args := []string{
		"--etcd-servers=" + p.Site.etcdURL(), "--etcd-cafile=" + p.pki("ca.crt"),
		"--etcd-certfile=" + p.pki("apiserver.crt"), "--etcd-keyfile=" + p.pki("apiserver.key"),
		"--bind-address=" + p.Site.Host, "--advertise-address=" + p.Site.Host,
		fmt.Sprintf("--secure-port=%d", p.Site.API),
		"--tls-cert-file=" + p.pki("apiserver.crt"), "--tls-private-key-file=" + p.pki("apiserver.key"),
		"--client-ca-file=" + p.pki("ca.crt"), "--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=" + p.pki("service-accounts.pub"),
		"--service-account-signing-key-file=" + p.pki("service-accounts.key"),
		"--service-cluster-ip-range=" + serviceRange, "--allow-privileged=true",
		"--kubelet-client-certificate=" + p.pki("admin.crt"), "--kubelet-client-key=" + p.pki("admin.key"),
		"--kubelet-certificate-authority=" + p.pki("ca.crt"), "--kubelet-preferred-address-types=InternalIP",
		"--enable-aggregator-routing=true", // webhooks are called at their endpoints, with no kube-proxy between
		"--audit-policy-file=" + p.Config.path("conf", "audit.json"), "--audit-log-path=" + p.Config.path("audit.log"),
		"--audit-log-mode=blocking", "--audit-log-maxsize=100000", // whole, and in one file: tests count in it
		"--profiling=false",
	}
	if p.Config.Mode != ModeNode { // an endpoint must not be a loopback address
		args = append(args, "--endpoint-reconciler-type=none")
	}
	return server{name: "kube-apiserver", program: p.Servers.Programs["kube-apiserver"], args: args,
		ready: ask.answers(p.Site.apiURL() + "/readyz")}
}

func (p plan) controllerManager(ask *asker) server {
	return server{
		name:    "kube-controller-manager",
		program: p.Servers.Programs["kube-controller-manager"],
		args: append(p.asking("kube-controller-manager"),
			fmt.Sprintf("--secure-port=%d", p.Site.Controller),
			"--use-service-account-credentials=true",
			"--root-ca-file="+p.pki("ca.crt"), "--service-account-private-key-file="+p.pki("service-accounts.key"),
			"--cluster-signing-cert-file="+p.pki("ca.crt"), "--cluster-signing-key-file="+p.pki("ca.key"),
			"--service-cluster-ip-range="+serviceRange),
		ready: ask.answers(fmt.Sprintf("https://127.0.0.1:%d/healthz", p.Site.Controller)),
	}
}

func (p plan) scheduler(ask *asker) server {
	return server{
		name:    "kube-scheduler",
		program: p.Servers.Programs["kube-scheduler"],
		args:    append(p.asking("kube-scheduler"), fmt.Sprintf("--secure-port=%d", p.Site.Scheduler)),
		ready:   ask.answers(fmt.Sprintf("https://127.0.0.1:%d/readyz", p.Site.Scheduler)),
	}
}

// asking are the flags of a server that is a client of the API server. It is
// alone, so it waits for no leader's lease.
func (p plan) asking(user string) []string {
	file := p.kubeconfig(user)
	return []string{"--kubeconfig=" + file, "--authentication-kubeconfig=" + file, "--authorization-kubeconfig=" + file,
		"--bind-address=127.0.0.1", "--leader-elect=false", "--profiling=false"}
}

func (p plan) kubeProxy(ask *asker) server {
	return server{
		name:    "kube-proxy",
		program: p.Servers.Programs["kube-proxy"],
		args:    []string{"--config=" + p.Config.path("conf", "kube-proxy.json")},
		ready:   ask.answers("http://127.0.0.1:10256/healthz"),
	}
}

func (p plan) kubelet(ask *asker) server {
	return server{
		name:    "kubelet",
		program: p.Servers.Programs["kubelet"],
		args: []string{"--config=" + p.Config.path("conf", "kubelet.json"), "--kubeconfig=" + p.kubeconfig("kubelet"),
			"--hostname-override=" + nodeName, "--node-ip=" + p.Site.Host, "--root-dir=/var/lib/kubelet"},
		ready: ask.answers("http://127.0.0.1:10248/healthz"),
	}
}

func (p plan) containerd() server {
	return server{
		name:    "containerd",
		program: "containerd",
		args:    []string{"--config", p.Config.path("conf", "containerd.toml")},
		ready:   func(ctx context.Context) error { return quietly(ctx, "ctr", "plugins", "ls") },
	}
}

func (p plan) coreDNS(ask *asker) server {
	return server{
		name:    "coredns",
		program: p.Servers.Programs["coredns"],
		args:    []string{"-conf", p.Config.path("conf", "Corefile")},
		ready:   ask.answers("http://127.0.0.1:8181/ready"),
	}
}

func (p plan) vault(ask *asker, unseal func(context.Context) error) server {
	args := []string{"-listen", fmt.Sprintf("%s:%d", p.Site.Host, p.Site.Vault),
		"-cert", p.pki("vault.crt"), "-key", p.pki("vault.key")}
	if !p.Config.VaultMemory {
		args = append(args, "-data", p.Config.path("vault"))
	}
	return server{name: "vault", program: p.Servers.Programs["vault"], args: args,
		ready: ask.answers(p.Site.vaultURL() + "/v1/sys/seal-status"), after: unseal}
}

// settle writes down what the servers read: kubeconfigs and configurations.
func (p plan) settle() error {
	for _, user := range []string{"kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet"} {
		if err := p.Site.kubeconfig(p.pki(""), user, p.kubeconfig(user)); err != nil {
			return fmt.Errorf("writing %s's kubeconfig: %w", user, err)
		}
	}
	if err := p.Site.kubeconfig(p.pki(""), "admin", p.Config.path("kubeconfig")); err != nil {
		return fmt.Errorf("writing the kubeconfig: %w", err)
	}
	configurations := map[string]any{"audit.json": auditPolicy}
	if p.Config.Mode == ModeNode {
		configurations["kubelet.json"] = p.kubeletConfiguration()
		configurations["kube-proxy.json"] = p.proxyConfiguration()
		configurations[filepath.Join("cni", "10-lab.conflist")] = bridge
		if err := p.writeNodeFiles(); err != nil {
			return err
		}
	}
	for file, content := range configurations {
		if err := writeJSON(p.Config.path("conf", file), content, 0o644); err != nil {
			return fmt.Errorf("writing %s: %w", file, err)
		}
	}
	return nil
}

// auditPolicy writes down every request once, when it is answered: who did
// what to which object, and never a body.
var auditPolicy = map[string]any{
	"apiVersion": "audit.k8s.io/v1",
	"kind":       "Policy",
	"omitStages": []string{"RequestReceived"},
	"rules":      []any{map[string]any{"level": "Metadata"}},
}
