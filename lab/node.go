package main

import (
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const (
	pauseImage   = "privyseal-lab/pause:1"
	busyboxImage = "busybox:stable"
	clientImage  = "pgclient:stable"
	pluginFolder = "/usr/lib/cni"
)

// cgroupName is the parent of all of this lab's pods, in every hierarchy.
func (c Config) cgroupName() string { return "privyseal-lab-" + c.Name }

func (p plan) kubeletConfiguration() map[string]any {
	return map[string]any{
		"apiVersion":               "kubelet.config.k8s.io/v1beta1",
		"kind":                     "KubeletConfiguration",
		"address":                  p.Site.Host,
		"tlsCertFile":              p.pki("kubelet-serving.crt"),
		"tlsPrivateKeyFile":        p.pki("kubelet-serving.key"),
		"authentication":           map[string]any{"anonymous": map[string]any{"enabled": false}, "webhook": map[string]any{"enabled": true}, "x509": map[string]any{"clientCAFile": p.pki("ca.crt")}},
		"authorization":            map[string]any{"mode": "Webhook"},
		"containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
		"clusterDNS":               []string{dnsAddress},
		"clusterDomain":            "cluster.local",
		"resolvConf":               "", // no name servers but the lab's own
		"maxPods":                  200,
		"volumePluginDir":          p.Config.path("conf", "volume-plugins"),
		"registerNode":             true,
		"makeIPTablesUtilChains":   false, // kube-proxy speaks nftables

		"cgroupDriver":           "cgroupfs",
		"cgroupRoot":             "/" + p.Config.cgroupName(),
		"cgroupsPerQOS":          true,
		"enforceNodeAllocatable": []string{},
		"failSwapOn":             false,
		"oomScoreAdj":            0,

		// The lab's images cannot be pulled again, and its disk is somebody's
		// laptop: never throw an image or a pod out for want of room.
		"imageGCHighThresholdPercent": 100,
		"evictionHard": map[string]string{
			"memory.available": "20Mi", "nodefs.available": "1%", "imagefs.available": "1%",
			"nodefs.inodesFree": "1%", "imagefs.inodesFree": "1%",
		},
	}
}

func (p plan) proxyConfiguration() map[string]any {
	return map[string]any{
		"apiVersion":         "kubeproxy.config.k8s.io/v1alpha1",
		"kind":               "KubeProxyConfiguration",
		"clientConnection":   map[string]any{"kubeconfig": p.kubeconfig("kube-proxy")},
		"mode":               "nftables",
		"clusterCIDR":        podRange,
		"hostnameOverride":   nodeName,
		"bindAddress":        p.Site.Host,
		"healthzBindAddress": "127.0.0.1:10256",
		"metricsBindAddress": "127.0.0.1:10249",
		"oomScoreAdj":        0,
		"conntrack":          map[string]any{"maxPerCore": 0}, // the host's limit is not the lab's to change
	}
}

// bridge joins the pods to each other and to the node.
var bridge = map[string]any{
	"cniVersion": "0.4.0",
	"name":       "lab",
	"plugins": []any{map[string]any{
		"type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true,
		"ipam": map[string]any{
			"type":   "host-local",
			"ranges": []any{[]any{map[string]any{"subnet": podRange}}},
			"routes": []any{map[string]any{"dst": labRange}}, // a dial to anywhere else is refused in the pod
		},
	}},
}

const containerdConfig = `version = 2
root = %q
state = "/run/containerd"
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = %q
  restrict_oom_score_adj = true # a container need not be allowed to better its score
  disable_apparmor = true
  stream_server_address = "127.0.0.1"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = %q
    conf_dir = %q
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = %q
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
`

const corefile = `.:53 {
  bind %s
  errors
  health 127.0.0.1:8081
  ready 127.0.0.1:8181
  kubernetes cluster.local {
    endpoint %s
    tls %s %s %s
    ttl 5
  }
}
`

func (p plan) writeNodeFiles() error {
	containerd := fmt.Sprintf(containerdConfig, p.Config.path("containerd"), pauseImage, pluginFolder,
		p.Config.path("conf", "cni"), snapshotter(filepath.Dir(p.Config.State)))
	if err := write(p.Config.path("conf", "containerd.toml"), []byte(containerd), 0o644); err != nil {
		return fmt.Errorf("writing containerd's configuration: %w", err)
	}
	names := fmt.Sprintf(corefile, dnsAddress, p.Site.apiURL(), p.pki("admin.crt"), p.pki("admin.key"), p.pki("ca.crt"))
	if err := write(p.Config.path("conf", "Corefile"), []byte(names), 0o644); err != nil {
		return fmt.Errorf("writing the Corefile: %w", err)
	}
	return nil
}

// snapshotter copies layers where overlays cannot lie on overlays, as in a
// container.
func snapshotter(dir string) string {
	var fs unix.Statfs_t
	if unix.Statfs(dir, &fs) == nil && fs.Type == unix.OVERLAYFS_SUPER_MAGIC {
		return "native"
	}
	return "overlayfs"
}
