package sealedsecret_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	ssv1alpha1 "github.com/bitnami-labs/sealed-secrets/pkg/apis/sealedsecrets/v1alpha1"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/event"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/privyseal/privyseal/broker/brokertest"
	"github.com/privyseal/privyseal/broker/installkey"
	"github.com/privyseal/privyseal/broker/manifest"
	"github.com/privyseal/privyseal/broker/restart"
	"github.com/privyseal/privyseal/broker/seal"
	"github.com/privyseal/privyseal/broker/sealedsecret"
	"github.com/privyseal/privyseal/broker/sealingkey"
	"github.com/privyseal/privyseal/broker/target"
	"github.com/privyseal/privyseal/providers"
)

// apiServer is one for all tests: each has namespaces of its own.
var apiServer brokertest.SharedAPIServer

func TestMain(m *testing.M) { os.Exit(apiServer.Run(m)) }

const within = 30 * time.Second

// keyring holds sealing keys that a test gives and takes away.
type keyring struct {
	mu     sync.Mutex
	rsa    []*seal.RSAKey
	hybrid []*seal.PrivateKey
}

func (k *keyring) Snapshot(context.Context) (sealingkey.Snapshot, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.rsa)+len(k.hybrid) == 0 {
		return sealingkey.Snapshot{}, errors.New("there are no sealing keys yet")
	}
	return sealingkey.Snapshot{Open: seal.NewKeys(k.rsa, k.hybrid)}, nil
}

// newRSA and newHybrid are what tests seal to.
var newRSA = sync.OnceValue(func() *seal.RSAKey {
	key, err := seal.GenerateRSAKey(seal.RSAConfig{Now: time.Now(), Bits: 2048})
	if err != nil {
		panic(err)
	}
	return key
})

var newHybrid = sync.OnceValue(func() *seal.PrivateKey {
	key, err := seal.GenerateKey()
	if err != nil {
		panic(err)
	}
	return key
})

// bench is a daemon's SealedSecrets in one namespace.
type bench struct {
	*testing.T
	client    client.Client
	namespace string
	system    string
	keys      *keyring
	allowed   []string
	metrics   *prometheus.Registry
	turned    chan event.GenericEvent
	asked     func(*http.Request) // of all that the controller asks; nil: nobody counts
}

func newBench(t *testing.T) *bench {
	access := apiServer.Access(t)
	own := strings.ToLower(rand.Text()[:8])
	b := &bench{
		T: t, client: brokertest.Client(t, access), namespace: "pay-" + own, system: "system-" + own,
		keys:   &keyring{rsa: []*seal.RSAKey{newRSA()}, hybrid: []*seal.PrivateKey{newHybrid()}},
		turned: make(chan event.GenericEvent, 1),
	}
	for _, name := range []string{b.namespace, b.system} {
		b.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"env": own}}})
	}
	return b
}

// start runs the controller until stop is called, or the test ends.
func (b *bench) start() (stop func()) {
	b.Helper()
	again := true
	access := rest.CopyConfig(apiServer.Access(b))
	if b.asked != nil {
		access.Wrap(func(next http.RoundTripper) http.RoundTripper { return listening{next, b.asked} })
	}
	mgr, err := ctrl.NewManager(access, ctrl.Options{
		Scheme: b.client.Scheme(), Metrics: metricsserver.Options{BindAddress: "0"},
		Controller: config.Controller{SkipNameValidation: &again},
		Cache: cache.Options{
			DefaultNamespaces: map[string]cache.Config{b.namespace: {}, "kube-system": {}},
			ByObject: map[client.Object]cache.ByObject{
				&corev1.Secret{}:           {Transform: restart.KeepMetadata},
				&ssv1alpha1.SealedSecret{}: {Transform: sealedsecret.Keep},
			},
		},
		Client: client.Options{Cache: &client.CacheOptions{DisableFor: []client.Object{&corev1.Secret{}, &corev1.ConfigMap{}}}},
	})
	if err != nil {
		b.Fatal(err)
	}
	installKeys := installkey.NewKeeper(installkey.Config{Reader: b.client, Writer: b.client, Namespace: b.system})
	b.metrics = prometheus.NewRegistry()
	reconciler := sealedsecret.New(sealedsecret.Config{
		Metadata: mgr.GetCache(), Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Keys: b.keys, InstallKeys: installKeys, AllowedMetadata: b.allowed,
		Targets: target.NewWriter(target.Config{
			Metadata: mgr.GetCache(), Live: mgr.GetAPIReader(), Writer: mgr.GetClient(),
			Keys: installKeys, Clock: clock.RealClock{}, DaemonNamespace: b.system,
		}),
		Events: mgr.GetEventRecorder("sealed-secrets"), Clock: clock.RealClock{}, Registerer: b.metrics,
		// What is remembered is written in batches, for which no test waits that long.
		Later: func(wait time.Duration, run func()) { clock.RealClock{}.AfterFunc(wait/20, run) },
	})
	if err := reconciler.SetupWithManager(mgr, b.turned); err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			b.Errorf("the daemon ended: %v", err)
		}
	})
	b.Cleanup(stop)
	return stop
}

// listening tells of each request.
type listening struct {
	next  http.RoundTripper
	asked func(*http.Request)
}

func (l listening) RoundTrip(request *http.Request) (*http.Response, error) {
	l.asked(request)
	return l.next.RoundTrip(request)
}

func (b *bench) create(object client.Object) {
	b.Helper()
	if err := b.client.Create(b.Context(), object); err != nil {
		b.Fatal(err)
	}
}

// plain is a Secret to be sealed.
func (b *bench) plain(name string, pairs ...string) *corev1.Secret {
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: b.namespace, Name: name}, Data: map[string][]byte{}}
	for i := 0; i < len(pairs); i += 2 {
		secret.Data[pairs[i]] = []byte(pairs[i+1])
	}
	return secret
}

func v1() manifest.Sealer { return manifest.Sealer{RSA: newRSA().Public()} }

func v2(environment string) manifest.Sealer {
	return manifest.Sealer{Recipients: []*seal.PublicKey{newHybrid().Public()}, Environment: environment}
}

func (b *bench) seal(sealer manifest.Sealer, secret *corev1.Secret, scope seal.Scope) *ssv1alpha1.SealedSecret {
	b.Helper()
	sealed, err := sealer.Seal(secret, scope)
	if err != nil {
		b.Fatal(err)
	}
	return sealed
}

func (b *bench) item(secret, key, value string) string {
	b.Helper()
	item, err := v1().Item(providers.NewValue([]byte(value)), seal.Label{Namespace: b.namespace, Name: secret, Item: key})
	if err != nil {
		b.Fatal(err)
	}
	return item
}

func (b *bench) sealed(name string) *ssv1alpha1.SealedSecret {
	b.Helper()
	sealed := &ssv1alpha1.SealedSecret{}
	if err := b.client.Get(b.Context(), client.ObjectKey{Namespace: b.namespace, Name: name}, sealed); err != nil {
		b.Fatal(err)
	}
	return sealed
}

// change changes a SealedSecret until nobody else did so at the same time.
func (b *bench) change(name string, how func(*ssv1alpha1.SealedSecret)) {
	b.Helper()
	before := b.sealed(name)
	after := before.DeepCopy()
	how(after)
	if err := b.client.Patch(b.Context(), after, client.MergeFrom(before)); err != nil {
		b.Fatal(err)
	}
}

func (b *bench) secret(name string) *corev1.Secret {
	b.Helper()
	secret := &corev1.Secret{}
	if err := b.client.Get(b.Context(), client.ObjectKey{Namespace: b.namespace, Name: name}, secret); err != nil {
		b.Fatal(err)
	}
	return secret
}

// holds waits until a Secret holds just that.
func (b *bench) holds(name string, pairs ...string) *corev1.Secret {
	b.Helper()
	want := b.plain(name, pairs...).Data
	secret := &corev1.Secret{}
	brokertest.Eventually(b, within, func(ctx context.Context) error {
		if err := b.client.Get(ctx, client.ObjectKey{Namespace: b.namespace, Name: name}, secret); err != nil {
			return fmt.Errorf("%w; its SealedSecret says %s", err, b.says(ctx, name))
		}
		if fmt.Sprint(secret.Data) != fmt.Sprint(want) {
			return fmt.Errorf("Secret %s holds %q, want %q; its SealedSecret says %s", name, secret.Data, want, b.says(ctx, name))
		}
		return nil
	})
	return secret
}

func (b *bench) says(ctx context.Context, name string) string {
	sealed := &ssv1alpha1.SealedSecret{}
	if err := b.client.Get(ctx, client.ObjectKey{Namespace: b.namespace, Name: name}, sealed); err != nil {
		return err.Error()
	}
	if sealed.Status == nil {
		return "nothing"
	}
	return fmt.Sprintf("%+v", *sealed.Status)
}

// status waits until a SealedSecret says so of its generation, in its message or
// with none.
func (b *bench) status(name string, is corev1.ConditionStatus, message string) ssv1alpha1.SealedSecretCondition {
	b.Helper()
	var found ssv1alpha1.SealedSecretCondition
	brokertest.Eventually(b, within, func(ctx context.Context) error {
		sealed := &ssv1alpha1.SealedSecret{}
		if err := b.client.Get(ctx, client.ObjectKey{Namespace: b.namespace, Name: name}, sealed); err != nil {
			return err
		}
		if sealed.Status == nil || len(sealed.Status.Conditions) != 1 || sealed.Status.ObservedGeneration != sealed.Generation {
			return fmt.Errorf("the status is %s", b.says(ctx, name))
		}
		found = sealed.Status.Conditions[0]
		if found.Type != "Synced" || found.Status != is || !strings.Contains(found.Message, message) || (message == "") != (found.Message == "") {
			return fmt.Errorf("the condition is %+v, want %s with %q", found, is, message)
		}
		return nil
	})
	return found
}

// counted is the sum of a metric's values.
func (b *bench) counted(name string) (sum float64, series int) {
	b.Helper()
	families, err := b.metrics.Gather()
	if err != nil {
		b.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, metric := range family.Metric {
			sum += metric.GetCounter().GetValue() + metric.GetGauge().GetValue()
			series++
		}
	}
	return sum, series
}

// seen waits until the controller has looked at so many SealedSecrets.
func (b *bench) seen(count int) {
	b.Helper()
	brokertest.Eventually(b, within, func(context.Context) error {
		if _, series := b.counted("sealed_secrets_controller_condition_info"); series < count {
			return fmt.Errorf("%d were looked at, want %d", series, count)
		}
		return nil
	})
}

// blob is the deprecated spec.data.
func (b *bench) blob(name, whole string) []byte {
	b.Helper()
	item, err := seal.SealV1(providers.NewValue([]byte(whole)), seal.Label{Namespace: b.namespace, Name: name}, newRSA().Public())
	if err != nil {
		b.Fatal(err)
	}
	return item
}
