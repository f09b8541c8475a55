package main

import (
	"os"
	"regexp"
	"testing"
)

// builtTogether are the modules whose programs have much in common, and are
// built by the same flags: the older Kubernetes and what goes with it, and the
// newer one of the product, its tools and the DNS.
var builtTogether = [][]string{
	{"etcd", "kube", "vault"},
	{"..", "../tools", "dns"},
}

func TestModulesNameTheSameVersionOfWhatTheyHaveInCommon(t *testing.T) {
	for _, group := range builtTogether {
		seen := map[string]string{}
		for _, module := range group {
			versions := versionsIn(t, module+"/go.mod")
			for path, version := range versions {
				if other, known := seen[path]; known && other != version {
					t.Errorf("%s is compiled twice: %v want %s and %s; name the later one in each go.mod", path, group, other, version)
				}
				seen[path] = version
			}
		}
	}
}

// versionsIn are the versions that a go.mod names, by module; of one that is
// replaced, the version that replaces it.
func versionsIn(t *testing.T, file string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	versions := map[string]string{}
	for _, pattern := range []string{
		`(?m)^(?:require |\t)([^\s=]+\.[^\s=]+) (v[^\s=]+)(?: //.*)?$`,
		`(?m)^(?:replace |\t)([^\s=]+)(?: v\S+)? => \S+ (v\S+)$`,
	} {
		for _, found := range regexp.MustCompile(pattern).FindAllStringSubmatch(string(text), -1) {
			versions[found[1]] = found[2]
		}
	}
	if len(versions) < 20 {
		t.Fatalf("%s: read %d versions only", file, len(versions))
	}
	return versions
}
