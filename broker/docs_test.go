package broker_test

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"github.com/privyseal/privyseal/broker/brokertest"
)

// ours is a metric of ours, as code names it and as people read it.
var ours = regexp.MustCompile("[\"`](privyseal_[a-z_]+)[\"`]")

func TestTheOperationsGuideTellsOfEachMetricAndOfNoOther(t *testing.T) {
	made := map[string]bool{}
	for _, p := range packages(t) {
		for _, name := range p.GoFiles {
			collect(t, filepath.Join(p.Dir, name), ours, made)
		}
	}
	told := map[string]bool{}
	collect(t, filepath.Join(brokertest.Root(t), "docs/operations.md"), ours, told)
	if len(made) == 0 {
		t.Fatal("found no metric in the code")
	}
	agree(t, "metric", made, told)
}

func TestTheOperationsGuideTellsOfEachReasonOfAClaim(t *testing.T) {
	made := map[string]bool{}
	collect(t, filepath.Join(brokertest.Root(t), "broker/v1alpha1/conditions.go"), regexp.MustCompile(`(?m)^\tReason\w+ = "(\w+)"`), made)
	delete(made, "Synced") // nothing to look at
	told := map[string]bool{}
	collect(t, filepath.Join(brokertest.Root(t), "docs/operations.md"), regexp.MustCompile("`([A-Z][a-zA-Z]+)`"), told)
	for reason := range made {
		if !told[reason] {
			t.Errorf("docs/operations.md does not tell of reason %s", reason)
		}
	}
}

// collect adds what a pattern's group finds in a file.
func collect(t *testing.T, file string, pattern *regexp.Regexp, into map[string]bool) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, found := range pattern.FindAllStringSubmatch(string(text), -1) {
		into[found[1]] = true
	}
}

func agree(t *testing.T, what string, made, told map[string]bool) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(made)) {
		if !told[name] {
			t.Errorf("docs/operations.md does not tell of %s %s", what, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(told)) {
		if !made[name] {
			t.Errorf("docs/operations.md tells of %s %s, which nobody makes", what, name)
		}
	}
}
