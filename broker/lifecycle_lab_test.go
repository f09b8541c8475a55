package broker_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/brokertest"
	"github.com/privyseal/privyseal/broker/installkey"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// calm is how long nothing may happen where nothing should: several reads of
// each claim, and the quiet period after a change.
const calm = 6 * time.Second

// TestPrivysealComesAndGoesUnseen takes the release through its life, while two
// applications live in theirs.
func TestPrivysealComesAndGoesUnseen(t *testing.T) {
	lab := brokertest.NewLab(t, brokertest.Ours)
	lab.Install(t, fast)
	tenant := lab.NewTenant(t, "lifecycle")
	l := &life{T: t, lab: lab, tenant: tenant}
	l.put("first")
	lab.Apply(t, fmt.Sprintf(`
apiVersion: privyseal.io/v1alpha1
kind: SecretClaim
metadata: {name: db, namespace: %s}
spec: {sources: [{path: db}]}
`, tenant.Namespace))
	lab.Apply(t, reader(tenant, "plain", "", "env: [{name: PASSWORD, valueFrom: {secretKeyRef: {name: db, key: password}}}]"))
	lab.Apply(t, reader(tenant, "annotated", `privyseal.io/secret.own: "db", privyseal.io/env.own: "password=PASSWORD"`, ""))
	l.podsHave("first")
	brokertest.Eventually(t, within, readyIs(lab, tenant, "db", v1alpha1.ReasonSynced))

	// Gone: everything stays, and works without it.
	defer lab.Install(t, fast)
	good := l.objects()
	lab.Uninstall(t)
	brokertest.Throughout(t, calm, l.unchanged(good))
	l.podsHave("first")
	l.unseen("installed again", func() { lab.Install(t, fast) })
	l.unseen("upgraded with other values", func() {
		lab.Upgrade(t, "--set", "logLevel=info", "--set", "serve.resources.requests.cpu=60m", "--set", "webhook.resources.requests.cpu=30m")
	})

	// A second install key: nothing is written for it, and the next change
	// uses it.
	l.unseen("given a second install key", func() {
		more := make([]byte, 32)
		_, _ = rand.Read(more)
		patch, err := json.Marshal(map[string]any{"data": map[string][]byte{"k2": more}})
		if err != nil {
			t.Fatal(err)
		}
		lab.Kubectl(t, "patch", "secret", installkey.SecretName, "-n", brokertest.System, "--type=merge", "-p", string(patch))
		l.restartServe()
	})
	l.oneRollout("second")
	if kid := l.kid(); !strings.HasPrefix(kid, "k2-") {
		t.Errorf("after a change the Secret is under key %s, want k2", kid)
	}

	// All keys are lost, and later the one that was made for them, which has
	// the name of the one after it. Histories are written anew, once each.
	for _, value := range []string{"third", "fourth"} {
		lost := l.kid()
		journal, pods := lab.Journal(t), l.pods()
		lab.Kubectl(t, "delete", "secret", installkey.SecretName, "-n", brokertest.System)
		l.restartServe()
		brokertest.Eventually(t, within, func(context.Context) error {
			if now := l.kid(); now == lost || !strings.HasPrefix(now, "k1-") {
				return fmt.Errorf("the Secret is still under key %s", now)
			}
			return nil
		})
		brokertest.Throughout(t, calm, l.samePods(pods))
		l.wrote(journal, "with its install key lost", 2)
		l.oneRollout(value)
	}
}

// life is that of two applications, plain and annotated, of one pod each.
type life struct {
	*testing.T
	lab    *brokertest.Lab
	tenant *brokertest.Tenant
}

func (l *life) put(password string) {
	l.Helper()
	l.lab.Vault.Put(l, l.tenant.Path("db"), map[string]any{"password": password})
}

// podsHave says what the applications were started with.
func (l *life) podsHave(password string) {
	l.Helper()
	for _, app := range []string{"plain", "annotated"} {
		pod := l.tenant.RunningPod(l, app, within)
		got, err := l.lab.Exec(l.Context(), l.tenant.Key(pod.Name), "sh", "-c", "echo $PASSWORD")
		if strings.TrimSpace(got) != password || err != nil {
			l.Fatalf("the pod of %s has %q, want %q (%v)", app, strings.TrimSpace(got), password, err)
		}
	}
}

// unseen says that nothing of the applications moves while something is done to
// Privyseal, and for a while after, and that no Secret is written.
func (l *life) unseen(what string, do func()) {
	l.Helper()
	good, journal := l.objects(), l.lab.Journal(l)
	do()
	brokertest.Throughout(l, calm, l.unchanged(good))
	l.wrote(journal, what, 0)
}

// wrote says how many Secrets of the applications were written, and that no
// workload was.
func (l *life) wrote(journal *brokertest.Journal, what string, secrets int) {
	l.Helper()
	written := journal.Requests(l, func(r brokertest.Request) bool {
		return r.User == brokertest.DaemonUser && r.Writes() && r.Namespace == l.tenant.Namespace && r.Resource != "events" && r.Resource != "secretclaims/status"
	})
	writes := map[string]int{}
	for _, r := range written {
		writes[r.Resource]++
	}
	if writes["secrets"] != secrets || writes["deployments"] > 0 || writes["secretclaims"] > 0 {
		l.Errorf("%s, Privyseal wrote %v, want %d Secrets and nothing else", what, written, secrets)
	}
}

// oneRollout says that a change is one rollout of each application.
func (l *life) oneRollout(password string) {
	l.Helper()
	before := map[string]int64{}
	for _, app := range []string{"plain", "annotated"} {
		before[app] = generationOf(l.T, l.lab, l.tenant, app)
	}
	l.put(password)
	brokertest.Eventually(l, within, func(ctx context.Context) error { return l.rolled(ctx, before, 1) })
	l.podsHave(password)
	brokertest.Throughout(l, calm, func(ctx context.Context) error { return l.rolled(ctx, before, 1) })
}

func (l *life) rolled(ctx context.Context, before map[string]int64, times int64) error {
	for app, generation := range before {
		deployment := &appsv1.Deployment{}
		if err := l.lab.Client.Get(ctx, l.tenant.Key(app), deployment); err != nil {
			return err
		}
		if got := deployment.Generation - generation; got != times {
			return fmt.Errorf("%s was rolled out %d times, want %d", app, got, times)
		}
		if status := deployment.Status; status.ObservedGeneration != deployment.Generation || status.UpdatedReplicas != 1 || status.Replicas != 1 {
			return fmt.Errorf("the rollout of %s is not over", app)
		}
	}
	return nil
}

// restartServe has the daemon look at its install key again.
func (l *life) restartServe() {
	l.Helper()
	l.lab.Kubectl(l, "rollout", "restart", "-n", brokertest.System, "deployment/privyseal")
	l.lab.Kubectl(l, "rollout", "status", "-n", brokertest.System, "deployment/privyseal", "--timeout=90s")
}

// kid is the install key that the Secret's history is under.
func (l *life) kid() string {
	l.Helper()
	secret := &corev1.Secret{}
	if err := l.lab.Client.Get(l.Context(), l.tenant.Key("db"), secret); err != nil {
		l.Fatal(err)
	}
	var revisions struct{ KID string }
	if err := json.Unmarshal([]byte(secret.Annotations[v1alpha1.AnnotationRevisions]), &revisions); err != nil {
		l.Fatal(err)
	}
	return revisions.KID
}

// objects are the applications' claims, Secrets and pods, by kind and name:
// each with its UID and, where it is Privyseal's to write, its version.
func (l *life) objects() map[string]string {
	l.Helper()
	objects, err := l.look(l.Context())
	if err != nil {
		l.Fatal(err)
	}
	if len(objects) != 6 {
		l.Fatalf("there are %v, want two claims, two Secrets and two pods", objects)
	}
	return objects
}

func (l *life) look(ctx context.Context) (map[string]string, error) {
	var claims v1alpha1.SecretClaimList
	var secrets corev1.SecretList
	var pods corev1.PodList
	in := client.InNamespace(l.tenant.Namespace)
	err := errors.Join(l.lab.Client.List(ctx, &claims, in), l.lab.Client.List(ctx, &secrets, in), l.lab.Client.List(ctx, &pods, in))
	objects := map[string]string{}
	for _, claim := range claims.Items {
		objects["claim "+claim.Name] = string(claim.UID)
	}
	for _, secret := range secrets.Items {
		objects["Secret "+secret.Name] = string(secret.UID) + " " + secret.ResourceVersion
	}
	for _, pod := range pods.Items {
		objects["pod "+pod.Name] = string(pod.UID)
	}
	return objects, err
}

func (l *life) unchanged(good map[string]string) func(context.Context) error {
	return func(ctx context.Context) error {
		now, err := l.look(ctx)
		if err != nil {
			return err
		}
		for name, is := range good {
			if now[name] != is {
				return fmt.Errorf("%s was %s and is %q", name, is, now[name])
			}
		}
		if len(now) != len(good) {
			return fmt.Errorf("there are %v, and were %v", now, good)
		}
		return nil
	}
}

// pods are the applications' pods alone.
func (l *life) pods() map[string]string { return podsOf(l.objects()) }

func (l *life) samePods(good map[string]string) func(context.Context) error {
	return func(ctx context.Context) error {
		now, err := l.look(ctx)
		if err != nil {
			return err
		}
		for name, is := range podsOf(now) {
			if good[name] != is {
				return fmt.Errorf("%s is new", name)
			}
		}
		return nil
	}
}

func podsOf(objects map[string]string) map[string]string {
	pods := map[string]string{}
	for name, is := range objects {
		if strings.HasPrefix(name, "pod ") {
			pods[name] = is
		}
	}
	return pods
}
