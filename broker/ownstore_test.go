package broker_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker"
	"github.com/privyseal/privyseal/broker/address"
	"github.com/privyseal/privyseal/broker/brokertest"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// TestANamespaceWithoutAnEnvironmentReadsItsOwnStore runs the daemon on an API
// server of its own, with the lab's Vault.
func TestANamespaceWithoutAnEnvironmentReadsItsOwnStore(t *testing.T) {
	t.Parallel()
	lab := brokertest.NewLab(t, brokertest.ControlPlane)
	access := brokertest.APIServer(t)
	api := brokertest.Client(t, access)
	vault := lab.Env("VAULT_ADDR")
	name := "own-" + strings.ToLower(rand.Text()[:10])
	document := "kv/" + name + "/db"
	lab.Vault.Put(t, document, map[string]any{"password": "first"})
	lab.Vault.Write(t, "sys/policies/acl/"+name, map[string]any{
		"policy": `path "kv/data/` + name + `/*" { capabilities = ["read"] }`,
	})
	t.Cleanup(func() {
		for _, path := range []string{"kv/metadata/" + name + "/db", "sys/policies/acl/" + name} {
			_, _ = lab.Vault.Client().Logical().DeleteWithContext(context.Background(), path)
		}
	})
	made, err := lab.Vault.Client().Logical().WriteWithContext(t.Context(), "auth/token/create",
		map[string]any{"policies": []string{name}, "ttl": "10m"})
	if err != nil {
		t.Fatal(err)
	}
	create := func(objects ...client.Object) {
		t.Helper()
		for _, object := range objects {
			if err := api.Create(t.Context(), object); err != nil {
				t.Fatal(err)
			}
		}
	}
	in := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: "team", Name: name} }
	create(
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: brokertest.System}},
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "team"}},
		&corev1.Secret{ObjectMeta: in("vault-login"), StringData: map[string]string{"token": made.Auth.ClientToken}},
		&corev1.ConfigMap{ObjectMeta: in("vault-ca"), Data: map[string]string{"ca.crt": lab.VaultCA(t)}},
		&v1alpha1.SecretClaim{ObjectMeta: in("db"), Spec: v1alpha1.SecretClaimSpec{
			StoreRef: &v1alpha1.StoreRef{Kind: v1alpha1.KindSecretStore, Name: "own"},
			Sources:  []v1alpha1.Source{{Path: "/" + document}},
			Refresh:  &v1alpha1.Refresh{Interval: &metav1.Duration{Duration: 24 * time.Hour}},
		}},
	)
	log := &daemonLog{}
	runDaemon(t, broker.Config{REST: access, Namespace: brokertest.System, Allowed: allowed(t, vault),
		ArgoRollouts: true, Log: funcr.New(log.write, funcr.Options{})})

	// The claim waits for its store. Once it is synced, only a change of the
	// store has it read again before tomorrow.
	claimIs := func(reason string) {
		t.Helper()
		brokertest.Eventually(t, within, func(ctx context.Context) error {
			claim := &v1alpha1.SecretClaim{}
			if err := api.Get(ctx, client.ObjectKey{Namespace: "team", Name: "db"}, claim); err != nil {
				return err
			}
			return readyBecause(claim.Status.Conditions, reason)
		})
	}
	claimIs(v1alpha1.ReasonStoreNotFound)
	own := &v1alpha1.SecretStore{ObjectMeta: in("own"), Spec: v1alpha1.SecretStoreSpec{Vault: v1alpha1.VaultStore{
		Address: vault,
		TLS:     &v1alpha1.VaultTLS{CAConfigMapRef: &v1alpha1.KeyRef{Name: "vault-ca"}},
		Auth:    v1alpha1.VaultAuth{Token: &v1alpha1.VaultTokenAuth{SecretRef: v1alpha1.SecretKeyRef{Name: "vault-login", Key: "token"}}},
	}}}
	create(own)
	claimIs(v1alpha1.ReasonSynced)
	holds := func(ctx context.Context) error {
		secret := &corev1.Secret{}
		if err := api.Get(ctx, client.ObjectKey{Namespace: "team", Name: "db"}, secret); err != nil {
			return err
		}
		if got := string(secret.Data["password"]); got != "first" {
			return fmt.Errorf("the Secret holds %q", got)
		}
		return nil
	}
	brokertest.Eventually(t, within, holds)

	change := func(address string) {
		t.Helper()
		before := own.DeepCopy()
		own.Spec.Vault.Address = address
		if err := api.Patch(t.Context(), own, client.MergeFrom(before)); err != nil {
			t.Fatal(err)
		}
	}
	storeIs := func(reason string) {
		t.Helper()
		brokertest.Eventually(t, within, func(ctx context.Context) error {
			if err := api.Get(ctx, client.ObjectKeyFromObject(own), own); err != nil {
				return err
			}
			return readyBecause(own.Status.Conditions, reason)
		})
	}
	storeIs(v1alpha1.ReasonReachable)
	change("https://169.254.169.254:80")
	claimIs(v1alpha1.ReasonStoreNotAllowed)
	storeIs(v1alpha1.ReasonStoreNotAllowed)
	brokertest.Eventually(t, within, holds) // the last good value stays
	change(vault)
	claimIs(v1alpha1.ReasonSynced)
	storeIs(v1alpha1.ReasonReachable)

	// All this time there were no Rollouts, which it was told to restart. Now
	// somebody installs them.
	brokertest.Eventually(t, within, log.has("Rollouts are not served yet"))
	brokertest.DefineRollouts(t, access)
	brokertest.Eventually(t, within, log.has("Rollouts are served"))
}

// daemonLog is what a daemon has logged.
type daemonLog struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *daemonLog) write(_, line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.WriteString(line + "\n")
}

func (l *daemonLog) has(words string) func(context.Context) error {
	return func(context.Context) error {
		l.mu.Lock()
		defer l.mu.Unlock()
		if !strings.Contains(l.text.String(), words) {
			return fmt.Errorf("the log does not say %q", words)
		}
		return nil
	}
}

func allowed(t *testing.T, list ...string) address.Allowed {
	t.Helper()
	parsed, err := address.Parse(list)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

// runDaemon runs a daemon until the test ends.
func runDaemon(t *testing.T, config broker.Config) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- broker.Run(ctx, config) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("the daemon ended with: %v", err)
		}
	})
}

func readyBecause(conditions []metav1.Condition, reason string) error {
	ready := meta.FindStatusCondition(conditions, v1alpha1.ConditionReady)
	if ready == nil || ready.Reason != reason {
		return fmt.Errorf("Ready is %+v, want reason %s", ready, reason)
	}
	return nil
}
