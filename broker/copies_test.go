package broker_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/event"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/privyseal/privyseal/broker/brokertest"
	"github.com/privyseal/privyseal/broker/claim"
	"github.com/privyseal/privyseal/broker/copies"
	"github.com/privyseal/privyseal/broker/installkey"
	"github.com/privyseal/privyseal/broker/restart"
	"github.com/privyseal/privyseal/broker/seal"
	"github.com/privyseal/privyseal/broker/target"
	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/providers"
	"github.com/privyseal/privyseal/providers/memory"
)

// openStore is a store that gives everybody everything.
type openStore struct{ *memory.Store }

func (s openStore) Read(ctx context.Context, _ v1alpha1.Store, _ providers.Identity, request providers.Request) (providers.Document, error) {
	return s.Store.Read(ctx, request)
}

type noPods struct{}

func (noPods) Roll(context.Context, types.NamespacedName) (v1alpha1.Consumers, error) {
	return v1alpha1.Consumers{}, nil
}

type oneKey struct{ key *seal.PrivateKey }

func (k oneKey) SealingKeys(context.Context) (copies.SealingKeys, error) {
	return copies.SealingKeys{Seal: k.key.Public(), Known: []seal.KeyID{k.key.Public().ID()}, Open: seal.NewKeys(nil, []*seal.PrivateKey{k.key})}, nil
}

// runClaims runs the line of claims with their copies, as the daemon wires them.
func runClaims(t *testing.T, access *rest.Config, api client.Client, store *memory.Store, keys copies.KeySource) {
	t.Helper()
	mgr, err := ctrl.NewManager(access, ctrl.Options{
		Scheme: api.Scheme(), Logger: logr.Discard(), Metrics: metricsserver.Options{BindAddress: "0"},
		Controller: config.Controller{SkipNameValidation: new(true)}, // whole daemons run in this process, too
		Cache:      cache.Options{ByObject: map[client.Object]cache.ByObject{&corev1.Secret{}: {Transform: restart.KeepMetadata}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	settled := make(chan event.TypedGenericEvent[types.NamespacedName], 64)
	kept := copies.New(copies.Config{
		Cache: mgr.GetCache(), Live: api, Keys: keys, Namespace: "kube-public", Clock: clock.RealClock{},
		Told: func(target types.NamespacedName) {
			settled <- event.TypedGenericEvent[types.NamespacedName]{Object: target}
		},
		Collect: 300 * time.Millisecond, Look: time.Second, Retry: 200 * time.Millisecond,
	})
	if err := kept.SetupWithManager(mgr); err != nil {
		t.Fatal(err)
	}
	reconciler := claim.New(claim.Config{
		Line: &claim.Line{
			Gatherer: claim.Gatherer{Cache: mgr.GetCache()}, Store: openStore{store}, Restarts: noPods{}, Copies: kept,
			Targets: target.NewWriter(target.Config{
				Metadata: mgr.GetCache(), Live: api, Writer: api, Clock: clock.RealClock{}, DaemonNamespace: "kube-public",
				Keys: installkey.NewKeeper(installkey.Config{Reader: api, Writer: api, Namespace: "kube-public"}),
			}),
		},
		Client: mgr.GetClient(), Metadata: mgr.GetCache(), Events: mgr.GetEventRecorder("privyseal"), Clock: clock.RealClock{},
		Interval: time.Second,
	})
	ctx, cancel := context.WithCancel(t.Context())
	if err := reconciler.SetupWithManager(ctx, mgr, settled); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the daemon ended: %v", err)
		}
	})
}

func TestAClaimSaysWhetherItsCopyIsInGitAndNothingMovesWhileNothingChanges(t *testing.T) {
	t.Parallel()
	access := brokertest.APIServer(t)
	api := brokertest.Client(t, access)
	git := brokertest.NewGitServer(t)
	create := func(object client.Object) {
		t.Helper()
		if err := api.Create(t.Context(), object); err != nil {
			t.Fatal(err)
		}
	}
	path, err := providers.ParseRef("kv/prod/pay/db")
	if err != nil {
		t.Fatal(err)
	}
	store := &memory.Store{}
	store.Set(path, map[string]any{"password": "one"})
	create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "pay", Labels: map[string]string{"env": "prod"}}})
	create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-public", Name: "git"},
		Data: map[string][]byte{"password": []byte(git.Token), "ca.crt": git.CA}})
	create(&unstructured.Unstructured{Object: map[string]any{
		"apiVersion": v1alpha1.GroupVersion.String(), "kind": "ClusterSecretStore", "metadata": map[string]any{"name": "vault"},
		"spec": map[string]any{"vault": map[string]any{
			"address": "https://vault", "auth": map[string]any{"kubernetes": map[string]any{"role": "pay"}}}}}})
	create(&v1alpha1.Environment{ObjectMeta: metav1.ObjectMeta{Name: "prod"}, Spec: v1alpha1.EnvironmentSpec{
		NamespaceSelector: metav1.LabelSelector{MatchLabels: map[string]string{"env": "prod"}},
		Stores:            []string{"vault"}, Root: "kv/{{ .Environment }}/{{ .Namespace }}", Paths: []string{"kv/{{ .Environment }}/{{ .Namespace }}/**"},
		Sealing: &v1alpha1.Sealing{Git: v1alpha1.SealingGit{URL: git.HTTPS, CredentialsRef: v1alpha1.SecretRef{Name: "git"}}}}})
	asked := &v1alpha1.SecretClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "pay", Name: "db"},
		Spec: v1alpha1.SecretClaimSpec{Sources: []v1alpha1.Source{{Path: "db"}}, Seal: true}}
	create(asked)
	key, err := seal.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	says := func(is metav1.ConditionStatus, mention string, commits int) {
		t.Helper()
		brokertest.Eventually(t, 20*time.Second, func(ctx context.Context) error {
			if err := api.Get(ctx, client.ObjectKeyFromObject(asked), asked); err != nil {
				return err
			}
			got := meta.FindStatusCondition(asked.Status.Conditions, v1alpha1.ConditionSealed)
			if got == nil || got.Status != is || !strings.Contains(got.Message, mention) || len(git.Commits()) != commits {
				return fmt.Errorf("Sealed is %+v and the commits %q, want %s mentioning %q and %d", got, git.Commits(), is, mention, commits)
			}
			return nil
		})
	}

	// A git server that is down keeps nobody from the Secret.
	git.Down(true)
	runClaims(t, access, api, store, oneKey{key})
	says(metav1.ConditionFalse, "tried again", 0)
	if !meta.IsStatusConditionTrue(asked.Status.Conditions, v1alpha1.ConditionReady) {
		t.Errorf("the claim waits for git: %+v", asked.Status.Conditions)
	}
	git.Down(false)
	says(metav1.ConditionTrue, "sequence 0", 1)

	store.Set(path, map[string]any{"password": "two"})
	brokertest.Eventually(t, 20*time.Second, func(ctx context.Context) error {
		if err := api.Get(ctx, client.ObjectKeyFromObject(asked), asked); err != nil || asked.Status.Sequence == 0 {
			return fmt.Errorf("sequence %d: %w", asked.Status.Sequence, err)
		}
		return nil
	})
	says(metav1.ConditionTrue, fmt.Sprint("sequence ", asked.Status.Sequence), 2)

	version := asked.ResourceVersion
	brokertest.Throughout(t, 4*time.Second, func(ctx context.Context) error {
		if err := api.Get(ctx, client.ObjectKeyFromObject(asked), asked); err != nil || asked.ResourceVersion != version {
			return fmt.Errorf("the claim moved: %+v %w", asked.Status, err)
		}
		return nil
	})
}
