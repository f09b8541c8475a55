package broker_test

import (
	"cmp"
	"context"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/brokertest"
)

// system is something that accepts one password, which whoever can reach it may set.
const system = `
apiVersion: v1
kind: Pod
metadata: {name: system, namespace: %s, labels: {app: system}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
    - name: system
      image: busybox:stable
      command: [sh, -c]
      args:
        - |
          mkdir -p /tmp/www/cgi-bin && cd /tmp/www/cgi-bin && printf first > /tmp/knows
          printf '#!/bin/sh\nprintf "Content-Type: text/plain\\r\\n\\r\\n"\nhead -c $CONTENT_LENGTH > /tmp/knows\n' > set
          printf '#!/bin/sh\nprintf "Content-Type: text/plain\\r\\n\\r\\n"\ncat /tmp/knows\n' > knows
          chmod 0755 set knows
          exec busybox httpd -f -p 8080 -h /tmp/www
      readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}
`

// What hooks do, in the words of their shell.
const (
	setsPassword = `wget -q -O- --post-file=/var/run/privyseal/new/password http://$SYSTEM:8080/cgi-bin/set`
	triesIt      = `test "$(wget -q -O- http://$SYSTEM:8080/cgi-bin/knows)" = "$(cat /var/run/privyseal/new/password)"`
)

// hooked is such a rotation, which begins at once.
func hooked(t *testing.T, name, set, verify string) (*brokertest.Lab, *brokertest.Tenant) {
	t.Helper()
	lab, tenant := newRotated(t, name, "true")
	lab.Apply(t, hookedRotation(tenant, newSystem(t, lab, tenant), set, verify))
	lab.Kubectl(t, "annotate", "srot", "db", "-n", tenant.Namespace, "privyseal.io/rotate-now=it leaked")
	return lab, tenant
}

// newSystem makes the system, and gives its address.
func newSystem(t *testing.T, lab *brokertest.Lab, tenant *brokertest.Tenant) string {
	t.Helper()
	lab.Apply(t, fmt.Sprintf(system, tenant.Namespace))
	lab.Kubectl(t, "create", "serviceaccount", "privyseal-rotation", "-n", tenant.Namespace)
	return tenant.RunningPod(t, "system", within).Status.PodIP
}

// hookedRotation is one whose hooks are shells that know where the system is.
func hookedRotation(tenant *brokertest.Tenant, at, set, verify string) string {
	job := func(command string) string {
		return fmt.Sprintf("{image: 'busybox:stable', command: [sh, -c], args: [%q], env: [{name: SYSTEM, value: %q}], resources: {limits: {memory: 64Mi}, requests: {cpu: 10m, memory: 8Mi}}}", command, at)
	}
	return fmt.Sprintf(`
apiVersion: privyseal.io/v1alpha1
kind: SecretRotation
metadata: {name: db, namespace: %s}
spec:
  path: db
  schedule: "0 3 29 2 *"
  generate: {password: {password: {length: 24, symbols: "-_."}}}
  set: {job: %s, timeout: 20s}
  verify: {job: %s, consumers: Ready, timeout: 2m}
`, tenant.Namespace, job(set), job(verify))
}

// known is the password that the system accepts.
func known(t *testing.T, lab *brokertest.Lab, tenant *brokertest.Tenant) string {
	t.Helper()
	knows, err := lab.Exec(t.Context(), tenant.Key("system"), "cat", "/tmp/knows")
	if err != nil {
		t.Fatal(err)
	}
	return knows
}

// nothingLeft waits until neither a Job of a rotation is left, nor its pods and values.
func nothingLeft(t *testing.T, lab *brokertest.Lab, tenant *brokertest.Tenant) {
	t.Helper()
	brokertest.Eventually(t, within, func(context.Context) error {
		if left := lab.Kubectl(t, "get", "jobs,pods,secrets", "-n", tenant.Namespace, "-l", "privyseal.io/rotation-uid", "-o", "name"); strings.TrimSpace(left) != "" {
			return fmt.Errorf("left are %s", left)
		}
		return nil
	})
}

func TestAHookSetsTheSystemAndAnotherTriesIt(t *testing.T) {
	t.Parallel()
	lab, tenant := hooked(t, "hooked", setsPassword, triesIt)
	ends(t, lab, tenant, "Done")
	password, version := stored(t, lab, tenant)
	if len(password) != 24 || version != 2 || known(t, lab, tenant) != password {
		t.Errorf("the password of version %d is not the system's", version)
	}
	if has := started(t, lab, tenant); has != password {
		t.Error("the pod has another password than the Vault")
	}
	nothingLeft(t, lab, tenant)
}

func TestAVerifyThatFailsHasTheSystemSetBack(t *testing.T) {
	t.Parallel()
	lab, tenant := hooked(t, "unverified", setsPassword,
		`p=$(cat /var/run/privyseal/new/password); echo "no login with $p, $(echo -n "$p" | base64)" > /dev/termination-log; exit 7`)
	of := ends(t, lab, tenant, "RolledBack")
	if password, version := stored(t, lab, tenant); password != "first" || version != 3 || known(t, lab, tenant) != "first" {
		t.Errorf("the Vault has %q in version %d, and the system knows %q", password, version, known(t, lab, tenant))
	}
	if why := of.Status.Why; !strings.Contains(why, "verify failed") || !strings.Contains(why, "exit code 7: no login with [redacted], [redacted]") {
		t.Errorf("it says %q", why)
	}
	mount, path, _ := strings.Cut(tenant.Path("db"), "/")
	second, err := lab.Vault.Client().KVv2(mount).GetVersion(t.Context(), path, 2)
	if err != nil {
		t.Fatal(err)
	}
	password := second.Data["password"].(string)
	nothingLeft(t, lab, tenant) // what its pod said is its own
	for from, said := range everythingSaid(t, lab, tenant) {
		if strings.Contains(said, password) || strings.Contains(said, base64.StdEncoding.EncodeToString([]byte(password))) {
			t.Errorf("%s holds the value that was taken back", from)
		}
	}
}

func TestASetThatHangsIsStoppedAndTakenBack(t *testing.T) {
	t.Parallel()
	lab, tenant := hooked(t, "hanging", `[ $PRIVYSEAL_HOOK = set ] && sleep 600; `+setsPassword, triesIt)
	of := ends(t, lab, tenant, "RolledBack")
	if why := of.Status.Why; !strings.Contains(why, "set failed") || !strings.Contains(why, "did not end in time") {
		t.Errorf("it says %q", why)
	}
	if password, version := stored(t, lab, tenant); password != "first" || version != 2 || known(t, lab, tenant) != "first" {
		t.Errorf("the Vault has %q in version %d, and the system knows %q", password, version, known(t, lab, tenant))
	}
	if rollouts := tenant.Rollouts(t, "app"); rollouts != 1 {
		t.Errorf("the Deployment has had %d templates", rollouts)
	}
	nothingLeft(t, lab, tenant)
}

// RBAC cannot say which Jobs the daemon may make, so a policy does.
func TestTheDaemonMakesTheJobsOfRotationsAndNoOthers(t *testing.T) {
	t.Parallel()
	lab := brokertest.NewLab(t, brokertest.Node)
	lab.Install(t, fast)
	tenant := lab.NewTenant(t, "bounded")
	const name, container = "privyseal-rotation-db", `image: 'busybox:stable', securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}`
	const account = "serviceAccountName: privyseal-rotation, automountServiceAccountToken: false"
	const volume, label = "{name: v, secret: {secretName: privyseal-rotation-db}}", "privyseal.io/rotation-uid: a"
	for _, c := range []struct{ says, name, label, account, pod, volume, container, refused string }{
		{says: "a rotation's"},
		{says: "another name", name: "cleanup", refused: "the Jobs of rotations and no others"},
		{says: "no label", label: "a: b", refused: "the Jobs of rotations and no others"},
		{says: "another account", account: "serviceAccountName: admin, automountServiceAccountToken: false", refused: "service account privyseal-rotation"},
		{says: "a token", account: "serviceAccountName: privyseal-rotation", refused: "without a token"},
		{says: "the node's network", pod: "hostNetwork: true", refused: "nothing of its node"},
		{says: "a node of its choice", pod: "nodeName: lab", refused: "nothing of its node"},
		{says: "another Secret", volume: "{name: v, secret: {secretName: other}}", refused: "no volume but its own values"},
		{says: "a folder of the node", volume: "{name: v, hostPath: {path: /}}", refused: "no volume but its own values"},
		{says: "a projected token", volume: "{name: v, projected: {sources: [{serviceAccountToken: {path: t}}]}}", refused: "no volume but its own values"},
		{says: "a Secret's key in a variable", container: container + ", env: [{name: A, valueFrom: {secretKeyRef: {name: other, key: a}}}]", refused: "without values of others"},
		{says: "a Secret in variables", container: container + ", envFrom: [{secretRef: {name: other}}]", refused: "without values of others"},
		{says: "privileges", container: `image: 'busybox:stable'`, refused: "without privileges"},
		{says: "a second container", pod: "initContainers: [{name: b, image: 'busybox:stable'}]", refused: "one container"},
	} {
		t.Run(c.says, func(t *testing.T) {
			refusal := lab.Refusal(t, fmt.Sprintf(`
apiVersion: batch/v1
kind: Job
metadata: {name: %s, namespace: %s, labels: {%s}}
spec:
  suspend: true
  template:
    spec:
      {restartPolicy: Never, securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}, %s, %s
       volumes: [%s, {name: tmp, emptyDir: {}}], containers: [{name: hook, %s}]}
`, cmp.Or(c.name, name), tenant.Namespace, cmp.Or(c.label, label), cmp.Or(c.account, account), comma(c.pod), cmp.Or(c.volume, volume), cmp.Or(c.container, container)), "--as="+brokertest.DaemonUser)
			if c.refused == "" && refusal != "" || !strings.Contains(refusal, c.refused) {
				t.Errorf("it says %q, want %q", refusal, c.refused)
			}
		})
	}
	lab.Apply(t, fmt.Sprintf("{apiVersion: batch/v1, kind: Job, metadata: {name: theirs, namespace: %s}, spec: {suspend: true, template: {spec: {restartPolicy: Never, containers: [{name: a, image: 'busybox:stable'}]}}}}", tenant.Namespace))
	access := rest.CopyConfig(lab.Access)
	access.Impersonate.UserName = brokertest.DaemonUser
	daemon := brokertest.Client(t, access)
	theirs := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: tenant.Namespace, Name: "theirs"}}
	if err := daemon.Delete(t.Context(), theirs, client.DryRunAll); !apierrors.IsForbidden(err) {
		t.Errorf("somebody else's Job: %v", err)
	}
}

func comma(field string) string {
	if field == "" {
		return ""
	}
	return field + ","
}
