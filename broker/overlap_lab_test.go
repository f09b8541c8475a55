package broker_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"github.com/privyseal/privyseal/broker/brokertest"
)

// overlapped is a service that takes two tokens, and an application of two pods
// that present theirs ten times a second.
type overlapped struct {
	*testing.T
	lab    *brokertest.Lab
	tenant *brokertest.Tenant
	at     string // the service's URL, for pods
	proxy  string // the same for the test, by the API server
	client *http.Client
}

func newOverlapped(t *testing.T, name string) *overlapped {
	t.Helper()
	lab := brokertest.NewLab(t, brokertest.Node)
	lab.Install(t, fast)
	o := &overlapped{T: t, lab: lab, tenant: lab.NewTenant(t, name)}
	client, err := rest.HTTPClientFor(lab.Access)
	if err != nil {
		t.Fatal(err)
	}
	o.client, o.proxy = client, lab.Access.Host+"/api/v1/namespaces/"+o.tenant.Namespace+"/pods/tokens:8080/proxy/"
	lab.Kubectl(t, "create", "serviceaccount", "privyseal-rotation", "-n", o.tenant.Namespace)
	lab.Vault.MayWrite(t, o.tenant)
	lab.Vault.Put(t, o.tenant.Path("db"), map[string]any{"token": "first"})
	lab.Apply(t, fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: tokens, namespace: %[1]s, labels: {app: tokens}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: tokens, image: 'pgclient:stable', imagePullPolicy: Never, args: [tokens], env: [{name: TOKEN, value: first}], readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}}
`, o.tenant.Namespace))
	o.at = "http://" + o.tenant.RunningPod(t, "tokens", within).Status.PodIP + ":8080"
	lab.Apply(t, o.application())
	o.running()
	return o
}

func (o *overlapped) application() string {
	return fmt.Sprintf(`
apiVersion: privyseal.io/v1alpha1
kind: SecretClaim
metadata: {name: db, namespace: %[1]s}
spec:
  sources: [{path: db}]
  refresh: {interval: 1h}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: app, namespace: %[1]s}
spec:
  replicas: 2
  selector: {matchLabels: {app: app}}
  strategy: {rollingUpdate: {maxUnavailable: 0, maxSurge: 2}}
  template:
    metadata: {labels: {app: app}}
    spec:
      containers:
      - name: client
        image: pgclient:stable
        imagePullPolicy: Never
        args: [present]
        env: [{name: SERVICE, value: %[2]q}, {name: TOKEN, valueFrom: {secretKeyRef: {name: db, key: token}}}]
        readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
`, o.tenant.Namespace, o.at)
}

// rotation of the token, whose hooks are the lab's client.
func (o *overlapped) rotation(verify string) string {
	hook := func(does string) string {
		return fmt.Sprintf("{image: 'pgclient:stable', imagePullPolicy: Never, args: [%s, /var/run/privyseal], env: [{name: SERVICE, value: %q}]}", does, o.at)
	}
	return fmt.Sprintf(`
apiVersion: privyseal.io/v1alpha1
kind: SecretRotation
metadata: {name: db, namespace: %s}
spec:
  path: db
  strategy: Overlap
  schedule: "0 3 29 2 *"
  generate: {token: {hex: {}}}
  set: {job: %s}
  verify: {consumers: Ready, job: %s, timeout: 2m}
`, o.tenant.Namespace, hook("add"), hook(verify))
}

// ask the service something with a token.
func (o *overlapped) ask(path, token string) (status int, said string) {
	o.Helper()
	request, err := http.NewRequestWithContext(o.Context(), http.MethodGet, o.proxy+path, nil)
	if err != nil {
		o.Fatal(err)
	}
	request.Header.Set("Token", token)
	request.Header.Set("Client", "test")
	request.Header.Set("Failed", "0")
	response, err := o.client.Do(request)
	if err != nil {
		o.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		o.Fatal(err)
	}
	return response.StatusCode, string(body)
}

// takes says whether the service takes a token.
func (o *overlapped) takes(token string) bool {
	o.Helper()
	status, said := o.ask("", token)
	if status != http.StatusOK && status != http.StatusUnauthorized {
		o.Fatalf("the service answers %d: %s", status, said)
	}
	return status == http.StatusOK
}

// running waits until two pods are ready, no others are left, and each was taken.
func (o *overlapped) running() {
	o.Helper()
	brokertest.Eventually(o.T, within, func(ctx context.Context) error {
		said := o.lab.Kubectl(o.T, "get", "pods", "-n", o.tenant.Namespace, "-l", "app=app", "-o",
			`jsonpath={range .items[*]}{.status.conditions[?(@.type=="Ready")].status} {end}`)
		if strings.TrimSpace(said) != "True True" {
			return fmt.Errorf("its pods' readiness is %q", said)
		}
		pods, err := o.tenant.Pods(ctx, "app")
		for _, pod := range pods {
			if _, clients := o.ask("clients", ""); !strings.Contains(clients, pod.Name+" ") {
				return fmt.Errorf("pod %s was not taken yet", pod.Name)
			}
		}
		return err
	})
}

// counted is how often the application's pods presented a token; none may have been
// refused, nor have got no answer.
func (o *overlapped) counted() (pods, times int) {
	o.Helper()
	_, clients := o.ask("clients", "")
	for line := range strings.Lines(clients) {
		var name string
		var taken, refused, failed int
		if _, err := fmt.Sscan(line, &name, &taken, &refused, &failed); err != nil {
			o.Fatalf("%q: %v", line, err)
		}
		if !strings.HasPrefix(name, "app-") {
			continue
		}
		if refused != 0 || failed != 0 {
			o.Fatalf("pod %s was taken %d times, was refused %d times and failed %d times", name, taken, refused, failed)
		}
		pods, times = pods+1, times+taken
	}
	return pods, times
}

// stored is the token of a version of the document, and the one before; version 0 is
// the latest.
func (o *overlapped) stored(version int) (token, before string) {
	o.Helper()
	mount, path, _ := strings.Cut(o.tenant.Path("db"), "/")
	kv := o.lab.Vault.Client().KVv2(mount)
	document, err := kv.Get(o.Context(), path)
	if version != 0 {
		document, err = kv.GetVersion(o.Context(), path, version)
	}
	if err != nil {
		o.Fatal(err)
	}
	token, _ = document.Data["token"].(string)
	before, _ = document.Data["token_previous"].(string)
	return token, before
}

func TestAServiceThatTakesTwoTokensRefusesNobodyInRotations(t *testing.T) {
	t.Parallel()
	o := newOverlapped(t, "overlapping")
	o.lab.Apply(t, o.rotation("try"))
	last := "first"
	for i := 1; i <= inARow(); i++ {
		began := time.Now()
		_, tried := o.counted()
		rotateNow(t, o.lab, o.tenant, fmt.Sprintf("%d", i))
		o.running()
		pods, times := o.counted()
		if want := 2 * (i + 1); pods != want {
			t.Fatalf("after rotation %d %d pods have presented a token, not %d", i, pods, want)
		}
		token, before := o.stored(0)
		if token == last || before != last || !o.takes(token) || !o.takes(before) {
			t.Fatalf("after rotation %d the token is not a new one beside the one before, both of which are taken", i)
		}
		last = token
		t.Logf("rotation %d: presented %d times in %s, and never refused", i, times-tried, time.Since(began).Round(100*time.Millisecond))
	}
	if o.takes("first") {
		t.Error("the first token is still taken")
	}
}

// The system forgets the new token when nobody has it any more.
func TestATokenThatIsTakenBackIsForgottenAndNobodyIsRefused(t *testing.T) {
	t.Parallel()
	o := newOverlapped(t, "forgetting")
	o.lab.Apply(t, o.rotation("nothing")) // which is no command of the client's
	o.lab.Kubectl(t, "annotate", "srot", "db", "-n", o.tenant.Namespace, "privyseal.io/rotate-now=it leaked")
	of := ends(t, o.lab, o.tenant, "RolledBack")
	if why := of.Status.Why; !strings.Contains(why, "verify failed") {
		t.Errorf("it says %q", why)
	}
	tellsOfRollback(t, o.lab, o.tenant)
	o.running()
	pods, times := o.counted()
	if pods != 6 {
		t.Errorf("%d pods have presented a token, not 6", pods)
	}
	t.Logf("presented %d times, and never refused", times)
	taken, _ := o.stored(2)
	if now, _ := o.stored(0); now != "first" || !o.takes("first") {
		t.Errorf("the token is %q", now)
	}
	if o.takes(taken) {
		t.Error("the token that was taken back is still taken")
	}
}
