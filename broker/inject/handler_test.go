package inject_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/privyseal/privyseal/broker/inject"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// claims by namespace/name; a nil one cannot be read.
type claims map[string]*v1alpha1.SecretClaim

func (c claims) Get(_ context.Context, key client.ObjectKey, object client.Object, _ ...client.GetOption) error {
	claim, there := c[key.String()]
	switch {
	case !there:
		return apierrors.NewNotFound(schema.GroupResource{Resource: "secretclaims"}, key.Name)
	case claim == nil:
		return errors.New("connection refused")
	}
	claim.DeepCopyInto(object.(*v1alpha1.SecretClaim))
	return nil
}

func claim(name, target string, synced bool, sequence int64) *v1alpha1.SecretClaim {
	claim := &v1alpha1.SecretClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "pay", Name: name}}
	if target != "" {
		claim.Spec.Target = &v1alpha1.Target{Name: target}
	}
	claim.Status.Sequence = sequence
	if synced {
		claim.Status.Target = &v1alpha1.TargetStatus{Name: target}
	}
	return claim
}

// handler has the claims given, and the namespaces and environments around.
func handler(t *testing.T, cached, live claims, around ...client.Object) *inject.Handler {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	h := &inject.Handler{
		Decoder: admission.NewDecoder(scheme), Claims: cached,
		Environments: fake.NewClientBuilder().WithScheme(scheme).WithObjects(around...).Build(),
	}
	if live != nil {
		h.Live = live
	}
	return h
}

func review(t *testing.T, pod *corev1.Pod) admission.Request {
	t.Helper()
	pod.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}
	return admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{
		UID: "u", Operation: admissionv1.Create, Namespace: "pay",
		Resource: metav1.GroupVersionResource{Version: "v1", Resource: "pods"},
		Object:   runtime.RawExtension{Raw: mustJSON(t, pod)},
	}}
}

func TestHandlerFindsTargets(t *testing.T) {
	for sentence, row := range map[string]struct {
		annotation   string
		cached, live claims
		secret       string
		startedWith  string
	}{
		"a claim yet to be made: its name is known":           {"db", nil, nil, "db-4452e219", ""},
		"a claim made and not synced: it has no sequence yet": {"db", claims{"pay/db-4452e219": claim("db-4452e219", "", false, 0)}, nil, "db-4452e219", ""},
		"a claim with its first content":                      {"db", claims{"pay/db-4452e219": claim("db-4452e219", "", true, 0)}, nil, "db-4452e219", "db-4452e219=0"},
		"a named claim":                                       {"claim:db", claims{"pay/db": claim("db", "", true, 7)}, nil, "db", "db=7"},
		"a named claim with a target of another name":         {"claim:db", claims{"pay/db": claim("db", "pg", true, 7)}, nil, "pg", "pg=7"},
		"a named claim that the cache does not have yet":      {"claim:db", nil, claims{"pay/db": claim("db", "pg", false, 0)}, "pg", ""},
	} {
		t.Run(sentence, func(t *testing.T) {
			pod := podOf("secret.db: " + row.annotation)
			response := handler(t, row.cached, row.live).Handle(t.Context(), review(t, pod))
			if !response.Allowed {
				t.Fatalf("denied: %v", response.Result)
			}
			out := applied(t, pod, response.Patches)
			if got := out.Spec.Volumes[0].Secret.SecretName; got != row.secret {
				t.Errorf("points at %s, not %s", got, row.secret)
			}
			if got := out.Annotations[v1alpha1.AnnotationStartedWith]; got != row.startedWith {
				t.Errorf("started-with %q, not %q", got, row.startedWith)
			}
		})
	}
}

func TestHandlerDenies(t *testing.T) {
	for sentence, row := range map[string]struct {
		pod    *corev1.Pod
		cached claims
		code   int32
		says   string
	}{
		"a mistake in an annotation": {podOf("secret.db: ../x"), nil, 403, "privyseal.io/secret.db"},
		"a claim that is not there": {podOf("secret.db: claim:db"), nil, 403,
			"annotation privyseal.io/secret.db: no such SecretClaim: namespace pay has none named db; create it"},
		"a claim in another namespace":  {podOf("secret.db: claim:db"), claims{"other/db": claim("db", "", true, 1)}, 403, "namespace pay has none"},
		"every claim that is not there": {podOf("secret.a: claim:a", "secret.b: claim:b"), nil, 403, "none named b"},
		"a variable in the way":         {withEnv("USER").of(podOf("secret.db: db", "env.db: user=USER")), nil, 403, "privyseal.io/env.db"},
		"a claim that cannot be read":   {podOf("secret.db: db"), claims{"pay/db-4452e219": nil}, 503, "reading SecretClaim db-4452e219"},
	} {
		response := handler(t, row.cached, claims{}).Handle(t.Context(), review(t, row.pod))
		if response.Allowed || response.Result.Code != row.code || !strings.Contains(response.Result.Message, row.says) {
			t.Errorf("%s: %v, not %d %q", sentence, response.Result, row.code, row.says)
		}
	}
}

// environmentOf selects namespace pay.
func environmentOf(name string, annotations v1alpha1.AnnotationPolicy, delivery ...v1alpha1.Delivery) *v1alpha1.Environment {
	return &v1alpha1.Environment{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.EnvironmentSpec{
		NamespaceSelector: metav1.LabelSelector{MatchLabels: map[string]string{"stage": "live"}},
		Annotations:       annotations, Delivery: delivery,
	}}
}

func TestHandlerHeedsTheEnvironment(t *testing.T) {
	const deny, existing, allow = v1alpha1.AnnotationsDeny, v1alpha1.AnnotationsExistingClaimsOnly, v1alpha1.AnnotationsAllow
	const files, variables = v1alpha1.DeliverVolume, v1alpha1.DeliverEnv
	for sentence, row := range map[string]struct {
		environment *v1alpha1.Environment
		pod         *corev1.Pod
		says        []string // nothing: the pod is taken
	}{
		"one that says nothing takes a path":             {environmentOf("prod", ""), podOf("secret.db: db"), nil},
		"one that allows takes a path":                   {environmentOf("prod", allow), podOf("secret.db: db", "env.db: *"), nil},
		"one for existing claims takes one":              {environmentOf("prod", existing), podOf("secret.db: claim:db"), nil},
		"one for existing claims refuses a path":         {environmentOf("prod", existing), podOf("secret.db: db"), []string{"annotation privyseal.io/secret.db:", "environment prod", `write "claim:NAME"`}},
		"one for existing claims names each of its kind": {environmentOf("prod", existing), podOf("secret.a: a", "secret.db: claim:db", "secret.c: c"), []string{"secret.a:", "secret.c:"}},
		"one that denies refuses a path":                 {environmentOf("prod", deny), podOf("secret.db: db"), []string{"annotation privyseal.io/secret.db:", "environment prod takes no annotations", "make a SecretClaim"}},
		"one that denies refuses an existing claim":      {environmentOf("prod", deny), podOf("secret.db: claim:db"), []string{"environment prod takes no annotations"}},
		"one that denies does not ask for a claim first": {environmentOf("prod", deny), podOf("secret.db: claim:pg"), []string{"environment prod takes no annotations"}},
		"files only takes files":                         {environmentOf("prod", "", files), podOf("secret.db: db", "volume.db: /x"), nil},
		"files only takes the default":                   {environmentOf("prod", "", files), podOf("secret.db: db"), nil},
		"files only refuses variables":                   {environmentOf("prod", "", files), podOf("secret.db: db", "env.db: *"), []string{"annotation privyseal.io/env.db:", "environment prod gives secrets as volume only", "/etc/secrets/db"}},
		"variables only takes variables":                 {environmentOf("prod", "", variables), podOf("secret.db: db", "env.db: *"), nil},
		"variables only refuses files":                   {environmentOf("prod", "", variables), podOf("secret.db: db", "env.db: *", "volume.db: /x"), []string{"annotation privyseal.io/volume.db:", "as env only", "write privyseal.io/env.db"}},
		"variables only refuses files by default":        {environmentOf("prod", "", variables), podOf("secret.db: db"), []string{"annotation privyseal.io/secret.db:", "as env only", "without privyseal.io/env.db"}},
		"both ways takes both":                           {environmentOf("prod", "", variables, files), podOf("secret.db: db", "env.db: *", "volume.db: /x"), nil},
	} {
		t.Run(sentence, func(t *testing.T) {
			pay := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "pay", Labels: map[string]string{"stage": "live"}}}
			response := handler(t, claims{"pay/db": claim("db", "", true, 1)}, nil, pay, row.environment).Handle(t.Context(), review(t, row.pod))
			if response.Allowed != (row.says == nil) {
				t.Fatalf("%v", response.Result)
			}
			for _, words := range row.says {
				if !strings.Contains(response.Result.Message, words) || response.Result.Code != 403 {
					t.Errorf("%v, without %q", response.Result, words)
				}
			}
		})
	}
}

// Where it is not known which environment a pod is in, it is let through, and
// its claim says so.
func TestHandlerLetsThroughWhatIsInNoEnvironmentOrTwo(t *testing.T) {
	pay := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "pay", Labels: map[string]string{"stage": "live"}}}
	other := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "pay"}}
	deny := environmentOf("prod", v1alpha1.AnnotationsDeny)
	for sentence, around := range map[string][]client.Object{
		"none":                            {other, deny},
		"two":                             {pay, deny, environmentOf("other", v1alpha1.AnnotationsDeny)},
		"none, for there is no namespace": {deny},
	} {
		if response := handler(t, nil, nil, around...).Handle(t.Context(), review(t, podOf("secret.db: db"))); !response.Allowed {
			t.Errorf("%s: %v", sentence, response.Result)
		}
	}
}

func TestHandlerLeavesTheRestAlone(t *testing.T) {
	asks := podOf("secret.db: db")
	for sentence, change := range map[string]func(*admission.Request){
		"an update":     func(r *admission.Request) { r.Operation = admissionv1.Update },
		"a subresource": func(r *admission.Request) { r.SubResource = "ephemeralcontainers" },
		"another kind":  func(r *admission.Request) { r.Resource.Resource = "podtemplates" },
		"a pod without our annotations": func(r *admission.Request) {
			r.Object.Raw = mustJSON(t, &corev1.Pod{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}})
		},
		"a pod that was injected": func(r *admission.Request) {
			out := injected(t, asks, nil)
			out.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}
			r.Object.Raw = mustJSON(t, out)
		},
	} {
		request := review(t, asks)
		change(&request)
		if response := handler(t, nil, nil).Handle(t.Context(), request); !response.Allowed || len(response.Patches) > 0 {
			t.Errorf("%s: %+v", sentence, response)
		}
	}
}

// A field that our version of the types does not know stays, since the patch
// speaks only of what it adds.
func TestUnknownFieldsSurvive(t *testing.T) {
	raw := `{"apiVersion":"v1","kind":"Pod","metadata":{"annotations":{"privyseal.io/secret.db":"db","privyseal.io/env.db":"user"}},
		"spec":{"fromTheFuture":1,"containers":[{"name":"app","fromTheFuture":2,"env":[{"name":"A","value":"a","fromTheFuture":3}]}]}}`
	request := review(t, podOf())
	request.Object.Raw = []byte(raw)
	response := handler(t, nil, nil).Handle(t.Context(), request)
	var patch = mustJSON(t, response.Patches)
	if !response.Allowed || strings.Contains(string(patch), `"remove"`) || strings.Contains(string(patch), `"replace"`) {
		t.Fatalf("%+v %s", response.Result, patch)
	}
	if !strings.Contains(string(patch), `/spec/containers/0/env/0"`) {
		t.Errorf("the variable is not put before those that are there: %s", patch)
	}
}

// Over HTTP, as the API server speaks.
func TestReviewsOverHTTP(t *testing.T) {
	server := httptest.NewServer(&admission.Webhook{Handler: handler(t, nil, nil)})
	defer server.Close()
	post := func(body string) admissionv1.AdmissionReview {
		t.Helper()
		answer, err := http.Post(server.URL, "application/json", strings.NewReader(body)) //nolint:noctx // the test's own server
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = answer.Body.Close() }()
		var review admissionv1.AdmissionReview
		if err := json.NewDecoder(answer.Body).Decode(&review); err != nil {
			t.Fatal(err)
		}
		return review
	}
	request := review(t, podOf("secret.db: db")).AdmissionRequest
	whole := mustJSON(t, admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"}, Request: &request,
	})
	answer := post(string(whole))
	if answer.APIVersion != "admission.k8s.io/v1" || !answer.Response.Allowed || answer.Response.UID != "u" ||
		*answer.Response.PatchType != admissionv1.PatchTypeJSONPatch || !strings.Contains(string(answer.Response.Patch), "privyseal-db") {
		t.Errorf("answers %+v", answer.Response)
	}
	for sentence, body := range map[string]string{
		"no JSON":           "x",
		"no request":        `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}`,
		"too much":          `{"kind":"` + strings.Repeat("x", 8<<20) + `"}`,
		"a pod that is not": strings.Replace(string(whole), `"kind": "Pod"`, `"kind": 3`, 1),
	} {
		if answer := post(body); answer.Response == nil || len(answer.Response.Patch) > 0 {
			t.Errorf("%s: %+v", sentence, answer.Response)
		}
	}
}

// The webhook's claims are looked up in the request's namespace, since a pod
// made by a controller has none of its own yet.
func TestNamespaceIsTheRequests(t *testing.T) {
	pod := podOf("secret.db: claim:db")
	pod.Namespace = "other"
	response := handler(t, claims{"pay/db": claim("db", "mine", true, 1), "other/db": claim("db", "theirs", true, 1)}, nil).
		Handle(t.Context(), review(t, pod))
	if got := applied(t, pod, response.Patches).Spec.Volumes[0].Secret.SecretName; got != "mine" {
		t.Errorf("points at %s", got)
	}
}
