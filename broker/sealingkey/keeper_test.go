package sealingkey_test

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	clocktesting "k8s.io/utils/clock/testing"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/privyseal/privyseal/broker/brokertest"
	"github.com/privyseal/privyseal/broker/seal"
	"github.com/privyseal/privyseal/broker/sealingkey"
	"github.com/privyseal/privyseal/providers"
)

const within = 20 * time.Second

type bench struct {
	*testing.T
	access    *rest.Config
	client    client.Client
	namespace string
	clock     *clocktesting.FakePassiveClock
}

func newBench(t *testing.T) *bench {
	access := apiServer.Access(t)
	b := &bench{
		T: t, access: access, client: brokertest.Client(t, access),
		namespace: "keys-" + strings.ToLower(rand.Text()[:8]),
		// Creation times are the API server's, so this one is not far from them.
		clock: clocktesting.NewFakePassiveClock(time.Now().Truncate(time.Second)),
	}
	if err := b.client.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: b.namespace}}); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bench) keeper() *sealingkey.Keeper {
	return sealingkey.New(sealingkey.Config{
		Reader: b.client, Writer: b.client, Namespace: b.namespace, RenewPeriod: 720 * time.Hour, Clock: b.clock,
	})
}

func (b *bench) renew(keeper *sealingkey.Keeper) {
	b.Helper()
	if _, err := keeper.Renew(b.Context()); err != nil {
		b.Fatal(err)
	}
}

func (b *bench) snapshot(keeper *sealingkey.Keeper) sealingkey.Snapshot {
	b.Helper()
	snapshot, err := keeper.Snapshot(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	return snapshot
}

// own creates a key Secret as somebody with a key of their own would.
func (b *bench) own(name string, labels map[string]string, key, certificate []byte) *corev1.Secret {
	b.Helper()
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: b.namespace, Name: name, Labels: labels},
		Type:       corev1.SecretTypeTLS,
		Data:       map[string][]byte{corev1.TLSPrivateKeyKey: key, corev1.TLSCertKey: certificate},
	}
	if err := b.client.Create(b.Context(), secret); err != nil {
		b.Fatal(err)
	}
	return secret
}

func (b *bench) rsa(since time.Time) (key *seal.RSAKey, private, certificate []byte) {
	b.Helper()
	key, err := seal.GenerateRSAKey(seal.RSAConfig{Now: since, Bits: 1024})
	if err != nil {
		b.Fatal(err)
	}
	private, certificate = key.PEM()
	return key, private, certificate
}

var active = map[string]string{sealingkey.LabelV1: sealingkey.Active}

func TestAnInstallationHasKeysFromTheFirstDay(t *testing.T) {
	b := newBench(t)
	keeper := b.keeper()
	if snapshot := b.snapshot(keeper); snapshot.RSA != nil || snapshot.Hybrid != nil {
		t.Fatal("there are keys that nobody made")
	}
	b.renew(keeper)
	b.renew(keeper)
	snapshot := b.snapshot(keeper)
	if snapshot.RSA == nil || snapshot.Hybrid == nil || len(snapshot.Keys) != 2 {
		t.Fatalf("keys: %+v", snapshot.Keys)
	}
	// Another replica has the same ones, since they are in the cluster.
	other := b.snapshot(b.keeper())
	if other.RSA.Fingerprint() != snapshot.RSA.Fingerprint() || other.Hybrid.String() != snapshot.Hybrid.String() {
		t.Error("another replica seals to other keys")
	}

	var secrets corev1.SecretList
	if err := b.client.List(t.Context(), &secrets, client.InNamespace(b.namespace)); err != nil {
		t.Fatal(err)
	}
	for _, secret := range secrets.Items {
		switch secret.Type {
		case corev1.SecretTypeTLS: // what upstream takes up
			if secret.Labels[sealingkey.LabelV1] != "active" || !strings.HasPrefix(secret.Name, "sealed-secrets-key") {
				t.Errorf("%s has labels %v", secret.Name, secret.Labels)
			}
			block, _ := pem.Decode(secret.Data[corev1.TLSPrivateKeyKey])
			if key, err := x509.ParsePKCS1PrivateKey(block.Bytes); err != nil || key.N.BitLen() != 4096 {
				t.Errorf("tls.key: %v", err)
			}
		case sealingkey.TypeV2: // what upstream must not see
			if _, upstreams := secret.Labels[sealingkey.LabelV1]; upstreams || secret.Labels[sealingkey.LabelV2] != "active" {
				t.Errorf("%s has labels %v", secret.Name, secret.Labels)
			}
		default:
			t.Errorf("a Secret of type %s", secret.Type)
		}
	}
}

func TestKeysAreFollowedByNewOnes(t *testing.T) {
	b := newBench(t)
	keeper := b.keeper()
	b.renew(keeper)
	first := b.snapshot(keeper)

	b.clock.SetTime(b.clock.Now().Add(719 * time.Hour))
	b.renew(keeper)
	if got := len(b.snapshot(keeper).Keys); got != 2 {
		t.Fatalf("%d keys before their time", got)
	}
	b.clock.SetTime(b.clock.Now().Add(time.Hour))
	b.renew(keeper)
	second := b.snapshot(keeper)
	if len(second.Keys) != 4 || second.RSA.Fingerprint() == first.RSA.Fingerprint() || second.Hybrid.String() == first.Hybrid.String() {
		t.Fatalf("keys after 720 hours: %+v", second.Keys)
	}
	// What was sealed to the old ones opens.
	label := seal.Label{Namespace: "pay", Name: "db", Item: "password"}
	for _, item := range [][]byte{sealV1(t, label, first.RSA), sealV2(t, label, first.Hybrid)} {
		if _, err := second.Open.Open(item, label); err != nil {
			t.Error(err)
		}
	}
}

func TestKeysThatOthersMadeAreUsed(t *testing.T) {
	b := newBench(t)
	// That of the first releases has no label; a younger one is of PKCS#8.
	oldest, private, certificate := b.rsa(b.clock.Now().Add(-9000 * time.Hour))
	b.own("sealed-secrets-key", nil, private, certificate)
	own, private, certificate := b.rsa(b.clock.Now().Add(-time.Hour))
	block, _ := pem.Decode(private)
	parsed, err := x509.ParsePKCS1PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(parsed)
	if err != nil {
		t.Fatal(err)
	}
	b.own("my-own", active, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded}), certificate)
	b.own("broken", active, []byte("no key"), certificate)
	b.own("gone-bad", map[string]string{sealingkey.LabelV1: "compromised"}, private, certificate)
	b.own("unlabelled", nil, private, certificate)

	keeper := b.keeper()
	b.renew(keeper)
	snapshot := b.snapshot(keeper)
	states := map[string]sealingkey.State{}
	for _, key := range snapshot.Keys {
		if key.Kind == sealingkey.V1 {
			states[key.Secret] = key.State
		}
	}
	want := map[string]sealingkey.State{
		"sealed-secrets-key": sealingkey.Opening, "my-own": sealingkey.Sealing,
		"broken": sealingkey.Malformed, "gone-bad": sealingkey.Ignored,
	}
	if fmt.Sprint(states) != fmt.Sprint(want) {
		t.Errorf("states %v, want %v", states, want)
	}
	if snapshot.RSA.Fingerprint() != own.Fingerprint() {
		t.Error("it does not seal to the newest")
	}
	label := seal.Label{Namespace: "pay", Name: "db", Item: "password"}
	if _, err := snapshot.Open.Open(sealV1(t, label, oldest), label); err != nil {
		t.Errorf("the key without a label: %v", err)
	}
}

func TestKeysThatComeAndGoAreNoticed(t *testing.T) {
	b := newBench(t)
	changes := make(chan struct{}, 100)
	again := true
	mgr, err := ctrl.NewManager(b.access, ctrl.Options{
		Scheme: b.client.Scheme(), Metrics: metricsserver.Options{BindAddress: "0"},
		Controller: config.Controller{SkipNameValidation: &again},
	})
	if err != nil {
		t.Fatal(err)
	}
	keeper := sealingkey.New(sealingkey.Config{
		Reader: mgr.GetAPIReader(), Writer: mgr.GetClient(), Namespace: b.namespace, Clock: b.clock,
		Changed: func() { changes <- struct{}{} }, Events: mgr.GetEventRecorder("privyseal"),
	})
	if err := keeper.SetupWithManager(mgr); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()

	state := func(name string, want sealingkey.State) {
		t.Helper()
		brokertest.Eventually(t, within, func(ctx context.Context) error {
			snapshot, err := keeper.Snapshot(ctx)
			if err != nil {
				return err
			}
			at := slices.IndexFunc(snapshot.Keys, func(key sealingkey.Key) bool { return key.Secret == name })
			switch {
			case at < 0 && want == "":
				return nil
			case at < 0 || snapshot.Keys[at].State != want:
				return fmt.Errorf("%s is not %q among %+v", name, want, snapshot.Keys)
			}
			return nil
		})
	}
	_, private, certificate := b.rsa(b.clock.Now().Add(-time.Hour))
	secret := b.own("mine", active, private, certificate)
	brokertest.Eventually(t, within, func(ctx context.Context) error {
		snapshot, err := keeper.Snapshot(ctx)
		if err == nil && (snapshot.Hybrid == nil || snapshot.RSA == nil) {
			return fmt.Errorf("no keys were made: %+v", snapshot.Keys)
		}
		return err
	})
	secret.Labels[sealingkey.LabelV1] = "compromised"
	if err := b.client.Update(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	state("mine", sealingkey.Ignored)
	secret.Labels[sealingkey.LabelV1] = sealingkey.Active
	secret.Data[corev1.TLSPrivateKeyKey] = []byte("nothing")
	if err := b.client.Update(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	state("mine", sealingkey.Malformed)
	if err := b.client.Delete(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	state("mine", "")
	if len(changes) < 4 {
		t.Errorf("%d changes were told of", len(changes))
	}
}

func sealV1(t *testing.T, label seal.Label, key *seal.RSAKey) []byte {
	t.Helper()
	item, err := seal.SealV1(providers.NewValue([]byte("x")), label, key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return item
}

func sealV2(t *testing.T, label seal.Label, key *seal.PrivateKey) []byte {
	t.Helper()
	item, err := seal.Seal(providers.NewValue([]byte("x")), label, key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return item
}
