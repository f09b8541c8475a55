package broker_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/privyseal/privyseal/"

// levels of the product, from top to bottom. A package imports packages of
// lower levels only: not of its own, and never of a higher one.
var levels = [][]string{
	{"cmd/"},
	{"broker/brokertest"},
	{"broker"},
	{"broker/plan"},
	{"broker/claim", "broker/inject", "broker/restart", "broker/rotate", "broker/lease", "broker/store", "broker/copies", "broker/sealedsecret", "broker/kubeseal"},
	{"broker/home", "broker/foreign"},
	{"broker/target", "broker/template", "broker/environment", "broker/address", "broker/annotation", "broker/variables", "broker/certs", "broker/sealingkey", "broker/repository", "broker/recovery", "broker/window", "broker/waits", "broker/statuses", "broker/reloader",
		"rotation", "rotation/generate",
		"providers/vault", "providers/memory", "providers/providertest"},
	{"broker/installkey", "broker/manifest", "rotation/schedule"},
	{"broker/seal", "rotation/schedule/scheduletest"},
	{"providers", "broker/v1alpha1"},
}

// withoutKubernetes are the packages that can be read, tested and fuzzed
// without knowing what a cluster is.
var withoutKubernetes = []string{"providers", "providers/vault", "providers/memory", "providers/providertest", "broker/address", "broker/template", "broker/seal", "broker/repository", "broker/window", "broker/waits", "broker/reloader",
	"rotation", "rotation/generate", "rotation/schedule"}

type listed struct {
	ImportPath string
	Dir        string
	Imports    []string
	Deps       []string
	GoFiles    []string
}

func packages(t *testing.T) []listed {
	t.Helper()
	list := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Dir,Imports,Deps,GoFiles", module+"...")
	var problems bytes.Buffer
	list.Stderr = &problems
	output, err := list.Output()
	if err != nil {
		t.Fatalf("listing the packages: %v\n%s", err, &problems)
	}
	var all []listed
	for decoder := json.NewDecoder(bytes.NewReader(output)); ; {
		var one listed
		if err := decoder.Decode(&one); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		one.ImportPath = strings.TrimPrefix(one.ImportPath, module)
		all = append(all, one)
	}
}

func levelOf(path string) int {
	return slices.IndexFunc(levels, func(level []string) bool {
		return slices.ContainsFunc(level, func(name string) bool {
			return path == name || strings.HasSuffix(name, "/") && strings.HasPrefix(path, name)
		})
	})
}

func TestImportsGoDownOnly(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		own := levelOf(p.ImportPath)
		if own < 0 {
			t.Errorf("%s has no level; add it to the list where it belongs", p.ImportPath)
			continue
		}
		for _, imported := range p.Imports {
			imported, ours := strings.CutPrefix(imported, module)
			if ours && levelOf(imported) <= own {
				t.Errorf("%s imports %s, which is not below it", p.ImportPath, imported)
			}
		}
	}
}

func TestWhatKnowsNothingOfKubernetes(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		if !slices.Contains(withoutKubernetes, p.ImportPath) {
			continue
		}
		for _, dependency := range p.Deps {
			if strings.HasPrefix(dependency, "k8s.io/") || strings.HasPrefix(dependency, "sigs.k8s.io/") {
				t.Errorf("%s depends on %s", p.ImportPath, dependency)
			}
		}
	}
}

// rules are what a reviewer would otherwise have to look for.
var rules = []struct {
	says    string
	pattern *regexp.Regexp
	// except are the places that may.
	except []string
}{
	{"time comes in as a clock", regexp.MustCompile(`\btime\.(Now|Sleep|After|Tick|NewTimer|NewTicker|Since|Until)\(`),
		[]string{"cmd/"}},
	{"nothing is registered by init", regexp.MustCompile(`(?m)^func init\(`), nil},
	{"an error says what was being done, not that it failed", regexp.MustCompile(`(Errorf|errors\.New)\("(failed|error|could not|unable|cannot) `), nil},
	{"nothing matches on an error's text", regexp.MustCompile(`strings\.(Contains|HasPrefix|HasSuffix)\(err\.Error\(\)`),
		// providertest looks for values in texts, which is its job.
		[]string{"providers/providertest"}},
	{"digests of values are keyed: only the install key's package makes them",
		regexp.MustCompile(`"(crypto/sha1|crypto/sha256|crypto/sha512|crypto/md5|hash/fnv|hash/crc32|hash/maphash)"`),
		// claim, lease: a phase made of a UID; schedule: a delay made of a name and a
		// date; annotation: a name made of a path; seal: OAEP's hash, and ids of
		// public keys.
		[]string{"broker/installkey", "broker/claim/schedule.go", "broker/lease/phase.go", "rotation/schedule/delay.go", "broker/annotation/request.go", "broker/brokertest",
			"broker/seal/v1.go", "broker/seal/keys.go"}},
	{"a folder is named after what it holds", regexp.MustCompile(`(?m)^package (util|utils|common|helpers|pkg|misc)$`), nil},
}

func TestTheRulesOfTheHouse(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		for _, name := range p.GoFiles {
			source, err := os.ReadFile(filepath.Join(p.Dir, name))
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(name, "zz_generated") {
				continue
			}
			for _, rule := range rules {
				place := p.ImportPath + "/" + name
				allowed := slices.ContainsFunc(rule.except, func(prefix string) bool { return strings.HasPrefix(place, prefix) })
				if found := rule.pattern.Find(source); found != nil && !allowed {
					t.Errorf("%s: %q: %s", place, found, rule.says)
				}
			}
		}
	}
}
