package inject_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/annotation"
	"github.com/privyseal/privyseal/broker/brokertest"
	"github.com/privyseal/privyseal/broker/inject"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// apiServer is one for all tests: each has an installation of its own there,
// which is asked about the pods of one namespace.
var apiServer brokertest.SharedAPIServer

func TestMain(m *testing.M) {
	ctrl.SetLogger(logr.Discard()) // the command's to set; unset, it complains
	os.Exit(apiServer.Run(m))
}

// The names that the chart gives.
const (
	serviceName = "privyseal-webhook"
	secretName  = "privyseal-webhook-ca"
)

// cluster is an API server with what the chart installs beside the webhook.
type cluster struct {
	t      *testing.T
	client client.Client
	access *rest.Config // as the webhook, with its rights alone

	namespace     string // of pods
	system        string // the webhook's namespace
	configuration string // and the name of its roles
	user          string
}

// newCluster installs the webhook for the pods of a namespace.
func newCluster(t *testing.T, namespace string) *cluster {
	t.Helper()
	access := apiServer.Access(t)
	c := &cluster{
		t: t, client: brokertest.Client(t, access), access: rest.CopyConfig(access),
		namespace: namespace, system: "privyseal-system-" + namespace, configuration: "privyseal-" + namespace,
	}
	c.user = "system:serviceaccount:" + c.system + ":" + serviceName
	c.access.Impersonate = rest.ImpersonationConfig{UserName: c.user}
	for _, name := range []string{c.system, c.namespace} {
		c.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}})
	}
	c.create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: c.system, Name: secretName}})
	c.grant()
	return c
}

func (c *cluster) create(object client.Object) {
	c.t.Helper()
	if err := c.client.Create(c.t.Context(), object); err != nil {
		c.t.Fatal(err)
	}
}

// grant gives the rights that Config's doc lists, to the letter.
func (c *cluster) grant() {
	c.t.Helper()
	subjects := []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: c.user}}
	c.create(&rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: c.configuration}, Rules: []rbacv1.PolicyRule{
		{APIGroups: []string{v1alpha1.Group}, Resources: []string{"secretclaims", "environments"}, Verbs: []string{"get", "list", "watch"}},
		{APIGroups: []string{""}, Resources: []string{"namespaces"}, Verbs: []string{"get", "list", "watch"}},
		{APIGroups: []string{"admissionregistration.k8s.io"}, Resources: []string{"mutatingwebhookconfigurations"},
			ResourceNames: []string{c.configuration}, Verbs: []string{"get", "patch"}},
	}})
	c.create(&rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: c.configuration}, Subjects: subjects,
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: c.configuration}})
	c.create(&rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Namespace: c.system, Name: serviceName}, Rules: []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"secrets"}, ResourceNames: []string{secretName}, Verbs: []string{"get", "update"}},
		{APIGroups: []string{"coordination.k8s.io"}, Resources: []string{"leases"}, Verbs: []string{"create"}},
		{APIGroups: []string{"coordination.k8s.io"}, Resources: []string{"leases"}, ResourceNames: []string{serviceName}, Verbs: []string{"get", "update"}},
	}})
	c.create(&rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: c.system, Name: serviceName}, Subjects: subjects,
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: serviceName}})
}

// serve runs replicas until the test ends, each called by a webhook of the
// configuration, one after the other, and gives where they listen. A webhook
// that cannot be reached refuses the pod, so that no failure is passed over.
func (c *cluster) serve(replicas int, config inject.Config) (listening []string) {
	c.t.Helper()
	var webhooks []admissionregistrationv1.MutatingWebhook
	var probes []string
	config.REST, config.Namespace, config.ConfigurationName = c.access, c.system, c.configuration
	config.ServiceName, config.CASecretName, config.Hosts = serviceName, secretName, []string{"127.0.0.1"}
	for i := range replicas {
		config.ListenAddress, config.ProbeAddress = freeAddress(c.t), freeAddress(c.t)
		listening = append(listening, config.ListenAddress)
		probes = append(probes, config.ProbeAddress)
		webhooks = append(webhooks, c.webhookAt(i, config.ListenAddress))
		c.run(config)
	}
	c.create(&admissionregistrationv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: c.configuration}, Webhooks: webhooks})
	for _, probe := range probes {
		brokertest.Eventually(c.t, time.Minute, func(ctx context.Context) error { return ready(ctx, probe) })
	}
	return listening
}

func (c *cluster) run(config inject.Config) {
	c.t.Helper()
	server, err := inject.NewServer(config)
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	c.t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			c.t.Errorf("the webhook ended with: %v", err)
		}
	})
}

func (c *cluster) webhookAt(replica int, address string) admissionregistrationv1.MutatingWebhook {
	url := "https://" + address + inject.Path
	fail, none, never := admissionregistrationv1.Fail, admissionregistrationv1.SideEffectClassNone, admissionregistrationv1.NeverReinvocationPolicy
	return admissionregistrationv1.MutatingWebhook{
		Name:                    fmt.Sprintf("inject-%d.privyseal.io", replica),
		AdmissionReviewVersions: []string{"v1"},
		ClientConfig:            admissionregistrationv1.WebhookClientConfig{URL: &url},
		FailurePolicy:           &fail,
		SideEffects:             &none,
		ReinvocationPolicy:      &never,
		NamespaceSelector:       &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: c.namespace}},
		Rules: []admissionregistrationv1.RuleWithOperations{{
			Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create},
			Rule:       admissionregistrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}},
		}},
		MatchConditions: []admissionregistrationv1.MatchCondition{{
			Name:       "asks-for-a-secret",
			Expression: "has(object.metadata.annotations) && object.metadata.annotations.exists(k, k.startsWith('privyseal.io/secret.'))",
		}},
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // closed on the next line
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}

func ready(ctx context.Context, probe string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+probe+"/readyz?verbose", http.NoBody)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusOK {
		return errors.New("not ready: " + answer.Status)
	}
	return nil
}

func (c *cluster) pod(annotations ...string) (*corev1.Pod, error) {
	pod := podOf(annotations...)
	pod.Namespace = c.namespace
	err := c.client.Create(c.t.Context(), pod)
	return pod, err
}

// brisk is the system's clock, but who waits on it waits a twentieth.
type brisk struct{ clock.RealClock }

func (b brisk) NewTimer(d time.Duration) clock.Timer { return b.RealClock.NewTimer(d / 20) }

func TestWebhookOnARealAPIServer(t *testing.T) {
	t.Parallel() // with the renewal of authorities, which waits for most of its time
	c := newCluster(t, "pay")
	c.serve(2, inject.Config{Clock: brisk{}})

	// A pod that asks for a secret points at the target of a claim that is yet
	// to be made. It has been through both replicas: the second found nothing
	// left to do.
	pod, err := c.pod("secret.db: db", "env.db: password=PGPASSWORD", "volume.db: /etc/secrets/db")
	if err != nil {
		t.Fatal(err)
	}
	if got := pod.Annotations[annotation.InjectedContainers]; got != "app" {
		t.Errorf("injected-containers %q", got)
	}
	app := pod.Spec.Containers[0]
	if len(app.Env) != 1 || app.Env[0].ValueFrom.SecretKeyRef.Name != "db-4452e219" || app.Env[0].ValueFrom.SecretKeyRef.Optional != nil {
		t.Errorf("variables %+v", app.Env)
	}
	if got := getsFiles(pod); got != "app" || pod.Spec.Volumes[0].Secret.SecretName != "db-4452e219" {
		t.Errorf("mounted by %q: %+v", got, pod.Spec.Volumes)
	}

	// A whole secret, with a prefix.
	if pod, err = c.pod("secret.db: db", "env.db: DB_*"); err != nil {
		t.Fatal(err)
	}
	if from := pod.Spec.Containers[0].EnvFrom; len(from) != 1 || from[0].Prefix != "DB_" || from[0].SecretRef.Name != "db-4452e219" {
		t.Errorf("sources %+v", from)
	}

	// Mistakes come back to whoever makes the pod.
	for annotations, says := range map[string]string{
		"secret.db: ../other": `"privyseal.io/secret.db": malformed path`,
		"secret.db: claim:pg": "namespace pay has none named pg; create it",
	} {
		_, err := c.pod(annotations)
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", annotations, err)
		}
	}

	// Once the claim is there the same pod is taken, though it comes right
	// after: what the cache does not have yet is asked for.
	claim := &v1alpha1.SecretClaim{ObjectMeta: metav1.ObjectMeta{Namespace: c.namespace, Name: "pg"}}
	claim.Spec.Sources = []v1alpha1.Source{{Path: "pg"}}
	claim.Spec.Target = &v1alpha1.Target{Name: "postgres"}
	c.create(claim)
	if pod, err = c.pod("secret.db: claim:pg"); err != nil {
		t.Fatal(err)
	}
	if got := pod.Spec.Volumes[0].Secret.SecretName; got != "postgres" {
		t.Errorf("points at %s", got)
	}

	// A pod says with what it started, once the claim has been synced.
	claim.Status.Target = &v1alpha1.TargetStatus{Name: "postgres", UID: "u", ResourceVersion: "1"}
	claim.Status.Sequence = 1763800000
	if err := c.client.Status().Update(t.Context(), claim); err != nil {
		t.Fatal(err)
	}
	brokertest.Eventually(t, 10*time.Second, func(context.Context) error {
		pod, err := c.pod("secret.db: claim:pg")
		if got := pod.Annotations[v1alpha1.AnnotationStartedWith]; err != nil || got != "postgres=1763800000" {
			return fmt.Errorf("started-with %q, %w", got, err)
		}
		return nil
	})

	// A dry run is answered too, and pods of others are not even asked about.
	dry := podOf("secret.db: db")
	dry.Namespace = c.namespace
	if err := c.client.Create(t.Context(), dry, client.DryRunAll); err != nil || getsFiles(dry) != "app" {
		t.Errorf("a dry run: %v", err)
	}
	if pod, err = c.pod("restart: never"); err != nil || pod.Annotations[annotation.InjectedContainers] != "" {
		t.Errorf("a pod that asks for nothing: %v", err)
	}

	// Somebody puts the configuration back as it was: it is mended.
	mended := &admissionregistrationv1.MutatingWebhookConfiguration{}
	if err := c.client.Get(t.Context(), client.ObjectKey{Name: c.configuration}, mended); err != nil {
		t.Fatal(err)
	}
	for i := range mended.Webhooks {
		mended.Webhooks[i].ClientConfig.CABundle = nil
	}
	if err := c.client.Update(t.Context(), mended); err != nil {
		t.Fatal(err)
	}
	brokertest.Eventually(t, time.Minute, func(context.Context) error {
		_, err := c.pod("secret.db: db")
		return err
	})
}

// The certificate authority is renewed again and again under a constant stream
// of pods, in a cluster where a webhook that is not trusted refuses them. The
// lifetime is that of a lab's test, cut down: it signs for 20 seconds. The
// stream goes on until every replica serves by the third authority, and the
// first is trusted no more.
func TestAuthorityIsRenewedAndNoPodIsRefused(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute; run without -short")
	}
	t.Parallel()
	c := newCluster(t, "renewed")
	replicas := c.serve(2, inject.Config{AuthorityLifetime: 30 * time.Second})

	created := 0
	var signing []string // authorities that signed, in their order
	brokertest.Eventually(t, 2*time.Minute, func(ctx context.Context) error {
		if _, err := c.pod("secret.db: db"); err != nil {
			t.Fatalf("after %d pods and %d authorities: %v", created, len(signing), err)
		}
		created++
		secret := &corev1.Secret{}
		if err := c.client.Get(ctx, client.ObjectKey{Namespace: c.system, Name: secretName}, secret); err != nil {
			return err
		}
		if signs := string(secret.Data["ca.crt"]); !slices.Contains(signing, signs) {
			signing = append(signing, signs)
		}
		if len(signing) < 3 {
			return fmt.Errorf("only %d authorities signed", len(signing))
		}
		return errors.Join(c.trustedNoMore(ctx, signing[0]), serveBy(ctx, signing[2], replicas))
	})
	t.Logf("%d pods, none refused, under %d authorities", created, len(signing))
}

// trustedNoMore says that no webhook of the configuration trusts an authority.
func (c *cluster) trustedNoMore(ctx context.Context, authority string) error {
	found := &admissionregistrationv1.MutatingWebhookConfiguration{}
	if err := c.client.Get(ctx, client.ObjectKey{Name: c.configuration}, found); err != nil {
		return err
	}
	for _, webhook := range found.Webhooks {
		if strings.Contains(string(webhook.ClientConfig.CABundle), authority) {
			return fmt.Errorf("%s trusts the first authority", webhook.Name)
		}
	}
	return nil
}

// serveBy says that replicas have certificates that an authority signed.
func serveBy(ctx context.Context, authority string, replicas []string) error {
	trusted := x509.NewCertPool()
	trusted.AppendCertsFromPEM([]byte(authority))
	dialer := tls.Dialer{Config: &tls.Config{RootCAs: trusted, MinVersion: tls.VersionTLS12}}
	for _, replica := range replicas {
		connection, err := dialer.DialContext(ctx, "tcp", replica)
		if err != nil {
			return fmt.Errorf("asking the replica at %s for its certificate: %w", replica, err)
		}
		_ = connection.Close()
	}
	return nil
}
