package brokertest

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
)

// System is the namespace that the daemon is installed into.
const System = "privyseal-system"

// controlPlane is the LAB_MODE of a lab without a node.
const controlPlane = "control-plane"

// Lab is the running lab.
type Lab struct {
	// Client of the cluster's administrator.
	Client client.Client
	// Access to the API server as the administrator.
	Access *rest.Config
	// Vault as its root.
	Vault *Vault

	env  map[string]string
	root string
}

// Part is a part of the lab that not every lab has.
type Part int

const (
	// ControlPlane is an API server with its controllers, and Vault.
	ControlPlane Part = iota
	// Node runs pods, too.
	Node
	// Ours is a lab with a node that nobody else uses: the test stops shared
	// parts, or makes namespaces of names that somebody may have.
	Ours
)

// NewLab finds the running lab, which has to have the part that the test needs.
func NewLab(t testing.TB, needs Part) *Lab {
	t.Helper()
	env := labEnv(t)
	if needs == Ours && env["LAB_MODE"] == "external" {
		t.Skip("lab: it is a cluster that others may use, and the test stops parts of it or takes names in it (LAB=external)")
	}
	if needs != ControlPlane && env["LAB_MODE"] == controlPlane {
		// Whoever has no root said so, with LAB=control-plane.
		t.Skip("lab: it is a control plane and has no node to run pods (LAB=control-plane)")
	}
	access, err := clientcmd.BuildConfigFromFlags("", env["LAB_KUBECONFIG"])
	if err != nil {
		skipWithout(t, "its kubeconfig cannot be read: "+err.Error())
	}
	access.QPS = -1
	lab := &Lab{Client: Client(t, access), Access: access, Vault: newVault(t, env), env: env, root: Root(t)}
	if err := lab.Client.List(t.Context(), &corev1.NamespaceList{}); err != nil {
		skipWithout(t, "its API server does not answer; start it with: make lab")
	}
	return lab
}

// Env is one of the lab's own variables, such as LAB_AUDIT_LOG.
func (l *Lab) Env(name string) string { return l.env[name] }

// VaultAddress is where pods reach Vault.
func (l *Lab) VaultAddress() string { return l.env["LAB_VAULT_IN_CLUSTER_ADDR"] }

// VaultCA is the bundle that Vault's certificate is checked by.
func (l *Lab) VaultCA(t testing.TB) string {
	t.Helper()
	pem, err := os.ReadFile(l.env["VAULT_CACERT"])
	if err != nil {
		t.Fatal(err)
	}
	return string(pem)
}

// Command prepares one of the lab's commands, such as kill vault.
func (l *Lab) Command(ctx context.Context, arguments ...string) *exec.Cmd {
	command := exec.CommandContext(ctx, l.env["LAB_BIN"], arguments...)
	command.Env = append(os.Environ(), "LAB_NAME="+l.env["LAB_NAME"])
	return command
}

// Kubectl runs kubectl as the administrator and gives what it printed.
func (l *Lab) Kubectl(t testing.TB, arguments ...string) string {
	t.Helper()
	output, err := l.kubectl(t.Context(), nil, arguments...)
	if err != nil {
		t.Fatalf("kubectl %s: %v", strings.Join(arguments, " "), err)
	}
	return output
}

// Apply applies manifests.
func (l *Lab) Apply(t testing.TB, manifests string) {
	t.Helper()
	if _, err := l.kubectl(t.Context(), strings.NewReader(manifests), "apply", "-f", "-"); err != nil {
		t.Fatalf("applying: %v\n%s", err, manifests)
	}
}

// Refusal tries manifests without keeping them, and gives what the API server
// refuses them with: "" where it takes them.
func (l *Lab) Refusal(t testing.TB, manifests string, arguments ...string) string {
	t.Helper()
	_, err := l.kubectl(t.Context(), strings.NewReader(manifests), append([]string{"apply", "--dry-run=server", "-f", "-"}, arguments...)...)
	return errOrEmpty(err)
}

// Exec runs a command in a pod's container and gives what it printed.
func (l *Lab) Exec(ctx context.Context, pod client.ObjectKey, command ...string) (string, error) {
	return l.kubectl(ctx, nil, append([]string{"exec", "-n", pod.Namespace, pod.Name, "--"}, command...)...)
}

func (l *Lab) kubectl(ctx context.Context, input io.Reader, arguments ...string) (string, error) {
	command := exec.CommandContext(ctx, l.env["LAB_KUBECTL"], arguments...)
	command.Env = []string{"KUBECONFIG=" + l.env["LAB_KUBECONFIG"], "HOME=" + os.TempDir(), "PATH=" + os.Getenv("PATH")}
	command.Stdin = input
	var output, problems bytes.Buffer
	command.Stdout, command.Stderr = &output, &problems
	if err := command.Run(); err != nil {
		return output.String(), fmt.Errorf("%w: %s", err, strings.TrimSpace(problems.String()))
	}
	return output.String(), nil
}

// Install puts the chart into the lab with Helm, as it stands in the checkout,
// with the image that make image left on the node (or, in a cluster of the
// user's own, LAB_IMAGE), and waits until it is ready. A release that is the
// same already is left alone. A lab without a node gets the controllers as a
// process of this test's, which ends with it.
func (l *Lab) Install(t testing.TB, serveArguments ...string) {
	t.Helper()
	if l.env["LAB_MODE"] == controlPlane {
		l.serve(t, serveArguments)
		return
	}
	image, tag, policy := "privyseal/privyseal", "dev", "Never"
	if l.env["LAB_MODE"] == "external" {
		var found bool
		if image, tag, found = strings.Cut(os.Getenv("LAB_IMAGE"), ":"); !found {
			skipWithout(t, "LAB=external needs LAB_IMAGE=NAME:TAG, an image that its nodes can pull")
		}
		policy = "IfNotPresent"
	}
	values := []string{
		"--set", "image.repository=" + image, "--set", "image.tag=" + tag, "--set", "image.pullPolicy=" + policy,
		"--set", "logLevel=debug", "--set", "vault.allowedAddresses={" + l.VaultAddress() + "}",
		"--set", "serve.extraArgs={" + strings.Join(serveArguments, ",") + "}",
	}
	build := l.build(t, values)
	installing.Lock()
	defer installing.Unlock()
	if l.stands(t.Context(), build) {
		return
	}
	// A new binary under the old tag has to give new pods.
	arguments := append([]string{"upgrade", "privyseal", l.chart(),
		"--install", "--namespace", System, "--create-namespace", "--wait", "--timeout", "3m",
		"--set-string", "podAnnotations." + annotationBuild + "=" + build}, values...)
	if output, err := l.helm(t.Context(), arguments...); err != nil {
		t.Fatalf("installing the chart: %v\n%s\n%s", err, output, l.Diagnose(System))
	}
}

// serve runs the controllers as a process of the host, as whoever has no root
// would.
func (l *Lab) serve(t testing.TB, arguments []string) {
	t.Helper()
	if _, err := envtest.InstallCRDs(l.Access, envtest.CRDInstallOptions{CRDs: Definitions(t)}); err != nil {
		t.Fatalf("installing the CRDs: %v", err)
	}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: System}}
	if err := client.IgnoreAlreadyExists(l.Client.Create(t.Context(), namespace)); err != nil {
		t.Fatal(err)
	}
	program := exec.Command(filepath.Join(l.root, "bin/privyseal"), append([]string{"serve",
		"--kubeconfig", l.env["LAB_KUBECONFIG"], "--namespace", System, "--log-level", "debug",
		"--allowed-address", l.VaultAddress(), "--metrics-address", "", "--probe-address", ""}, arguments...)...)
	var log bytes.Buffer
	program.Stderr = &log
	if err := program.Start(); err != nil {
		skipWithout(t, "bin/privyseal is missing; make it with: make build")
	}
	t.Cleanup(func() {
		_ = program.Process.Signal(os.Interrupt)
		_ = program.Wait()
		if t.Failed() {
			t.Logf("the daemon's log:\n%s", &log)
		}
	})
}

// Upgrade upgrades the release to the same chart with other values beside those
// that Install gave it, as arguments of Helm. The next Install takes them back.
func (l *Lab) Upgrade(t testing.TB, values ...string) {
	t.Helper()
	arguments := append([]string{"upgrade", "privyseal", l.chart(), "--namespace", System, "--reuse-values", "--wait", "--timeout", "3m",
		"--set-string", "podAnnotations." + annotationBuild + "=upgraded"}, values...)
	if output, err := l.helm(t.Context(), arguments...); err != nil {
		t.Fatalf("upgrading the release: %v\n%s\n%s", err, output, l.Diagnose(System))
	}
}

// Uninstall removes the release, as helm uninstall does.
func (l *Lab) Uninstall(t testing.TB) {
	t.Helper()
	if output, err := l.helm(t.Context(), "uninstall", "privyseal", "--namespace", System, "--wait"); err != nil {
		t.Fatalf("uninstalling the chart: %v\n%s", err, output)
	}
}

func (l *Lab) helm(ctx context.Context, arguments ...string) (string, error) {
	command := exec.CommandContext(ctx, filepath.Join(l.root, "bin/helm"), arguments...)
	command.Env = []string{"KUBECONFIG=" + l.env["LAB_KUBECONFIG"], "HOME=" + os.TempDir(), "PATH=" + os.Getenv("PATH")}
	output, err := command.CombinedOutput()
	return string(output), err
}

// Diagnose tells what a namespace's pods and events say, for a failure.
func (l *Lab) Diagnose(namespace string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var told strings.Builder
	for _, look := range [][]string{
		{"get", "pods,sclaim,srot", "-n", namespace, "-o", "wide"},
		{"get", "events", "-n", namespace, "--sort-by=.lastTimestamp"},
		{"logs", "-n", System, "deployment/privyseal", "--tail=30"},
		{"logs", "-n", System, "deployment/privyseal-webhook", "--tail=30"},
	} {
		output, err := l.kubectl(ctx, nil, look...)
		fmt.Fprintf(&told, "$ kubectl %s\n%s%v\n", strings.Join(look, " "), output, errOrEmpty(err))
	}
	return told.String()
}

func errOrEmpty(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// Tenant is a namespace of this test's own, with what a tenant has: a place in
// an environment, a service account to log in as, and a Vault role that reads
// its own paths and no others.
type Tenant struct {
	// Namespace of the tenant.
	Namespace string
	// Environment that it is in.
	Environment string

	lab *Lab
}

// NewTenant makes a tenant in an environment of this test's own.
func (l *Lab) NewTenant(t testing.TB, name string) *Tenant {
	t.Helper()
	suffix := strings.ToLower(rand.Text()[:6])
	tenant := &Tenant{Namespace: name + "-" + suffix, Environment: "env-" + suffix, lab: l}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(l.Diagnose(tenant.Namespace))
		}
		l.remove(t, tenant)
	})
	l.Vault.AddTenant(t, tenant.Environment, tenant.Namespace, l.VaultAddress())
	l.TrustVault(t)
	l.Apply(t, fmt.Sprintf(`
apiVersion: v1
kind: Namespace
metadata: {name: %[1]s, labels: {privyseal.io/environment: %[2]s}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: privyseal, namespace: %[1]s}
---
apiVersion: privyseal.io/v1alpha1
kind: ClusterSecretStore
metadata: {name: %[2]s}
spec:
  vault:
    address: %[3]s
    tls: {caConfigMapRef: {name: vault-ca}}
    auth: {kubernetes: {role: "privyseal-{{ .Namespace }}"}}
---
apiVersion: privyseal.io/v1alpha1
kind: Environment
metadata: {name: %[2]s}
spec:
  namespaceSelector: {matchLabels: {privyseal.io/environment: %[2]s}}
  stores: [%[2]s]
  root: "kv/{{ .Environment }}/{{ .Namespace }}"
  paths: ["kv/{{ .Environment }}/{{ .Namespace }}/**"]
`, tenant.Namespace, tenant.Environment, l.VaultAddress()))
	return tenant
}

// TenantOf is a tenant that somebody else makes and removes.
func (l *Lab) TenantOf(environment, namespace string) *Tenant {
	return &Tenant{Namespace: namespace, Environment: environment, lab: l}
}

// TrustVault puts the bundle that Vault's certificate is checked by where
// stores look for it: ConfigMap vault-ca in the daemon's namespace.
func (l *Lab) TrustVault(t testing.TB) {
	t.Helper()
	l.Apply(t, fmt.Sprintf("{apiVersion: v1, kind: ConfigMap, metadata: {name: vault-ca, namespace: %s}, data: {ca.crt: %q}}", System, l.VaultCA(t)))
}

func (l *Lab) remove(t testing.TB, tenant *Tenant) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	output, err := l.kubectl(ctx, nil, "delete", "--ignore-not-found", "--wait=false",
		"namespace/"+tenant.Namespace, "environment/"+tenant.Environment, "clustersecretstore/"+tenant.Environment)
	if err != nil {
		t.Logf("removing tenant %s: %v %s", tenant.Namespace, err, output)
	}
}

// Path is where the tenant's document of a name lies in Vault's KV v2 mount.
func (t *Tenant) Path(name string) string {
	return "kv/" + t.Environment + "/" + t.Namespace + "/" + name
}

// Key names an object of the tenant.
func (t *Tenant) Key(name string) client.ObjectKey {
	return client.ObjectKey{Namespace: t.Namespace, Name: name}
}

// Pods are the tenant's live pods with a label app of that value.
func (t *Tenant) Pods(ctx context.Context, app string) ([]corev1.Pod, error) {
	var pods corev1.PodList
	err := t.lab.Client.List(ctx, &pods, client.InNamespace(t.Namespace), client.MatchingLabels{"app": app})
	var live []corev1.Pod
	for _, pod := range pods.Items {
		if pod.DeletionTimestamp == nil {
			live = append(live, pod)
		}
	}
	return live, err
}

// RunningPod is the one pod of an app, once there is just one and it runs.
func (t *Tenant) RunningPod(tb testing.TB, app string, within time.Duration) corev1.Pod {
	tb.Helper()
	var found corev1.Pod
	Eventually(tb, within, func(ctx context.Context) error {
		pods, err := t.Pods(ctx, app)
		if err != nil {
			return err
		}
		if len(pods) != 1 || !ready(pods[0]) {
			return fmt.Errorf("%d pods of %s, want one that is ready", len(pods), app)
		}
		found = pods[0]
		return nil
	})
	return found
}

func ready(pod corev1.Pod) bool {
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}

// Rollouts counts the pod templates that a Deployment has had: its
// ReplicaSets, of which none may have been removed.
func (t *Tenant) Rollouts(tb testing.TB, deployment string) int {
	tb.Helper()
	var sets appsv1.ReplicaSetList
	if err := t.lab.Client.List(tb.Context(), &sets, client.InNamespace(t.Namespace)); err != nil {
		tb.Fatal(err)
	}
	count := 0
	for i := range sets.Items {
		if owner := metav1.GetControllerOf(&sets.Items[i]); owner != nil && owner.Name == deployment {
			count++
		}
	}
	return count
}
