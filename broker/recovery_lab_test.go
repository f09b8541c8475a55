package broker_test

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/privyseal/privyseal/broker/brokertest"
	"github.com/privyseal/privyseal/broker/installkey"
	"github.com/privyseal/privyseal/broker/sealingkey"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// TestAClusterComesBackFromGitAndTheRecoveryBundleWhileVaultIsGone is the drill
// of docs/recovery.md: Vault is stopped, and the claim, its Secret, all sealing
// keys and the install key are deleted under an application.
func TestAClusterComesBackFromGitAndTheRecoveryBundleWhileVaultIsGone(t *testing.T) {
	lab := brokertest.NewLab(t, brokertest.Ours)
	lab.Install(t, fast)
	tenant := lab.NewTenant(t, "drill")
	git := lab.NewGit(t)
	d := drill{T: t, lab: lab, tenant: tenant, git: git, folder: t.TempDir()}

	recipient := d.privyseal("keys", "generate", "--out", filepath.Join(d.folder, "recovery.key"))
	public := write(t, d.folder, "recovery.pub", recipient)
	d.keepCopies(recipient)
	lab.Vault.Put(t, tenant.Path("db"), map[string]any{"password": "first"})
	claim := fmt.Sprintf("{apiVersion: privyseal.io/v1alpha1, kind: SecretClaim, metadata: {name: db, namespace: %s}, spec: {sources: [{path: db}]}}", tenant.Namespace)
	lab.Apply(t, claim)
	lab.Apply(t, reader(tenant, "app", "", "env: [{name: PASSWORD, valueFrom: {secretKeyRef: {name: db, key: password}}}]"))
	d.podHas("first")
	brokertest.Eventually(t, within, d.sealed)
	bundle := filepath.Join(d.folder, "bundle.pem")
	d.privyseal("keys", "backup", "--kubeconfig", lab.Env("LAB_KUBECONFIG"), "--namespace", brokertest.System, "--recipient", public, "--out", bundle)
	d.privyseal("keys", "check", bundle, "--key", filepath.Join(d.folder, "recovery.key"))

	// The disaster.
	putBack := lab.WithoutServe(t)
	d.order("stop", "vault")
	defer d.order("start", "vault")
	lab.Kubectl(t, "delete", "sclaim/db", "secret/db", "-n", tenant.Namespace)
	lab.Kubectl(t, "delete", "secrets", "-n", brokertest.System, "-l", sealingkey.LabelV1)
	lab.Kubectl(t, "delete", "secrets", "-n", brokertest.System, "-l", sealingkey.LabelV2)
	lab.Kubectl(t, "delete", "secret", installkey.SecretName, "-n", brokertest.System)
	lab.Kubectl(t, "delete", "pods", "-n", tenant.Namespace, "-l", "app=app", "--wait=true")
	if err := lab.Client.Get(t.Context(), tenant.Key("db"), &corev1.Secret{}); !apierrors.IsNotFound(err) {
		t.Fatalf("the Secret is still there: %v", err)
	}

	// Back from what lies in git, and in the safe.
	d.privyseal("keys", "restore", bundle, "--key", filepath.Join(d.folder, "recovery.key"), "--apply", "--kubeconfig", lab.Env("LAB_KUBECONFIG"))
	putBack()
	d.applyTree()
	lab.Apply(t, claim)
	d.podHas("first")
	brokertest.Eventually(t, within, readyIs(lab, tenant, "db", v1alpha1.ReasonStoreUnavailable))

	// Vault returns: the claim takes its Secret up, and no pod sees it.
	pod, generation := tenant.RunningPod(t, "app", within).UID, generationOf(t, lab, tenant, "app")
	d.order("start", "vault")
	brokertest.Eventually(t, within, readyIs(lab, tenant, "db", v1alpha1.ReasonSynced))
	brokertest.Throughout(t, calm, func(context.Context) error {
		if now := tenant.RunningPod(t, "app", within).UID; now != pod || generationOf(t, lab, tenant, "app") != generation {
			return fmt.Errorf("the pod was %s and is %s", pod, now)
		}
		return nil
	})
	secret := &corev1.Secret{}
	if err := lab.Client.Get(t.Context(), tenant.Key("db"), secret); err != nil || secret.Labels[v1alpha1.LabelClaimUID] == "" {
		t.Errorf("the claim's Secret has labels %v (%v)", secret.Labels, err)
	}
	lab.Vault.Put(t, tenant.Path("db"), map[string]any{"password": "second"})
	brokertest.Eventually(t, within, func(context.Context) error {
		if rollouts := generationOf(t, lab, tenant, "app") - generation; rollouts != 1 {
			return fmt.Errorf("%d rollouts for the next change", rollouts)
		}
		return nil
	})
	d.podHas("second")
}

type drill struct {
	*testing.T
	lab    *brokertest.Lab
	tenant *brokertest.Tenant
	git    *brokertest.Git
	folder string
}

const copiesRepository = "copies.git"

func (d drill) privyseal(arguments ...string) string {
	d.Helper()
	output, err := privyseal(d, arguments...)
	if err != nil {
		d.Fatal(err)
	}
	return output
}

// privyseal runs the program as an operator does, and gives its output.
func privyseal(t testing.TB, arguments ...string) (string, error) {
	t.Helper()
	command := exec.CommandContext(t.Context(), filepath.Join(brokertest.Root(t), "bin", "privyseal"), arguments...)
	var problems strings.Builder
	command.Stderr = &problems
	output, err := command.Output()
	if err != nil {
		err = fmt.Errorf("privyseal %s: %w\n%s%s", strings.Join(arguments, " "), err, output, &problems)
	}
	return string(output), err
}

// keepCopies has the tenant's environment keep sealed copies of everything.
func (d drill) keepCopies(recipient string) {
	d.Helper()
	name := "git-" + d.tenant.Environment
	d.lab.Apply(d, fmt.Sprintf("{apiVersion: v1, kind: Secret, metadata: {name: %s, namespace: %s}, stringData: {username: %q, password: %q, ca.crt: %q}}",
		name, brokertest.System, d.git.Username, d.git.Password, d.git.CA))
	d.Cleanup(func() {
		secret := &corev1.Secret{}
		secret.Namespace, secret.Name = brokertest.System, name
		if err := d.lab.Client.Delete(context.Background(), secret); err != nil {
			d.Error(err)
		}
	})
	d.lab.Kubectl(d, "patch", "environment", d.tenant.Environment, "--type=merge", "-p", fmt.Sprintf(
		`{"spec": {"sealing": {"copies": "Always", "recipients": [%q], "git": {"url": "%s/%s", "credentialsRef": {"name": %q}}}}}`,
		recipient, d.git.URL, copiesRepository, name))
}

// sealed says whether the copy of the claim's Secret is in git.
func (d drill) sealed(ctx context.Context) error {
	claim := &v1alpha1.SecretClaim{}
	if err := d.lab.Client.Get(ctx, d.tenant.Key("db"), claim); err != nil {
		return err
	}
	sealed := meta.FindStatusCondition(claim.Status.Conditions, v1alpha1.ConditionSealed)
	if sealed == nil || sealed.Status != "True" {
		return fmt.Errorf("Sealed is %+v", sealed)
	}
	return nil
}

// applyTree applies every file of the repository, as a GitOps tool does.
func (d drill) applyTree() {
	d.Helper()
	files, err := d.git.Run(d.Context(), copiesRepository, "ls-tree", "-r", "--name-only", "main")
	if err != nil {
		d.Fatalf("listing the repository: %v: %s", err, files)
	}
	for _, file := range strings.Fields(files) {
		manifest, err := d.git.Run(d.Context(), copiesRepository, "show", "main:"+file)
		if err != nil {
			d.Fatalf("reading %s: %v", file, err)
		}
		if strings.Contains(manifest, "first") {
			d.Errorf("%s holds the value in plain:\n%s", file, manifest)
		}
		d.lab.Apply(d, manifest)
	}
}

func (d drill) podHas(password string) {
	d.Helper()
	brokertest.Eventually(d, within, func(ctx context.Context) error {
		pod := d.tenant.RunningPod(d, "app", within)
		got, err := d.lab.Exec(ctx, d.tenant.Key(pod.Name), "sh", "-c", "echo $PASSWORD")
		if strings.TrimSpace(got) != password || err != nil {
			return fmt.Errorf("the pod has %q, want %q (%v)", strings.TrimSpace(got), password, err)
		}
		return nil
	})
}

// order has the lab do something to one of its servers.
func (d drill) order(arguments ...string) {
	d.Helper()
	if output, err := d.lab.Command(context.Background(), arguments...).CombinedOutput(); err != nil {
		d.Errorf("lab %s: %v: %s", strings.Join(arguments, " "), err, output)
	}
}
