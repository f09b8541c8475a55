package brokertest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"text/template"
	"time"

	"github.com/go-logr/logr"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/yaml"

	"github.com/privyseal/privyseal/broker"
)

// patience with an API server that starts.
const patience = time.Minute

// APIServer starts an API server with etcd for this test alone, with
// Privyseal's CRDs, and nothing else: no controllers, no nodes.
func APIServer(t testing.TB) *rest.Config {
	t.Helper()
	environment := startAPIServer(t)
	t.Cleanup(func() {
		if err := environment.Stop(); err != nil {
			t.Errorf("stopping the API server: %v", err)
		}
	})
	return environment.Config
}

// SharedAPIServer is an API server for all tests of a package whose tests keep
// to names of their own, or clean up before they begin: to start one takes
// longer than most tests.
type SharedAPIServer struct {
	once        sync.Once
	environment *envtest.Environment
}

// Access starts the API server, for the first test that wants it.
func (s *SharedAPIServer) Access(t testing.TB) *rest.Config {
	t.Helper()
	s.once.Do(func() { s.environment = startAPIServer(t) })
	if s.environment == nil {
		t.Fatal("the API server did not start, as an earlier test says")
	}
	return s.environment.Config
}

// Run runs a package's tests, for its TestMain, and then stops the API server.
// It gives the code to exit with.
func (s *SharedAPIServer) Run(m *testing.M) int {
	code := m.Run()
	if s.environment == nil {
		return code
	}
	if err := s.environment.Stop(); err != nil {
		fmt.Fprintf(os.Stderr, "stopping the API server: %v\n", err)
		return max(code, 1)
	}
	return code
}

func startAPIServer(t testing.TB) *envtest.Environment {
	t.Helper()
	assets := labEnv(t)["KUBEBUILDER_ASSETS"]
	if _, err := os.Stat(filepath.Join(assets, "kube-apiserver")); err != nil {
		skipWithout(t, "it has no kube-apiserver to start")
	}
	environment := &envtest.Environment{
		BinaryAssetsDirectory: assets,
		CRDs:                  Definitions(t),
		// It takes some 5 seconds, and on a busy machine more than the 20 and
		// 10 that are usual.
		ControlPlaneStartTimeout: patience,
		ControlPlaneStopTimeout:  patience,
		CRDInstallOptions:        envtest.CRDInstallOptions{MaxTime: patience},
	}
	access, err := environment.Start()
	if err != nil {
		t.Fatalf("starting an API server: %v", err)
	}
	access.QPS = -1
	return environment
}

// Definitions are the CRDs out of the chart.
func Definitions(t testing.TB) []*apiextensionsv1.CustomResourceDefinition {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(Root(t), "charts/privyseal/templates/crds/*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no CRDs in the chart: %v", err)
	}
	on := map[string]any{"enabled": true}
	values := map[string]any{"Values": map[string]any{"crds": on, "sealedSecrets": on}, "Release": map[string]any{"Name": "privyseal", "Namespace": System}}
	// Of Helm's functions those that ask what is there: nothing is.
	helm := template.FuncMap{
		"lookup": func(...string) map[string]any { return nil },
		"dig":    func(...any) string { return "" },
	}
	var definitions []*apiextensionsv1.CustomResourceDefinition
	for _, file := range files {
		var rendered bytes.Buffer
		if err := template.Must(template.New(filepath.Base(file)).Funcs(helm).ParseFiles(file)).Execute(&rendered, values); err != nil {
			t.Fatalf("rendering %s: %v", file, err)
		}
		definition := &apiextensionsv1.CustomResourceDefinition{}
		if err := yaml.UnmarshalStrict(rendered.Bytes(), definition); err != nil {
			t.Fatalf("reading %s: %v", file, err)
		}
		definitions = append(definitions, definition)
	}
	return definitions
}

// discardLog is for controller-runtime, which else complains, and which cannot be
// told by two tests at once.
var discardLog = sync.OnceFunc(func() { log.SetLogger(logr.Discard()) })

// Client is an uncached client that knows Privyseal's kinds.
func Client(t testing.TB, access *rest.Config) client.Client {
	t.Helper()
	discardLog()
	scheme, err := broker.Scheme()
	if err != nil {
		t.Fatal(err)
	}
	made, err := client.New(access, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	return made
}
