package main

import (
	"bytes"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	ssv1alpha1 "github.com/bitnami-labs/sealed-secrets/pkg/apis/sealedsecrets/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/privyseal/privyseal/broker/brokertest"
	"github.com/privyseal/privyseal/broker/kubeseal"
	"github.com/privyseal/privyseal/broker/seal"
	"github.com/privyseal/privyseal/broker/sealingkey"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// desk is somebody with a kubeconfig, before a cluster that answers kubeseal.
type desk struct {
	t       *testing.T
	folder  string
	cluster client.Client
	keys    sealingkey.Snapshot
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	access := brokertest.APIServer(t)
	d := &desk{t: t, folder: t.TempDir(), cluster: brokertest.Client(t, access)}
	rsa, err := seal.GenerateRSAKey(seal.RSAConfig{Now: time.Now(), Bits: 2048})
	d.check(err)
	hybrid, err := seal.GenerateKey()
	d.check(err)
	d.keys = sealingkey.Snapshot{RSA: rsa, Hybrid: hybrid, Open: seal.NewKeys([]*seal.RSAKey{rsa}, []*seal.PrivateKey{hybrid})}
	t.Setenv("KUBECONFIG", d.kubeconfig(access))
	t.Setenv("HOME", d.folder)
	t.Setenv("XDG_CACHE_HOME", filepath.Join(d.folder, "cache"))
	d.serve()
	d.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "pay", Labels: map[string]string{"stage": "production"}}})
	d.create(&v1alpha1.Environment{
		ObjectMeta: metav1.ObjectMeta{Name: "production"},
		Spec: v1alpha1.EnvironmentSpec{
			NamespaceSelector: metav1.LabelSelector{MatchLabels: map[string]string{"stage": "production"}},
			Stores:            []string{"vault"}, Root: "kv/{{ .Environment }}", Paths: []string{"kv/{{ .Environment }}/**"},
		},
	})
	return d
}

func (d *desk) check(err error) {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
}

func (d *desk) create(object client.Object) {
	d.t.Helper()
	d.check(d.cluster.Create(d.t.Context(), object))
}

// serve answers kubeseal on this host, behind a Service of the usual name.
func (d *desk) serve() {
	listener, err := (&net.ListenConfig{}).Listen(d.t.Context(), "tcp", net.JoinHostPort(hostAddress(d.t), "0"))
	d.check(err)
	server := httptest.NewUnstartedServer(kubeseal.New(kubeseal.Config{Keys: cluster{d.keys}, Environments: cluster{d.keys}}))
	d.check(server.Listener.Close())
	server.Listener = listener
	server.Start()
	d.t.Cleanup(server.Close)
	address, port, err := net.SplitHostPort(listener.Addr().String())
	d.check(err)
	number, err := strconv.ParseInt(port, 10, 32)
	d.check(err)
	namespaced := metav1.ObjectMeta{Namespace: controllerNamespace, Name: controllerName}
	d.create(&corev1.Service{ObjectMeta: namespaced, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "http", Port: 8080}}}})
	pod := &corev1.Pod{ObjectMeta: namespaced, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "serve", Image: "privyseal"}}}}
	d.create(pod)
	pod.Status.PodIP, pod.Status.PodIPs = address, []corev1.PodIP{{IP: address}}
	d.check(d.cluster.Status().Update(d.t.Context(), pod))
	// The proxy goes to addresses of pods only, and no controller is here to say
	// which those are.
	//lint:ignore SA1019 the proxy of the API server goes by Endpoints
	d.create(&corev1.Endpoints{
		ObjectMeta: metav1.ObjectMeta{Namespace: controllerNamespace, Name: controllerName},
		//lint:ignore SA1019 likewise
		Subsets: []corev1.EndpointSubset{{
			Addresses: []corev1.EndpointAddress{{IP: address, TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name}}},
			Ports:     []corev1.EndpointPort{{Name: "http", Port: int32(number), Protocol: corev1.ProtocolTCP}},
		}},
	})
}

// hostAddress is one of this host that is not loopback, which a proxy of the API
// server refuses to go to.
func hostAddress(t *testing.T) string {
	t.Helper()
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, address := range addresses {
		if network, isNetwork := address.(*net.IPNet); isNetwork && network.IP.To4() != nil && network.IP.IsGlobalUnicast() {
			return network.IP.String()
		}
	}
	t.Skip("this host has no address but loopback, and an API server proxies to none of those")
	return ""
}

func (d *desk) kubeconfig(access *rest.Config) string {
	made := clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{"c": {Server: access.Host, CertificateAuthorityData: access.CAData}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{"c": {ClientCertificateData: access.CertData, ClientKeyData: access.KeyData}},
		Contexts:       map[string]*clientcmdapi.Context{"c": {Cluster: "c", AuthInfo: "c", Namespace: "pay"}},
		CurrentContext: "c",
	}
	name := filepath.Join(d.folder, "kubeconfig")
	d.check(clientcmd.WriteToFile(made, name))
	return name
}

func (d *desk) file(name, text string) string {
	path := filepath.Join(d.folder, name)
	if text != "" {
		d.check(os.WriteFile(path, []byte(text), 0o600))
	}
	return path
}

// run is privyseal with these arguments, and what it printed.
func (d *desk) run(arguments ...string) (stdout, stderr string, err error) {
	command := rootCommand()
	var out, problems bytes.Buffer
	command.SetOut(&out)
	command.SetErr(&problems)
	command.SetArgs(arguments)
	err = command.ExecuteContext(d.t.Context())
	return out.String(), problems.String(), err
}

func (d *desk) must(arguments ...string) (stdout, stderr string) {
	d.t.Helper()
	stdout, stderr, err := d.run(arguments...)
	if err != nil {
		d.t.Fatalf("privyseal %s: %v\n%s", strings.Join(arguments, " "), err, stderr)
	}
	return stdout, stderr
}

const plainSecret = "apiVersion: v1\nkind: Secret\nmetadata: {name: db}\nstringData: {user: pay, password: hunter2}\n"

func TestSealingAsksTheClusterForKeysAndEnvironment(t *testing.T) {
	d := newDesk(t)
	if certificate, _ := d.must("cert"); !strings.HasPrefix(certificate, "-----BEGIN CERTIFICATE-----") || !strings.Contains(certificate, seal.PublicKeyType) {
		t.Errorf("got %s", certificate)
	}
	secret, sealed := d.file("secret.yaml", plainSecret), d.file("sealed.yaml", "")
	d.must("seal", "-f", secret, "-w", sealed)
	// It opens in the context's namespace, and in the environment of that.
	if stdout, _ := d.must("verify", "--online", sealed); stdout != "1 SealedSecrets with 2 items are well\n" {
		t.Errorf("got %q", stdout)
	}
	if stdout, _ := d.must("reseal", sealed); stdout != "0 items sealed anew in 1 files\n" {
		t.Errorf("got %q", stdout)
	}
	if _, _, err := d.run("seal", "-f", secret, "-n", "nowhere"); err == nil || !strings.Contains(err.Error(), "asking for the environment of namespace nowhere (or say it by --environment)") {
		t.Errorf("got %v", err)
	}
	if _, _, err := d.run("cert", "--controller-name", "other"); err == nil || !strings.Contains(err.Error(), "looking up the controller's Service kube-system/other (say which by --controller-namespace and --controller-name)") {
		t.Errorf("got %v", err)
	}
}

func TestALiveSecretShowsWhichValuesHaveNotChanged(t *testing.T) {
	d := newDesk(t)
	secret, sealed := d.file("secret.yaml", plainSecret), d.file("sealed.yaml", "")
	d.must("seal", "-f", secret, "-w", sealed)
	d.apply(sealed)
	first := d.read(sealed)
	d.check(os.RemoveAll(filepath.Join(d.folder, "cache")))

	_, stderr := d.must("seal", "-f", secret, "-w", sealed)
	if !strings.Contains(stderr, "2 of 2 values have not changed and keep their ciphertext: 0 by this machine's cache, 2 by the cluster's objects") || d.read(sealed) != first {
		t.Errorf("an unchanged Secret: %s", stderr)
	}
	d.check(os.RemoveAll(filepath.Join(d.folder, "cache")))
	d.file("secret.yaml", strings.Replace(plainSecret, "hunter2", "hunter3", 1))
	if _, stderr := d.must("seal", "-f", secret, "-w", sealed); !strings.Contains(stderr, "1 of 2 values") || d.read(sealed) == first {
		t.Errorf("a changed value: %s", stderr)
	}
	// The live object is not the file's any more: it proves nothing of it.
	d.check(os.RemoveAll(filepath.Join(d.folder, "cache")))
	if _, stderr := d.must("seal", "-f", secret, "-w", sealed); !strings.Contains(stderr, "1 of 2 values") {
		t.Errorf("another ciphertext than the live one: %s", stderr)
	}
}

func (d *desk) read(name string) string {
	d.t.Helper()
	text, err := os.ReadFile(name)
	d.check(err)
	return string(text)
}

// apply puts the object into the cluster, synced, with the Secret it comes to.
func (d *desk) apply(name string) {
	d.t.Helper()
	object := &ssv1alpha1.SealedSecret{}
	d.check(yaml.Unmarshal([]byte(d.read(name)), object))
	d.create(object)
	object.Status = &ssv1alpha1.SealedSecretStatus{
		ObservedGeneration: object.Generation,
		Conditions:         []ssv1alpha1.SealedSecretCondition{{Type: ssv1alpha1.SealedSecretSynced, Status: corev1.ConditionTrue}},
	}
	d.check(d.cluster.Status().Update(d.t.Context(), object))
	d.create(&corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "pay", Name: "db"},
		StringData: map[string]string{"user": "pay", "password": "hunter2"},
	})
}
