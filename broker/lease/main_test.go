package lease_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/privyseal/privyseal/broker/brokertest"
	"github.com/privyseal/privyseal/broker/lease"
	"github.com/privyseal/privyseal/broker/seal"
	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/providers"
	"github.com/privyseal/privyseal/providers/memory"
)

// shared is one API server for all tests, which keep to namespaces and stores of
// their own.
var shared brokertest.SharedAPIServer

func TestMain(m *testing.M) { os.Exit(shared.Run(m)) }

// system is the namespace of the daemon.
const system = "default"

// bench is a claim's surroundings: an API server, a store that lends, pods that are
// said to hold this or that, and daemons that do nothing but what a test calls for.
type bench struct {
	*testing.T
	api    client.WithWatch
	store  *memory.Store
	at     v1alpha1.Store
	ref    providers.Ref
	clock  *clocktesting.FakePassiveClock
	key    *seal.PrivateKey
	of     client.ObjectKey
	pods   *pods
	reread int
	events *events.FakeRecorder
}

// pods are said to have been started under a sequence; negative: there are none.
type pods struct{ started int64 }

func (p *pods) StillHeld(_ context.Context, _ types.NamespacedName, sequence int64) (held, known bool, err error) {
	return p.started >= 0 && p.started < sequence, true, nil
}

func (p *pods) ReadBefore(context.Context, types.NamespacedName, time.Time) (bool, error) {
	return p.started >= 0, nil
}

// stores is the one store.
type stores struct{ *memory.Store }

func (s stores) Issue(ctx context.Context, _ v1alpha1.Store, _ providers.Identity, ref providers.Ref, keep func(context.Context, providers.Value) error) (providers.Lease, error) {
	return s.Store.Issue(ctx, ref, keep)
}

func (s stores) Renew(ctx context.Context, _ v1alpha1.Store, _ providers.Identity, token providers.Value, id string) (time.Duration, error) {
	return s.Store.Renew(ctx, token, id)
}

func (s stores) Revoke(ctx context.Context, _ v1alpha1.Store, _ providers.Identity, token providers.Value) error {
	return s.Store.Revoke(ctx, token)
}

// keys is the one key.
type keys struct{ key *seal.PrivateKey }

func (k keys) SealingKeys(context.Context) (*seal.PublicKey, *seal.Keys, error) {
	return k.key.Public(), seal.NewKeys(nil, []*seal.PrivateKey{k.key}), nil
}

// newBench has a claim of what is lent for an hour, and for a day at most.
func newBench(t *testing.T) *bench {
	t.Helper()
	access := shared.Access(t)
	api, err := client.NewWithWatch(access, client.Options{Scheme: brokertest.Client(t, access).Scheme()})
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{
		T: t, api: api, store: &memory.Store{}, pods: &pods{started: -1},
		clock: clocktesting.NewFakePassiveClock(noon()), events: events.NewFakeRecorder(100),
	}
	if b.key, err = seal.GenerateKey(); err != nil {
		t.Fatal(err)
	}
	name := strings.ToLower(rand.Text()[:10])
	if b.ref, err = providers.ParseRef("database/creds/" + name); err != nil {
		t.Fatal(err)
	}
	b.store.Lend(b.ref, memory.Terms{Life: time.Hour, Max: 24 * time.Hour, Make: func(number int) map[string]any {
		return map[string]any{"username": fmt.Sprintf("user-%d", number)}
	}})
	b.of = client.ObjectKey{Namespace: name, Name: "db"}
	b.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}})
	store := &v1alpha1.ClusterSecretStore{ObjectMeta: metav1.ObjectMeta{Name: name}}
	store.Spec.Vault.Address = "https://" + name + ":8200"
	store.Spec.Vault.Auth.AppRole = &v1alpha1.VaultAppRoleAuth{RoleID: "x", SecretIDSecretRef: v1alpha1.SecretKeyRef{Name: "approle", Key: "secret-id"}}
	b.create(store)
	b.at = store.Store()
	claim := &v1alpha1.SecretClaim{ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: "db"}}
	claim.Spec.Sources = []v1alpha1.Source{{Path: "/" + b.ref.String()}}
	b.create(claim)
	return b
}

func (b *bench) create(object client.Object) {
	b.Helper()
	if err := b.api.Create(b.Context(), object); err != nil {
		b.Fatal(err)
	}
}

// daemon is one that has just begun to lead.
func (b *bench) daemon() *lease.Keeper { return b.daemonWith(b.api, stores{b.store}) }

func (b *bench) daemonWith(api client.Client, store lease.Store) *lease.Keeper {
	return lease.New(lease.Config{
		Client: api, Live: api, Store: store, Pods: b.pods, Keys: keys{b.key}, Namespace: system,
		Reread: func(context.Context, types.NamespacedName) { b.reread++ }, Events: b.events, Clock: b.clock,
	})
}

// look has a daemon look once.
func (b *bench) look(daemon *lease.Keeper) reconcile.Result {
	b.Helper()
	result, err := daemon.Reconcile(b.Context(), reconcile.Request{NamespacedName: b.of})
	if err != nil {
		b.Fatal(err)
	}
	return result
}

// find has a daemon find the records that there are.
func (b *bench) find(daemon *lease.Keeper) {
	b.Helper()
	if _, err := daemon.Reconcile(b.Context(), reconcile.Request{}); err != nil {
		b.Fatal(err)
	}
}

// sync does what the claim's way does: it takes what is lent, and tells of it.
func (b *bench) sync(daemon *lease.Keeper, sequence int64) (string, error) {
	b.Helper()
	claim := b.claim()
	document, status, err := daemon.Held(b.Context(), claim, b.at, b.identity(), b.ref)
	if err == nil && status.IssuedAt.IsZero() {
		document, status, err = daemon.Take(b.Context(), claim, b.at, b.identity(), b.ref)
	}
	if err != nil {
		return "", err
	}
	before := claim.DeepCopy()
	if len(claim.Status.Leases) == 0 || !claim.Status.Leases[0].IssuedAt.Equal(&status.IssuedAt) {
		claim.Status.Sequence = sequence
	}
	status.Sequence = claim.Status.Sequence
	claim.Status.Leases = []v1alpha1.Lease{status}
	b.inOrder(before, claim)
	return string(document.Values["username"].Bytes()), nil
}

func (b *bench) inOrder(before, claim *v1alpha1.SecretClaim) {
	b.Helper()
	claim.Status.ObservedGeneration = claim.Generation
	claim.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: "Synced", LastTransitionTime: metav1.NewTime(noon())}}
	if err := b.api.Status().Patch(b.Context(), claim, client.MergeFrom(before)); err != nil {
		b.Fatal(err)
	}
}

func (b *bench) mustSync(daemon *lease.Keeper, sequence int64, want string) {
	b.Helper()
	if got, err := b.sync(daemon, sequence); err != nil || got != want {
		b.Fatalf("the claim got %q, %v; want %q", got, err, want)
	}
}

func (b *bench) identity() providers.Identity {
	return providers.Identity{Namespace: b.of.Namespace, Environment: "prod"}
}

func (b *bench) claim() *v1alpha1.SecretClaim {
	b.Helper()
	claim := &v1alpha1.SecretClaim{}
	if err := b.api.Get(b.Context(), b.of, claim); err != nil {
		b.Fatal(err)
	}
	return claim
}

// record that is kept; nil: there is none.
func (b *bench) record(of types.UID) *corev1.Secret {
	b.Helper()
	secret := &corev1.Secret{}
	err := b.api.Get(b.Context(), client.ObjectKey{Namespace: system, Name: "privyseal-lease-" + string(of)}, secret)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		b.Fatal(err)
	}
	return secret
}

func (b *bench) later(wait time.Duration) { b.clock.SetTime(b.clock.Now().Add(wait)) }

// mustLend wants this many live, of this many that were issued.
func (b *bench) mustLend(live, issued int) {
	b.Helper()
	if got := len(b.store.Lent(b.ref)); got != live || b.store.Issued(b.ref) != issued {
		b.Errorf("%d live of %d issued, want %d of %d", got, b.store.Issued(b.ref), live, issued)
	}
}

var errKilled = errors.New("killed")
