package rotate_test

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
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/privyseal/privyseal/broker/brokertest"
	"github.com/privyseal/privyseal/broker/rotate"
	"github.com/privyseal/privyseal/broker/seal"
	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/broker/window"
	"github.com/privyseal/privyseal/providers"
	"github.com/privyseal/privyseal/providers/memory"
	"github.com/privyseal/privyseal/rotation"
)

// shared is one API server for all tests, which keep to namespaces and stores of
// their own.
var shared brokertest.SharedAPIServer

func TestMain(m *testing.M) { os.Exit(shared.Run(m)) }

// system is the namespace of the daemon.
const system = "default"

// three is three in the morning of a day on which all tests are.
func three() time.Time { return time.Date(2026, 6, 1, 3, 0, 0, 0, time.UTC) }

// bench is a rotation's surroundings: an API server, a store, a claim that follows
// its document and one workload, and daemons that do nothing but what a test calls
// for.
type bench struct {
	*testing.T
	api    client.WithWatch
	store  *memory.Store
	ref    providers.Ref
	clock  *clocktesting.FakePassiveClock
	key    *seal.PrivateKey
	of     client.ObjectKey
	world  *world
	jobs   *jobs // nil: nobody plays their controller
	events *events.FakeRecorder
}

// world is what the daemon's other parts would do.
type world struct {
	store   v1alpha1.Store
	ref     providers.Ref
	named   *v1alpha1.StoreRef
	refusal *rotate.Refusal
	// admin is where credentials of hooks are, and adminRefusal why they may not be.
	admin        providers.Ref
	adminRefusal *rotate.Refusal
	windows      []window.Window

	// version that the claim has, and whether it reads when it is told.
	version int64
	deaf    bool
	read    func() int64
	told    int
	// asked is the store whose readers were last asked for.
	asked string

	follower rotate.Follower
}

func (w *world) Place(_ context.Context, namespace string, ref *v1alpha1.StoreRef, field, _ string) (rotate.Place, error) {
	if namespace != w.store.Name {
		return rotate.Place{}, &rotate.Refusal{Reason: v1alpha1.ReasonNoEnvironment, Message: "it is another test's"}
	}
	w.named = ref
	if w.refusal != nil {
		return rotate.Place{}, w.refusal
	}
	at := w.ref
	if field == "spec.set.credentialsPath" {
		if w.adminRefusal != nil {
			return rotate.Place{}, w.adminRefusal
		}
		at = w.admin
	}
	store := w.store
	if ref != nil {
		store.Name = ref.Name
	}
	return rotate.Place{
		Store: store, Ref: at, Windows: w.windows,
		Identity: providers.Identity{Namespace: namespace, Environment: "prod"},
	}, nil
}

func (w *world) ReadingOf(_ context.Context, place rotate.Place) ([]rotate.Reading, error) {
	w.asked = place.Store.Name
	name := types.NamespacedName{Namespace: "pay", Name: "db"}
	return []rotate.Reading{{Claim: name, Target: name, Version: w.version}}, nil
}

func (w *world) Reread(context.Context, ...types.NamespacedName) {
	w.told++
	if !w.deaf {
		w.version = w.read()
	}
}

func (w *world) Followers(context.Context, types.NamespacedName, int64) ([]rotate.Follower, bool, error) {
	return []rotate.Follower{w.follower}, true, nil
}

// stores is the one store.
type stores struct{ *memory.Store }

func (s stores) Read(ctx context.Context, _ v1alpha1.Store, _ providers.Identity, request providers.Request) (providers.Document, error) {
	return s.Store.Read(ctx, request)
}

func (s stores) Write(ctx context.Context, _ v1alpha1.Store, _ providers.Identity, change providers.Change) (int64, error) {
	return s.Store.Write(ctx, change)
}

func (s stores) Probe(ctx context.Context, _ v1alpha1.Store, _ providers.Identity, ref providers.Ref) error {
	return s.Store.Probe(ctx, ref)
}

// keys is the one key.
type keys struct{ key *seal.PrivateKey }

func (k keys) SealingKeys(context.Context) (*seal.PublicKey, *seal.Keys, error) {
	return k.key.Public(), seal.NewKeys(nil, []*seal.PrivateKey{k.key}), nil
}

func apiServer(t *testing.T) client.WithWatch {
	t.Helper()
	access := shared.Access(t)
	api, err := client.NewWithWatch(access, client.Options{Scheme: brokertest.Client(t, access).Scheme()})
	if err != nil {
		t.Fatal(err)
	}
	return api
}

// newBench has a document with a password, and a rotation of it that is due at three
// each morning, made at noon of the day before.
func newBench(t *testing.T, change func(*v1alpha1.SecretRotationSpec)) *bench {
	t.Helper()
	b := &bench{
		T: t, api: apiServer(t), store: &memory.Store{},
		clock: clocktesting.NewFakePassiveClock(three().Add(-15 * time.Hour)), events: events.NewFakeRecorder(100),
	}
	var err error
	if b.key, err = seal.GenerateKey(); err != nil {
		t.Fatal(err)
	}
	name := strings.ToLower(rand.Text()[:10])
	if b.ref, err = providers.ParseRef("kv/prod/" + name + "/db"); err != nil {
		t.Fatal(err)
	}
	b.of = client.ObjectKey{Namespace: name, Name: "db"}
	b.store.Set(b.ref, map[string]any{"password": "first", "host": "db", "port": 5432})
	b.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}})
	store := &v1alpha1.ClusterSecretStore{ObjectMeta: metav1.ObjectMeta{Name: name}}
	store.Spec.Vault.Address = "https://" + name + ":8200"
	store.Spec.Vault.Auth.Token = &v1alpha1.VaultTokenAuth{SecretRef: v1alpha1.SecretKeyRef{Name: "token", Key: "token"}}
	b.create(store)
	b.world = &world{store: store.Store(), ref: b.ref, version: 1, read: func() int64 { return b.document().Version }}
	of := &v1alpha1.SecretRotation{ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: "db"}}
	of.Spec = v1alpha1.SecretRotationSpec{
		Path: "db", Schedule: "0 3 * * *",
		Generate: map[string]v1alpha1.Generator{"password": {Hex: &v1alpha1.BytesGenerator{}}},
		Verify:   &v1alpha1.RotationVerify{Consumers: v1alpha1.ConsumersReady},
	}
	if change != nil {
		change(&of.Spec)
	}
	b.create(of)
	return b
}

func (b *bench) create(object client.Object) {
	b.Helper()
	if err := b.api.Create(b.Context(), object); err != nil {
		b.Fatal(err)
	}
}

// gone deletes the rotation.
func (b *bench) gone() {
	b.Helper()
	if err := b.api.Delete(b.Context(), b.rotation()); err != nil {
		b.Fatal(err)
	}
}

// daemon is one that has just begun to lead.
func (b *bench) daemon() *rotate.Reconciler { return b.daemonWith(b.api, stores{b.store}) }

func (b *bench) daemonWith(api client.Client, store rotate.Store) *rotate.Reconciler {
	return rotate.New(rotate.Config{
		Client: api, Live: api, Places: b.world, Store: store, Claims: b.world, Workloads: b.world,
		Keys: keys{b.key}, Namespace: system, Events: b.events, Clock: b.clock, Jobs: true,
	})
}

// step has a daemon look once.
func (b *bench) step(daemon *rotate.Reconciler) (reconcile.Result, error) {
	b.Helper()
	b.jobs.play()
	return daemon.Reconcile(b.Context(), reconcile.Request{NamespacedName: b.of})
}

// run has a daemon look for as long as it wants to at once, or soon.
func (b *bench) run(daemon *rotate.Reconciler) reconcile.Result {
	b.Helper()
	for range 100 {
		result, err := b.step(daemon)
		if err != nil {
			b.Fatal(err)
		}
		if result.RequeueAfter > time.Millisecond {
			return result
		}
	}
	b.Fatal("it never comes to rest")
	return reconcile.Result{}
}

// until has a daemon look, in steps of the time that it asks for, until a phase.
func (b *bench) until(daemon *rotate.Reconciler, phase rotation.Phase) {
	b.Helper()
	for range 1000 {
		result := b.run(daemon)
		if b.status().Phase == string(phase) {
			return
		}
		b.later(result.RequeueAfter)
	}
	b.Fatalf("it stays in phase %q: %+v", b.status().Phase, b.status())
}

func (b *bench) later(wait time.Duration) { b.clock.SetTime(b.clock.Now().Add(wait)) }

// at three the rotation is due that was seen before.
func (b *bench) atThree(daemon *rotate.Reconciler) {
	b.Helper()
	b.run(daemon)
	b.clock.SetTime(three())
}

func (b *bench) rotation() *v1alpha1.SecretRotation {
	b.Helper()
	of := &v1alpha1.SecretRotation{}
	if err := b.api.Get(b.Context(), b.of, of); err != nil {
		b.Fatal(err)
	}
	return of
}

func (b *bench) status() v1alpha1.SecretRotationStatus { return b.rotation().Status }

func (b *bench) condition(name string) metav1.Condition {
	b.Helper()
	found := meta.FindStatusCondition(b.status().Conditions, name)
	if found == nil {
		b.Fatalf("there is no condition %s: %+v", name, b.status())
	}
	return *found
}

func (b *bench) document() providers.Document {
	b.Helper()
	document, err := b.store.Read(b.Context(), providers.Request{Ref: b.ref})
	if err != nil {
		b.Fatal(err)
	}
	return document
}

func (b *bench) password() string { return string(b.document().Values["password"].Bytes()) }

// record that is kept; nil: there is none.
func (b *bench) record() *corev1.Secret {
	b.Helper()
	secret := &corev1.Secret{}
	err := b.api.Get(b.Context(), client.ObjectKey{Namespace: system, Name: "privyseal-rotation-" + string(b.rotation().UID)}, secret)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		b.Fatal(err)
	}
	return secret
}

func (b *bench) annotate(name, value string) {
	b.Helper()
	of := b.rotation()
	before := of.DeepCopy()
	of.Annotations = map[string]string{name: value}
	if err := b.api.Patch(b.Context(), of, client.MergeFrom(before)); err != nil {
		b.Fatal(err)
	}
}

// told are the events so far.
func (b *bench) told() string {
	var all []string
	for {
		select {
		case note := <-b.events.Events:
			all = append(all, note)
		default:
			return strings.Join(all, "\n")
		}
	}
}

var errKilled = errors.New("killed")

func (b *bench) must(ok bool, format string, arguments ...any) {
	b.Helper()
	if !ok {
		b.Errorf(format+": %s", append(arguments, fmt.Sprintf("%+v", b.status()))...)
	}
}
