package chart

import (
	"cmp"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// permissions are the tables of docs/permissions.md, as the lines that a rule
// has to be found in: "account | where | group | resources | verbs".
func permissions(t *testing.T) (lines []string, needs map[string]string) {
	t.Helper()
	text, err := os.ReadFile("../../docs/permissions.md")
	if err != nil {
		t.Fatal(err)
	}
	needs = map[string]string{}
	heading := regexp.MustCompile("^## .*: service account `(.*)`$")
	account := ""
	for _, line := range strings.Split(string(text), "\n") {
		if strings.HasPrefix(line, "## ") {
			account = ""
		}
		if found := heading.FindStringSubmatch(line); found != nil {
			account = found[1]
		}
		cells := strings.Split(strings.Trim(line, "| "), " | ")
		if account == "" || len(cells) != 5 || cells[0] == "where" {
			continue
		}
		rule := account + " | " + strings.Join(cells[:4], " | ")
		lines = append(lines, rule)
		needs[rule] = cells[4]
	}
	return lines, needs
}

// line is how the table says a right.
func line(account string, r right, served []string) string {
	where := "everywhere"
	switch {
	case r.where == namespace:
		where = "own"
	case slices.Contains(served, r.where):
		where = "served"
	}
	var groups []string
	for _, group := range r.APIGroups {
		groups = append(groups, cmp.Or(group, "core"))
	}
	resources := strings.Join(r.Resources, ", ")
	if len(r.ResourceNames) > 0 {
		resources += ": " + strings.Join(r.ResourceNames, ", ")
	}
	return strings.Join([]string{account, where, strings.Join(groups, ", "), resources, strings.Join(r.Verbs, ", ")}, " | ")
}

func TestTheTableOfPermissionsIsWhatTheChartRenders(t *testing.T) {
	// With a namespace of its own to serve, a rule says by its place whether it
	// has to hold everywhere.
	objects := rendered(t, `{namespaces: [payments], vault: {allowedAddresses: ["https://vault:8200"]}, reloader: {enabled: true}, argoRollouts: {enabled: true}}`)
	var given []string
	for _, account := range []string{"privyseal", "privyseal-webhook"} {
		for _, r := range rightsOf(t, objects, account) {
			given = append(given, line(account, r, []string{"payments"}))
		}
	}
	told, _ := permissions(t)
	for _, rule := range given {
		if !slices.Contains(told, rule) {
			t.Errorf("the chart gives, and the table does not tell: %s", rule)
		}
	}
	for _, rule := range told {
		if !slices.Contains(given, rule) {
			t.Errorf("the table tells, and the chart does not give: %s", rule)
		}
	}
}

func TestEachPermissionNamesAFunctionThatIsThere(t *testing.T) {
	code := regexp.MustCompile("`([^`]+)`")
	rules, needs := permissions(t)
	for _, rule := range rules {
		// What comes after the colon says why.
		need, _, _ := strings.Cut(needs[rule], ": ")
		source, functions := "", 0
		for _, found := range code.FindAllStringSubmatch(need, -1) {
			name := found[1]
			if name == "broker" || strings.HasPrefix(name, "broker/") {
				source = sourceOf(t, name)
				continue
			}
			functions++
			declared := `func ` + name
			if owner, method, isMethod := strings.Cut(name, "."); isMethod {
				declared = `func \(\w+ \*?` + owner + `\) ` + method
			}
			if !regexp.MustCompile(`(?m)^` + declared + `\(`).MatchString(source) {
				t.Errorf("%s: there is no function %s", rule, name)
			}
		}
		if functions == 0 {
			t.Errorf("%s: needed by no function", rule)
		}
	}
}

// sourceOf is the code of one package, without its tests.
func sourceOf(t *testing.T, name string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("../..", name, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no package %s: %v", name, err)
	}
	var source strings.Builder
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		source.Write(text)
	}
	return source.String()
}
