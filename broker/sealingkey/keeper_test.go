package sealingkey_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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

var apiServer brokertest.SharedAPIServer

func TestMain(m *testing.M) { os.Exit(apiServer.Run(m)) }

const soon = 30 * time.Second

// keepers run in a namespace of their own until the test ends.
type keepers struct {
	client    client.Client
	namespace string
	clock     *clocktesting.FakePassiveClock
}

func newKeepers(t *testing.T, namespace string) *keepers {
	t.Helper()
	k := &keepers{client: brokertest.Client(t, apiServer.Access(t)), namespace: namespace, clock: clocktesting.NewFakePassiveClock(time.Now())}
	if err := k.client.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}); err != nil {
		t.Fatal(err)
	}
	return k
}

func (k *keepers) start(t *testing.T, renewal sealingkey.Renewal) *sealingkey.Keeper {
	t.Helper()
	again := true
	mgr, err := ctrl.NewManager(apiServer.Access(t), ctrl.Options{
		Metrics: metricsserver.Options{BindAddress: "0"}, Controller: config.Controller{SkipNameValidation: &again},
	})
	if err != nil {
		t.Fatal(err)
	}
	keeper := sealingkey.New(sealingkey.Config{
		Live: mgr.GetAPIReader(), Writer: mgr.GetClient(), Namespace: k.namespace, Renewal: renewal, RSABits: 2048, Clock: k.clock,
	})
	if err := keeper.SetupWithManager(mgr); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return keeper
}

// has waits for as many keys of each state.
func has(t *testing.T, keeper *sealingkey.Keeper, want map[sealingkey.State]int) sealingkey.Snapshot {
	t.Helper()
	var found sealingkey.Snapshot
	brokertest.Eventually(t, soon, func(context.Context) (err error) {
		if found, err = keeper.Snapshot(); err != nil {
			return err
		}
		got := map[sealingkey.State]int{}
		for _, key := range found.Keys {
			got[key.State]++
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			return fmt.Errorf("there are %v, want %v", got, want)
		}
		return nil
	})
	return found
}

func TestKeysAreMadeOnceAndSeenByEveryReplica(t *testing.T) {
	k := newKeepers(t, "made-once")
	one := has(t, k.start(t, sealingkey.Renewal{}), map[sealingkey.State]int{sealingkey.Active: 2})
	other := has(t, k.start(t, sealingkey.Renewal{}), map[sealingkey.State]int{sealingkey.Active: 2})
	if string(one.PublicPEM()) != string(other.PublicPEM()) {
		t.Error("replicas give out different keys")
	}
	var secrets corev1.SecretList
	if err := k.client.List(t.Context(), &secrets, client.InNamespace(k.namespace)); err != nil {
		t.Fatal(err)
	}
	types := map[corev1.SecretType]int{}
	for _, secret := range secrets.Items {
		types[secret.Type]++
		if _, upstreams := secret.Labels[sealingkey.LabelV1]; upstreams != (secret.Type == corev1.SecretTypeTLS) {
			t.Errorf("Secret %s of type %s has labels %v", secret.Name, secret.Type, secret.Labels)
		}
	}
	if types[corev1.SecretTypeTLS] != 1 || types[sealingkey.TypeV2] != 1 {
		t.Errorf("Secrets are of types %v", types)
	}
}

func TestKeysThatPeopleBringTakeAwayOrSpoilAreNoticed(t *testing.T) {
	k := newKeepers(t, "brought")
	keeper := k.start(t, sealingkey.Renewal{})
	has(t, keeper, map[sealingkey.State]int{sealingkey.Active: 2})
	brought, err := seal.GenerateRSAKey(seal.RSAConfig{Now: time.Now().Add(-time.Hour), Bits: 2048})
	if err != nil {
		t.Fatal(err)
	}
	text, certificate := brought.PEM()
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: k.namespace, Name: "brought", Labels: map[string]string{sealingkey.LabelV1: "active"}},
		Type:       corev1.SecretTypeTLS, Data: map[string][]byte{"tls.key": text, "tls.crt": certificate},
	}
	if err := k.client.Create(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	snapshot := has(t, keeper, map[sealingkey.State]int{sealingkey.Active: 3})
	if !slices.ContainsFunc(snapshot.Keys, func(key sealingkey.Key) bool { return key.ID == brought.Fingerprint() }) || snapshot.RSA.Fingerprint() == brought.Fingerprint() {
		t.Errorf("an older key was brought, and the keys are %+v", snapshot.Keys)
	}
	secret.Labels[sealingkey.LabelV1] = "compromised"
	if err := k.client.Update(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	has(t, keeper, map[sealingkey.State]int{sealingkey.Active: 2, sealingkey.Unused: 1})
	secret.Data["tls.key"] = []byte("nonsense")
	if err := k.client.Update(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	has(t, keeper, map[sealingkey.State]int{sealingkey.Active: 2, sealingkey.Malformed: 1})
	if err := k.client.Delete(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	has(t, keeper, map[sealingkey.State]int{sealingkey.Active: 2})
}

func TestAKeyThatIsOldEnoughIsFollowedByANewOne(t *testing.T) {
	k := newKeepers(t, "renewed")
	renewal := sealingkey.Renewal{Every: sealingkey.DefaultRenewal}
	first := has(t, k.start(t, renewal), map[sealingkey.State]int{sealingkey.Active: 2})
	k.clock.SetTime(time.Now().Add(sealingkey.DefaultRenewal + time.Hour))
	second := has(t, k.start(t, renewal), map[sealingkey.State]int{sealingkey.Active: 4})
	if first.RSA.Fingerprint() == second.RSA.Fingerprint() || first.Hybrid.Public().ID() == second.Hybrid.Public().ID() {
		t.Error("what is sealed to is still the old key")
	}
	item, err := seal.SealV1(providers.NewValue([]byte("x")), seal.Label{Scope: seal.ClusterWide}, first.RSA.Public())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := second.Open.Open(item, seal.Label{Scope: seal.ClusterWide}); err != nil {
		t.Errorf("what was sealed to the old key: %v", err)
	}
}
