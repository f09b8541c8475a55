package restart_test

import (
	"slices"
	"strings"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/privyseal/privyseal/broker/annotation"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// asks are the annotations of a pod that asks for the claim db.
func asks(more ...string) map[string]string {
	annotations := map[string]string{annotation.SecretPrefix + "db": "claim:db", annotation.EnvPrefix + "db": "*"}
	for _, line := range more {
		key, value, _ := strings.Cut(line, ": ")
		annotations[annotation.Prefix+key] = value
	}
	return annotations
}

func podsThatLackTheirSecretAreReplacedOnce(c *cluster) {
	c.claim("db", "", "password=a")
	c.annotated("old", asks())
	c.webhook()
	first := c.daemon()
	c.dealtWith()
	if requests := c.requests(); len(requests) > 0 {
		c.Fatal("installing sends", requests)
	}

	// Pods that the webhook should have seen, and beside them those that are
	// left: one that has its secret, one that asks for a claim that is not
	// there, one that says never, and a pod of nobody's.
	c.annotated("young", asks())
	c.annotated("fine", asks(), envFrom("db"))
	c.annotated("odd", map[string]string{annotation.SecretPrefix + "db": "claim:other"})
	c.annotated("stubborn", asks("restart: never"))
	c.alone("alone", asks())
	c.until("young is patched", func() bool { return c.mark("young") != "" })
	c.dealtWith()
	if got := c.mark("young"); got != string(c.hook.UID) {
		c.Errorf("it is marked with %q, not with the UID of the configuration", got)
	}
	if diff := cmp.Diff([]string{"PATCH young"}, c.requests()); diff != "" {
		c.Fatal(diff)
	}

	// The new pods lack it too: nothing is patched any more, and it is told.
	c.rollout("young")
	c.until("it is told that it was in vain", func() bool {
		return slices.ContainsFunc(c.notes("young"), func(note string) bool { return strings.Contains(note, "replaced once for that") })
	})
	first.stop()
	second := c.daemon()
	c.dealtWith()
	if requests := c.requests(); len(requests) > 0 {
		c.Fatal("it goes on with", requests)
	}
	told, err := second.Uninjected(c.Context(), c.key("db"))
	c.must(err)
	for i := range told {
		told[i], _, _ = strings.Cut(told[i], ";")
	}
	if diff := cmp.Diff([]string{
		"Deployment old: they are older than the webhook, and installing it restarts nobody",
		"Deployment stubborn: annotation privyseal.io/restart says never",
		"Deployment young: they were replaced once for that, and are not again",
		"Pod alone: nobody of ours would make it again",
	}, told); diff != "" {
		c.Error(diff)
	}

	// Once its pods have the secret there is nothing to tell.
	deployment := &appsv1.Deployment{}
	c.must(c.client.Get(c.Context(), c.key("young"), deployment))
	deployment.Spec.Template = podTemplate("young", deployment.Spec.Template.Annotations, []part{envFrom("db")})
	c.must(c.client.Update(c.Context(), deployment))
	c.rollout("young")
	c.until("young is told of no more", func() bool {
		told, err := second.Uninjected(c.Context(), c.key("db"))
		return err == nil && !slices.ContainsFunc(told, func(line string) bool { return strings.Contains(line, "young") })
	})
}

func withoutAWebhookNobodyIsReplaced(c *cluster) {
	c.claim("db", "", "password=a")
	c.annotated("web", asks())
	d := c.daemon()
	c.dealtWith()
	if requests := c.requests(); len(requests) > 0 {
		c.Fatal("it sends", requests)
	}
	told, err := d.Uninjected(c.Context(), c.key("db"))
	c.must(err)
	if len(told) != 1 || !strings.HasPrefix(told[0], "Deployment web: there is no webhook that sees this namespace") {
		c.Error("it tells", told)
	}
}

func variablesThatCollideAreFound(c *cluster) {
	c.claim("db", "", "password=a", "user=u")
	c.claim("api", "", "password=b", "token=t")
	both := func(spec *corev1.PodSpec) {
		envFrom("db")(spec)
		spec.Containers[0].EnvFrom = append(spec.Containers[0].EnvFrom, corev1.EnvFromSource{
			SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "api"}}})
		spec.Containers[0].Env = []corev1.EnvVar{{Name: "user", Value: "not-to-be-told"}}
	}
	c.annotated("web", asks(), both)
	c.deployment("quiet", envFrom("db"), envFrom("api")) // in two containers
	d := c.daemon()
	c.dealtWith()
	told := func(target string) []string {
		conflicts, err := d.EnvConflicts(c.Context(), c.key(target))
		c.must(err)
		var told []string
		for _, conflict := range conflicts {
			told = append(told, conflict.String())
		}
		return told
	}
	if diff := cmp.Diff([]string{
		"Deployment web, container c0: password of annotation privyseal.io/env.db also in envFrom of Secret api",
		"Deployment web, container c0: user of annotation privyseal.io/env.db also in env of the container",
	}, told("db")); diff != "" {
		c.Error(diff)
	}
	if diff := cmp.Diff([]string{
		"Deployment web, container c0: password of envFrom of Secret api also in annotation privyseal.io/env.db",
	}, told("api")); diff != "" {
		c.Error(diff)
	}
}

// mark is a Deployment's injected-for.
func (c *cluster) mark(name string) string {
	c.Helper()
	deployment := &appsv1.Deployment{}
	c.must(c.client.Get(c.Context(), c.key(name), deployment))
	return deployment.Spec.Template.Annotations[v1alpha1.AnnotationInjectedFor]
}

// alone makes a pod that belongs to nobody.
func (c *cluster) alone(name string, annotations map[string]string) {
	c.Helper()
	template := podTemplate(name, annotations, nil)
	pod := &corev1.Pod{ObjectMeta: template.ObjectMeta, Spec: template.Spec}
	pod.Namespace, pod.Name = c.namespace, name
	c.must(c.client.Create(c.Context(), pod))
}
