package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
)

// site is where a lab listens. It is kept in the state folder: certificates
// and kubeconfigs name these addresses.
//
// All addresses of a node lab lie in 198.18.0.0/15, the block that RFC 2544
// reserves for tests, so none is anybody's real one. Every lab has a network
// namespace of its own; only the pair that joins it to the host needs a range
// of its own, and that is the slot.
type site struct {
	Slot       int    // node mode: 198.18.(240+slot).0/30
	Host       string // where API server and Vault listen
	API        int    // ports
	Vault      int
	Etcd       int
	EtcdPeer   int
	Controller int
	Scheduler  int
}

const (
	labRange     = "198.18.0.0/15"
	podRange     = "198.18.0.0/24"
	serviceRange = "198.19.0.0/16"
	apiService   = "198.19.0.1" // the kubernetes Service: the range's first
	dnsAddress   = "198.18.255.53"
	slots        = 14
	nodeName     = "lab"
)

// hostSide is the host's address on the pair: where a pod, the API server or
// Vault reaches a process outside of the lab.
func (s site) hostSide() string { return fmt.Sprintf("198.18.%d.2", 240+s.Slot) }
func (s site) link() string     { return fmt.Sprintf("pslab%d", s.Slot) }

func (s site) apiURL() string   { return fmt.Sprintf("https://%s:%d", s.Host, s.API) }
func (s site) vaultURL() string { return fmt.Sprintf("https://%s:%d", s.Host, s.Vault) }
func (s site) etcdURL() string  { return fmt.Sprintf("https://127.0.0.1:%d", s.Etcd) }

// openSite reads the site of an earlier start or makes one.
func openSite(ctx context.Context, config Config) (site, error) {
	var s site
	path := config.path("site.json")
	err := readJSON(path, &s)
	switch {
	case err == nil && (config.Mode == ModeNode || s.free()):
		return s, nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return s, err
	}
	if config.Mode == ModeNode {
		unlock, err := lock(ctx, filepath.Join(filepath.Dir(config.State), "slots.lock"))
		if err != nil {
			return s, err
		}
		defer unlock()
		s, err = newNodeSite(config)
		if err != nil {
			return s, err
		}
	} else if s, err = newLoopbackSite(); err != nil {
		return s, err
	}
	return s, writeJSON(path, s, 0o644)
}

func newNodeSite(config Config) (site, error) {
	taken := map[int]bool{}
	others, err := filepath.Glob(filepath.Join(filepath.Dir(config.State), "*", "site.json"))
	if err != nil {
		return site{}, err
	}
	for _, other := range others {
		var s site
		if readJSON(other, &s) == nil && s.Host != "127.0.0.1" {
			taken[s.Slot] = true
		}
	}
	for slot := range slots {
		s := site{Slot: slot, Host: fmt.Sprintf("198.18.%d.1", 240+slot), API: 6443, Vault: 8200,
			Etcd: 2379, EtcdPeer: 2380, Controller: 10257, Scheduler: 10259}
		if _, err := net.InterfaceByName(s.link()); err != nil && !taken[slot] {
			return s, nil
		}
	}
	return site{}, fmt.Errorf("%d labs have state here already: end one with LAB_NAME=… lab clean", slots)
}

// newLoopbackSite takes ports that are free now.
func newLoopbackSite() (site, error) {
	s := site{Host: "127.0.0.1"}
	for _, port := range s.ports() {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return s, fmt.Errorf("looking for a free port: %w", err)
		}
		defer listener.Close() // only at the end, so that no two get the same
		*port = listener.Addr().(*net.TCPAddr).Port
	}
	return s, nil
}

func (s *site) ports() []*int {
	return []*int{&s.API, &s.Vault, &s.Etcd, &s.EtcdPeer, &s.Controller, &s.Scheduler}
}

func (s *site) free() bool {
	for _, port := range s.ports() {
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", *port))
		if err != nil {
			return false
		}
		listener.Close()
	}
	return true
}

// issueAll makes every certificate that the site's servers want.
func (s site) issueAll(dir string) error {
	ca, err := openAuthority(dir)
	if err != nil {
		return err
	}
	local := []string{"127.0.0.1", "localhost"}
	identities := []identity{
		{file: "etcd", user: "etcd", hosts: local},
		{file: "apiserver", user: "kube-apiserver", hosts: append([]string{s.Host, apiService, "kubernetes",
			"kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"}, local...)},
		{file: "vault", user: "vault", hosts: append([]string{s.Host, "vault", "vault.vault", "vault.vault.svc",
			"vault.vault.svc.cluster.local"}, local...)},
		{file: "kubelet-serving", user: nodeName, hosts: []string{s.Host, nodeName}},
		{file: "admin", user: "lab-admin", groups: []string{"system:masters"}},
		{file: "kube-controller-manager", user: "system:kube-controller-manager"},
		{file: "kube-scheduler", user: "system:kube-scheduler"},
		{file: "kube-proxy", user: "system:kube-proxy"},
		{file: "kubelet", user: "system:node:" + nodeName, groups: []string{"system:nodes"}},
	}
	for _, id := range identities {
		if err := ca.issue(id); err != nil {
			return err
		}
	}
	return ca.signingKey("service-accounts")
}

// kubeconfig writes one that holds its certificates and asks as the identity.
func (s site) kubeconfig(dir, identity, path string) error {
	var content [3][]byte
	for i, file := range []string{"ca.crt", identity + ".crt", identity + ".key"} {
		var err error
		if content[i], err = os.ReadFile(filepath.Join(dir, file)); err != nil {
			return err
		}
	}
	return writeJSON(path, map[string]any{ // JSON is YAML, and []byte is base64 in both
		"apiVersion":      "v1",
		"kind":            "Config",
		"current-context": "privyseal-lab",
		"clusters": []any{map[string]any{"name": "privyseal-lab", "cluster": map[string]any{
			"server": s.apiURL(), "certificate-authority-data": content[0]}}},
		"users": []any{map[string]any{"name": identity, "user": map[string]any{
			"client-certificate-data": content[1], "client-key-data": content[2]}}},
		"contexts": []any{map[string]any{"name": "privyseal-lab", "context": map[string]any{
			"cluster": "privyseal-lab", "user": identity}}},
	}, 0o600)
}

// removeLink removes the host's end of a pair where the kernel has not done so
// yet. It takes a namespace down only when the last socket in it is gone, which
// may outlive the last process by the seconds that TCP takes to give up.
func (s site) removeLink(ctx context.Context) error {
	if _, err := net.InterfaceByName(s.link()); err != nil {
		return nil
	}
	err := quietly(ctx, "ip", "link", "delete", s.link())
	if _, there := net.InterfaceByName(s.link()); there != nil {
		return nil // it went by itself meanwhile
	}
	return err
}
