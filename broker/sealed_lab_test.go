package broker_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/brokertest"
	"github.com/privyseal/privyseal/broker/manifest"
	"github.com/privyseal/privyseal/broker/seal"
	"github.com/privyseal/privyseal/broker/sealingkey"
)

// clusterKeys are the sealing keys that the daemon made.
func clusterKeys(t *testing.T, lab *brokertest.Lab) sealingkey.Snapshot {
	t.Helper()
	var found sealingkey.Snapshot
	brokertest.Eventually(t, within, func(ctx context.Context) error {
		keys := sealingkey.New(sealingkey.Config{
			Reader: lab.Client, Writer: lab.Client, Namespace: brokertest.System,
			Clock: clocktesting.NewFakePassiveClock(metav1.Now().Time),
		})
		var err error
		if found, err = keys.Snapshot(ctx); err != nil {
			return err
		}
		if found.RSA == nil || found.Hybrid == nil {
			return errors.New("the daemon has not made its sealing keys")
		}
		return nil
	})
	return found
}

// applySealed seals a value as password, and applies it.
func applySealed(t *testing.T, lab *brokertest.Lab, tenant *brokertest.Tenant, sealer manifest.Sealer, name, password string) {
	t.Helper()
	sealed, err := sealer.Seal(&corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: tenant.Namespace, Name: name},
		Data:       map[string][]byte{"password": []byte(password)},
	}, seal.Strict)
	if err != nil {
		t.Fatal(err)
	}
	lab.Apply(t, fmt.Sprintf("{apiVersion: bitnami.com/v1alpha1, kind: SealedSecret, metadata: {name: %s, namespace: %s}, spec: {encryptedData: {password: %q}}}",
		name, tenant.Namespace, sealed.Spec.EncryptedData["password"]))
}

// sealers of both versions, for a tenant.
func sealers(t *testing.T, lab *brokertest.Lab, tenant *brokertest.Tenant) map[string]manifest.Sealer {
	keys := clusterKeys(t, lab)
	return map[string]manifest.Sealer{
		"v1": {RSA: keys.RSA.Public()},
		"v2": {Recipients: []*seal.PublicKey{keys.Hybrid.Public()}, Environment: tenant.Environment},
	}
}

func TestWhatIsSealedToTheDaemonsOwnKeysBecomesASecret(t *testing.T) {
	t.Parallel()
	lab := brokertest.NewLab(t, brokertest.ControlPlane)
	lab.Install(t, fast)
	tenant := lab.NewTenant(t, "sealed")
	for version, sealer := range sealers(t, lab, tenant) {
		applySealed(t, lab, tenant, sealer, version, "first")
		holds(t, lab, tenant, version, map[string]string{"password": "first"})
		applySealed(t, lab, tenant, sealer, version, "second")
		holds(t, lab, tenant, version, map[string]string{"password": "second"})
		synced(t, lab, tenant, version)

		// Whoever deletes the SealedSecret deletes its Secret.
		lab.Kubectl(t, "delete", "sealedsecret", version, "-n", tenant.Namespace)
		brokertest.Eventually(t, within, func(ctx context.Context) error {
			err := lab.Client.Get(ctx, tenant.Key(version), &corev1.Secret{})
			if err == nil {
				return errors.New("the Secret is still there")
			}
			return client.IgnoreNotFound(err)
		})
	}
}

func TestAPodReadsWhatIsSealedAndIsRestartedOnceForOneChange(t *testing.T) {
	t.Parallel()
	lab := brokertest.NewLab(t, brokertest.Node)
	lab.Install(t, fast)
	tenant := lab.NewTenant(t, "sealed-pod")
	for version, sealer := range sealers(t, lab, tenant) {
		app := version + "-app"
		applySealed(t, lab, tenant, sealer, version, "first")
		lab.Apply(t, reader(tenant, app, "", fmt.Sprintf("env: [{name: PASSWORD, valueFrom: {secretKeyRef: {name: %s, key: password}}}]", version)))
		reads := func(want string) {
			t.Helper()
			brokertest.Eventually(t, within, func(ctx context.Context) error {
				pod := tenant.RunningPod(t, app, within)
				got, err := lab.Exec(ctx, tenant.Key(pod.Name), "sh", "-c", "echo $PASSWORD")
				if err == nil && strings.TrimSpace(got) != want {
					return fmt.Errorf("the pod has %q, want %q", got, want)
				}
				return err
			})
		}
		reads("first")
		generation := generationOf(t, lab, tenant, app)
		applySealed(t, lab, tenant, sealer, version, "second")
		reads("second")
		brokertest.Throughout(t, calm, func(context.Context) error {
			if got := generationOf(t, lab, tenant, app) - generation; got != 1 {
				return fmt.Errorf("%d rollouts for one change", got)
			}
			return nil
		})
	}
}
