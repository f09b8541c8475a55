package rotate_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/privyseal/privyseal/broker/rotate"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// block of YAML in a page; a manifest's own file is one whole.
var block = regexp.MustCompile("(?s)```yaml\n(.*?)```")

// What people copy from a page has to be taken.
func TestRotationsInTheDocsCanBeCarriedOut(t *testing.T) {
	t.Parallel()
	checked := 0
	for _, pattern := range []string{"../../*.md", "../../docs/*.md", "../../docs/*/*.md", "../../examples/*/*.yaml"} {
		pages, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, page := range pages {
			text, err := os.ReadFile(page)
			if err != nil {
				t.Fatal(err)
			}
			for _, manifest := range manifests(page, string(text)) {
				of := &v1alpha1.SecretRotation{}
				if err := yaml.UnmarshalStrict([]byte(manifest), of); err != nil {
					t.Errorf("%s: %v\n%s", page, err, manifest)
				} else if err := rotate.Check(of.Spec); err != nil {
					t.Errorf("%s: %v\n%s", page, err, manifest)
				}
				checked++
			}
		}
	}
	if checked < 5 {
		t.Errorf("%d rotations found: the pages have more", checked)
	}
}

// manifests of rotations: what has a schedule, and something that is rotated by it.
func manifests(page, text string) (found []string) {
	var all []string
	if strings.HasSuffix(page, ".yaml") {
		all = strings.Split(text, "\n---\n")
	}
	for _, match := range block.FindAllStringSubmatch(text, -1) {
		all = append(all, match[1])
	}
	for _, one := range all {
		if strings.Contains(one, "\n  schedule:") && (strings.Contains(one, "\n  generate:") || strings.Contains(one, "\n  engine:")) {
			found = append(found, one)
		}
	}
	return found
}
