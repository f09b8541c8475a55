package claim_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/privyseal/privyseal/broker/brokertest"
	"github.com/privyseal/privyseal/broker/claim"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

const within = 20 * time.Second

// daemon runs the controllers that make claims until stop is called.
func daemon(t *testing.T, access *rest.Config, api client.Client) (stop func()) {
	t.Helper()
	again := true // a second daemon of one process has controllers of the same names
	mgr, err := ctrl.NewManager(access, ctrl.Options{
		Scheme: api.Scheme(), Metrics: metricsserver.Options{BindAddress: "0"},
		Controller: config.Controller{SkipNameValidation: &again},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := claim.SetupAnnotated(mgr, mgr.GetEventRecorder("privyseal")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(ctx) }()
	return func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the daemon ended: %v", err)
		}
	}
}

func deployment(name string, annotations map[string]string) *appsv1.Deployment {
	labels := map[string]string{"app": name}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: appsv1.DeploymentSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels, Annotations: annotations},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app"}}},
			},
		},
	}
}

func TestAnnotatedWorkloadsHaveTheirClaims(t *testing.T) {
	access, api := apiServer(t)
	asks := map[string]string{"privyseal.io/secret.db": "db"}
	one, two := deployment("one", asks), deployment("two", asks)
	for _, workload := range []*appsv1.Deployment{one, two} {
		if err := api.Create(t.Context(), workload); err != nil {
			t.Fatal(err)
		}
	}
	var made v1alpha1.SecretClaim
	owned := func(by ...string) {
		t.Helper()
		brokertest.Eventually(t, within, func(ctx context.Context) error {
			var claims v1alpha1.SecretClaimList
			if err := api.List(ctx, &claims, client.InNamespace("default")); err != nil {
				return err
			}
			if len(claims.Items) != 1 {
				return fmt.Errorf("%d claims, want 1", len(claims.Items))
			}
			made = claims.Items[0]
			var owners []string
			for _, owner := range made.OwnerReferences {
				owners = append(owners, owner.Name)
			}
			if len(owners) != len(by) {
				return fmt.Errorf("owned by %v, want %v", owners, by)
			}
			return nil
		})
	}

	// Two workloads that ask for the same have one claim.
	stop := daemon(t, access, api)
	owned("one", "two")

	// Deleted by hand, it is made again.
	gone := made
	if err := api.Delete(t.Context(), &gone); err != nil {
		t.Fatal(err)
	}
	brokertest.Eventually(t, within, func(ctx context.Context) error {
		err := api.Get(ctx, client.ObjectKeyFromObject(&gone), &made)
		if err == nil && made.UID == gone.UID {
			return errors.New("it is still the old one")
		}
		return err
	})
	owned("one", "two")

	// Edited by hand, it is left as it is, and a workload is told.
	made.Spec.Sources[0].Path = "other"
	if err := api.Update(t.Context(), &made); err != nil {
		t.Fatal(err)
	}
	brokertest.Eventually(t, within, func(ctx context.Context) error {
		var told eventsv1.EventList
		if err := api.List(ctx, &told, client.InNamespace("default")); err != nil {
			return err
		}
		for _, event := range told.Items {
			if event.Reason == "ClaimDiffers" {
				return nil
			}
		}
		return fmt.Errorf("%d events, none of which says that the claim differs", len(told.Items))
	})

	// One stops asking while no daemon runs; then the other.
	stop()
	quiet := func(workload *appsv1.Deployment) {
		t.Helper()
		before := workload.DeepCopy()
		workload.Spec.Template.Annotations = nil
		if err := api.Patch(t.Context(), workload, client.MergeFrom(before)); err != nil {
			t.Fatal(err)
		}
	}
	quiet(one)
	stop = daemon(t, access, api)
	owned("two")
	stop()
	quiet(two)
	defer daemon(t, access, api)()
	brokertest.Eventually(t, within, func(ctx context.Context) error {
		err := api.Get(ctx, client.ObjectKeyFromObject(&made), &v1alpha1.SecretClaim{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("the claim that nobody asks for is still there (%v)", err)
	})
}

// ReplicaSets that are no Deployment's, Argo's say, have pods that nothing else
// asks for. Those of a Deployment's pods ask for nothing by themselves.
func TestPodsOfAReplicaSetThatIsNoDeploymentsHaveTheirClaims(t *testing.T) {
	access, api := apiServer(t)
	asks := map[string]string{"privyseal.io/secret.db": "db"}
	yes := true
	for name, owner := range map[string]metav1.OwnerReference{
		"rollout": {APIVersion: "argoproj.io/v1alpha1", Kind: "Rollout", Name: "rollout", UID: "1", Controller: &yes},
		"web":     {APIVersion: "apps/v1", Kind: "Deployment", Name: "web", UID: "2", Controller: &yes},
	} {
		like := deployment(name, asks).Spec
		set := &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, OwnerReferences: []metav1.OwnerReference{owner}},
			Spec: appsv1.ReplicaSetSpec{Selector: like.Selector, Template: like.Template}}
		if err := api.Create(t.Context(), set); err != nil {
			t.Fatal(err)
		}
		pod := &corev1.Pod{ObjectMeta: *like.Template.ObjectMeta.DeepCopy(), Spec: like.Template.Spec}
		pod.Namespace, pod.Name = "default", name
		pod.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(set, appsv1.SchemeGroupVersion.WithKind("ReplicaSet"))}
		if err := api.Create(t.Context(), pod); err != nil {
			t.Fatal(err)
		}
	}
	stop := daemon(t, access, api)
	defer stop()
	made := func(ctx context.Context) error {
		var claims v1alpha1.SecretClaimList
		if err := api.List(ctx, &claims, client.InNamespace("default")); err != nil {
			return err
		}
		var owners []string
		for _, one := range claims.Items {
			for _, owner := range one.OwnerReferences {
				owners = append(owners, owner.Kind+"/"+owner.Name)
			}
		}
		if got := strings.Join(owners, ","); got != "Pod/rollout" {
			return fmt.Errorf("claims are owned by %q", got)
		}
		return nil
	}
	brokertest.Eventually(t, within, made)
	brokertest.Throughout(t, 2*time.Second, made)
}

func TestAnEnvironmentSaysWhatAnnotationsMayAskFor(t *testing.T) {
	access, api := apiServer(t)
	environment := environmentOf("prod", metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: "default"}})
	environment.Spec.Annotations = v1alpha1.AnnotationsExistingClaimsOnly
	asking := deployment("asking", map[string]string{"privyseal.io/secret.db": "db"})
	naming := deployment("naming", map[string]string{"privyseal.io/secret.db": "claim:mine"})
	for _, object := range []client.Object{environment, asking, naming} {
		if err := api.Create(t.Context(), object); err != nil {
			t.Fatal(err)
		}
	}
	defer daemon(t, access, api)()
	told := func(workload string) func(context.Context) error {
		return func(ctx context.Context) error {
			var events eventsv1.EventList
			if err := api.List(ctx, &events, client.InNamespace("default")); err != nil {
				return err
			}
			for _, event := range events.Items {
				if event.Reason == v1alpha1.ReasonAnnotationNotAllowed && event.Regarding.Name == workload &&
					strings.HasPrefix(event.Note, "annotation privyseal.io/secret.db: annotation not allowed: environment prod takes") {
					return nil
				}
			}
			return fmt.Errorf("%d events, none of which tells %s", len(events.Items), workload)
		}
	}
	claims := func(want int) func(context.Context) error {
		return func(ctx context.Context) error {
			var claims v1alpha1.SecretClaimList
			if err := api.List(ctx, &claims, client.InNamespace("default")); err != nil {
				return err
			}
			if len(claims.Items) != want {
				return fmt.Errorf("%d claims, want %d", len(claims.Items), want)
			}
			return nil
		}
	}
	allow := func(policy v1alpha1.AnnotationPolicy) {
		t.Helper()
		before := environment.DeepCopy()
		environment.Spec.Annotations = policy
		if err := api.Patch(t.Context(), environment, client.MergeFrom(before)); err != nil {
			t.Fatal(err)
		}
	}

	// A path makes no claim, and the workload is told; one that names a claim
	// has nothing to be told.
	brokertest.Eventually(t, within, told("asking"))
	if told("naming")(t.Context()) == nil {
		t.Error("a workload that names an existing claim is refused")
	}
	if err := claims(0)(t.Context()); err != nil {
		t.Error(err)
	}

	// The environment changes, and workloads are looked at again.
	allow("")
	brokertest.Eventually(t, within, claims(1))

	// A claim that is there stays while it is named, whatever may be asked for
	// now, and goes when it is named no more.
	allow(v1alpha1.AnnotationsDeny)
	brokertest.Eventually(t, within, told("naming"))
	if err := claims(1)(t.Context()); err != nil {
		t.Error(err)
	}
	before := asking.DeepCopy()
	asking.Spec.Template.Annotations = nil
	if err := api.Patch(t.Context(), asking, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
	brokertest.Eventually(t, within, claims(0))
}

func TestAnEnvironmentsNewFieldsAreChecked(t *testing.T) {
	_, api := apiServer(t)
	for sentence, row := range map[string]struct {
		annotations v1alpha1.AnnotationPolicy
		delivery    []v1alpha1.Delivery
		says        string // nothing: it is taken
	}{
		"nothing at all":       {"", nil, ""},
		"every word":           {v1alpha1.AnnotationsDeny, []v1alpha1.Delivery{v1alpha1.DeliverVolume, v1alpha1.DeliverEnv}, ""},
		"another policy":       {"Maybe", nil, "spec.annotations: Unsupported value"},
		"another way":          {"", []v1alpha1.Delivery{"csi"}, "spec.delivery[0]: Unsupported value"},
		"one way twice":        {"", []v1alpha1.Delivery{v1alpha1.DeliverEnv, v1alpha1.DeliverEnv}, "spec.delivery[1]: Duplicate value"},
		"no default is put in": {"", nil, ""},
	} {
		environment := environmentOf("e-"+strings.ReplaceAll(sentence, " ", "-"), metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}})
		environment.Spec.Annotations, environment.Spec.Delivery = row.annotations, row.delivery
		err := api.Create(t.Context(), environment)
		if (err == nil) != (row.says == "") || err != nil && !strings.Contains(err.Error(), row.says) {
			t.Errorf("%s: %v, not %q", sentence, err, row.says)
		}
		if environment.Spec.Annotations != row.annotations || len(environment.Spec.Delivery) != len(row.delivery) {
			t.Errorf("%s: it has become %+v", sentence, environment.Spec)
		}
	}
}
