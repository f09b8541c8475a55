package claim_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/event"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/yaml"

	"github.com/privyseal/privyseal/broker/brokertest"
	"github.com/privyseal/privyseal/broker/claim"
	"github.com/privyseal/privyseal/broker/installkey"
	"github.com/privyseal/privyseal/broker/target"
	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/providers"
	"github.com/privyseal/privyseal/providers/memory"
)

const system = "privyseal-system"

// bench is an API server with an environment "prod" and a store for it, of
// which the claims' own daemon is a part of each test.
type bench struct {
	*testing.T
	access *rest.Config
	client client.Client
}

func newBench(t *testing.T) *bench {
	access, api := apiServer(t)
	b := &bench{T: t, access: access, client: api}
	store := &v1alpha1.ClusterSecretStore{ObjectMeta: metav1.ObjectMeta{Name: "store"}}
	if err := yaml.Unmarshal([]byte(`vault: {address: "https://vault.invalid:8200", auth: {kubernetes: {role: "privyseal-{{ .Namespace }}"}}}`), &store.Spec); err != nil {
		t.Fatal(err)
	}
	b.create(
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: system}},
		store,
		environmentOf("prod", metav1.LabelSelector{MatchLabels: map[string]string{"privyseal.io/environment": "prod"}}),
	)
	return b
}

// environmentOf lists a store that does not exist beside the one that does.
func environmentOf(name string, selector metav1.LabelSelector) *v1alpha1.Environment {
	return &v1alpha1.Environment{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: v1alpha1.EnvironmentSpec{
			NamespaceSelector: selector,
			Stores:            []string{"store", "torn-down"},
			Root:              "kv/{{ .Environment }}/{{ .Namespace }}",
			Paths:             []string{"kv/{{ .Environment }}/{{ .Namespace }}/**"},
		},
	}
}

func (b *bench) create(objects ...client.Object) {
	b.Helper()
	for _, object := range objects {
		if err := b.client.Create(b.Context(), object); err != nil {
			b.Fatal(err)
		}
	}
}

// namespace makes one in the environment "prod".
func (b *bench) namespace(name string) {
	b.Helper()
	b.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"privyseal.io/environment": "prod"}}})
}

func (b *bench) secret(key client.ObjectKey) *corev1.Secret {
	b.Helper()
	secret := &corev1.Secret{}
	if err := b.client.Get(b.Context(), key, secret); err != nil {
		b.Fatal(err)
	}
	return secret
}

// line is the way of a secret from a store, with nobody at its end.
func line(cache, live client.Reader, writer client.Writer, store providers.Reader, clock clock.PassiveClock) *claim.Line {
	return &claim.Line{
		Gatherer: claim.Gatherer{Cache: cache},
		Store:    anyone{store},
		Targets: target.NewWriter(target.Config{
			Metadata: cache, Live: live, Writer: writer, Clock: clock, DaemonNamespace: system,
			Keys: installkey.NewKeeper(installkey.Config{Reader: live, Writer: writer, Namespace: system}),
		}),
		Restarts: nobody{},
	}
}

// anyone may read the store.
type anyone struct{ providers.Reader }

func (a anyone) Read(ctx context.Context, _ v1alpha1.Store, _ providers.Identity, request providers.Request) (providers.Document, error) {
	return a.Reader.Read(ctx, request)
}

// nobody reads the targets.
type nobody struct{}

func (nobody) Roll(context.Context, types.NamespacedName) (v1alpha1.Consumers, error) {
	return v1alpha1.Consumers{}, nil
}

// daemon runs the claims' controller over a store until the test ends. It reads
// every claim a few times a second.
func (b *bench) daemon(store providers.Reader) {
	b.Helper()
	again := true // a second daemon of one process has controllers of the same names
	mgr, err := ctrl.NewManager(b.access, ctrl.Options{
		Scheme: b.client.Scheme(), Metrics: metricsserver.Options{BindAddress: "0"},
		Controller: config.Controller{SkipNameValidation: &again},
		Client:     client.Options{Cache: &client.CacheOptions{DisableFor: []client.Object{&corev1.Secret{}}}},
	})
	if err != nil {
		b.Fatal(err)
	}
	claims := claim.New(claim.Config{
		Line:   line(mgr.GetCache(), mgr.GetAPIReader(), mgr.GetClient(), store, clock.RealClock{}),
		Client: mgr.GetClient(), Metadata: mgr.GetCache(), Events: &events.FakeRecorder{},
		Clock: clock.RealClock{}, Interval: 200 * time.Millisecond,
	})
	if err := claims.SetupWithManager(b.Context(), mgr, make(chan event.TypedGenericEvent[types.NamespacedName])); err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(ctx) }()
	b.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			b.Errorf("the daemon ended: %v", err)
		}
	})
}

// spoiled is what a row of the table has at hand: a claim db, synced, and the
// document that it reads.
type spoiled struct {
	*bench
	store     *memory.Store
	namespace string
	claim     *v1alpha1.SecretClaim
}

func (s *spoiled) ref(name string) providers.Ref {
	s.Helper()
	ref, err := providers.ParseRef("kv/prod/" + s.namespace + "/" + name)
	if err != nil {
		s.Fatal(err)
	}
	return ref
}

func (s *spoiled) template(text string) {
	s.claim.Spec.Template = &v1alpha1.Template{Data: map[string]v1alpha1.TemplateText{"DSN": v1alpha1.TemplateText(text)}}
}

// TestBadInputIsToldAndTheLastGoodValueStays is the table of what people get
// wrong. Each claim was in order before, and each row says what its condition
// tells then: the field, and what to do.
func TestBadInputIsToldAndTheLastGoodValueStays(t *testing.T) {
	const stays = "the last good value stays"
	b := newBench(t)
	store := &memory.Store{}
	b.daemon(store)
	b.namespace("bystander")
	bystander := &spoiled{bench: b, store: store, namespace: "bystander"}
	bystander.begin()

	for i, row := range []struct {
		says   string
		spoil  func(s *spoiled)
		reason string
		tells  []string
	}{
		{"a path that the store does not have",
			func(s *spoiled) { s.claim.Spec.Sources[0].Path = "dbb" },
			v1alpha1.ReasonSourceNotFound, []string{"spec.sources[0]", "/dbb", "correct the path", stays}},
		{"a document that somebody deleted",
			func(s *spoiled) { s.store.Delete(s.ref("db")) },
			v1alpha1.ReasonSourceNotFound, []string{"spec.sources[0]", "/db", "write the secret", stays}},
		{"a version that was soft-deleted",
			func(s *spoiled) { s.store.SoftDelete(s.ref("db")) },
			v1alpha1.ReasonSourceDeleted, []string{"spec.sources[0]", "undelete it or write a new version", stays}},
		{"a pinned version that there never was",
			func(s *spoiled) { s.claim.Spec.Sources[0].Version = 99 },
			v1alpha1.ReasonSourceNotFound, []string{"spec.sources[0]", "correct the path", stays}},
		{"a key that the source does not have",
			func(s *spoiled) { s.claim.Spec.Sources[0].Keys = []v1alpha1.Key{{From: "pass"}} },
			v1alpha1.ReasonKeyNotFound, []string{"spec.sources[0].keys[0]", `"pass"`, "it has password"}},
		{"a pointer that leads nowhere",
			func(s *spoiled) {
				s.claim.Spec.Sources[0].Keys = []v1alpha1.Key{{Pointer: "/password/inner", To: "inner"}}
			},
			v1alpha1.ReasonKeyNotFound, []string{"spec.sources[0].keys[0]", "leads nowhere after /password"}},
		{"a store that the environment does not list",
			func(s *spoiled) { s.claim.Spec.StoreRef = &v1alpha1.StoreRef{Name: "theirs"} },
			v1alpha1.ReasonStoreNotAllowed, []string{"spec.storeRef.name", "theirs", "it lists store, torn-down"}},
		{"a store that does not exist",
			func(s *spoiled) { s.claim.Spec.StoreRef = &v1alpha1.StoreRef{Name: "torn-down"} },
			v1alpha1.ReasonStoreNotFound, []string{"spec.storeRef.name", "create it, or name another"}},
		{"a path that the store denies",
			func(s *spoiled) { s.store.Deny(s.ref("db")) },
			v1alpha1.ReasonSourceDenied, []string{"spec.sources[0]", "check the role, its policy", stays}},
		{"a namespace in two environments",
			func(s *spoiled) {
				s.create(environmentOf("second", metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: s.namespace}}))
			},
			v1alpha1.ReasonTwoEnvironments, []string{"prod and second", "change its labels or their spec.namespaceSelector"}},
		{"a namespace in no environment",
			func(s *spoiled) { s.label("null") },
			v1alpha1.ReasonNoEnvironment, []string{"no environment", "label it", "spec.namespaceSelector"}},
		{"a path outside the environment",
			func(s *spoiled) { s.claim.Spec.Sources[0].Path = "/kv/prod/bystander/db" },
			v1alpha1.ReasonPathNotAllowed, []string{"spec.sources[0].path", "kv/prod/bystander/db", "which are kv/prod/row-"}},
		{"a path that climbs out of it",
			func(s *spoiled) { s.claim.Spec.Sources[0].Path = "../bystander/db" },
			v1alpha1.ReasonPathInvalid, []string{"spec.sources[0].path", `".."`}},
		{"a Secret of that name that is somebody's",
			func(s *spoiled) {
				s.create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: "theirs"}, StringData: map[string]string{"password": "theirs"}})
				s.claim.Spec.Target = &v1alpha1.Target{Name: "theirs"}
			},
			v1alpha1.ReasonTargetNotOurs, []string{"spec.target.name", "/theirs", "delete it, or give the claim another target.name"}},
		{"a template that does not parse",
			func(s *spoiled) { s.template("{{ .password ") },
			v1alpha1.ReasonTemplateInvalid, []string{"spec.template.data[DSN]", "does not parse", "correct it", "the sources have password"}},
		{"a template that does not render",
			func(s *spoiled) { s.template("{{ .nothing }}") },
			v1alpha1.ReasonTemplateInvalid, []string{"spec.template.data[DSN]", "does not render", "<.nothing>", "correct it", "the sources have password"}},
		{"more than a Secret can hold",
			func(s *spoiled) {
				s.store.Set(s.ref("db"), map[string]any{"password": "good", "dump": strings.Repeat("x", 1<<20)})
			},
			v1alpha1.ReasonTooLarge, []string{"spec.sources", "1048576 bytes", "choose fewer keys"}},
		{"a key whose name no Secret can have",
			func(s *spoiled) {
				s.store.Set(s.ref("db"), map[string]any{"password": "good", "pass word": "x"})
			},
			v1alpha1.ReasonKeyInvalid, []string{"spec.sources", `"pass word"`, "rename it with keys[].to"}},
		{"the same key twice",
			func(s *spoiled) {
				s.store.Set(s.ref("more"), map[string]any{"password": "another"})
				s.claim.Spec.Sources = append(s.claim.Spec.Sources, v1alpha1.Source{Path: "more"})
			},
			v1alpha1.ReasonKeyConflict, []string{"spec.sources[1]", "key password", "rename it with keys[].to or prefix, or set override"}},
		{"a type that is the cluster's own",
			func(s *spoiled) {
				s.claim.Spec.Target = &v1alpha1.Target{Type: string(corev1.SecretTypeServiceAccountToken)}
			},
			v1alpha1.ReasonTargetRefused, []string{"spec.target", "target.type kubernetes.io/service-account-token", "use Opaque"}},
		{"another type than the Secret has",
			func(s *spoiled) { s.claim.Spec.Target = &v1alpha1.Target{Type: "example.com/other"} },
			v1alpha1.ReasonTargetRefused, []string{"spec.target", "cannot be changed to example.com/other", "delete it, or give the claim another target.name"}},
	} {
		t.Run(row.says, func(t *testing.T) {
			s := &spoiled{bench: &bench{T: t, access: b.access, client: b.client}, store: store, namespace: fmt.Sprintf("row-%d", i)}
			s.bench.namespace(s.namespace)
			s.begin()
			s.spoil(row.spoil)
			before := s.secrets()
			s.refused(row.reason, row.tells)
			// The daemon has read all claims again when a later value arrives.
			bystander.arrives(fmt.Sprintf("value %d", i))
			if diff := cmp.Diff(before, s.secrets()); diff != "" {
				t.Errorf("the Secrets changed:\n%s", diff)
			}
		})
	}
	t.Run("a claim where the cluster itself lives", func(t *testing.T) {
		s := &spoiled{bench: &bench{T: t, access: b.access, client: b.client}, store: store, namespace: metav1.NamespaceSystem}
		s.label(`"prod"`)
		s.store.Set(s.ref("db"), map[string]any{"password": "good"})
		before := s.secrets()
		s.ask()
		s.refused(v1alpha1.ReasonTargetRefused, []string{"spec.target", "namespace kube-system", "put the claim into the application's namespace"})
		bystander.arrives("the last value")
		if diff := cmp.Diff(before, s.secrets()); diff != "" {
			t.Errorf("the Secrets changed:\n%s", diff)
		}
	})
}

// label puts the namespace into an environment: its name as JSON, or null.
func (s *spoiled) label(environment string) {
	s.Helper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: s.namespace}}
	patch := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"labels":{"privyseal.io/environment":`+environment+`}}}`))
	brokertest.Eventually(s, within, func(ctx context.Context) error { return s.client.Patch(ctx, namespace, patch) })
}

// ask makes the claim.
func (s *spoiled) ask() {
	s.Helper()
	s.claim = &v1alpha1.SecretClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: "db"},
		Spec:       v1alpha1.SecretClaimSpec{Sources: []v1alpha1.Source{{Path: "db"}}},
	}
	s.create(s.claim)
}

// begin has the claim synced.
func (s *spoiled) begin() {
	s.Helper()
	s.store.Set(s.ref("db"), map[string]any{"password": "good"})
	s.ask()
	s.holds("good")
	s.ready(metav1.ConditionTrue, v1alpha1.ReasonSynced)
}

// spoil changes what the row wants, and the claim too if it wants that.
func (s *spoiled) spoil(change func(*spoiled)) {
	s.Helper()
	before := s.claim.DeepCopy()
	change(s)
	if err := s.client.Patch(s.Context(), s.claim, client.MergeFrom(before)); err != nil {
		s.Fatal(err)
	}
}

func (s *spoiled) arrives(value string) {
	s.Helper()
	s.store.Set(s.ref("db"), map[string]any{"password": value})
	s.holds(value)
}

func (s *spoiled) holds(value string) {
	s.Helper()
	brokertest.Eventually(s, within, func(ctx context.Context) error {
		secret := &corev1.Secret{}
		if err := s.client.Get(ctx, client.ObjectKey{Namespace: s.namespace, Name: "db"}, secret); err != nil {
			return err
		}
		if got := string(secret.Data["password"]); got != value {
			return fmt.Errorf("password is %q, want %q", got, value)
		}
		return nil
	})
}

// ready waits for a Ready condition and gives its message.
func (s *spoiled) ready(is metav1.ConditionStatus, reason string) string {
	s.Helper()
	var message string
	brokertest.Eventually(s, within, func(ctx context.Context) error {
		if err := s.client.Get(ctx, client.ObjectKeyFromObject(s.claim), s.claim); err != nil {
			return err
		}
		ready := meta.FindStatusCondition(s.claim.Status.Conditions, v1alpha1.ConditionReady)
		if ready == nil || ready.Status != is || ready.Reason != reason {
			return fmt.Errorf("Ready is %+v, want %s %s", ready, is, reason)
		}
		message = ready.Message
		return nil
	})
	return message
}

func (s *spoiled) refused(reason string, tells []string) {
	s.Helper()
	message := s.ready(metav1.ConditionFalse, reason)
	s.Logf("%s: %s", reason, message)
	for _, word := range tells {
		if !strings.Contains(message, word) {
			s.Errorf("the message does not tell %q: %s", word, message)
		}
	}
	if strings.Contains(message, "good") && !strings.Contains(message, "last good value") {
		s.Errorf("the message holds a value: %s", message)
	}
}

// secrets are all of the namespace, to the byte and the version.
func (s *spoiled) secrets() []corev1.Secret {
	s.Helper()
	var secrets corev1.SecretList
	if err := s.client.List(s.Context(), &secrets, client.InNamespace(s.namespace)); err != nil {
		s.Fatal(err)
	}
	return secrets.Items
}
