package broker_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/brokertest"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// rotated is an application that reads a password, by a claim that reads the store
// so seldom that it has to be told, and is ready if a test of its shell says so.
func rotated(tenant *brokertest.Tenant, ready string) string {
	return fmt.Sprintf(`
apiVersion: privyseal.io/v1alpha1
kind: SecretClaim
metadata: {name: db, namespace: %[1]s}
spec:
  sources: [{path: db}]
  refresh: {interval: 1h}
---`, tenant.Namespace) + reader(tenant, "app", "", fmt.Sprintf(`env: [{name: PASSWORD, valueFrom: {secretKeyRef: {name: db, key: password}}}]
          readinessProbe: {exec: {command: [sh, -c, %q]}, periodSeconds: 1}`, ready))
}

// rotation of that password.
func rotationOf(tenant *brokertest.Tenant, schedule, timeout string) string {
	return fmt.Sprintf(`
apiVersion: privyseal.io/v1alpha1
kind: SecretRotation
metadata: {name: db, namespace: %s}
spec:
  path: db
  schedule: %q
  generate: {password: {password: {length: 24, symbols: "-_."}}}
  verify: {consumers: Ready, timeout: %s}
`, tenant.Namespace, schedule, timeout)
}

// ends waits until a rotation is in a phase.
func ends(t *testing.T, lab *brokertest.Lab, tenant *brokertest.Tenant, phase string) *v1alpha1.SecretRotation {
	t.Helper()
	of := &v1alpha1.SecretRotation{}
	brokertest.Eventually(t, 2*within, func(ctx context.Context) error {
		if err := lab.Client.Get(ctx, tenant.Key("db"), of); err != nil {
			return err
		}
		if of.Status.Phase != phase {
			return fmt.Errorf("it is in phase %q, want %s: %+v", of.Status.Phase, phase, of.Status.Conditions)
		}
		return nil
	})
	return of
}

// stored is the password in the Vault, and its document's version.
func stored(t *testing.T, lab *brokertest.Lab, tenant *brokertest.Tenant) (password string, version int) {
	t.Helper()
	mount, path, _ := strings.Cut(tenant.Path("db"), "/")
	document, err := lab.Vault.Client().KVv2(mount).Get(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if host := document.Data["host"]; host != "db.pay" {
		t.Errorf("the host is %v", host)
	}
	return document.Data["password"].(string), document.VersionMetadata.Version
}

// started is the password that the one pod was started with.
func started(t *testing.T, lab *brokertest.Lab, tenant *brokertest.Tenant) string {
	t.Helper()
	pod := tenant.RunningPod(t, "app", within)
	has, err := lab.Exec(t.Context(), tenant.Key(pod.Name), "sh", "-c", `echo "$PASSWORD"`)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(has)
}

func newRotated(t *testing.T, name, ready string) (*brokertest.Lab, *brokertest.Tenant) {
	t.Helper()
	lab := brokertest.NewLab(t, brokertest.Node)
	lab.Install(t, fast)
	tenant := lab.NewTenant(t, name)
	lab.Vault.MayWrite(t, tenant)
	lab.Vault.Put(t, tenant.Path("db"), map[string]any{"password": "first", "host": "db.pay"})
	lab.Apply(t, rotated(tenant, ready))
	if has := started(t, lab, tenant); has != "first" {
		t.Fatalf("the pod has %q", has)
	}
	return lab, tenant
}

func TestARotationReachesThePodsByOneRollout(t *testing.T) {
	t.Parallel()
	lab, tenant := newRotated(t, "rotated", "true")
	soon := time.Now().UTC().Add(70 * time.Second)
	lab.Apply(t, rotationOf(tenant, soon.Format("4 15 2 1 *"), "2m"))
	of := ends(t, lab, tenant, "Done")

	password, version := stored(t, lab, tenant)
	if len(password) != 24 || version != 2 || of.Status.ToVersion != 2 {
		t.Errorf("the password has %d characters, in version %d", len(password), version)
	}
	if has := started(t, lab, tenant); has != password {
		t.Error("the pod has another password than the Vault")
	}
	if rollouts := tenant.Rollouts(t, "app"); rollouts != 2 {
		t.Errorf("the Deployment has had %d templates, not 2", rollouts)
	}
	brokertest.Throughout(t, calm, rolledOut(lab, tenant, "app", 2))
	if run := soon.Format("2006-01-02T15:04"); len(of.Status.History) != 1 || of.Status.History[0].Run != run {
		t.Errorf("the history is %+v, and not of run %s", of.Status.History, run)
	}
	if left := lab.Kubectl(t, "get", "secrets", "-n", brokertest.System, "-o", "name"); strings.Contains(left, string(of.UID)) {
		t.Errorf("the record is left: %s", left)
	}
	if columns := lab.Kubectl(t, "get", "srot", "-n", tenant.Namespace); !strings.Contains(columns, "Done") {
		t.Errorf("the columns are\n%s", columns)
	}
}

func TestARotationWithWhichNoPodGetsReadyIsRolledBack(t *testing.T) {
	t.Parallel()
	lab, tenant := newRotated(t, "unready", `[ "$PASSWORD" = first ]`)
	lab.Apply(t, rotationOf(tenant, "0 3 29 2 *", "20s"))
	lab.Kubectl(t, "annotate", "srot", "db", "-n", tenant.Namespace, "privyseal.io/rotate-now=it leaked")
	of := ends(t, lab, tenant, "RolledBack")

	if password, version := stored(t, lab, tenant); password != "first" || version != 3 {
		t.Errorf("the Vault has %q in version %d", password, version)
	}
	brokertest.Eventually(t, within, rolledOut(lab, tenant, "app", 3))
	if has := started(t, lab, tenant); has != "first" {
		t.Errorf("the pod has %q", has)
	}
	said := meta.FindStatusCondition(of.Status.Conditions, v1alpha1.ConditionRotated)
	if said == nil || said.Reason != v1alpha1.ReasonRolledBack || !strings.Contains(said.Message, "Deployment/"+tenant.Namespace+"/app") {
		t.Errorf("the condition says %+v", said)
	}
	tellsOfRollback(t, lab, tenant)
}

// tellsOfRollback looks for it in the events and in the metrics.
func tellsOfRollback(t *testing.T, lab *brokertest.Lab, tenant *brokertest.Tenant) {
	t.Helper()
	told := lab.Kubectl(t, "get", "events.events.k8s.io", "-n", tenant.Namespace,
		"-o", `jsonpath={range .items[?(@.regarding.kind=="SecretRotation")]}{.type} {.reason};{end}`)
	for _, event := range []string{"Normal RotationBegan;", "Warning RollingBack;", "Warning RolledBack;"} {
		if strings.Count(told, event) != 1 {
			t.Errorf("the events are %s", told)
		}
	}
	pods := strings.Fields(lab.Kubectl(t, "get", "pods", "-n", brokertest.System, "-l", "app.kubernetes.io/component=serve", "-o", "jsonpath={.items[*].metadata.name}"))
	counted := false
	for _, pod := range pods {
		metrics := lab.Kubectl(t, "get", "--raw", "/api/v1/namespaces/"+brokertest.System+"/pods/"+pod+":8080/proxy/metrics")
		counted = counted || strings.Contains(metrics, `privyseal_rotations_total{outcome="rolled_back"}`)
	}
	if !counted {
		t.Error("no metric counts it")
	}
}

// The application reads all that there is, and so sees the value before too: as a
// variable, and in a file.
func TestAValueBeforeIsDeliveredAndItsGoingRestartsNobody(t *testing.T) {
	t.Parallel()
	lab := brokertest.NewLab(t, brokertest.Node)
	lab.Install(t, fast)
	tenant := lab.NewTenant(t, "overlap")
	lab.Vault.MayWrite(t, tenant)
	lab.Vault.Put(t, tenant.Path("db"), map[string]any{"password": "first", "host": "db.pay"})
	lab.Apply(t, fmt.Sprintf(`
apiVersion: privyseal.io/v1alpha1
kind: SecretClaim
metadata: {name: db, namespace: %[1]s}
spec:
  sources: [{path: db}]
  refresh: {interval: 1h}
---`, tenant.Namespace)+reader(tenant, "app", "", `envFrom: [{secretRef: {name: db}}]
          volumeMounts: [{name: db, mountPath: /etc/db}]
      volumes:
        - name: db
          projected: {sources: [{secret: {name: db}}]}`))
	pod := tenant.RunningPod(t, "app", within)
	lab.Apply(t, strings.Replace(rotationOf(tenant, "0 3 29 2 *", "2m"), "spec:", "spec:\n  strategy: Overlap\n  dropPreviousAfter: 1m", 1))
	lab.Kubectl(t, "annotate", "srot", "db", "-n", tenant.Namespace, "privyseal.io/rotate-now=it leaked")
	of := ends(t, lab, tenant, "Done")
	password, version := stored(t, lab, tenant)
	if version != 2 || len(password) != 24 || of.Status.Previous == nil {
		t.Fatalf("in version %d the password has %d characters, and %+v", version, len(password), of.Status)
	}
	brokertest.Eventually(t, within, rolledOut(lab, tenant, "app", 2))
	pod = tenant.RunningPod(t, "app", within)
	has, err := lab.Exec(t.Context(), tenant.Key(pod.Name), "sh", "-c", `echo "$password $password_previous $(cat /etc/db/password_previous)"`)
	if err != nil || strings.TrimSpace(has) != password+" first first" {
		t.Errorf("the pod has another password than the Vault, or not the one before: %v", err)
	}

	// A minute later it is gone: from the Vault, from the Secret, and from no pod.
	brokertest.Eventually(t, 3*within, func(ctx context.Context) error {
		secret := &corev1.Secret{}
		if err := lab.Client.Get(ctx, tenant.Key("db"), secret); err != nil {
			return err
		}
		if _, there := secret.Data["password_previous"]; there || string(secret.Data["password"]) != password {
			return fmt.Errorf("the Secret has the value before: %t", there)
		}
		return nil
	})
	if still, version := stored(t, lab, tenant); still != password || version != 3 {
		t.Errorf("the password in version %d is another", version)
	}
	brokertest.Throughout(t, calm, rolledOut(lab, tenant, "app", 2))
	if now := tenant.RunningPod(t, "app", within); now.UID != pod.UID {
		t.Error("the pod was restarted")
	}
}

// RBAC cannot choose Secrets by name, so a policy does.
func TestTheDaemonDropsRecordsAndNoKey(t *testing.T) {
	t.Parallel()
	lab := brokertest.NewLab(t, brokertest.Node)
	lab.Install(t, fast)
	access := rest.CopyConfig(lab.Access)
	access.Impersonate.UserName = brokertest.DaemonUser
	daemon := brokertest.Client(t, access)
	secret := func(name string) *corev1.Secret {
		return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: brokertest.System, Name: name}}
	}
	record := secret("privyseal-rotation-of-nothing")
	if err := lab.Client.Create(t.Context(), record); err != nil {
		t.Fatal(err)
	}
	if err := daemon.Delete(t.Context(), record); err != nil {
		t.Errorf("a record: %v", err)
	}
	key := secret("privyseal-install-key")
	if err := daemon.Delete(t.Context(), key, client.DryRunAll); !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "records of rotations") {
		t.Errorf("the install key: %v", err)
	}
}
