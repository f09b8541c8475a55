package plan_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/brokertest"
	"github.com/privyseal/privyseal/broker/plan"
	"github.com/privyseal/privyseal/broker/target"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// digest is what no plan may tell.
const digest = "9f3cd1e5a0"

// cluster is a real API server, with objects as a daemon and the controllers of
// Kubernetes would leave them.
type cluster struct {
	*testing.T
	access *rest.Config
	client client.Client
	// mine is a client of whoever makes plans, and asked what it sent.
	mine  client.Client
	mu    sync.Mutex
	asked []string
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	access := brokertest.APIServer(t)
	c := &cluster{T: t, access: access, client: brokertest.Client(t, access)}
	mine := rest.CopyConfig(access)
	mine.Wrap(func(next http.RoundTripper) http.RoundTripper { return noting{c, next} })
	c.mine = brokertest.Client(t, mine)
	return c
}

type noting struct {
	cluster *cluster
	next    http.RoundTripper
}

func (n noting) RoundTrip(request *http.Request) (*http.Response, error) {
	n.cluster.mu.Lock()
	n.cluster.asked = append(n.cluster.asked, fmt.Sprintf("%s %s %s", request.Method, request.URL.Path, request.Header.Get("Accept")))
	n.cluster.mu.Unlock()
	return n.next.RoundTrip(request)
}

func (c *cluster) create(object client.Object) {
	c.Helper()
	if err := c.client.Create(c.Context(), object); err != nil {
		c.Fatal(err)
	}
}

// synced is a claim with its Secret; each of the keys got its content at a
// sequence.
func (c *cluster) synced(name string, sequences map[string]int64, modify ...func(*v1alpha1.SecretClaim)) {
	c.Helper()
	made := claim(name, modify...)
	c.create(made)
	history := target.Revisions{KID: "k1", Keys: map[string][]target.Revision{}}
	for key, sequence := range sequences {
		history.Keys[key] = []target.Revision{{Digest: digest, Sequence: sequence}}
		if sequence > 0 {
			history.Keys[key] = append(history.Keys[key], target.Revision{Digest: "77ab0", Sequence: 0})
		}
	}
	c.create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "pay", Name: name,
		Labels:      map[string]string{v1alpha1.LabelClaimUID: string(made.UID)},
		Annotations: map[string]string{v1alpha1.AnnotationClaim: name, v1alpha1.AnnotationRevisions: history.String()},
	}, StringData: map[string]string{"password": "hunter2"}})
}

// running is a Deployment with a ReplicaSet and two pods, whose rollout is
// through.
func (c *cluster) running(d *appsv1.Deployment) *appsv1.Deployment {
	c.Helper()
	d.Spec.Replicas = new(int32(2))
	c.create(d)
	set := &appsv1.ReplicaSet{ObjectMeta: meta(d.Name), Spec: appsv1.ReplicaSetSpec{Selector: d.Spec.Selector, Template: d.Spec.Template}}
	set.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(d, appsv1.SchemeGroupVersion.WithKind("Deployment"))}
	c.create(set)
	for i := range 2 {
		pod := &corev1.Pod{ObjectMeta: *d.Spec.Template.ObjectMeta.DeepCopy(), Spec: *d.Spec.Template.Spec.DeepCopy()}
		pod.Namespace, pod.Name = "pay", fmt.Sprintf("%s-%d", d.Name, i)
		pod.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(set, appsv1.SchemeGroupVersion.WithKind("ReplicaSet"))}
		c.create(pod)
		pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()}}
		c.status(pod)
	}
	d.Status = appsv1.DeploymentStatus{ObservedGeneration: d.Generation, Replicas: 2, UpdatedReplicas: 2, ReadyReplicas: 2, AvailableReplicas: 2}
	c.status(d)
	return d
}

func (c *cluster) status(object client.Object) {
	c.Helper()
	if err := c.client.Status().Update(c.Context(), object); err != nil {
		c.Fatal(err)
	}
}

// plan as somebody makes it.
func (c *cluster) plan(at time.Time, changed ...string) plan.Plan {
	c.Helper()
	world, err := plan.Live(c.Context(), c.mine, "pay", "privyseal")
	if err != nil {
		c.Fatal(err)
	}
	if len(world.Notes) > 0 {
		c.Error(world.Notes)
	}
	question := plan.Question{At: at}
	for _, text := range changed {
		asked, err := plan.ParseAsked(text)
		if err != nil {
			c.Fatal(err)
		}
		changes, err := world.Changes(asked)
		if err != nil {
			c.Fatal(err)
		}
		question.Changes = append(question.Changes, changes...)
	}
	made, err := world.Make(c.Context(), question)
	if err != nil {
		c.Fatal(err)
	}
	if text := fmt.Sprintf("%+v", made); strings.Contains(text, digest) || strings.Contains(text, "hunter2") {
		c.Error("it tells", text)
	}
	return made
}

// untimed are a plan's lines without their times.
func untimed(made plan.Plan) []string {
	for i := range made.Workloads {
		made.Workloads[i].At = time.Time{}
	}
	var told []string
	for _, line := range lines(made) {
		told = append(told, strings.Replace(line, " 01T00:00", "", 1))
	}
	return told
}

func (c *cluster) expect(made plan.Plan, want ...string) {
	c.Helper()
	if got := untimed(made); strings.Join(got, "\n") != strings.Join(want, "\n") {
		c.Errorf("the plan is\n%s\nand not\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestAPlanOfARealCluster(t *testing.T) {
	c := newCluster(t)
	c.create(labelled())
	later := time.Now().Unix() + 3600 // than what the pods' age proves
	c.synced("db", map[string]int64{"password": later, "user": 0})
	c.synced("tls", map[string]int64{"crt": 0})
	c.synced("quiet", map[string]int64{"token": later}, func(claim *v1alpha1.SecretClaim) { claim.Spec.Restart = v1alpha1.RestartNever })
	c.running(deployment("web", "db:password"))
	c.running(deployment("user", "db:user", "tls"))
	c.running(deployment("quiet", "quiet"))
	c.running(annotated(deployment("never", "db"), map[string]string{"privyseal.io/restart": "never"}))
	c.running(annotated(deployment("done", "db"), map[string]string{v1alpha1.AnnotationRestartedFor: fmt.Sprint("db=", later)}))
	idle := deployment("idle", "tls")
	idle.Spec.Replicas = new(int32(0))
	c.create(idle)
	now := time.Now()

	// What is stale now. One whose pods have the line is current.
	c.expect(c.plan(now),
		"1 wave 1 web for db(password) restarts []",
		"never for db(password) stays [workload-never]",
		"quiet for quiet(token) stays [claim-never]",
	)
	// What would be, with what is stale already.
	c.expect(c.plan(now, "tls"),
		"1 wave 1 user for tls(crt) restarts []",
		"2 wave 1 web for db(password) restarts []",
		"idle for tls(*) stays [no-pods]",
		"never for db(password) stays [workload-never]",
		"quiet for quiet(token) stays [claim-never]",
	)
	// Windows hold it back, but for somebody who says why.
	closed := prod(func(e *v1alpha1.EnvironmentSpec) {
		e.Windows = []v1alpha1.Window{{Kind: v1alpha1.WindowMaintenance, Schedule: "0 2 29 2 *", Duration: metav1.Duration{Duration: time.Hour}}}
		e.Restarts = &v1alpha1.Restarts{MaxConcurrent: new(int32(1))}
	})
	c.create(closed)
	made := c.plan(now, "db:user")
	c.expect(made,
		"1 wave 1 web for db(password) restarts [window]",
		"2 wave 2 done for db(user) restarts [window turn]",
		"3 wave 3 user for db(user) restarts [window turn]",
		"never for db(password,user) stays [workload-never]",
		"quiet for quiet(token) stays [claim-never]",
	)
	// A budget without a pod to spare stops who is in it, until that is mended.
	budget := &policyv1.PodDisruptionBudget{ObjectMeta: meta("web"), Spec: policyv1.PodDisruptionBudgetSpec{
		Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}}}
	c.create(budget)
	budget.Status = policyv1.PodDisruptionBudgetStatus{CurrentHealthy: 1, ExpectedPods: 2}
	c.status(budget)
	c.expect(c.plan(now),
		"web for db(password) blocked [window disruption]",
		"never for db(password) stays [workload-never]",
		"quiet for quiet(token) stays [claim-never]",
	)
	hasty := &v1alpha1.SecretClaim{}
	if err := c.client.Get(t.Context(), client.ObjectKey{Namespace: "pay", Name: "tls"}, hasty); err != nil {
		t.Fatal(err)
	}
	hasty.Annotations = map[string]string{"privyseal.io/restart-now": "the certificate is out"}
	if err := c.client.Update(t.Context(), hasty); err != nil {
		t.Fatal(err)
	}
	if made = c.plan(now, "tls"); made.Workloads[0].Name != "user" || made.Workloads[0].RestartNow != "the certificate is out" || made.Workloads[0].At.After(now) {
		t.Errorf("it is %v", made.Workloads)
	}

	// It only looked, and never at a Secret's data.
	for _, request := range c.asked {
		if !strings.HasPrefix(request, "GET ") || strings.Contains(request, "/secrets") && !strings.Contains(request, "as=PartialObjectMetadataList") {
			t.Errorf("it asked %s", request)
		}
	}

	// Who may not look is told what is missing.
	nobody := rest.CopyConfig(c.access)
	nobody.Impersonate = rest.ImpersonationConfig{UserName: "nobody"}
	_, err := plan.Live(t.Context(), brokertest.Client(t, nobody), "pay", "privyseal")
	if err == nil || !strings.Contains(err.Error(), `gathering what a plan is made from: deployments.apps is forbidden: User "nobody" cannot list`) {
		t.Errorf("it says %v", err)
	}
}
