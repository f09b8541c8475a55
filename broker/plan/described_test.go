package plan_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	ssv1alpha1 "github.com/bitnami-labs/sealed-secrets/pkg/apis/sealedsecrets/v1alpha1"
	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/plan"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// friday is half an hour before the weekend's blackout of the environment that
// these tests have.
func friday() time.Time { return time.Date(2026, 6, 5, 15, 30, 0, 0, time.UTC) }

func weekend() v1alpha1.Window {
	return v1alpha1.Window{Kind: v1alpha1.WindowBlackout, Schedule: "0 18 * * 5", Duration: metav1.Duration{Duration: 60 * time.Hour}, TimeZone: "Europe/Berlin"}
}

func meta(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: "pay", Name: name} }

// labelled is namespace pay, in the environment prod.
func labelled() *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "pay", Labels: map[string]string{"stage": "prod"}}}
}

func prod(modify ...func(*v1alpha1.EnvironmentSpec)) *v1alpha1.Environment {
	made := &v1alpha1.Environment{ObjectMeta: metav1.ObjectMeta{Name: "prod"}, Spec: v1alpha1.EnvironmentSpec{
		NamespaceSelector: metav1.LabelSelector{MatchLabels: map[string]string{"stage": "prod"}},
		Stores:            []string{"vault"}, Root: "kv", Paths: []string{"kv/**"},
	}}
	for _, change := range modify {
		change(&made.Spec)
	}
	return made
}

func claim(name string, modify ...func(*v1alpha1.SecretClaim)) *v1alpha1.SecretClaim {
	made := &v1alpha1.SecretClaim{ObjectMeta: meta(name), Spec: v1alpha1.SecretClaimSpec{Sources: []v1alpha1.Source{{Path: name}}}}
	for _, change := range modify {
		change(made)
	}
	return made
}

// spec of a pod that reads Secrets: "db" whole, "db:password" one key.
func spec(reads ...string) corev1.PodSpec {
	container := corev1.Container{Name: "app", Image: "app"}
	for i, read := range reads {
		secret, key, one := strings.Cut(read, ":")
		name := corev1.LocalObjectReference{Name: secret}
		if one {
			container.Env = append(container.Env, corev1.EnvVar{Name: fmt.Sprint("V", i), ValueFrom: &corev1.EnvVarSource{
				SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: name, Key: key}}})
			continue
		}
		container.EnvFrom = append(container.EnvFrom, corev1.EnvFromSource{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: name}})
	}
	return corev1.PodSpec{Containers: []corev1.Container{container}}
}

func deployment(name string, reads ...string) *appsv1.Deployment {
	return &appsv1.Deployment{ObjectMeta: meta(name), Spec: appsv1.DeploymentSpec{
		Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": name}}, Spec: spec(reads...)}}}
}

// with changes a Deployment.
func with(d *appsv1.Deployment, change func(*appsv1.Deployment)) *appsv1.Deployment {
	change(d)
	return d
}

func annotated(d *appsv1.Deployment, annotations map[string]string) *appsv1.Deployment {
	return with(d, func(d *appsv1.Deployment) { d.Spec.Template.Annotations = annotations })
}

// lines tell a plan: "1 wave 1 05T15:30 web for db(password) restarts [window]".
func lines(made plan.Plan) []string {
	var lines []string
	for _, entry := range made.Workloads {
		var when, reads, blocks []string
		if entry.Order > 0 {
			when = append(when, fmt.Sprintf("%d wave %d %s", entry.Order, entry.Wave, entry.At.Format("02T15:04")))
		}
		for _, secret := range entry.Secrets {
			reads = append(reads, fmt.Sprintf("%s(%s)", secret.Secret, strings.Join(secret.Keys, ",")))
		}
		for _, block := range entry.Blocks {
			blocks = append(blocks, string(block.Reason))
		}
		when = append(when, fmt.Sprintf("%s for %s %s %v", entry.Name, strings.Join(reads, " "), entry.Outcome, blocks))
		lines = append(lines, strings.Join(when, " "))
	}
	return lines
}

// described is the plan for manifests if something changed on Friday, or
// everything.
func described(t *testing.T, objects []client.Object, changed ...string) (plan.Plan, *plan.World) {
	t.Helper()
	world, err := plan.Described(objects, "")
	if err != nil {
		t.Fatal(err)
	}
	question := plan.Question{At: friday()}
	for _, text := range changed {
		asked, err := plan.ParseAsked(text)
		if err != nil {
			t.Fatal(err)
		}
		changes, err := world.Changes(asked)
		if err != nil {
			t.Fatal(err)
		}
		question.Changes = append(question.Changes, changes...)
	}
	if len(changed) == 0 {
		question.Changes = world.Everything()
	}
	made, err := world.Make(t.Context(), question)
	if err != nil {
		t.Fatal(err)
	}
	return made, world
}

func expect(t *testing.T, made plan.Plan, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, lines(made)); diff != "" {
		t.Error(diff)
	}
}

func TestWhoReadsTheKeyRestarts(t *testing.T) {
	objects := func() []client.Object {
		return []client.Object{
			claim("db"), claim("tls", func(c *v1alpha1.SecretClaim) { c.Spec.Target = &v1alpha1.Target{Name: "certificate"} }),
			deployment("whole", "db"), deployment("password", "db:password"), deployment("user", "db:user", "certificate:crt"),
			deployment("stranger", "other"),
		}
	}
	for changed, want := range map[string][]string{
		"db": {
			"1 wave 1 05T15:30 password for db(password) restarts []",
			"2 wave 1 05T15:30 user for db(user) restarts []",
			"3 wave 1 05T15:30 whole for db(*) restarts []",
		},
		"db:password": {
			"1 wave 1 05T15:30 password for db(password) restarts []",
			"2 wave 1 05T15:30 whole for db(password) restarts []",
		},
		"tls:crt":            {"1 wave 1 05T15:30 user for certificate(crt) restarts []"},
		"claim/tls":          {"1 wave 1 05T15:30 user for certificate(crt) restarts []"},
		"secret/certificate": {"1 wave 1 05T15:30 user for certificate(crt) restarts []"},
		"tls:key":            nil,
		// Nothing in the files makes it, and somebody reads it.
		"other": {"1 wave 1 05T15:30 stranger for other(*) restarts []"},
	} {
		t.Run(changed, func(t *testing.T) {
			made, _ := described(t, objects(), changed)
			expect(t, made, want...)
		})
	}
	made, _ := described(t, objects())
	if len(made.Workloads) != 3 || made.Workloads[1].Name != "user" || len(made.Workloads[1].Secrets) != 2 {
		t.Errorf("if everything changes: %v", lines(made))
	}
	if diff := cmp.Diff([]string{"pay/certificate", "pay/db"}, made.Changes); diff != "" {
		t.Error(diff)
	}
}

func TestWhatAnnotationsAskForIsRead(t *testing.T) {
	made, world := described(t, []client.Object{
		claim("db", func(c *v1alpha1.SecretClaim) {
			c.Spec.Target = &v1alpha1.Target{Name: "db-secret"}
			c.Spec.Sources[0].Keys = []v1alpha1.Key{{From: "pass", To: "password"}, {Pointer: "/u", To: "user"}}
		}),
		annotated(deployment("env"), map[string]string{"privyseal.io/secret.db": "claim:db", "privyseal.io/env.db": "password=PGPASSWORD"}),
		annotated(deployment("path"), map[string]string{"privyseal.io/secret.x": "x"}),
		annotated(deployment("refused"), map[string]string{"privyseal.io/secret.x": "//"}),
		&ssv1alpha1.SealedSecret{ObjectMeta: meta("sealed"), Spec: ssv1alpha1.SealedSecretSpec{EncryptedData: map[string]string{"token": "AgAB"}}},
		deployment("sealed", "sealed:token"),
	})
	if len(made.Workloads) != 3 {
		t.Fatal(lines(made))
	}
	if got := made.Workloads[0].Secrets[0]; got.Secret != "db-secret" || got.Claim != "db" || !cmp.Equal(got.Keys, []string{"password"}) {
		t.Errorf("env reads %v", got)
	}
	if got := made.Workloads[1].Secrets[0]; !strings.HasPrefix(got.Secret, "x-") || got.Claim != got.Secret || !cmp.Equal(got.Keys, []string{"*"}) {
		t.Errorf("path reads %v", got)
	}
	if got := made.Workloads[2].Secrets[0]; got.Secret != "sealed" || got.Claim != "" {
		t.Errorf("sealed reads %v", got)
	}
	if len(world.Notes) != 1 || !strings.Contains(world.Notes[0], "Deployment/pay/refused: its pods would be refused: annotation \"privyseal.io/secret.x\"") {
		t.Errorf("it notes %q", world.Notes)
	}
}

func TestWhatBlocksARestartIsNamed(t *testing.T) {
	zero := with(deployment("none", "db"), func(d *appsv1.Deployment) { d.Spec.Replicas = new(int32(0)) })
	made, _ := described(t, []client.Object{
		claim("db"), claim("quiet", func(c *v1alpha1.SecretClaim) { c.Spec.Restart = v1alpha1.RestartNever }),
		zero, with(deployment("paused", "db"), func(d *appsv1.Deployment) { d.Spec.Paused = true }),
		annotated(deployment("never", "db"), map[string]string{"privyseal.io/restart": "never"}),
		deployment("quiet", "quiet"), deployment("both", "quiet", "db"),
		&appsv1.StatefulSet{ObjectMeta: meta("partition"), Spec: appsv1.StatefulSetSpec{Template: corev1.PodTemplateSpec{Spec: spec("db")},
			UpdateStrategy: appsv1.StatefulSetUpdateStrategy{RollingUpdate: &appsv1.RollingUpdateStatefulSetStrategy{Partition: new(int32(2))}}}},
		&appsv1.DaemonSet{ObjectMeta: meta("by-hand"), Spec: appsv1.DaemonSetSpec{Template: corev1.PodTemplateSpec{Spec: spec("db")},
			UpdateStrategy: appsv1.DaemonSetUpdateStrategy{Type: appsv1.OnDeleteDaemonSetStrategyType}}},
	})
	expect(t, made,
		"1 wave 1 05T15:30 by-hand for db(*) waits [on-delete]",
		"2 wave 1 05T15:30 both for db(*) quiet(*) restarts []",
		"3 wave 1 05T15:30 paused for db(*) waits [paused]",
		"4 wave 1 05T15:30 partition for db(*) waits [partition]",
		"never for db(*) stays [workload-never]",
		"none for db(*) stays [no-pods]",
		"quiet for quiet(*) stays [claim-never]",
	)
	for _, entry := range made.Workloads {
		if (entry.Pods == nil) != (entry.Kind == "DaemonSet") {
			t.Errorf("%s has pods %v", entry.Name, entry.Pods)
		}
	}
}

func TestAnUnusableWindowLetsNothingRestart(t *testing.T) {
	world := []client.Object{labelled(), claim("db"), deployment("web", "db"),
		prod(func(e *v1alpha1.EnvironmentSpec) {
			e.Windows = []v1alpha1.Window{{Kind: v1alpha1.WindowBlackout, Schedule: "0 * * * *", Duration: metav1.Duration{Duration: time.Hour}}}
		})}
	made, _ := described(t, world)
	expect(t, made, "web for db(*) blocked [windows-unusable]")
	if says := made.Workloads[0].Blocks[0].Says; !strings.Contains(says, "in environment prod: spec.windows leave no time") {
		t.Errorf("it says %s", says)
	}
	second := prod()
	second.Name = "second"
	made, _ = described(t, append(world, second))
	expect(t, made, "web for db(*) blocked [windows-unusable]")
	if says := made.Workloads[0].Blocks[0].Says; !strings.Contains(says, "in more than one environment") || made.Workloads[0].Environment != "" {
		t.Errorf("of two environments it says %s", says)
	}
}

func TestTheEnvironmentOfANamespaceIsToldOrGiven(t *testing.T) {
	closed := func(e *v1alpha1.EnvironmentSpec) { e.Windows = []v1alpha1.Window{weekend()} }
	objects := []client.Object{prod(closed), claim("db"), deployment("web", "db")}
	_, world := described(t, objects)
	if len(world.Notes) != 1 || !strings.Contains(world.Notes[0], "the files do not say in which environment namespace pay is") {
		t.Errorf("it notes %q", world.Notes)
	}
	world, err := plan.Described(objects, "prod")
	if err != nil || len(world.Notes) > 0 {
		t.Fatal(err, world.Notes)
	}
	made, err := world.Make(t.Context(), plan.Question{At: friday().Add(time.Hour), Changes: world.Everything()})
	if err != nil {
		t.Fatal(err)
	}
	expect(t, made, "1 wave 1 08T04:00 web for db(*) restarts [window]")
	if made.Workloads[0].Environment != "prod" || !made.Workloads[0].Blocks[0].Until.Equal(made.Workloads[0].At) {
		t.Errorf("it is %v", made.Workloads[0])
	}
	if _, err := plan.Described(objects, "staging"); !errors.Is(err, plan.ErrEnvironment) {
		t.Errorf("an unknown environment gives %v", err)
	}
}

func TestAChangeThatIsNotThereIsRefused(t *testing.T) {
	known := claim("known", func(c *v1alpha1.SecretClaim) {
		c.Spec.Template = &v1alpha1.Template{Data: map[string]v1alpha1.TemplateText{"dsn": "x"}}
	})
	world, err := plan.Described([]client.Object{
		known, claim("db", func(c *v1alpha1.SecretClaim) { c.Spec.Target = &v1alpha1.Target{Name: "credentials"} }),
		claim("other", func(c *v1alpha1.SecretClaim) { c.Spec.Target = &v1alpha1.Target{Name: "db"} }),
		deployment("web", "db"),
	}, "")
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"nothing":    "nothing: no such change: there is none of that name in the files, but pay/credentials, pay/db, pay/known",
		"known:dns":  "known:dns: no such change: Secret pay/known has the keys dsn alone",
		"db":         "in namespace pay that is a Secret, and a claim that makes Secret credentials; say secret/db or claim/db",
		"claim/web":  "there is none of that name",
		"secret/db2": "there is none of that name",
	} {
		asked, err := plan.ParseAsked(text)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = world.Changes(asked); !errors.Is(err, plan.ErrAsked) || !strings.Contains(err.Error(), want) {
			t.Errorf("of %s it says %v", text, err)
		}
	}
	for _, text := range []string{"", ":key", "db:", "a/b/c", "pay/db", "db:a:b", "db password", "claim/"} {
		if asked, err := plan.ParseAsked(text); !errors.Is(err, plan.ErrAsked) {
			t.Errorf("%q is %v, %v", text, asked, err)
		}
	}
}
