package claim_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
	"sigs.k8s.io/yaml"

	"github.com/privyseal/privyseal/broker/brokertest"
	"github.com/privyseal/privyseal/broker/claim"
	"github.com/privyseal/privyseal/broker/installkey"
	"github.com/privyseal/privyseal/broker/restart"
	"github.com/privyseal/privyseal/broker/target"
	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/providers"
	"github.com/privyseal/privyseal/providers/memory"
)

// claims runs the line for claims until the test ends, with the cache of
// Secrets as the daemon has it.
func claims(t *testing.T, access *rest.Config, api client.Client, store *memory.Store) {
	t.Helper()
	again := true
	mgr, err := ctrl.NewManager(access, ctrl.Options{
		Scheme: api.Scheme(), Metrics: metricsserver.Options{BindAddress: "0"},
		Controller: config.Controller{SkipNameValidation: &again},
		Cache: cache.Options{ByObject: map[client.Object]cache.ByObject{
			&corev1.Secret{}: {Transform: restart.KeepMetadata},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	keys := installkey.NewKeeper(installkey.Config{Reader: api, Writer: api, Namespace: "kube-public"})
	reconciler := claim.New(claim.Config{
		Line: &claim.Line{
			Gatherer: claim.Gatherer{Cache: mgr.GetCache()},
			Store:    anyone{store}, Restarts: nobody{},
			Targets: target.NewWriter(target.Config{
				Metadata: mgr.GetCache(), Live: api, Writer: api, Keys: keys, Clock: clock.RealClock{}, DaemonNamespace: "kube-public",
			}),
		},
		Client: mgr.GetClient(), Metadata: mgr.GetCache(), Events: mgr.GetEventRecorder("privyseal"), Clock: clock.RealClock{},
	})
	ctx, cancel := context.WithCancel(t.Context())
	if err := reconciler.SetupWithManager(ctx, mgr, make(chan event.TypedGenericEvent[types.NamespacedName])); err != nil {
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

func ref(t *testing.T, path string) providers.Ref {
	t.Helper()
	parsed, err := providers.ParseRef(path)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

// platform makes what a platform team does: a namespace in an environment, with
// a store. It gives what makes more objects.
func platform(t *testing.T, api client.Client, namespace string) (create func(client.Object)) {
	t.Helper()
	create = func(object client.Object) {
		t.Helper()
		if err := api.Create(t.Context(), object); err != nil {
			t.Fatal(err)
		}
	}
	create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace, Labels: map[string]string{"env": "prod"}}})
	create(&unstructured.Unstructured{Object: map[string]any{
		"apiVersion": v1alpha1.GroupVersion.String(), "kind": "ClusterSecretStore",
		"metadata": map[string]any{"name": "vault"},
		"spec": map[string]any{"vault": map[string]any{
			"address": "https://vault", "auth": map[string]any{"kubernetes": map[string]any{"role": "pay"}}}},
	}})
	create(&v1alpha1.Environment{ObjectMeta: metav1.ObjectMeta{Name: "prod"}, Spec: v1alpha1.EnvironmentSpec{
		NamespaceSelector: metav1.LabelSelector{MatchLabels: map[string]string{"env": "prod"}},
		Stores:            []string{"vault"},
		Root:              "kv/{{ .Environment }}/{{ .Namespace }}",
		Paths:             []string{"kv/{{ .Environment }}/{{ .Namespace }}/**"}}})
	return create
}

// becomes waits until a claim's Ready condition is this.
func becomes(t *testing.T, api client.Client, asked *v1alpha1.SecretClaim, is metav1.ConditionStatus, reason, mention string) {
	t.Helper()
	brokertest.Eventually(t, within, func(ctx context.Context) error {
		if err := api.Get(ctx, client.ObjectKeyFromObject(asked), asked); err != nil {
			return err
		}
		got := meta.FindStatusCondition(asked.Status.Conditions, v1alpha1.ConditionReady)
		if got == nil || got.Status != is || got.Reason != reason || !strings.Contains(got.Message, mention) {
			return fmt.Errorf("Ready is %+v, want %s %s mentioning %q", got, is, reason, mention)
		}
		return nil
	})
}

func TestAClaimMergesIntoASecretOfSomebodyElses(t *testing.T) {
	access, api := apiServer(t)
	store := &memory.Store{}
	store.Set(ref(t, "kv/prod/pay/db"), map[string]any{"password": "one"})
	create := platform(t, api, "pay")
	asked := &v1alpha1.SecretClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "pay", Name: "db"}, Spec: v1alpha1.SecretClaimSpec{
		Sources: []v1alpha1.Source{{Path: "db"}}, Target: &v1alpha1.Target{Name: "app", Mode: v1alpha1.MergeTarget}}}
	create(asked)
	ready := func(is metav1.ConditionStatus, reason, mention string) {
		t.Helper()
		becomes(t, api, asked, is, reason, mention)
	}
	claims(t, access, api, store)

	// The Secret is waited for, and found as soon as somebody makes it.
	ready(metav1.ConditionFalse, v1alpha1.ReasonTargetNotFound, "pay/app")
	theirs := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "pay", Name: "app"}, Data: map[string][]byte{"host": []byte("db.pay")}}
	create(theirs)
	ready(metav1.ConditionTrue, v1alpha1.ReasonSynced, "app")

	// A key that somebody writes over is named with who did it, and left.
	edit := func(manager string, change func(*corev1.Secret)) {
		t.Helper()
		if err := api.Get(t.Context(), client.ObjectKeyFromObject(theirs), theirs); err != nil {
			t.Fatal(err)
		}
		change(theirs)
		if err := api.Update(t.Context(), theirs, client.FieldOwner(manager)); err != nil {
			t.Fatal(err)
		}
	}
	edit("kubectl-edit", func(s *corev1.Secret) { s.Data["password"] = []byte("edited") })
	ready(metav1.ConditionFalse, v1alpha1.ReasonTargetConflict, `key password: conflict with "kubectl-edit"`)
	if asked.Status.Target == nil || asked.Status.Target.Name != "app" {
		t.Errorf("the conflict forgot the target: %+v", asked.Status)
	}
	edit("kubectl-edit", func(s *corev1.Secret) { delete(s.Data, "password") })
	ready(metav1.ConditionTrue, v1alpha1.ReasonSynced, "app")

	// The claim goes, and everything stays.
	if err := api.Delete(t.Context(), asked); err != nil {
		t.Fatal(err)
	}
	if err := api.Get(t.Context(), client.ObjectKeyFromObject(theirs), theirs); err != nil {
		t.Fatal(err)
	}
	if string(theirs.Data["password"]) != "one" || string(theirs.Data["host"]) != "db.pay" || len(theirs.OwnerReferences) != 0 {
		t.Errorf("after the claim was deleted the Secret has %d keys and owners %v", len(theirs.Data), theirs.OwnerReferences)
	}
}

// The example, as far as an API server without nodes can take it.
func TestTheExampleOfAMergedSecret(t *testing.T) {
	access, api := apiServer(t)
	store := &memory.Store{}
	store.Set(ref(t, "kv/prod/payments/smtp"), map[string]any{"password": "correct-horse"})
	create := platform(t, api, "payments")
	file, err := os.ReadFile(filepath.Join(brokertest.Root(t), "examples/merge-into-existing/app.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, document := range strings.Split(string(file), "\n---\n") {
		object := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(document), object); err != nil {
			t.Fatal(err)
		}
		create(object)
	}
	claims(t, access, api, store)
	asked := &v1alpha1.SecretClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "payments", Name: "mailer-password"}}
	becomes(t, api, asked, metav1.ConditionTrue, v1alpha1.ReasonSynced, "mailer")
	secret := &corev1.Secret{}
	if err := api.Get(t.Context(), client.ObjectKey{Namespace: "payments", Name: "mailer"}, secret); err != nil {
		t.Fatal(err)
	}
	if host, password := string(secret.Data["SMTP_HOST"]), string(secret.Data["SMTP_PASSWORD"]); host != "smtp.example.com" || password != "correct-horse" {
		t.Errorf("the Secret holds %q and %q", host, password)
	}
}
