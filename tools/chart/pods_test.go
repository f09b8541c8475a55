package chart

import (
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

func TestEveryPodPassesThePodSecurityLevelRestricted(t *testing.T) {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	restricted := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	eachSet(t, func(t *testing.T, objects []object) {
		for _, deployment := range of[*appsv1.Deployment](objects) {
			pod := deployment.Spec.Template
			result := policy.AggregateCheckResults(evaluator.EvaluatePod(restricted, &pod.ObjectMeta, &pod.Spec))
			if !result.Allowed {
				t.Errorf("%s: %s", deployment.Name, result.ForbiddenDetail())
			}
		}
	})
}

func TestEveryContainerIsReadOnlyAndBounded(t *testing.T) {
	eachSet(t, func(t *testing.T, objects []object) {
		for _, deployment := range of[*appsv1.Deployment](objects) {
			pod := deployment.Spec.Template.Spec
			for _, container := range slices.Concat(pod.InitContainers, pod.Containers) {
				if readOnly := container.SecurityContext.ReadOnlyRootFilesystem; readOnly == nil || !*readOnly {
					t.Errorf("%s: its root file system can be written", deployment.Name)
				}
				for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
					request, limit := container.Resources.Requests[name], container.Resources.Limits[name]
					if request.IsZero() || limit.IsZero() {
						t.Errorf("%s: no request or no limit of %s", deployment.Name, name)
					}
				}
				if container.LivenessProbe == nil || container.ReadinessProbe == nil {
					t.Errorf("%s: no probes", deployment.Name)
				}
			}
		}
	})
}

func TestTokensAreMountedByThePodAndNotByTheServiceAccount(t *testing.T) {
	eachSet(t, func(t *testing.T, objects []object) {
		for _, account := range of[*corev1.ServiceAccount](objects) {
			if mount := account.AutomountServiceAccountToken; mount == nil || *mount {
				t.Errorf("service account %s mounts its token in every pod", account.Name)
			}
		}
		for _, deployment := range of[*appsv1.Deployment](objects) {
			if mount := deployment.Spec.Template.Spec.AutomountServiceAccountToken; mount == nil || !*mount {
				t.Errorf("the pods of %s have no token", deployment.Name)
			}
		}
	})
}

func TestTheImageNamesNoRegistry(t *testing.T) {
	want := "privyseal/privyseal:" + load(t).AppVersion()
	for _, deployment := range of[*appsv1.Deployment](rendered(t, "")) {
		if image := deployment.Spec.Template.Spec.Containers[0].Image; image != want {
			t.Errorf("%s: image %s, want %s", deployment.Name, image, want)
		}
	}
}

func TestArgumentsReachTheProgramWhole(t *testing.T) {
	deployments := of[*appsv1.Deployment](rendered(t, sets["all given"]))
	i := slices.IndexFunc(deployments, func(d *appsv1.Deployment) bool { return d.Name == "privyseal" })
	got := strings.Join(deployments[i].Spec.Template.Spec.Containers[0].Args, "|")
	want := "serve|--namespace=$(POD_NAMESPACE)|--log-level=debug|--namespaces=payments|--allowed-address=https://vault.vault.svc:8200|--allowed-address=https://[2001:db8::1]:443|--dev-allow-http|--max-concurrent-restarts=7|--kubeseal-address=:8082|--sealing-key-namespace=sealing|--sealing-key-renewal=24h|--sealing-key-cutoff=2026-01-31T00:00:00Z|--argo-rollouts|--reloader|--reloader-auto-reload-all|--one=1|--two=a b"
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// Selectors are written apart from the labels they mean.
func TestEverySelectorChoosesThePodsOfOneDeployment(t *testing.T) {
	eachSet(t, func(t *testing.T, objects []object) {
		deployments := of[*appsv1.Deployment](objects)
		check := func(name string, selector labels.Selector) {
			t.Helper()
			chosen := 0
			for _, deployment := range deployments {
				if selector.Matches(labels.Set(deployment.Spec.Template.Labels)) {
					chosen++
				}
			}
			if chosen != 1 {
				t.Errorf("%s chooses the pods of %d Deployments", name, chosen)
			}
		}
		for _, d := range deployments {
			check("Deployment "+d.Name, selectorOf(t, d.Spec.Selector))
			for _, constraint := range d.Spec.Template.Spec.TopologySpreadConstraints {
				check("the spread of "+d.Name, selectorOf(t, constraint.LabelSelector))
			}
		}
		for _, s := range of[*corev1.Service](objects) {
			check("Service "+s.Name, labels.SelectorFromSet(s.Spec.Selector))
		}
		for _, b := range of[*policyv1.PodDisruptionBudget](objects) {
			check("PodDisruptionBudget "+b.Name, selectorOf(t, b.Spec.Selector))
		}
		for _, p := range of[*networkingv1.NetworkPolicy](objects) {
			check("NetworkPolicy "+p.Name, selectorOf(t, &p.Spec.PodSelector))
		}
	})
}

func selectorOf(t *testing.T, selector *metav1.LabelSelector) labels.Selector {
	t.Helper()
	parsed, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}
