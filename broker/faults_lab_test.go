package broker_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/brokertest"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// again is how soon after an outage a change has to arrive.
const again = time.Minute

// TestFaultsOfVaultLeaveTheLastGoodValue takes a claim through what Vault's
// operators do to it. The Secret is the last good one throughout, and the first
// change after each outage arrives by itself.
func TestFaultsOfVaultLeaveTheLastGoodValue(t *testing.T) {
	lab := brokertest.NewLab(t, brokertest.ControlPlane)
	if lab.Env("LAB_MODE") == "external" {
		t.Skip("lab: its Vault is somebody's, and not ours to seal and stop (LAB=external)")
	}
	lab.Install(t, fast)
	f := &faults{T: t, lab: lab, tenant: lab.NewTenant(t, "faults")}
	t.Cleanup(f.heal)
	f.put("first")
	f.claim()
	brokertest.Eventually(t, within, f.holds("first"))
	brokertest.Eventually(t, within, readyIs(lab, f.tenant, "db", v1alpha1.ReasonSynced))
	brokertest.Eventually(t, within, f.storeIs(metav1.ConditionTrue, v1alpha1.ReasonReachable))

	// Sealed: told on the store, and on nothing else.
	good := f.state()
	f.order("vault", "seal")
	brokertest.Eventually(t, within, f.storeIs(metav1.ConditionFalse, v1alpha1.ReasonStoreUnavailable))
	brokertest.Throughout(t, 3*time.Second, f.unchanged(good))
	f.order("vault", "unseal")
	f.changesArrive("unsealed", "second")

	// Away.
	good = f.state()
	f.order("stop", "vault")
	brokertest.Throughout(t, 5*time.Second, f.unchanged(good))
	f.order("start", "vault")
	f.changesArrive("started", "third")
	brokertest.Eventually(t, within, f.storeIs(metav1.ConditionTrue, v1alpha1.ReasonReachable))

	// There, and answering nobody.
	good = f.state()
	f.order("pause", "vault")
	brokertest.Eventually(t, within, f.storeIs(metav1.ConditionFalse, v1alpha1.ReasonStoreUnavailable))
	brokertest.Throughout(t, 3*time.Second, f.unchanged(good))
	f.order("resume", "vault")
	f.changesArrive("answering again", "after the hang")

	// Slow, by what a request may take and still be answered: nothing is told,
	// and what changes arrives meanwhile.
	good = f.state()
	f.put("while it is slow")
	f.order("vault", "slow", "3s")
	brokertest.Eventually(t, again, f.holds("while it is slow"))
	brokertest.Eventually(t, within, f.storeIs(metav1.ConditionTrue, v1alpha1.ReasonReachable))
	f.conditionsAre(good)
	f.order("vault", "slow", "off")
	f.changesArrive("as fast as ever", "after the slowness")

	// All tokens that tenants logged in for are revoked.
	f.lab.Vault.Write(t, "sys/leases/revoke-prefix/auth/kubernetes", nil)
	f.changesArrive("rid of its tokens", "fourth")
	brokertest.Eventually(t, within, readyIs(lab, f.tenant, "db", v1alpha1.ReasonSynced))

	// The version is soft-deleted: told on the claim, and the Secret stays.
	good = f.state()
	f.lab.Vault.Delete(t, f.tenant.Path("db"))
	brokertest.Eventually(t, within, readyIs(lab, f.tenant, "db", v1alpha1.ReasonSourceDeleted))
	brokertest.Throughout(t, 3*time.Second, func(ctx context.Context) error { return f.sameSecret(ctx, good) })
}

// faults are done to the lab's Vault while a tenant's claim db lives.
type faults struct {
	*testing.T
	lab    *brokertest.Lab
	tenant *brokertest.Tenant
}

// state is all that may not move in an outage.
type state struct {
	secret corev1.Secret
	claim  v1alpha1.SecretClaim
}

func (f *faults) state() state {
	f.Helper()
	var now state
	if err := errors.Join(
		f.lab.Client.Get(f.Context(), f.tenant.Key("db"), &now.secret),
		f.lab.Client.Get(f.Context(), f.tenant.Key("db"), &now.claim),
	); err != nil {
		f.Fatal(err)
	}
	return now
}

// unchanged says that Secret and claim are what they were, to the version.
func (f *faults) unchanged(good state) func(context.Context) error {
	return func(ctx context.Context) error {
		var claim v1alpha1.SecretClaim
		if err := f.lab.Client.Get(ctx, f.tenant.Key("db"), &claim); err != nil {
			return err
		}
		if diff := cmp.Diff(good.claim, claim); diff != "" {
			return fmt.Errorf("the claim changed:\n%s", diff)
		}
		if !meta.IsStatusConditionTrue(claim.Status.Conditions, v1alpha1.ConditionReady) {
			return errors.New("the claim is not Ready")
		}
		return f.sameSecret(ctx, good)
	}
}

func (f *faults) sameSecret(ctx context.Context, good state) error {
	var secret corev1.Secret
	if err := f.lab.Client.Get(ctx, f.tenant.Key("db"), &secret); err != nil {
		return err
	}
	if diff := cmp.Diff(good.secret, secret); diff != "" {
		return fmt.Errorf("the Secret changed:\n%s", diff)
	}
	return nil
}

// conditionsAre says that the claim tells of itself what it told, since when it
// told it.
func (f *faults) conditionsAre(good state) {
	f.Helper()
	if diff := cmp.Diff(good.claim.Status.Conditions, f.state().claim.Status.Conditions); diff != "" {
		f.Errorf("the claim's conditions changed:\n%s", diff)
	}
}

// claim makes the tenant's claim db.
func (f *faults) claim() {
	f.Helper()
	f.lab.Apply(f, fmt.Sprintf(`
apiVersion: privyseal.io/v1alpha1
kind: SecretClaim
metadata: {name: db, namespace: %s}
spec: {sources: [{path: db}]}
`, f.tenant.Namespace))
}

func (f *faults) put(password string) {
	f.Helper()
	f.lab.Vault.Put(f, f.tenant.Path("db"), map[string]any{"password": password})
}

func (f *faults) holds(password string) func(context.Context) error {
	return func(ctx context.Context) error {
		var secret corev1.Secret
		if err := f.lab.Client.Get(ctx, f.tenant.Key("db"), &secret); err != nil {
			return err
		}
		if got := string(secret.Data["password"]); got != password {
			return fmt.Errorf("the Secret holds %q, want %q", got, password)
		}
		return nil
	}
}

// changesArrive measures from Vault's first healthy answer until a value that
// is written then is in the Secret.
func (f *faults) changesArrive(vault, password string) {
	f.Helper()
	brokertest.Eventually(f, within, f.healthy)
	began := time.Now()
	f.put(password)
	brokertest.Eventually(f, again, f.holds(password))
	f.Logf("a change arrived %.1f s after Vault was %s", time.Since(began).Seconds(), vault)
	brokertest.Eventually(f, again, f.told)
}

// told says that the claim tells of its Secret as it is. The Secret is written
// first.
func (f *faults) told(ctx context.Context) error {
	var secret corev1.Secret
	var claim v1alpha1.SecretClaim
	if err := errors.Join(f.lab.Client.Get(ctx, f.tenant.Key("db"), &secret), f.lab.Client.Get(ctx, f.tenant.Key("db"), &claim)); err != nil {
		return err
	}
	if told := claim.Status.Target; told == nil || told.ResourceVersion != secret.ResourceVersion {
		return fmt.Errorf("the claim tells of %+v, and its Secret is of version %s", told, secret.ResourceVersion)
	}
	return nil
}

func (f *faults) healthy(ctx context.Context) error {
	health, err := f.lab.Vault.Client().Sys().HealthWithContext(ctx)
	if err != nil {
		return err
	}
	if !health.Initialized || health.Sealed || health.Standby {
		return fmt.Errorf("Vault's health is %+v", health)
	}
	return nil
}

// storeIs says that the tenant's store has a Ready condition.
func (f *faults) storeIs(is metav1.ConditionStatus, reason string) func(context.Context) error {
	return func(ctx context.Context) error {
		store := &v1alpha1.ClusterSecretStore{}
		if err := f.lab.Client.Get(ctx, client.ObjectKey{Name: f.tenant.Environment}, store); err != nil {
			return err
		}
		ready := meta.FindStatusCondition(store.Status.Conditions, v1alpha1.ConditionReady)
		if ready == nil || ready.Status != is || ready.Reason != reason {
			return fmt.Errorf("the store's Ready is %+v, want %s %s", ready, is, reason)
		}
		return nil
	}
}

// order has the lab do something to a server.
func (f *faults) order(arguments ...string) {
	f.Helper()
	if output, err := f.lab.Command(f.Context(), arguments...).CombinedOutput(); err != nil {
		f.Fatalf("lab %v: %v\n%s", arguments, err, output)
	}
}

// heal leaves a Vault that works to whoever comes next.
func (f *faults) heal() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if !f.Failed() && f.healthy(ctx) == nil {
		return
	}
	// Which of these is needed is not known; the others do nothing.
	for _, order := range [][]string{{"vault", "slow", "off"}, {"resume", "vault"}, {"start", "vault"}, {"vault", "unseal"}} {
		if output, err := f.lab.Command(ctx, order...).CombinedOutput(); err != nil {
			f.Logf("lab %v: %v\n%s", order, err, output)
		}
	}
	if err := f.healthy(ctx); err != nil {
		f.Errorf("Vault is left in a bad state: %v", err)
	}
}
