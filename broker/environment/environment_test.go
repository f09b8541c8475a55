package environment_test

import (
	"errors"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/privyseal/privyseal/broker/environment"
	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/providers"
)

func prod(paths ...string) *v1alpha1.Environment {
	return &v1alpha1.Environment{
		ObjectMeta: metav1.ObjectMeta{Name: "prod"},
		Spec: v1alpha1.EnvironmentSpec{
			Root:  "kv/{{ .Environment }}/{{ .Namespace }}",
			Paths: paths,
		},
	}
}

func compile(t *testing.T, e *v1alpha1.Environment) environment.Rules {
	t.Helper()
	rules, err := environment.Compile(e)
	if err != nil {
		t.Fatal(err)
	}
	return rules
}

func TestWhatANamespaceMayRead(t *testing.T) {
	rules := compile(t, prod(
		"kv/{{ .Environment }}/{{ .Namespace }}/**",
		"kv/{{.Environment}}/shared/ca",
		"database/creds/{{ .Namespace }}/*",
	))
	allow := func(namespace, path, want string) {
		t.Helper()
		ref, err := rules.Resolve(namespace, path)
		if err != nil || ref.String() != want {
			t.Errorf("%s asks for %q: got %q, %v; want %q", namespace, path, ref, err, want)
		}
	}
	refuse := func(namespace, path string, want error) {
		t.Helper()
		if ref, err := rules.Resolve(namespace, path); !errors.Is(err, want) {
			t.Errorf("%s asks for %q: got %q, %v; want %v", namespace, path, ref, err, want)
		}
	}
	// Its own subtree, by a relative and by an absolute path.
	allow("pay", "db", "kv/prod/pay/db")
	allow("pay", "tls/server", "kv/prod/pay/tls/server")
	allow("pay", "/kv/prod/pay/db", "kv/prod/pay/db")
	allow("pay", "/kv/prod/shared/ca", "kv/prod/shared/ca")
	allow("pay", "/database/creds/pay/rw", "database/creds/pay/rw")
	// Not the root itself, nor more or less than a pattern says.
	refuse("pay", "/kv/prod/pay", environment.ErrOutside)
	refuse("pay", "/kv/prod/shared/ca/x", environment.ErrOutside)
	refuse("pay", "/kv/prod/shared", environment.ErrOutside)
	refuse("pay", "/database/creds/pay/rw/x", environment.ErrOutside)
	// Not a neighbour, however alike its name; not another environment.
	refuse("pay", "/kv/prod/pay-ments/db", environment.ErrOutside)
	refuse("pay", "/database/creds/pay-ments/rw", environment.ErrOutside)
	refuse("pay-ments", "/kv/prod/pay/db", environment.ErrOutside)
	refuse("pay", "/kv/dev/pay/db", environment.ErrOutside)
	// KV v2's "data" is no second spelling: it is just another path.
	refuse("pay", "/kv/data/prod/pay/db", environment.ErrOutside)
	// Nothing that could be read in two ways.
	for _, path := range []string{
		"", "/", "..", "../other/db", "db/..", "./db", "db//x", "db/", "//kv/prod/pay/db",
		"%2e%2e/other", "db%2fx", `..\other`, "db\x00", "dÿb", "db\n", "*", "**", "db?version=1", "db#x", " db",
	} {
		refuse("pay", path, providers.ErrPath)
	}
}

func TestPatternsThatAreRefused(t *testing.T) {
	for _, path := range []string{
		"", "/", "**", "*", "*/x", "kv/**/x", "kv/a*", "kv/**x", "kv//x", "kv/../x",
		"database/creds/{{ .Namespace }}-*", "kv/{{ .Namespace }}x/**", "kv/x{{ .Namespace }}",
		"kv/{{ .Other }}/**", "kv/{{ .Namespace", "kv/%2e%2e",
	} {
		if _, err := environment.Compile(prod(path)); !errors.Is(err, environment.ErrPattern) || !strings.Contains(err.Error(), "spec.paths[0]") {
			t.Errorf("paths [%q]: got %v, want ErrPattern naming spec.paths[0]", path, err)
		}
	}
	wild := prod("kv/**")
	wild.Spec.Root = "kv/*"
	if _, err := environment.Compile(wild); !errors.Is(err, environment.ErrPattern) || !strings.Contains(err.Error(), "spec.root") {
		t.Errorf("a root with a wildcard: got %v, want ErrPattern naming spec.root", err)
	}
}

// FuzzResolve: whatever is asked for, what is allowed lies below the
// namespace's own subtree and is canonical.
func FuzzResolve(f *testing.F) {
	for _, seed := range []string{"db", "/kv/prod/pay/db", "../x", "/kv/prod/pay/../x", "a/b/c", "%2e"} {
		f.Add(seed)
	}
	rules, err := environment.Compile(prod("kv/{{ .Environment }}/{{ .Namespace }}/**"))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, path string) {
		ref, err := rules.Resolve("pay", path)
		if err != nil {
			return
		}
		if !strings.HasPrefix(ref.String(), "kv/prod/pay/") || strings.Contains(ref.String(), "..") && strings.Contains("/"+ref.String()+"/", "/../") {
			t.Fatalf("%q resolves to %q", path, ref)
		}
		if again, err := rules.Resolve("pay", "/"+ref.String()); err != nil || again != ref {
			t.Fatalf("%q resolves to %q, which resolves to %q, %v", path, ref, again, err)
		}
	})
}

func TestExpandFillsARole(t *testing.T) {
	for text, want := range map[string]string{
		"privyseal":                             "privyseal",
		"privyseal-{{ .Namespace }}":            "privyseal-pay",
		"{{.Environment}}-{{ .Namespace }}-app": "prod-pay-app",
	} {
		if got, err := environment.Expand(text, "prod", "pay"); err != nil || got != want {
			t.Errorf("%q: got %q, %v; want %q", text, got, err, want)
		}
	}
	for _, text := range []string{"{{ .Name }}", "{{ .Namespace", "{{ env \"HOME\" }}", "a{{}}"} {
		if got, err := environment.Expand(text, "prod", "pay"); !errors.Is(err, environment.ErrPattern) {
			t.Errorf("%q: got %q, %v; want ErrPattern", text, got, err)
		}
	}
	// Outside environments.
	if got, err := environment.Expand("privyseal-{{ .Namespace }}", "", "pay"); err != nil || got != "privyseal-pay" {
		t.Errorf("got %q, %v", got, err)
	}
	if got, err := environment.Expand("{{ .Environment }}-{{ .Namespace }}", "", "pay"); !errors.Is(err, environment.ErrPattern) {
		t.Errorf("got %q, %v; want ErrPattern where there is no environment", got, err)
	}
}
