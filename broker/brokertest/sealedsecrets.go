package brokertest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// KubesealService is the Service by which kubeseal reaches a controller.
const KubesealService = "sealed-secrets-controller"

// upstreamImage is Sealed Secrets' controller, made of bin.
const upstreamImage = "sealed-secrets/controller:lab"

// Kubeseal runs Sealed Secrets' own kubeseal as the administrator, against what
// is in the daemon's namespace, and gives what it printed.
func (l *Lab) Kubeseal(t testing.TB, input string, arguments ...string) string {
	t.Helper()
	output, err := l.TryKubeseal(t, input, arguments...)
	if err != nil {
		t.Fatalf("kubeseal %s: %v", strings.Join(arguments, " "), err)
	}
	return output
}

// TryKubeseal is Kubeseal for what may fail.
func (l *Lab) TryKubeseal(t testing.TB, input string, arguments ...string) (string, error) {
	t.Helper()
	command := exec.CommandContext(t.Context(), l.program(t, "kubeseal"), append([]string{
		"--controller-namespace", System, "--controller-name", KubesealService,
	}, arguments...)...)
	command.Env = []string{"KUBECONFIG=" + l.env["LAB_KUBECONFIG"], "HOME=" + os.TempDir()}
	command.Stdin = strings.NewReader(input)
	var output, problems bytes.Buffer
	command.Stdout, command.Stderr = &output, &problems
	if err := command.Run(); err != nil {
		return output.String(), fmt.Errorf("%w: %s", err, strings.TrimSpace(problems.String()))
	}
	return output.String(), nil
}

// StartUpstream runs Sealed Secrets' own controller in the daemon's namespace,
// where its keys are, and gives what ends it.
func (l *Lab) StartUpstream(t testing.TB) (stop func()) {
	t.Helper()
	give := l.Command(t.Context(), "image", upstreamImage, "--entrypoint", "/controller", "--user", "65532:65532",
		l.program(t, "sealed-secrets-controller")+"=/controller")
	if output, err := give.CombinedOutput(); err != nil {
		t.Fatalf("giving the node the image of Sealed Secrets: %v\n%s", err, output)
	}
	l.Apply(t, fmt.Sprintf(upstreamManifests, System, upstreamImage))
	l.Kubectl(t, "rollout", "status", "-n", System, "deployment/upstream", "--timeout=60s")
	return func() {
		if _, err := l.kubectl(context.Background(), nil, "delete", "--wait",
			"-n", System, "deployment/upstream", "serviceaccount/upstream",
			"clusterrole/privyseal-test-upstream", "clusterrolebinding/privyseal-test-upstream"); err != nil {
			t.Errorf("ending Sealed Secrets: %v", err)
		}
		if _, err := l.kubectl(context.Background(), nil, "wait", "-n", System, "pods", "-l", "app=upstream",
			"--for=delete", "--timeout=60s"); err != nil {
			t.Errorf("waiting for the end of Sealed Secrets: %v", err)
		}
	}
}

func (l *Lab) program(t testing.TB, name string) string {
	t.Helper()
	path := filepath.Join(l.root, "bin", name)
	if _, err := os.Stat(path); err != nil {
		skipWithout(t, fmt.Sprintf("bin/%s is missing; make it with: make bin/%s", name, name))
	}
	return path
}

// upstreamManifests give Sealed Secrets' controller the rights that its own
// chart gives it.
const upstreamManifests = `
apiVersion: v1
kind: ServiceAccount
metadata: {name: upstream, namespace: %[1]s}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: privyseal-test-upstream}
rules:
- {apiGroups: [bitnami.com], resources: [sealedsecrets], verbs: [get, list, watch]}
- {apiGroups: [bitnami.com], resources: [sealedsecrets/status], verbs: [update]}
- {apiGroups: [""], resources: [secrets], verbs: [get, list, create, update, delete, watch]}
- {apiGroups: [""], resources: [events], verbs: [create, patch]}
- {apiGroups: [""], resources: [namespaces], verbs: [get]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: privyseal-test-upstream}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: privyseal-test-upstream}
subjects: [{kind: ServiceAccount, name: upstream, namespace: %[1]s}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: upstream, namespace: %[1]s}
spec:
  selector: {matchLabels: {app: upstream}}
  template:
    metadata: {labels: {app: upstream}}
    spec:
      serviceAccountName: upstream
      containers:
      - name: controller
        image: %[2]s
        imagePullPolicy: Never
        readinessProbe: {httpGet: {path: /healthz, port: 8080}}
`
