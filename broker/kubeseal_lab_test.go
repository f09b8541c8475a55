package broker_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/brokertest"
	"github.com/privyseal/privyseal/broker/seal"
)

// sealedKeys are the labelled Secrets that Sealed Secrets keeps its keys in.
const sealedKeys = "sealedsecrets.bitnami.com/sealed-secrets-key"

// TestTheRealKubesealDoesNotSeeThatItTalksToPrivyseal goes through what kubeseal
// can do, by the API server's proxy, as its users do.
func TestTheRealKubesealDoesNotSeeThatItTalksToPrivyseal(t *testing.T) {
	lab := brokertest.NewLab(t, brokertest.Node)
	lab.Install(t, fast)
	tenant := lab.NewTenant(t, "kubeseal")
	work := t.TempDir()

	certificate := eventually(t, func() (string, error) { return lab.TryKubeseal(t, "", "--fetch-cert") })
	if !strings.HasPrefix(certificate, "-----BEGIN CERTIFICATE-----") {
		t.Fatalf("--fetch-cert printed:\n%s", certificate)
	}
	certFile := write(t, work, "cert.pem", certificate)

	sealed := lab.Kubeseal(t, plainSecret(tenant, "app", map[string]string{"user": "ada", "password": "first"}), "--format", "yaml")
	lab.Apply(t, sealed)
	holds(t, lab, tenant, "app", map[string]string{"user": "ada", "password": "first"})

	t.Run("raw, from a certificate and for each scope", func(t *testing.T) {
		for _, scope := range []string{"strict", "namespace-wide", "cluster-wide"} {
			name := "raw-" + scope
			item := lab.Kubeseal(t, "", "--raw", "--cert", certFile, "--scope", scope, "--name", name,
				"--namespace", tenant.Namespace, "--from-file", write(t, work, scope, "value of "+scope))
			annotation := map[string]string{"strict": ""}[scope]
			if scope != "strict" {
				annotation = fmt.Sprintf("sealedsecrets.bitnami.com/%s: \"true\"", scope)
			}
			lab.Apply(t, fmt.Sprintf("{apiVersion: bitnami.com/v1alpha1, kind: SealedSecret, metadata: {name: %s, namespace: %s, annotations: {%s}}, spec: {encryptedData: {key: %s}}}",
				name, tenant.Namespace, annotation, item))
			holds(t, lab, tenant, name, map[string]string{"key": "value of " + scope})
		}
	})

	t.Run("merge-into", func(t *testing.T) {
		file := write(t, work, "app.yaml", sealed)
		lab.Kubeseal(t, plainSecret(tenant, "app", map[string]string{"token": "more"}), "--format", "yaml", "--merge-into", file)
		lab.Apply(t, read(t, file))
		holds(t, lab, tenant, "app", map[string]string{"user": "ada", "password": "first", "token": "more"})
	})

	t.Run("validate", func(t *testing.T) {
		lab.Kubeseal(t, sealed, "--validate")
		_, err := lab.TryKubeseal(t, strings.ReplaceAll(sealed, "name: app", "name: other"), "--validate")
		if err == nil || !strings.Contains(err.Error(), "unable to decrypt sealed secret: other") {
			t.Errorf("a SealedSecret under another name: %v", err)
		}
	})

	t.Run("re-encrypt", func(t *testing.T) {
		if again := lab.Kubeseal(t, sealed, "--re-encrypt", "--format", "yaml"); fmt.Sprint(items(t, again)) != fmt.Sprint(items(t, sealed)) {
			t.Error("items that are sealed to the newest key were sealed anew, which would be noise in git")
		}
		defer newestKey(t, lab)()
		before := items(t, sealed)
		again := eventually(t, func() (string, error) {
			again, err := lab.TryKubeseal(t, sealed, "--re-encrypt", "--format", "yaml")
			if err == nil && fmt.Sprint(items(t, again)) == fmt.Sprint(before) {
				err = errors.New("the newest key is not seen yet")
			}
			return again, err
		})
		after := items(t, again)
		if len(after) != len(before) {
			t.Fatalf("%d items were %d before", len(after), len(before))
		}
		for name := range before {
			if before[name] == after[name] {
				t.Errorf("item %s is the same as before", name)
			}
		}
		eventually(t, func() (string, error) { return lab.TryKubeseal(t, again, "--validate") })

		where := []string{"--kubeconfig", lab.Env("LAB_KUBECONFIG"), "--key-namespace", brokertest.System}
		keys, err := privyseal(t, append([]string{"status", "keys"}, where...)...)
		if err != nil || !strings.Contains(keys, broughtKey) {
			t.Errorf("privyseal status keys printed:\n%s%v", keys, err)
		}
		if _, err := privyseal(t, append([]string{"keys", "retire", broughtKey}, where...)...); err == nil || !strings.Contains(err.Error(), "still needed") {
			t.Errorf("retiring the key that is sealed to: %v", err)
		}
	})

	t.Run("recovery-unseal", func(t *testing.T) {
		keys := write(t, work, "keys.yaml", lab.Kubectl(t, "get", "secrets", "-n", brokertest.System, "-l", sealedKeys, "-o", "yaml"))
		plain := lab.Kubeseal(t, sealed, "--recovery-unseal", "--recovery-private-key", keys, "--format", "yaml")
		if want := "password: " + base64.StdEncoding.EncodeToString([]byte("first")); !strings.Contains(plain, want) {
			t.Errorf("it printed:\n%s\nwithout %s", plain, want)
		}
	})
}

// TestSealedSecretsAndPrivysealTakeOverFromEachOther swaps the one for the other
// and back, under a pod that reads what is sealed.
func TestSealedSecretsAndPrivysealTakeOverFromEachOther(t *testing.T) {
	lab := brokertest.NewLab(t, brokertest.Ours)
	lab.Install(t, fast)
	tenant := lab.NewTenant(t, "swap")
	cert := write(t, t.TempDir(), "cert.pem", eventually(t, func() (string, error) { return lab.TryKubeseal(t, "", "--fetch-cert") }))
	seal := func(name, value string) string {
		t.Helper()
		return lab.Kubeseal(t, plainSecret(tenant, name, map[string]string{"password": value}), "--format", "yaml", "--cert", cert)
	}
	theirs, ours := seal("theirs", "first"), seal("ours", "first")
	changed := seal("theirs", "second")
	app := func(secret string) string {
		return reader(tenant, secret+"-app", "", fmt.Sprintf("env: [{name: PASSWORD, valueFrom: {secretKeyRef: {name: %s, key: password}}}]", secret))
	}
	lab.Apply(t, ours)
	lab.Apply(t, app("ours"))

	// Sealed Secrets is there, and makes a Secret.
	putBack := lab.WithoutServe(t)
	stop := lab.StartUpstream(t)
	lab.Apply(t, theirs)
	lab.Apply(t, app("theirs"))
	holds(t, lab, tenant, "theirs", map[string]string{"password": "first"})
	pods := podUIDs(t, tenant, "ours-app", "theirs-app")
	secrets := versions(t, lab, tenant, "ours", "theirs")
	brokertest.Throughout(t, calm, same(secrets, func(context.Context) map[string]string { return versions(t, lab, tenant, "ours", "theirs") }))

	// Privyseal takes over: nothing is written, and no pod is restarted.
	stop()
	journal := lab.Journal(t)
	putBack()
	synced(t, lab, tenant, "theirs")
	brokertest.Throughout(t, calm, func(context.Context) error {
		if now := versions(t, lab, tenant, "ours", "theirs"); fmt.Sprint(now) != fmt.Sprint(secrets) {
			return fmt.Errorf("the Secrets are %v, and were %v", now, secrets)
		}
		if now := podUIDs(t, tenant, "ours-app", "theirs-app"); fmt.Sprint(now) != fmt.Sprint(pods) {
			return fmt.Errorf("the pods are %v, and were %v", now, pods)
		}
		return nil
	})
	if wrote := journal.Requests(t, func(r brokertest.Request) bool {
		return r.User == brokertest.DaemonUser && r.Writes() && r.Resource == "secrets" && r.Namespace == tenant.Namespace
	}); len(wrote) > 0 {
		t.Errorf("taking over wrote Secrets: %v", wrote)
	}

	// What Sealed Secrets made, changes as everything else does: one rollout.
	generation := generationOf(t, lab, tenant, "theirs-app")
	lab.Apply(t, changed)
	holds(t, lab, tenant, "theirs", map[string]string{"password": "second"})
	once := func(context.Context) error {
		if got := generationOf(t, lab, tenant, "theirs-app") - generation; got != 1 {
			return fmt.Errorf("%d rollouts for one change", got)
		}
		return nil
	}
	brokertest.Eventually(t, within, once)
	brokertest.Throughout(t, calm, once)
	pod := tenant.RunningPod(t, "theirs-app", within)
	if got, err := lab.Exec(t.Context(), tenant.Key(pod.Name), "sh", "-c", "echo $PASSWORD"); strings.TrimSpace(got) != "second" || err != nil {
		t.Errorf("the pod has %q, want second (%v)", got, err)
	}

	// And back: Sealed Secrets opens what was sealed meanwhile, with the keys
	// that are there, and no pod is restarted.
	pods = podUIDs(t, tenant, "ours-app", "theirs-app")
	untouched := versions(t, lab, tenant, "ours")
	putBack = lab.WithoutServe(t)
	defer putBack()
	stop = lab.StartUpstream(t)
	defer stop()
	later := seal("later", "third")
	lab.Apply(t, later)
	holds(t, lab, tenant, "later", map[string]string{"password": "third"})
	holds(t, lab, tenant, "theirs", map[string]string{"password": "second"})
	brokertest.Throughout(t, calm, func(context.Context) error {
		if now := versions(t, lab, tenant, "ours"); fmt.Sprint(now) != fmt.Sprint(untouched) {
			return fmt.Errorf("a Secret that nobody changed is %v, and was %v", now, untouched)
		}
		if now := podUIDs(t, tenant, "ours-app", "theirs-app"); fmt.Sprint(now) != fmt.Sprint(pods) {
			return fmt.Errorf("the pods are %v, and were %v", now, pods)
		}
		return nil
	})
}

const broughtKey = "brought-by-test"

// newestKey brings a sealing key that is newer than the others, and gives what
// takes it away.
func newestKey(t *testing.T, lab *brokertest.Lab) (takeAway func()) {
	t.Helper()
	key, err := seal.GenerateRSAKey(seal.RSAConfig{Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	text, certificate := key.PEM()
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: brokertest.System, Name: broughtKey, Labels: map[string]string{sealedKeys: "active"}},
		Type:       corev1.SecretTypeTLS,
		Data:       map[string][]byte{corev1.TLSPrivateKeyKey: text, corev1.TLSCertKey: certificate},
	}
	if err := lab.Client.Create(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := lab.Client.Delete(context.WithoutCancel(t.Context()), secret); err != nil {
			t.Error(err)
		}
	}
}

func plainSecret(tenant *brokertest.Tenant, name string, data map[string]string) string {
	var text strings.Builder
	fmt.Fprintf(&text, "apiVersion: v1\nkind: Secret\nmetadata:\n  name: %s\n  namespace: %s\nstringData:\n", name, tenant.Namespace)
	for key, value := range data {
		fmt.Fprintf(&text, "  %s: %q\n", key, value)
	}
	return text.String()
}

// holds waits until a Secret holds this and nothing else.
func holds(t *testing.T, lab *brokertest.Lab, tenant *brokertest.Tenant, name string, want map[string]string) {
	t.Helper()
	brokertest.Eventually(t, within, func(ctx context.Context) error {
		secret := &corev1.Secret{}
		if err := lab.Client.Get(ctx, tenant.Key(name), secret); err != nil {
			return err
		}
		got := map[string]string{}
		for key, value := range secret.Data {
			got[key] = string(value)
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			return fmt.Errorf("Secret %s holds %v, want %v", name, got, want)
		}
		return nil
	})
}

// synced waits until a SealedSecret's status says that this generation of it is
// in its Secret.
func synced(t *testing.T, lab *brokertest.Lab, tenant *brokertest.Tenant, name string) {
	t.Helper()
	brokertest.Eventually(t, within, func(ctx context.Context) error {
		sealed := &unstructured.Unstructured{}
		sealed.SetAPIVersion("bitnami.com/v1alpha1")
		sealed.SetKind("SealedSecret")
		if err := lab.Client.Get(ctx, tenant.Key(name), sealed); err != nil {
			return err
		}
		observed, _, _ := unstructured.NestedInt64(sealed.Object, "status", "observedGeneration")
		conditions, _, _ := unstructured.NestedSlice(sealed.Object, "status", "conditions")
		if observed == sealed.GetGeneration() && strings.Contains(fmt.Sprint(conditions), "status:True") {
			return nil
		}
		return fmt.Errorf("the status of %s is %v", name, sealed.Object["status"])
	})
}

// items are the sealed items of a manifest, by name.
func items(t *testing.T, manifest string) map[string]string {
	t.Helper()
	found := map[string]string{}
	_, list, _ := strings.Cut(manifest, "encryptedData:\n")
	for line := range strings.Lines(list) {
		name, item, is := strings.Cut(strings.TrimSpace(line), ": ")
		if !is || !strings.HasPrefix(line, "    ") {
			break
		}
		found[name] = item
	}
	if len(found) == 0 {
		t.Fatalf("no items in:\n%s", manifest)
	}
	return found
}

func versions(t *testing.T, lab *brokertest.Lab, tenant *brokertest.Tenant, names ...string) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, name := range names {
		secret := &corev1.Secret{}
		if err := lab.Client.Get(t.Context(), client.ObjectKey(tenant.Key(name)), secret); err != nil {
			t.Fatal(err)
		}
		found[name] = string(secret.UID) + " " + secret.ResourceVersion
	}
	return found
}

func podUIDs(t *testing.T, tenant *brokertest.Tenant, apps ...string) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, app := range apps {
		found[app] = string(tenant.RunningPod(t, app, within).UID)
	}
	return found
}

func same(want map[string]string, look func(context.Context) map[string]string) func(context.Context) error {
	return func(ctx context.Context) error {
		if now := look(ctx); fmt.Sprint(now) != fmt.Sprint(want) {
			return fmt.Errorf("they are %v, and were %v", now, want)
		}
		return nil
	}
}

// eventually is what something says that may be refused for a while, since it
// comes too often.
func eventually(t *testing.T, do func() (string, error)) string {
	t.Helper()
	var output string
	brokertest.Eventually(t, 30*time.Second, func(context.Context) (err error) {
		output, err = do()
		return err
	})
	return output
}

func write(t *testing.T, folder, name, text string) string {
	t.Helper()
	path := filepath.Join(folder, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
