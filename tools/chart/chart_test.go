package chart

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
)

func TestEveryObjectIsReadStrictlyAndThereOnce(t *testing.T) {
	clusterScoped := []string{"ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition", "MutatingWebhookConfiguration",
		"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"}
	eachSet(t, func(t *testing.T, objects []object) {
		seen := map[string]bool{}
		for _, o := range objects {
			if seen[o.String()] {
				t.Errorf("%s is rendered twice", o)
			}
			seen[o.String()] = true
			if (o.GetNamespace() == "") != slices.Contains(clusterScoped, o.kind) {
				t.Errorf("%s: its namespace is %q", o, o.GetNamespace())
			}
		}
	})
}

func TestWhatIsSwitchedOffIsNotRendered(t *testing.T) {
	objects := rendered(t, sets["all off"])
	for _, o := range objects {
		switch o.Typed.(type) {
		case *apiextensionsv1.CustomResourceDefinition, *admissionv1.MutatingWebhookConfiguration,
			*admissionv1.ValidatingAdmissionPolicy, *policyv1.PodDisruptionBudget, *networkingv1.NetworkPolicy, *corev1.Service, *corev1.Secret:
			t.Errorf("%s is there", o)
		}
		if strings.Contains(o.GetName(), "webhook") {
			t.Errorf("%s is there", o)
		}
	}
}

func TestCRDsAreSmallStayWithoutTheReleaseAndKeepTheirTemplateSyntax(t *testing.T) {
	examples := map[string]string{
		"clustersecretstores.privyseal.io": `"privyseal-{{ .Namespace }}"`,
		"environments.privyseal.io":        `"kv/{{ .Environment }}/{{ .Namespace }}"`,
		"secretstores.privyseal.io":        `"privyseal-{{ .Namespace }}"`,
		"sealedsecrets.bitnami.com":        `encryptedData`,
		"secretrotations.privyseal.io":     `privyseal.io/rotation-order`,
		"secretclaims.privyseal.io":        `"postgres://{{ .username }}:{{ .password | urlquery }}@db/pay"`,
	}
	found := 0
	for _, o := range rendered(t, "") {
		if o.kind != "CustomResourceDefinition" {
			continue
		}
		found++
		if size := len(o.text); size > 64<<10 {
			t.Errorf("%s is %d bytes; a definition is at most 64 KiB", o, size)
		}
		if policy := o.GetAnnotations()["helm.sh/resource-policy"]; policy != "keep" {
			t.Errorf("%s: its resource-policy is %q", o, policy)
		}
		if example := examples[o.GetName()]; !strings.Contains(o.text, example) {
			t.Errorf("%s does not hold %s", o, example)
		}
	}
	if found != len(examples) {
		t.Errorf("%d definitions, want %d", found, len(examples))
	}
}

func TestTheProgramsOwnWritesAreLeftToIt(t *testing.T) {
	objects := rendered(t, "")
	for _, webhook := range of[*admissionv1.MutatingWebhookConfiguration](objects)[0].Webhooks {
		if webhook.ClientConfig.CABundle != nil {
			t.Error("the template sets caBundle, so an upgrade would take it back")
		}
	}
	for _, secret := range of[*corev1.Secret](objects) {
		if secret.Data != nil || secret.StringData != nil {
			t.Errorf("the template sets content of Secret %s, so an upgrade would take it back", secret.Name)
		}
		if secret.Name == "privyseal-install-key" {
			t.Error("the install key is part of the release, so an uninstall would drop it")
		}
	}
}

func TestTheWebhookNeverHoldsUpWhatDoesNotAskForIt(t *testing.T) {
	webhook := of[*admissionv1.MutatingWebhookConfiguration](rendered(t, ""))[0].Webhooks[0]
	if *webhook.FailurePolicy != admissionv1.Ignore {
		t.Errorf("failurePolicy is %s", *webhook.FailurePolicy)
	}
	if *webhook.SideEffects != admissionv1.SideEffectClassNone {
		t.Errorf("sideEffects is %s", *webhook.SideEffects)
	}
	if *webhook.TimeoutSeconds > 5 {
		t.Errorf("timeoutSeconds is %d", *webhook.TimeoutSeconds)
	}
	if rules := webhook.Rules; len(rules) != 1 || !slices.Equal(rules[0].Operations, []admissionv1.OperationType{admissionv1.Create}) ||
		!slices.Equal(rules[0].Resources, []string{"pods"}) {
		t.Errorf("rules are %+v", rules)
	}
	if len(webhook.MatchConditions) != 1 || !strings.Contains(webhook.MatchConditions[0].Expression, "privyseal.io/secret.") {
		t.Errorf("matchConditions are %+v", webhook.MatchConditions)
	}
	left := webhook.NamespaceSelector.MatchExpressions[0]
	for _, name := range []string{namespace, "kube-system", "kube-node-lease"} {
		if left.Operator != "NotIn" || !slices.Contains(left.Values, name) {
			t.Errorf("namespace %s is not left out", name)
		}
	}
}

func TestEveryPolicyIsBoundAndRefuses(t *testing.T) {
	eachSet(t, func(t *testing.T, objects []object) {
		bindings := map[string]*admissionv1.ValidatingAdmissionPolicyBinding{}
		for _, binding := range of[*admissionv1.ValidatingAdmissionPolicyBinding](objects) {
			bindings[binding.Spec.PolicyName] = binding
		}
		for _, policy := range of[*admissionv1.ValidatingAdmissionPolicy](objects) {
			if binding := bindings[policy.Name]; binding == nil || !slices.Equal(binding.Spec.ValidationActions, []admissionv1.ValidationAction{admissionv1.Deny}) {
				t.Errorf("%s: its binding is %+v", policy.Name, binding)
			}
			if *policy.Spec.FailurePolicy != admissionv1.Fail {
				t.Errorf("%s: failurePolicy is %s", policy.Name, *policy.Spec.FailurePolicy)
			}
		}
	})
}

// Where no webhook puts secrets in, a policy that wants them there would refuse
// every pod that asks; where both are there, they mean the same namespaces.
func TestThePolicyOnInjectionGoesWithTheWebhook(t *testing.T) {
	injected := func(values string) *admissionv1.ValidatingAdmissionPolicy {
		for _, policy := range of[*admissionv1.ValidatingAdmissionPolicy](rendered(t, values)) {
			if policy.Name == "privyseal-injected" {
				return policy
			}
		}
		return nil
	}
	if injected(`webhook: {enabled: false}`) != nil {
		t.Error("it is there without the webhook")
	}
	for name, values := range map[string]string{"default": sets["default"], "namespaced": sets["namespaced"]} {
		webhook := of[*admissionv1.MutatingWebhookConfiguration](rendered(t, values))[0].Webhooks[0]
		if policy := injected(values); policy == nil || !reflect.DeepEqual(policy.Spec.MatchConstraints.NamespaceSelector, webhook.NamespaceSelector) {
			t.Errorf("%s: other namespaces than the webhook's", name)
		}
	}
}

func TestValuesThatNothingReadsAreRefused(t *testing.T) {
	for _, values := range []string{
		`replicas: 2`,
		`image: {registry: example.org}`,
		`crds: {install: true}`,
		`serve: {enabled: false}`,
		`serve: {resources: {claims: [{name: gpu}]}}`,
		`serve: {resources: {limits: null}}`,
		`webhook: {replica: 2}`,
		`networkPolicy: {vault: {cidr: [10.0.0.0/8]}}`,
		`networkPolicy: {vault: {cidrs: [vault.example.org]}}`,
		`networkPolicy: {metrics: {from: [{}]}}`,
		`podDisruptionBudget: {minAvailable: 1}`,
		`vault: {addresses: ["https://vault:8200"]}`,
		`vault: {allowedAddresses: ["https://vault"]}`,
		`vault: {allowedAddresses: ["https://vault:8200/"]}`,
		`vault: {allowedAddresses: ["https://user@vault:8200"]}`,
		`vault: {allowedAddresses: ["*"]}`,
		`sealedSecrets: {keynamespace: kube-system}`,
		`sealedSecrets: {keyRenewal: 30d}`,
		`sealedSecrets: {keyCutoff: yesterday}`,
		`sealedSecrets: {allowedMetadata: ["a,b"]}`,
		`reloader: {autoReloadAll: true}`,
		`logLevel: verbose`,
		`namespaces: payments`,
		`namespaces: [pay_ments]`,
		`namespaces: ["*"]`,
		`serviceAccountNames: []`,
		`serviceAccountNames: [default]`,
	} {
		t.Run(values, func(t *testing.T) {
			if _, err := render(t, values); err == nil {
				t.Error("rendered, want an error")
			}
		})
	}
}

// A default that is not written down is in no table and nobody finds it.
func TestEveryValueOfTheSchemaIsInTheValuesFile(t *testing.T) {
	type schema struct {
		Properties map[string]json.RawMessage
	}
	source, err := os.ReadFile(filepath.Join(folder, "values.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	var visit func(path string, source []byte, values map[string]any)
	visit = func(path string, source []byte, values map[string]any) {
		var s schema
		if err := json.Unmarshal(source, &s); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		for name, below := range s.Properties {
			value, there := values[name]
			if !there && path+name != "global" {
				t.Errorf("%s%s is in the schema and not in values.yaml", path, name)
			}
			if inner, ok := value.(map[string]any); ok && len(inner) > 0 {
				visit(path+name+".", below, inner)
			}
		}
	}
	visit("", source, load(t).Values)
}

func TestTheNotesRender(t *testing.T) {
	for name, values := range sets {
		t.Run(name, func(t *testing.T) {
			files, err := render(t, values)
			if err != nil {
				t.Fatal(err)
			}
			if notes := files["privyseal/templates/NOTES.txt"]; !strings.Contains(notes, "SecretClaim") {
				t.Errorf("the notes are %q", notes)
			}
		})
	}
}
