package restart_test

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/privyseal/privyseal/broker/brokertest"
	"github.com/privyseal/privyseal/broker/foreign"
	"github.com/privyseal/privyseal/broker/installkey"
	"github.com/privyseal/privyseal/broker/reloader"
	"github.com/privyseal/privyseal/broker/restart"
	"github.com/privyseal/privyseal/broker/target"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// patience is how long a test waits for what must come.
const patience = 30 * time.Second

// cluster is one test's namespace on a real API server without controllers or
// kubelet. What they would do, the tests do by hand.
type cluster struct {
	*testing.T
	access    *rest.Config
	client    client.Client
	namespace string
	hook      *admissionregistrationv1.MutatingWebhookConfiguration // nil: none
	clock     clock.PassiveClock                                    // nil: the wall clock
	metrics   *prometheus.Registry                                  // of the daemon that was started last

	reloader *reloader.Options // nil: its annotations are not read
	rollouts bool              // daemons can be told of Argo's Rollouts
	tick     int               // of allDealtWith

	mu      sync.Mutex
	settled []string // what Settled told, with the counts at that moment
	patches []string // requests of daemons, by their path
	said    map[string]target.Revisions
	now     int64
}

func newCluster(t *testing.T, access *rest.Config) *cluster {
	t.Helper()
	c := &cluster{T: t, access: access, client: brokertest.Client(t, access),
		said: map[string]target.Revisions{}, now: time.Now().Unix()}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "restart-"}}
	c.must(c.client.Create(t.Context(), namespace))
	c.namespace = namespace.Name
	return c
}

func (c *cluster) must(err error) {
	c.Helper()
	if err != nil {
		c.Fatal(err)
	}
}

func (c *cluster) meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: c.namespace, Name: name}
}

func (c *cluster) key(name string) types.NamespacedName {
	return types.NamespacedName{Namespace: c.namespace, Name: name}
}

// until waits for what must come.
func (c *cluster) until(what string, is func() bool) {
	c.Helper()
	deadline := time.After(patience)
	for !is() {
		select {
		case <-deadline:
			c.Fatalf("waited in vain until %s", what)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// claim makes a claim with its target, whose keys have contents as in
// "password=a".
func (c *cluster) claim(name string, policy v1alpha1.RestartPolicy, contents ...string) {
	c.Helper()
	claim := &v1alpha1.SecretClaim{ObjectMeta: c.meta(name), Spec: v1alpha1.SecretClaimSpec{
		Sources: []v1alpha1.Source{{Path: name}}, Restart: policy}}
	c.must(c.client.Create(c.Context(), claim))
	c.said[name] = target.Revisions{KID: "k1", Keys: map[string][]target.Revision{}}
	c.advance(name, 0, contents)
	secret := &corev1.Secret{ObjectMeta: c.meta(name)}
	secret.Labels = map[string]string{v1alpha1.LabelClaimUID: string(claim.UID)}
	secret.Annotations = map[string]string{v1alpha1.AnnotationClaim: name, v1alpha1.AnnotationRevisions: c.said[name].String()}
	c.must(c.client.Create(c.Context(), secret))
}

// merged makes a claim's target a Secret of somebody else's into which the
// claim merges its keys.
func (c *cluster) merged(name string) {
	c.Helper()
	secret := &corev1.Secret{}
	c.must(c.client.Get(c.Context(), c.key(name), secret))
	secret.Labels = map[string]string{v1alpha1.LabelMergedBy: secret.Labels[v1alpha1.LabelClaimUID]}
	c.must(c.client.Update(c.Context(), secret))
}

// change gives keys of a target other contents. Its sequence is beyond what
// any pod's age proves, as when all pods are older.
func (c *cluster) change(name string, contents ...string) {
	c.Helper()
	c.now++
	c.advance(name, c.now, contents)
	secret := &corev1.Secret{ObjectMeta: c.meta(name)}
	c.must(c.client.Get(c.Context(), c.key(name), secret))
	secret.Annotations[v1alpha1.AnnotationRevisions] = c.said[name].String()
	c.must(c.client.Update(c.Context(), secret))
}

func (c *cluster) advance(name string, sequence int64, contents []string) {
	for _, content := range contents {
		key, digest, _ := strings.Cut(content, "=")
		entries := slices.Insert(slices.Clone(c.said[name].Keys[key]), 0, target.Revision{Digest: digest, Sequence: sequence})
		c.said[name].Keys[key] = entries[:min(len(entries), 4)]
	}
}

// webhook makes a webhook configuration that sees the test's namespace and is
// never called, and waits until what is made after it is younger.
func (c *cluster) webhook() {
	c.Helper()
	url, none := "https://127.0.0.1:1/inject", admissionregistrationv1.SideEffectClassNone
	c.hook = &admissionregistrationv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: c.namespace},
		Webhooks: []admissionregistrationv1.MutatingWebhook{{
			Name: "inject.privyseal.io", AdmissionReviewVersions: []string{"v1"}, SideEffects: &none,
			ClientConfig:      admissionregistrationv1.WebhookClientConfig{URL: &url},
			NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: c.namespace}},
		}},
	}
	c.must(c.client.Create(c.Context(), c.hook))
	c.until("a second has passed", func() bool { return time.Now().Unix() > c.hook.CreationTimestamp.Unix() })
}

// podSpec is a spec that the API server takes and that reads these parts.
func podSpec(parts []part) corev1.PodSpec {
	s := spec(parts...)
	if len(s.Containers) == 0 {
		s.Containers = []corev1.Container{{}}
	}
	for i := range s.Containers {
		s.Containers[i].Name, s.Containers[i].Image = fmt.Sprint("c", i), "pause"
	}
	for i := range s.Volumes {
		s.Volumes[i].Name = fmt.Sprint("v", i)
	}
	return *s
}

func podTemplate(name string, annotations map[string]string, parts []part) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": name}, Annotations: annotations},
		Spec:       podSpec(parts),
	}
}

// deployment makes a Deployment with two pods, as its controllers would.
func (c *cluster) deployment(name string, parts ...part) *appsv1.Deployment {
	c.Helper()
	return c.annotated(name, nil, parts...)
}

func (c *cluster) annotated(name string, annotations map[string]string, parts ...part) *appsv1.Deployment {
	c.Helper()
	return c.deploy(name, nil, annotations, parts...)
}

// deploy makes a Deployment with two pods, with annotations of its own and of
// its template's.
func (c *cluster) deploy(name string, own, annotations map[string]string, parts ...part) *appsv1.Deployment {
	c.Helper()
	deployment := &appsv1.Deployment{ObjectMeta: c.meta(name), Spec: appsv1.DeploymentSpec{
		Replicas: new(int32(2)),
		Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}},
		Template: podTemplate(name, annotations, parts),
	}}
	deployment.Annotations = own
	c.must(c.client.Create(c.Context(), deployment))
	c.rollout(name)
	return deployment
}

// rollout does what the Deployment's and the ReplicaSet's controllers do: it
// makes a ReplicaSet and pods of the present template, then deletes the pods
// that were there.
func (c *cluster) rollout(name string) {
	c.Helper()
	deployment := &appsv1.Deployment{}
	c.must(c.client.Get(c.Context(), c.key(name), deployment))
	c.replace(deployment, appsv1.SchemeGroupVersion.WithKind("Deployment"), deployment.Spec.Template)
}

// replace makes a ReplicaSet and pods of a template, for the workload whose it is,
// then deletes the pods that were there.
func (c *cluster) replace(workload client.Object, kind schema.GroupVersionKind, template corev1.PodTemplateSpec) {
	c.Helper()
	ctx, name := c.Context(), workload.GetName()
	old := c.pods(name)
	set := &appsv1.ReplicaSet{ObjectMeta: c.meta(fmt.Sprintf("%s-%d", name, workload.GetGeneration()))}
	set.Spec.Selector, set.Spec.Template = &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}}, template
	set.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(workload, kind)}
	c.must(c.client.Create(ctx, set))
	for i := range 2 {
		c.pod(fmt.Sprintf("%s-%d", set.Name, i), set.Spec.Template, set, "ReplicaSet")
	}
	for i := range old {
		c.must(c.client.Delete(ctx, &old[i], client.GracePeriodSeconds(0)))
	}
}

func (c *cluster) pod(name string, template corev1.PodTemplateSpec, owner client.Object, kind string) {
	c.Helper()
	pod := &corev1.Pod{ObjectMeta: *template.ObjectMeta.DeepCopy(), Spec: *template.Spec.DeepCopy()}
	pod.Namespace, pod.Name = c.namespace, name
	pod.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(owner, appsv1.SchemeGroupVersion.WithKind(kind))}
	c.must(c.client.Create(c.Context(), pod))
}

func (c *cluster) pods(name string) []corev1.Pod {
	c.Helper()
	pods := &corev1.PodList{}
	c.must(c.client.List(c.Context(), pods, client.InNamespace(c.namespace), client.MatchingLabels{"app": name}))
	return pods.Items
}

// line is a workload's restarted-for with how often its template was changed:
// "1 db=5" after one patch.
func (c *cluster) line(object client.Object) string {
	c.Helper()
	c.must(c.client.Get(c.Context(), client.ObjectKeyFromObject(object), object))
	var template corev1.PodTemplateSpec
	switch object := object.(type) {
	case *appsv1.Deployment:
		template = object.Spec.Template
	case *appsv1.StatefulSet:
		template = object.Spec.Template
	case *appsv1.DaemonSet:
		template = object.Spec.Template
	case *unstructured.Unstructured:
		template = templateOf(c, object)
	}
	line := template.Annotations[v1alpha1.AnnotationRestartedFor]
	return strings.TrimSpace(fmt.Sprint(object.GetGeneration()-1, " ", line))
}

// web is the line of the Deployment of that name.
func (c *cluster) web(name string) string {
	c.Helper()
	return c.line(&appsv1.Deployment{ObjectMeta: c.meta(name)})
}

// expect waits until a Deployment's line is as given, with %d for sequences.
func (c *cluster) expect(name, format string, sequences ...any) {
	c.Helper()
	want := fmt.Sprintf(format, sequences...)
	c.until(fmt.Sprintf("%s has %q (it has %q)", name, want, c.web(name)), func() bool { return c.web(name) == want })
}

// daemon is a running Controller.
type daemon struct {
	*restart.Controller
	cache cache.Cache
	stop  func()
}

// daemon starts one, which ends with the test at the latest.
func (c *cluster) daemon() daemon {
	c.Helper()
	configuration := rest.CopyConfig(c.access)
	configuration.Wrap(func(next http.RoundTripper) http.RoundTripper { return counting{c, next} })
	byObject := restart.ByObject()
	if c.rollouts {
		byObject[restart.NewArgoRollout()] = cache.ByObject{Transform: restart.KeepWorkload}
	}
	mgr, err := manager.New(configuration, manager.Options{
		Scheme:                 c.client.Scheme(),
		Metrics:                metricsserver.Options{BindAddress: "0"},
		HealthProbeBindAddress: "0",
		Controller:             config.Controller{SkipNameValidation: new(true)},
		Cache:                  cache.Options{ByObject: byObject, DefaultNamespaces: map[string]cache.Config{c.namespace: {}}},
		Client:                 client.Options{Cache: &client.CacheOptions{DisableFor: []client.Object{&corev1.Secret{}}}},
	})
	c.must(err)
	var controller *restart.Controller
	webhook := ""
	if c.hook != nil {
		webhook = c.hook.Name
	}
	c.metrics = prometheus.NewRegistry()
	options := restart.Config{Webhook: webhook, Clock: c.clock, Registerer: c.metrics, Settled: func(target types.NamespacedName) {
		counts, err := controller.Consumers(context.WithoutCancel(c.Context()), target)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.settled = append(c.settled, fmt.Sprintf("%s: %d current, %d stale", target.Name, counts.Current, counts.Stale))
		if err != nil {
			c.Error(err)
		}
	}}
	if c.reloader != nil {
		options.Reloader, options.Foreign = *c.reloader, c.keeper(mgr)
	}
	controller = restart.New(options)
	c.must(controller.SetupWithManager(mgr))
	ctx, cancel := context.WithCancel(c.Context())
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			c.Error("the daemon ended:", err)
		}
	})
	c.Cleanup(stop)
	return daemon{controller, mgr.GetCache(), stop}
}

// keeper remembers what is not ours, for a daemon.
func (c *cluster) keeper(mgr manager.Manager) *foreign.Keeper {
	return foreign.New(foreign.Config{Live: mgr.GetAPIReader(), Writer: mgr.GetClient(), Keys: installkey.NewKeeper(installkey.Config{
		Reader: mgr.GetAPIReader(), Writer: mgr.GetClient(), Namespace: c.namespace})})
}

// counting notes what a daemon changes in workloads.
type counting struct {
	cluster *cluster
	next    http.RoundTripper
}

func (r counting) RoundTrip(request *http.Request) (*http.Response, error) {
	if request.Method != http.MethodGet && (strings.Contains(request.URL.Path, "/apis/apps/") || strings.Contains(request.URL.Path, "/apis/argoproj.io/")) {
		r.cluster.mu.Lock()
		r.cluster.patches = append(r.cluster.patches, request.Method+" "+request.URL.Path[strings.LastIndex(request.URL.Path, "/")+1:])
		r.cluster.mu.Unlock()
	}
	return r.next.RoundTrip(request)
}

// requests are what daemons sent to change workloads since the last look.
func (c *cluster) requests() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	requests := slices.DeleteFunc(c.patches, func(request string) bool { return strings.Contains(request, "canary") })
	c.patches = nil
	slices.Sort(requests)
	return requests
}

// told are the counts that Settled was called with since the last look, each
// once in a row.
func (c *cluster) told() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	told := slices.DeleteFunc(c.settled, func(line string) bool { return strings.HasPrefix(line, "canary") })
	c.settled = nil
	return slices.Compact(told)
}

// dealtWith waits until the daemon has dealt with all that was done before:
// it changes a target of a workload that is there for this alone, whose patch
// comes after every patch that was due earlier.
func (c *cluster) dealtWith() {
	c.Helper()
	if _, there := c.said["canary"]; !there {
		c.claim("canary", "", "key=0")
		c.deployment("canary", envFrom("canary"))
	}
	deployment := &appsv1.Deployment{ObjectMeta: c.meta("canary")}
	c.line(deployment)
	// The change must be the last thing that the caches hear of, so that it is
	// not held up by the watch of another kind.
	c.change("canary", fmt.Sprint("key=", c.now))
	sequence := c.now
	c.until("the canary is patched", func() bool { return strings.HasSuffix(c.web("canary"), fmt.Sprint("canary=", sequence)) })
}

// notes are those of the events on a workload.
func (c *cluster) notes(name string) []string {
	c.Helper()
	events := &eventsv1.EventList{}
	c.must(c.client.List(c.Context(), events, client.InNamespace(c.namespace)))
	notes := map[string]bool{}
	for _, event := range events.Items {
		if event.Regarding.Name == name {
			notes[event.Regarding.Kind+" "+event.Reason+": "+event.Note] = true
		}
	}
	return slices.Sorted(maps.Keys(notes))
}
