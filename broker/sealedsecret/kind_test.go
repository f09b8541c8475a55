package sealedsecret_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"

	"github.com/privyseal/privyseal/broker/brokertest"
)

func TestTheKindIsJustAsUpstreamHasIt(t *testing.T) {
	folder, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/bitnami-labs/sealed-secrets").Output()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(folder)), "helm/sealed-secrets/crds/bitnami.com_sealedsecrets.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var theirs apiextensionsv1.CustomResourceDefinition
	if err := yaml.UnmarshalStrict(text, &theirs); err != nil {
		t.Fatal(err)
	}
	all := brokertest.Definitions(t)
	at := slices.IndexFunc(all, func(d *apiextensionsv1.CustomResourceDefinition) bool { return d.Name == theirs.Name })
	if at < 0 {
		t.Fatalf("the chart has no definition %s", theirs.Name)
	}
	if diff := cmp.Diff(theirs.Spec, all[at].Spec); diff != "" {
		t.Errorf("upstream's (-) and the chart's (+):\n%s", diff)
	}
}
