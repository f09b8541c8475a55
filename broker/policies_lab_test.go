package broker_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/brokertest"
)

func TestAPodThatSlipsPastTheWebhookIsRefusedUntilItHasItsSecret(t *testing.T) {
	lab := brokertest.NewLab(t, brokertest.Ours)
	lab.Install(t, fast)
	tenant := lab.NewTenant(t, "slipped")
	lab.Vault.Put(t, tenant.Path("db"), map[string]any{"password": "first"})
	webhook := func(replicas int) {
		t.Helper()
		lab.Kubectl(t, "scale", "-n", brokertest.System, "deployment/privyseal-webhook", fmt.Sprintf("--replicas=%d", replicas))
		if replicas == 0 {
			lab.Kubectl(t, "wait", "-n", brokertest.System, "pods", "-l", "app.kubernetes.io/component=webhook", "--for=delete", "--timeout=60s")
			return
		}
		lab.Kubectl(t, "rollout", "status", "-n", brokertest.System, "deployment/privyseal-webhook", "--timeout=90s")
	}
	defer webhook(2)
	webhook(0)
	shapesAreJudged(t, lab, tenant)

	lab.Apply(t, reader(tenant, "app", `privyseal.io/secret.db: "db"`, ""))
	brokertest.Eventually(t, within, func(ctx context.Context) error {
		var events corev1.EventList
		if err := lab.Client.List(ctx, &events, client.InNamespace(tenant.Namespace)); err != nil {
			return err
		}
		for _, event := range events.Items {
			if event.Reason == "FailedCreate" && strings.Contains(event.Message, "annotation privyseal.io/secret.db: this pod asks for a secret and does not have it") {
				return nil
			}
		}
		return errors.New("no event says why there is no pod")
	})
	if pods, err := tenant.Pods(t.Context(), "app"); err != nil || len(pods) > 0 {
		t.Errorf("%d pods run without their secret, %v", len(pods), err)
	}
	// Other pods never wait for us.
	lab.Apply(t, reader(tenant, "bystander", "", ""))
	tenant.RunningPod(t, "bystander", within)

	webhook(2)
	pod := tenant.RunningPod(t, "app", within)
	if got, err := lab.Exec(t.Context(), tenant.Key(pod.Name), "cat", "/etc/secrets/db/password"); err != nil || got != "first" {
		t.Errorf("the pod has %q, %v", got, err)
	}
}

// shapesAreJudged tries pods as they are, with no webhook to put in what is
// missing.
func shapesAreJudged(t *testing.T, lab *brokertest.Lab, tenant *brokertest.Tenant) {
	const volume, variables = "privyseal.io/secret.db: db", "privyseal.io/secret.db: db, privyseal.io/env.db: '*'"
	for _, c := range []struct {
		says, annotations, container, pod string
		refused                           bool
	}{
		{says: "a forged mark", annotations: volume + ", privyseal.io/injected-containers: app", refused: true},
		{says: "the volume", annotations: volume, pod: "volumes: [{name: privyseal-db, secret: {secretName: db-12345678}}]"},
		{says: "a volume of something else", annotations: volume, pod: "volumes: [{name: privyseal-db, emptyDir: {}}]", refused: true},
		{says: "the variables", annotations: variables, container: "envFrom: [{secretRef: {name: db-12345678}}]"},
		{says: "variables of another Secret", annotations: variables, container: "envFrom: [{secretRef: {name: other}}]", refused: true},
		{says: "variables of a claim's Secret", annotations: "privyseal.io/secret.db: 'claim:db', privyseal.io/env.db: 'a=B'",
			container: "env: [{name: B, valueFrom: {secretKeyRef: {name: other, key: a}}}]"},
		{says: "files where variables are asked for too", annotations: variables + ", privyseal.io/volume.db: /x",
			pod: "volumes: [{name: privyseal-db, secret: {secretName: db-12345678}}]", refused: true},
	} {
		t.Run(c.says, func(t *testing.T) {
			refusal := lab.Refusal(t, fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: shape, namespace: %s, annotations: {%s}}
spec:
  containers: [{name: app, image: "busybox:stable", %s}]
  %s
`, tenant.Namespace, c.annotations, c.container, c.pod))
			if got := strings.Contains(refusal, "annotation privyseal.io/secret.db: this pod asks for a secret"); got != c.refused || !got && refusal != "" {
				t.Errorf("refused: %q", refusal)
			}
		})
	}
}

func TestNobodyGetsThroughUsWhatTheyMayNotDoThemselves(t *testing.T) {
	t.Parallel()
	lab := brokertest.NewLab(t, brokertest.Ours)
	lab.Install(t, fast)
	tenant := lab.NewTenant(t, "rights")
	user := "dev-" + tenant.Environment
	lab.Apply(t, fmt.Sprintf(`
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: dev, namespace: %[1]s}
rules:
  - {apiGroups: [""], resources: [namespaces], resourceNames: [%[1]s], verbs: [get, patch]}
  - {apiGroups: [apps], resources: [deployments], verbs: [get, create, patch]}
  - {apiGroups: [privyseal.io], resources: [secretstores, secretrotations], verbs: [get, create, patch]}
  - {apiGroups: [""], resources: [serviceaccounts/token], resourceNames: [own], verbs: [create]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: dev, namespace: %[1]s}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: dev}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: %[2]s}]
`, tenant.Namespace, user))
	as := "--as=" + user

	refusal := lab.Refusal(t, reader(tenant, "app", `privyseal.io/secret.db: "db"`, ""), as)
	if !strings.Contains(refusal, "annotation privyseal.io/secret.db") || !strings.Contains(refusal, "may not create secretclaims.privyseal.io") {
		t.Errorf("a path in an annotation: %q", refusal)
	}
	if refusal := lab.Refusal(t, reader(tenant, "app", `privyseal.io/secret.db: "claim:db"`, ""), as); refusal != "" {
		t.Errorf("a claim that is there: %s", refusal)
	}

	rotation := func(fields string) string {
		return fmt.Sprintf("{apiVersion: privyseal.io/v1alpha1, kind: SecretRotation, metadata: {name: db, namespace: %s}, spec: {path: db, schedule: '0 3 * * *', generate: {password: {hex: {}}}, %s}}", tenant.Namespace, fields)
	}
	if refusal := lab.Refusal(t, rotation("verify: {consumers: Ready}"), as); refusal != "" {
		t.Errorf("a rotation: %s", refusal)
	}
	for field, job := range map[string]string{"spec.set.job": "set: {job: {image: a}}", "spec.verify.job": "verify: {job: {image: a}}"} {
		if refusal := lab.Refusal(t, rotation(job), as); !strings.Contains(refusal, field+": "+user+" may not create Jobs in namespace "+tenant.Namespace) {
			t.Errorf("a rotation with a job: %q", refusal)
		}
		if refusal := lab.Refusal(t, rotation(job)); refusal != "" {
			t.Errorf("a rotation with a job, by somebody who may: %s", refusal)
		}
	}

	store := func(login string) string {
		return fmt.Sprintf("{apiVersion: privyseal.io/v1alpha1, kind: SecretStore, metadata: {name: own, namespace: %s}, spec: {vault: {address: 'https://vault:8200', auth: {%s}}}}", tenant.Namespace, login)
	}
	if refusal := lab.Refusal(t, store("kubernetes: {role: pay}"), as); !strings.Contains(refusal, "may not make tokens of service account privyseal") {
		t.Errorf("a login as somebody else: %q", refusal)
	}
	for _, login := range []string{"kubernetes: {role: pay, serviceAccountRef: {name: own}}", "token: {secretRef: {name: t, key: t}}"} {
		if refusal := lab.Refusal(t, store(login), as); refusal != "" {
			t.Errorf("%s: %s", login, refusal)
		}
	}

	label := func(environment string) string {
		return fmt.Sprintf("{apiVersion: v1, kind: Namespace, metadata: {name: %s, labels: {privyseal.io/environment: %s}}}", tenant.Namespace, environment)
	}
	if refusal := lab.Refusal(t, label("another"), as); !strings.Contains(refusal, "may not put a namespace into environment another") {
		t.Errorf("a label: %q", refusal)
	}
	lab.Apply(t, fmt.Sprintf(`
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: %[1]s}
rules: [{apiGroups: [privyseal.io], resources: [environments], resourceNames: [another], verbs: [use]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: %[1]s}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: %[1]s}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: %[1]s}]
`, user))
	defer lab.Kubectl(t, "delete", "clusterrole,clusterrolebinding", user)
	brokertest.Eventually(t, within, func(context.Context) error { // the authorizer hears of it a moment later
		if refusal := lab.Refusal(t, label("another"), as); refusal != "" {
			return errors.New(refusal)
		}
		return nil
	})
}
