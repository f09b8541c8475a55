package broker_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker"
	"github.com/privyseal/privyseal/broker/brokertest"
	"github.com/privyseal/privyseal/broker/installkey"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// TestTheDaemonMayDieAtAnyRequest kills the daemon before and after each
// request that a round of work takes, and has the next daemon end the round as
// if nothing had been. A round is a new value at Vault, for which two workloads
// are to be restarted, and a workload that asks for another secret, for which a
// claim and a Secret are to be made, and those that it had are to go.
//
// Which requests those are the API server's audit log tells, of a round in
// which nobody dies, so that one which is new is among them by itself. Every
// write is; of leases, which are renewed by the clock, and of events, which are
// sent beside the work, the first; and of reads the first of each verb, or with
// PRIVYSEAL_TEST_CRASHES=all, as make test-long has it, of each resource.
func TestTheDaemonMayDieAtAnyRequest(t *testing.T) {
	lab := brokertest.NewLab(t, brokertest.Ours)
	lab.Install(t, fast)
	defer lab.WithoutServe(t)()
	lab = lab.OnHost()
	c := &crashes{lab: lab, tenant: lab.NewTenant(t, "crashes")}
	c.arguments = []string{"--kubeconfig", lab.KubeconfigOfServe(t), "--namespaces", c.tenant.Namespace, "--refresh-interval=1s"}
	c.prepare(t)
	whole := lab.Journal(t)

	everyday := places(c.recorded(t, false), false)
	places := append(everyday, onlyFirst(places(c.recorded(t, true), true), everyday)...)
	chosen, left := choose(places, os.Getenv("PRIVYSEAL_TEST_CRASHES") == "all")
	t.Logf("%d places to die at, and %d that only make test-long tries: %v", len(chosen), len(left), left)
	for _, place := range chosen {
		// Behind the first failure nothing is as it should be.
		if !t.Run(place.String(), func(t *testing.T) { c.dies(t, place) }) {
			return
		}
	}
	if t.Logf("not reached, since the work was done before: %v", c.missed); len(c.missed) > len(chosen)/8 {
		t.Errorf("%d of %d places were not reached", len(c.missed), len(chosen))
	}
	brokertest.Throughout(t, 3*time.Second, c.settled)
	c.nothingTwice(t, whole)
}

// place is where the daemon dies: at the number-th request of a kind.
type place struct {
	verb, resource string
	number         int
	when           string // before or after
	// firstStart: in a daemon that finds neither a Lease nor an install key.
	firstStart bool
	writes     bool
}

// String is what a build with the tag crashtest is told.
func (p place) String() string {
	return fmt.Sprintf("%s:%s:%d:%s", p.verb, p.resource, p.number, p.when)
}

// places are all that a round's requests offer, in their order.
func places(requests []brokertest.Request, firstStart bool) []place {
	var all []place
	met := map[string]int{}
	for _, r := range requests {
		kind := r.Verb + " " + r.Resource
		met[kind]++
		byItself := r.Writes() && r.Resource != "leases" && r.Resource != "events"
		if r.Resource == "" || met[kind] > 1 && !byItself {
			continue
		}
		for _, when := range []string{"before", "after"} {
			all = append(all, place{
				verb: r.Verb, resource: r.Resource, number: met[kind], when: when,
				firstStart: firstStart, writes: r.Writes(),
			})
		}
	}
	return all
}

// onlyFirst are the places that everyday rounds have not: the first write of a
// kind, and the first of those that are there in the one round and not in the
// other.
func onlyFirst(first, everyday []place) []place {
	count := func(places []place, p place) (n int) {
		for _, other := range places {
			if other.verb == p.verb && other.resource == p.resource && other.when == p.when {
				n++
			}
		}
		return n
	}
	return slices.DeleteFunc(slices.Clone(first), func(p place) bool {
		return !p.writes || p.number > count(first, p)-count(everyday, p)
	})
}

// choose takes every write, and of reads the first of each verb, or all.
func choose(places []place, all bool) (chosen, left []place) {
	read := map[string]bool{}
	for _, p := range places {
		kind := p.verb + " " + p.when
		if all || p.writes || !read[kind] {
			chosen = append(chosen, p)
			read[kind] = true
		} else {
			left = append(left, p)
		}
	}
	return chosen, left
}

// crashes are rounds of work in one tenant's namespace.
type crashes struct {
	lab       *brokertest.Lab
	tenant    *brokertest.Tenant
	arguments []string // of each daemon
	rounds    int
	missed    []place          // that a round's work was done without
	began     map[string]int64 // generation of each Deployment before the first
}

// prepare makes what lives through all rounds.
func (c *crashes) prepare(t *testing.T) {
	t.Helper()
	c.put(t)
	c.lab.Vault.Put(t, c.tenant.Path("other"), map[string]any{"password": "other"})
	c.lab.Apply(t, fmt.Sprintf(`
apiVersion: privyseal.io/v1alpha1
kind: SecretClaim
metadata: {name: db, namespace: %s}
spec: {sources: [{path: db}]}
`, c.tenant.Namespace))
	c.lab.Apply(t, reader(c.tenant, "plain", "", "env: [{name: PASSWORD, valueFrom: {secretKeyRef: {name: db, key: password}}}]"))
	c.lab.Apply(t, reader(c.tenant, "annotated", `privyseal.io/secret.own: "db", privyseal.io/env.own: "password"`, ""))
	daemon := c.lab.StartDaemon(t, "privyseal-crashtest", nil, c.arguments...)
	c.began = map[string]int64{}
	for _, name := range []string{"plain", "annotated"} {
		c.tenant.RunningPod(t, name, within)
		c.began[name] = generationOf(t, c.lab, c.tenant, name)
	}
	daemon.Stop(t)
}

func (c *crashes) value() string { return fmt.Sprintf("value-%d", c.rounds) }

func (c *crashes) put(t *testing.T) {
	t.Helper()
	c.lab.Vault.Put(t, c.tenant.Path("db"), map[string]any{"password": c.value()})
}

// begin makes work, while no daemon runs. The newcomer is one Deployment that
// asks for another secret each round: it has to be given a claim, and the one of
// the round before has to go.
func (c *crashes) begin(t *testing.T) {
	t.Helper()
	c.rounds++
	c.put(t)
	c.lab.Apply(t, fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: newcomer, namespace: %[1]s}
spec:
  replicas: 0
  selector: {matchLabels: {app: newcomer}}
  template:
    metadata: {labels: {app: newcomer}, annotations: {privyseal.io/secret.%[2]s: "other"}}
    spec: {containers: [{name: app, image: "busybox:stable"}]}
`, c.tenant.Namespace, c.newcomer()))
}

// newcomer is what the new workload of the round calls its secret.
func (c *crashes) newcomer() string { return fmt.Sprintf("new%d", c.rounds) }

// recorded are the daemon's requests of a round in which it does not die.
func (c *crashes) recorded(t *testing.T, firstStart bool) []brokertest.Request {
	t.Helper()
	if firstStart {
		c.forget(t)
	}
	c.begin(t)
	journal := c.lab.Journal(t)
	daemon := c.lab.StartDaemon(t, "privyseal-crashtest", nil, c.arguments...)
	brokertest.Eventually(t, within, c.settled)
	daemon.Stop(t)
	// Refused ones are left out: how often two writers meet is chance, and what
	// is done is sent in any case.
	requests := journal.Requests(t, func(r brokertest.Request) bool { return byDaemon(r) && (r.Done() || !r.Writes()) })
	if len(requests) < 20 {
		t.Fatalf("a round of %d requests is none: %v", len(requests), requests)
	}
	return requests
}

func byDaemon(r brokertest.Request) bool { return r.User == brokertest.DaemonUser }

// forget has the next daemon start as the first one did: with no Lease, no
// install key, and a store that nobody has asked for its health.
func (c *crashes) forget(t *testing.T) {
	t.Helper()
	in := func(name string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: brokertest.System, Name: name}
	}
	for _, object := range []client.Object{
		&coordinationv1.Lease{ObjectMeta: in(broker.LeaseName)},
		&corev1.Secret{ObjectMeta: in(installkey.SecretName)},
	} {
		if err := client.IgnoreNotFound(c.lab.Client.Delete(t.Context(), object)); err != nil {
			t.Fatal(err)
		}
	}
	store := &v1alpha1.ClusterSecretStore{ObjectMeta: metav1.ObjectMeta{Name: c.tenant.Environment}}
	if err := c.lab.Client.Status().Patch(t.Context(), store, client.RawPatch(types.MergePatchType, []byte(`{"status": null}`))); err != nil {
		t.Fatal(err)
	}
}

// dies has a daemon die in the middle of a round, and another one end it.
func (c *crashes) dies(t *testing.T, place place) {
	if place.firstStart {
		c.forget(t)
	}
	c.begin(t)
	daemon := c.lab.StartDaemon(t, "privyseal-crashtest", []string{"PRIVYSEAL_TEST_CRASH=" + place.String()}, c.arguments...)
	if c.settlesFirst(t, daemon) && place.number > 1 {
		c.missed = append(c.missed, place)
		daemon.Stop(t)
		return
	}
	if code := daemon.Exited(t, within); code != 137 || !strings.Contains(daemon.Log(), "dying at "+place.String()) {
		t.Fatalf("the daemon ended with code %d, and did not die at %s:\n%s", code, place, daemon.Log())
	}
	// Who dies holding the Lease is waited for until it runs out, 15 seconds
	// long. Once here; elsewhere it is as if those were over.
	if place.resource != "leases" || place.verb != "update" || place.when != "after" {
		endLease(t, c.lab)
	}
	dead := leader(t, c.lab)
	next := c.lab.StartDaemon(t, "privyseal-crashtest", nil, c.arguments...)
	brokertest.Eventually(t, within, func(context.Context) error {
		if leader(t, c.lab) == dead {
			return errors.New("the next daemon does not lead")
		}
		return nil
	})
	brokertest.Eventually(t, within, c.settled)
	next.Stop(t)
}

// settlesFirst says that the round's work is done, and was for a while, before
// the daemon died. How many statuses a round takes is chance, since one can tell
// of two things: so the last of them is not always reached.
func (c *crashes) settlesFirst(t *testing.T, daemon *brokertest.Daemon) bool {
	t.Helper()
	quiet := 0
	brokertest.Eventually(t, within, func(ctx context.Context) error {
		if !daemon.Running() {
			return nil
		}
		if err := c.settled(ctx); err != nil {
			quiet = 0
			return err
		}
		if quiet++; quiet < 20 {
			return errors.New("it may die yet")
		}
		return nil
	})
	return daemon.Running()
}

// leader holds the Lease; "" where nobody does.
func leader(t *testing.T, lab *brokertest.Lab) string {
	t.Helper()
	lease := &coordinationv1.Lease{}
	err := lab.Client.Get(t.Context(), client.ObjectKey{Namespace: brokertest.System, Name: broker.LeaseName}, lease)
	if client.IgnoreNotFound(err) != nil {
		t.Fatal(err)
	}
	if lease.Spec.HolderIdentity == nil {
		return ""
	}
	return *lease.Spec.HolderIdentity
}

// endLease lets go of the Lease in a dead daemon's place.
func endLease(t *testing.T, lab *brokertest.Lab) {
	t.Helper()
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: brokertest.System, Name: broker.LeaseName}}
	err := lab.Client.Patch(t.Context(), lease, client.RawPatch(types.MergePatchType, []byte(`{"spec": {"holderIdentity": ""}}`)))
	if client.IgnoreNotFound(err) != nil {
		t.Fatal(err)
	}
}

// settled says that a round's work is done, each part of it once.
func (c *crashes) settled(ctx context.Context) error {
	var claims v1alpha1.SecretClaimList
	var secrets corev1.SecretList
	in := client.InNamespace(c.tenant.Namespace)
	if err := errors.Join(c.lab.Client.List(ctx, &claims, in), c.lab.Client.List(ctx, &secrets, in)); err != nil {
		return err
	}
	held := map[string]corev1.Secret{}
	for _, secret := range secrets.Items {
		held[secret.Name] = secret
	}
	var names []string
	for _, claim := range claims.Items {
		name, _, _ := strings.Cut(claim.Name, "-")
		names = append(names, name)
		if err := c.inOrder(claim, held[claim.Name]); err != nil {
			return err
		}
	}
	want := []string{"db", c.newcomer(), "own"}
	if slices.Sort(names); !slices.Equal(names, want) || len(held) != len(want) {
		return fmt.Errorf("there are claims %v and %d Secrets, want %v and one each", names, len(held), want)
	}
	for name := range c.began {
		if err := c.restarted(ctx, name); err != nil {
			return err
		}
	}
	store := &v1alpha1.ClusterSecretStore{}
	if err := c.lab.Client.Get(ctx, client.ObjectKey{Name: c.tenant.Environment}, store); err != nil {
		return err
	}
	return readyBecause(store.Status.Conditions, v1alpha1.ReasonReachable)
}

// inOrder says that a claim tells of itself what is true, and all is well.
func (c *crashes) inOrder(claim v1alpha1.SecretClaim, secret corev1.Secret) error {
	status, value := claim.Status, c.value()
	if strings.HasPrefix(claim.Name, c.newcomer()) {
		value = "other"
	}
	ready := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionReady)
	switch {
	case string(secret.Data["password"]) != value || len(secret.Data) != 1:
		return fmt.Errorf("the Secret of %s holds %d keys, and %q, want %q alone", claim.Name, len(secret.Data), secret.Data["password"], value)
	case ready == nil || ready.Status != metav1.ConditionTrue || ready.Reason != v1alpha1.ReasonSynced:
		return fmt.Errorf("claim %s has Ready %+v", claim.Name, ready)
	case status.ObservedGeneration != claim.Generation || ready.ObservedGeneration != claim.Generation:
		return fmt.Errorf("claim %s is of generation %d and tells of %d and %d", claim.Name, claim.Generation, status.ObservedGeneration, ready.ObservedGeneration)
	case status.Target == nil || status.Target.UID != string(secret.UID) || status.Target.ResourceVersion != secret.ResourceVersion:
		return fmt.Errorf("claim %s tells of another Secret: %+v", claim.Name, status.Target)
	case status.Consumers == nil || status.Consumers.Stale != 0:
		return fmt.Errorf("claim %s has consumers %+v", claim.Name, status.Consumers)
	case meta.IsStatusConditionTrue(status.Conditions, v1alpha1.ConditionStale):
		return fmt.Errorf("claim %s is stale", claim.Name)
	}
	return nil
}

// restarted says that a Deployment had one new template a round, and runs the
// last one alone.
func (c *crashes) restarted(ctx context.Context, name string) error {
	return runsAlone(ctx, c.lab, c.tenant.Key(name), c.began[name]+int64(c.rounds))
}

// runsAlone says that a Deployment is of a generation, and runs one pod, of it.
func runsAlone(ctx context.Context, lab *brokertest.Lab, name client.ObjectKey, generation int64) error {
	deployment := &appsv1.Deployment{}
	if err := lab.Client.Get(ctx, name, deployment); err != nil {
		return err
	}
	if deployment.Generation != generation {
		return fmt.Errorf("%s is of generation %d, want %d", name.Name, deployment.Generation, generation)
	}
	if status := deployment.Status; status.ObservedGeneration != generation || status.UpdatedReplicas != 1 || status.Replicas != 1 || status.ReadyReplicas != 1 {
		return fmt.Errorf("the rollout of %s is not over", name.Name)
	}
	return nil
}

// nothingTwice counts what all daemons together made the API server do. A
// request that was under way when its daemon died may be done and not counted.
func (c *crashes) nothingTwice(t *testing.T, journal *brokertest.Journal) {
	t.Helper()
	done := map[string]int{}
	for _, r := range journal.Requests(t, byDaemon) {
		if r.Done() && r.Writes() && r.Namespace == c.tenant.Namespace {
			done[r.Verb+" "+r.Resource]++
		}
	}
	for request, most := range map[string]int{
		"create secretclaims": c.rounds,
		"delete secretclaims": c.rounds - 1, // the first had nobody before it
		"create secrets":      c.rounds,
		"patch deployments":   2 * c.rounds,
		"delete secrets":      0,
	} {
		if done[request] > most {
			t.Errorf("%d rounds took %d times %s, want at most %d", c.rounds, done[request], request, most)
		}
	}
}
