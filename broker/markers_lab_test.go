package broker_test

import (
	"context"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/brokertest"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// No value leaves its Secret by any way out: not where it is delivered, and not
// where it cannot be. Each value is a marker that is nowhere else, and all that
// the daemon says anywhere, at its highest log level, is searched for it.
func TestNoValueIsSaidAnywhere(t *testing.T) {
	t.Parallel()
	lab := brokertest.NewLab(t, brokertest.Ours)
	lab.Install(t, fast)
	tenant := lab.NewTenant(t, "markers")
	m := &markers{}

	lab.Vault.Put(t, tenant.Path("db"), map[string]any{"password": m.new(), "user": m.new(), "port": m.new()})
	lab.Vault.Put(t, tenant.Path("more"), map[string]any{"password": m.new()})
	lab.Vault.Put(t, tenant.Path("odd"), map[string]any{"no key!": m.new()})
	lab.Vault.Put(t, tenant.Path("large"), map[string]any{"dump": strings.Repeat(m.new(), 20_000)})
	lab.Vault.Put(t, tenant.Path("nested"), map[string]any{"tls": map[string]any{"key": m.new()}})
	for name, is := range map[string]struct{ spec, reason string }{
		"delivered":       {`sources: [{path: db}]`, v1alpha1.ReasonSynced},
		"rendered":        {`sources: [{path: db}], template: {data: {DSN: "postgres://{{ .user }}:{{ .password | urlquery }}@db"}}`, v1alpha1.ReasonSynced},
		"conflicting":     {`sources: [{path: db}, {path: more}]`, v1alpha1.ReasonKeyConflict},
		"odd":             {`sources: [{path: odd}]`, v1alpha1.ReasonKeyInvalid},
		"large":           {`sources: [{path: large, prefix: a}, {path: large, prefix: b}]`, v1alpha1.ReasonTooLarge},
		"without-key":     {`sources: [{path: db, keys: [{from: pass}]}]`, v1alpha1.ReasonKeyNotFound},
		"leads-nowhere":   {`sources: [{path: nested, keys: [{pointer: /tls/key/deeper, to: key}]}]`, v1alpha1.ReasonKeyNotFound},
		"no-template":     {`sources: [{path: db}], template: {data: {A: "{{ .password "}}`, v1alpha1.ReasonTemplateInvalid},
		"fails-on-value":  {`sources: [{path: db}], template: {data: {A: "{{ .password.deeper }}"}}`, v1alpha1.ReasonTemplateInvalid},
		"counts-on-value": {`sources: [{path: db}], template: {data: {A: "{{ index .password 1000000 }}"}}`, v1alpha1.ReasonTemplateInvalid},
	} {
		lab.Apply(t, fmt.Sprintf("{apiVersion: privyseal.io/v1alpha1, kind: SecretClaim, metadata: {name: %s, namespace: %s}, spec: {%s}}", name, tenant.Namespace, is.spec))
		brokertest.Eventually(t, within, readyIs(lab, tenant, name, is.reason))
	}
	lab.Apply(t, reader(tenant, "app", `privyseal.io/secret.db: "db", privyseal.io/env.db: "password=PGPASSWORD", privyseal.io/volume.db: "/etc/db"`, ""))
	tenant.RunningPod(t, "app", within)
	changed := m.new()
	lab.Vault.Put(t, tenant.Path("db"), map[string]any{"password": changed, "user": m.new(), "port": m.new()})
	brokertest.Eventually(t, within, rolledOut(lab, tenant, "app", 2))

	secret := &corev1.Secret{}
	brokertest.Eventually(t, within, func(ctx context.Context) error {
		if err := lab.Client.Get(ctx, tenant.Key("delivered"), secret); err != nil {
			return err
		}
		if string(secret.Data["password"]) != changed {
			return fmt.Errorf("the new value has not arrived")
		}
		return nil
	})
	if m.found(base64.StdEncoding.EncodeToString([]byte("x"+changed))) == "" {
		t.Error("the search does not find what is there")
	}
	for from, said := range everythingSaid(t, lab, tenant) {
		if form := m.found(said); form != "" {
			t.Errorf("%s holds a value, as %s", from, form)
		}
	}
}

// everythingSaid is all that others can read of what the daemon did, but the
// data of Secrets.
func everythingSaid(t *testing.T, lab *brokertest.Lab, tenant *brokertest.Tenant) map[string]string {
	t.Helper()
	said := map[string]string{
		"the tenant's objects": lab.Kubectl(t, "get", "-n", tenant.Namespace, "-o", "yaml",
			"secretclaims,secretrotations,sealedsecrets,deployments,replicasets,jobs,pods,events,configmaps,serviceaccounts"),
		"the cluster's objects": lab.Kubectl(t, "get", "-o", "yaml", "environments,clustersecretstores,namespaces"),
		"the daemon's objects":  lab.Kubectl(t, "get", "-n", brokertest.System, "-o", "yaml", "pods,events,configmaps,leases"),
		"Secrets' metadata":     lab.Kubectl(t, "get", "secrets", "-n", tenant.Namespace, "-o", "jsonpath={.items[*].metadata}"),
	}
	if log, err := os.ReadFile(lab.Env("LAB_AUDIT_LOG")); err != nil {
		t.Error(err)
	} else {
		said["the API server's audit log"] = string(log)
	}
	var pods corev1.PodList
	if err := lab.Client.List(t.Context(), &pods, client.InNamespace(brokertest.System)); err != nil {
		t.Fatal(err)
	}
	for _, pod := range pods.Items {
		said["the log of "+pod.Name] = lab.Kubectl(t, "logs", "-n", pod.Namespace, pod.Name)
		said["the metrics of "+pod.Name] = lab.Kubectl(t, "get", "--raw", "/api/v1/namespaces/"+pod.Namespace+"/pods/"+pod.Name+":8080/proxy/metrics")
	}
	for from, text := range said {
		if len(text) < 100 {
			t.Errorf("%s is not there to be searched: %q", from, text)
		}
	}
	return said
}

// markers are values that are nowhere else, and the forms in which one could
// get out.
type markers struct{ forms map[string]string }

func (m *markers) new() string {
	marker := "marker-" + strings.ToLower(rand.Text())
	sum, sha, short := sha256.Sum256([]byte(marker)), sha1.Sum([]byte(marker)), md5.Sum([]byte(marker))
	if m.forms == nil {
		m.forms = map[string]string{}
	}
	for form, text := range map[string]string{
		"itself": marker, "hex": hex.EncodeToString([]byte(marker)), "its escaped form": url.QueryEscape(marker),
		"its unkeyed digest": hex.EncodeToString(sum[:])[:16], "its SHA-256 in base64": base64.StdEncoding.EncodeToString(sum[:])[:16],
		"its SHA-1": hex.EncodeToString(sha[:])[:16], "its MD5": hex.EncodeToString(short[:])[:16],
	} {
		m.forms[text] = form
	}
	// A value begins anywhere in what is encoded with it, so at each of three
	// places; the ends depend on what is beside it.
	for skip := range 3 {
		encoded := base64.RawStdEncoding.EncodeToString([]byte(marker[skip:]))
		m.forms[encoded[:len(encoded)-4]] = "base64"
	}
	return marker
}

// found is the form in which a text holds a marker, or "".
func (m *markers) found(text string) string {
	for form := range m.forms {
		if strings.Contains(text, form) {
			return m.forms[form]
		}
	}
	return ""
}
