package broker_test

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/brokertest"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// home is a namespace of an example, with what Vault has for it.
type home struct {
	environment, namespace string
	secrets                map[string]map[string]any
	manifests              []string // applied into this namespace
	sealed                 string   // a Secret that is sealed first, and applied then
	patch                  string   // of the environment, which is only tried
	app                    string   // label of its pod
	tells, wants           string   // what a shell in the pod is asked, and answers
	rotates, then          string   // a SecretRotation that is told to, and what the shell is asked then
}

// Each example is put in as its own words say, and does what they say.
func TestEveryExampleWorks(t *testing.T) {
	t.Parallel()
	lab := brokertest.NewLab(t, brokertest.Ours)
	lab.Install(t, fast)
	for _, example := range []struct {
		platform string
		homes    []home
	}{
		{platform: "annotated-app/platform.yaml", homes: []home{
			{environment: "prod", namespace: "payments", app: "checkout", manifests: []string{"annotated-app/app.yaml"},
				secrets: map[string]map[string]any{"db": {"username": "pay", "password": "correct-horse"}},
				tells:   "echo $PGUSER:$PGPASSWORD:$(cat /etc/secrets/db/password)", wants: "pay:correct-horse:correct-horse"},
			{environment: "prod", namespace: "payments", app: "worker", manifests: []string{"claim-with-template/claim.yaml"},
				secrets: map[string]map[string]any{"db": {"username": "pay", "password": "p@ss"}, "queue": {"token": "t/1"}},
				tells:   "echo $DATABASE_URL $QUEUE_URL", wants: "postgres://pay:p%40ss@db:5432/pay amqps://pay:t%2F1@queue:5671"},
			{environment: "prod", namespace: "payments", app: "mailer", manifests: []string{"merge-into-existing/app.yaml"},
				secrets: map[string]map[string]any{"smtp": {"password": "let-me-in"}},
				tells:   "echo $SMTP_HOST:$SMTP_PASSWORD", wants: "smtp.example.com:let-me-in"},
			{environment: "prod", namespace: "payments", app: "billing", manifests: []string{"sealed-in-git/app.yaml"},
				sealed: "sealed-in-git/secret.yaml", patch: "sealed-in-git/copies.yaml",
				tells: "echo $API_TOKEN", wants: "not-a-real-token"},
			{environment: "prod", namespace: "payments", app: "gateway", manifests: []string{"rotation/app.yaml"},
				secrets: map[string]map[string]any{"gateway": {"token": "first"}},
				tells:   "cat /etc/secrets/gateway/token", wants: "first",
				rotates: "gateway-token", then: "cat /etc/secrets/gateway/token_previous"},
		}},
		{platform: "dev-and-prod/platform.yaml", homes: []home{
			{environment: "dev", namespace: "shop-dev", app: "shop", manifests: []string{"dev-and-prod/app.yaml"},
				secrets: map[string]map[string]any{"payment": {"key": "for-trying"}}, tells: "echo $PAYMENT_KEY", wants: "for-trying"},
			{environment: "prod", namespace: "shop-prod", app: "shop", manifests: []string{"dev-and-prod/app.yaml"},
				secrets: map[string]map[string]any{"payment": {"key": "for-real"}}, tells: "echo $PAYMENT_KEY", wants: "for-real"},
		}},
	} {
		t.Run(filepath.Dir(example.platform), func(t *testing.T) {
			platform := filepath.Join(brokertest.Root(t), "examples", example.platform)
			remove := func() { lab.Kubectl(t, "delete", "-f", platform, "--ignore-not-found", "--timeout=90s") }
			remove() // what the demo left, of the same names
			defer remove()
			lab.TrustVault(t)
			lab.Kubectl(t, "apply", "-f", platform)
			for _, home := range example.homes {
				tenant := lab.TenantOf(home.environment, home.namespace)
				lab.Vault.AddTenant(t, home.environment, home.namespace, lab.VaultAddress())
				for name, secret := range home.secrets {
					lab.Vault.Put(t, tenant.Path(name), secret)
				}
				if home.sealed != "" {
					sealAndApply(t, lab, home.sealed)
				}
				if home.patch != "" {
					lab.Kubectl(t, "patch", "environment", home.environment, "--type=merge", "--dry-run=server",
						"--patch-file", filepath.Join(brokertest.Root(t), "examples", home.patch))
				}
				for _, manifest := range home.manifests {
					lab.Kubectl(t, "apply", "-n", home.namespace, "-f", filepath.Join(brokertest.Root(t), "examples", manifest))
				}
				pod := tenant.RunningPod(t, home.app, within)
				answer, err := lab.Exec(t.Context(), client.ObjectKeyFromObject(&pod), "sh", "-c", home.tells)
				if got := strings.TrimSpace(answer); err != nil || got != home.wants {
					t.Errorf("a pod of %s in %s has %q, want %q (%v)", home.app, home.namespace, got, home.wants, err)
				}
				if home.rotates != "" {
					rotateExample(t, lab, tenant, home)
				}
			}
		})
	}
}

// sealAndApply does what the example says, but for git.
func sealAndApply(t *testing.T, lab *brokertest.Lab, example string) {
	t.Helper()
	var sealed string
	brokertest.Eventually(t, within, func(context.Context) (err error) { // until there are sealing keys
		sealed, err = privyseal(t, "seal", "--kubeconfig", lab.Env("LAB_KUBECONFIG"), "--controller-namespace", brokertest.System,
			"--fresh", "--format", "yaml", "-f", filepath.Join(brokertest.Root(t), "examples", example))
		return err
	})
	if strings.Contains(sealed, "not-a-real-token") {
		t.Errorf("what is sealed can be read:\n%s", sealed)
	}
	lab.Apply(t, sealed)
}

// rotateExample has the policy that an example asks for, and rotates once.
func rotateExample(t *testing.T, lab *brokertest.Lab, tenant *brokertest.Tenant, home home) {
	t.Helper()
	lab.Vault.MayWrite(t, tenant)
	lab.Kubectl(t, "annotate", "srot", home.rotates, "-n", home.namespace, "privyseal.io/rotate-now=to try")
	of := &v1alpha1.SecretRotation{}
	brokertest.Eventually(t, 2*within, func(ctx context.Context) error {
		if err := lab.Client.Get(ctx, tenant.Key(home.rotates), of); err != nil {
			return err
		}
		if of.Status.Phase != "Done" {
			return fmt.Errorf("it is in phase %q: %+v", of.Status.Phase, of.Status.Conditions)
		}
		return nil
	})
	pod := tenant.RunningPod(t, home.app, within)
	for question, old := range map[string]bool{home.tells: false, home.then: true} {
		answer, err := lab.Exec(t.Context(), client.ObjectKeyFromObject(&pod), "sh", "-c", question)
		if err != nil || (strings.TrimSpace(answer) == home.wants) != old {
			t.Errorf("%s says the value before: %t (%v)", question, !old, err)
		}
	}
}
