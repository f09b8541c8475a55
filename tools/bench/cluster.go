package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/yaml"
)

// What the bench makes and watches.
func secrets() schema.GroupVersionResource {
	return schema.GroupVersionResource{Version: "v1", Resource: "secrets"}
}

func nodes() schema.GroupVersionResource {
	return schema.GroupVersionResource{Version: "v1", Resource: "nodes"}
}

func deployments() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}
}

func claims() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "privyseal.io", Version: "v1alpha1", Resource: "secretclaims"}
}

func environments() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "privyseal.io", Version: "v1alpha1", Resource: "environments"}
}

// cluster is a lab that Privyseal is installed in: its kinds, and the rights of
// its service account.
type cluster struct {
	*lab
	vault *vault

	objects  dynamic.Interface  // as the administrator
	metadata metadata.Interface // likewise

	kubeconfig string       // of the service account
	access     *rest.Config // likewise
}

// freshCluster is a new lab with the chart's kinds and rights.
func freshCluster(ctx context.Context, root string) (*cluster, error) {
	lab, err := freshLab(ctx, root)
	if err != nil {
		return nil, err
	}
	c := &cluster{lab: lab}
	if c.vault, err = newVault(lab.env); err != nil {
		return nil, err
	}
	admin, err := clientcmd.BuildConfigFromFlags("", lab.env["LAB_KUBECONFIG"])
	if err != nil {
		return nil, fmt.Errorf("reading the lab's kubeconfig: %w", err)
	}
	admin.QPS = -1
	if c.objects, err = dynamic.NewForConfig(admin); err != nil {
		return nil, fmt.Errorf("making a client: %w", err)
	}
	if c.metadata, err = metadata.NewForConfig(admin); err != nil {
		return nil, fmt.Errorf("making a client of metadata: %w", err)
	}
	if err := c.install(ctx); err != nil {
		return nil, fmt.Errorf("installing Privyseal's kinds and rights: %w", err)
	}
	return c, c.becomeDaemon(ctx, admin)
}

// install applies of the chart what a daemon outside of the cluster needs.
func (c *cluster) install(ctx context.Context) error {
	helm := exec.CommandContext(ctx, filepath.Join(c.root, "bin", "helm"), "template", "privyseal",
		filepath.Join(c.root, "charts", "privyseal"), "--namespace", system, "--set", "webhook.enabled=false", "--set", "reloader.enabled=true")
	rendered, err := output(helm)
	if err != nil {
		return err
	}
	wanted := []string{"CustomResourceDefinition", "ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"}
	chosen := []string{"{apiVersion: v1, kind: Namespace, metadata: {name: " + system + "}}"}
	for _, document := range strings.Split(rendered, "\n---") {
		var object struct{ Kind string }
		if err := yaml.Unmarshal([]byte(document), &object); err != nil {
			return fmt.Errorf("reading the rendered chart: %w", err)
		}
		if slices.Contains(wanted, object.Kind) {
			chosen = append(chosen, document)
		}
	}
	if err := c.apply(ctx, strings.Join(chosen, "\n---\n")); err != nil {
		return err
	}
	_, err = c.kubectl(ctx, nil, "wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
	return err
}

// becomeDaemon makes the kubeconfig of the chart's service account.
func (c *cluster) becomeDaemon(ctx context.Context, admin *rest.Config) error {
	token, err := c.kubectl(ctx, nil, "create", "token", "privyseal", "-n", system, "--duration=12h")
	if err != nil {
		return err
	}
	config := clientcmdapi.NewConfig()
	config.Clusters["lab"] = &clientcmdapi.Cluster{Server: admin.Host, CertificateAuthority: c.env["LAB_CA_FILE"]}
	config.AuthInfos["privyseal"] = &clientcmdapi.AuthInfo{Token: strings.TrimSpace(token)}
	config.Contexts["lab"] = &clientcmdapi.Context{Cluster: "lab", AuthInfo: "privyseal"}
	config.CurrentContext = "lab"
	c.kubeconfig = filepath.Join(c.state, "kubeconfig")
	if err := clientcmd.WriteToFile(*config, c.kubeconfig); err != nil {
		return fmt.Errorf("writing the daemon's kubeconfig: %w", err)
	}
	c.access, err = clientcmd.BuildConfigFromFlags("", c.kubeconfig)
	if err != nil {
		return fmt.Errorf("reading the daemon's kubeconfig: %w", err)
	}
	c.access.QPS = -1
	return nil
}

// machine says what the raw limits are the limits of.
func (c *cluster) machine(ctx context.Context) (string, error) {
	client, err := discovery.NewDiscoveryClientForConfig(c.access)
	if err != nil {
		return "", fmt.Errorf("making a discovery client: %w", err)
	}
	kubernetes, err := client.ServerVersion()
	if err != nil {
		return "", fmt.Errorf("asking for the API server's version: %w", err)
	}
	vault, err := c.vault.version(ctx)
	if err != nil {
		return "", err
	}
	kernel, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return "", fmt.Errorf("reading the kernel's version: %w", err)
	}
	return fmt.Sprintf("%d cores (%s, Linux %s), shared by etcd without fsync, Kubernetes %s, Vault %s in memory with its audit log, this bench and the daemon, built with %s.",
		runtime.NumCPU(), processor(), strings.TrimSpace(string(kernel)), kubernetes.GitVersion, vault, runtime.Version()), nil
}

func processor() string {
	content, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "unknown processor"
	}
	for line := range strings.Lines(string(content)) {
		if key, value, found := strings.Cut(line, ":"); found && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown processor"
}

// now is the version of a list, to watch from.
func (c *cluster) now(ctx context.Context, resource schema.GroupVersionResource) (string, error) {
	list, err := c.metadata.Resource(resource).List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		return "", fmt.Errorf("listing %s: %w", resource.Resource, err)
	}
	return list.ResourceVersion, nil
}
