package annotation_test

import (
	"reflect"
	"testing"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/privyseal/privyseal/broker/annotation"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// The names are in clusters: a change of one of these is a new claim, and a
// wait, for every annotated workload there is. (Reckoned apart, in Python.)
func TestClaimNamesStay(t *testing.T) {
	for name, request := range map[string]annotation.Request{
		"db-4452e219":  {Name: "db", Path: "db"},
		"pg-4452e219":  {Name: "pg", Path: "db"},
		"db-20c19430":  {Name: "db", Path: "/db"},
		"dsn-46e152d3": {Name: "dsn", Path: "db", Template: "{{ .user }}"},
		"pay.db":       {Name: "db", Claim: "pay.db"},
	} {
		if got := request.ClaimName(); got != name {
			t.Errorf("%+v is served by %s, not %s", request, got, name)
		}
	}
}

func TestOneRequestIsOneClaim(t *testing.T) {
	claim := func(lines ...string) string {
		t.Helper()
		parsed, err := annotation.Parse(on(lines...))
		if err != nil {
			t.Fatal(err)
		}
		return parsed.Requests[0].ClaimName()
	}
	plain := claim("secret.db: db")
	for sentence, other := range map[string]string{
		"delivery as files elsewhere": claim("secret.db: db", "volume.db: /run/db", "mode.db: 0400"),
		"delivery as variables":       claim("secret.db: db", "env.db: *"),
		"fewer keys":                  claim("secret.db: db", "env.db: user"),
		"other containers":            claim("secret.db: db", "containers: app"),
	} {
		if other != plain {
			t.Errorf("%s makes a claim of its own", sentence)
		}
	}
	for sentence, other := range map[string]string{
		"another path":                      claim("secret.db: db2"),
		"the same word from the root":       claim("secret.db: /db"),
		"a template":                        claim("secret.db: db", "template.db: x"),
		"a template that continues a path":  claim("secret.db: d", "template.db: b"),
		"a path that swallows the template": claim("secret.db: dbx"),
	} {
		if other == plain {
			t.Errorf("%s shares the claim", sentence)
		}
	}
}

func TestLongestNameIsALabel(t *testing.T) {
	request := annotation.Request{Name: "a123456789b123456789c123456789d123456789", Path: "db"}
	if problems := validation.IsDNS1123Label(request.ClaimName()); len(problems) > 0 {
		t.Errorf("%s: %v", request.ClaimName(), problems)
	}
}

func TestClaimSpec(t *testing.T) {
	gone := &v1alpha1.Target{OnClaimDeleted: v1alpha1.DeleteTarget}
	for sentence, row := range map[string]struct {
		request annotation.Request
		want    v1alpha1.SecretClaimSpec
	}{
		"a path is one source, and the target goes with the claim": {
			annotation.Request{Name: "db", Path: "db"},
			v1alpha1.SecretClaimSpec{Sources: []v1alpha1.Source{{Path: "db"}}, Target: gone}},
		"a template is one key of the request's name": {
			annotation.Request{Name: "dsn", Path: "db", Template: "{{ .user }}"},
			v1alpha1.SecretClaimSpec{Sources: []v1alpha1.Source{{Path: "db"}}, Target: gone,
				Template: &v1alpha1.Template{Data: map[string]v1alpha1.TemplateText{"dsn": "{{ .user }}"}}}},
		"chosen keys narrow the pod, not the claim": {
			annotation.Request{Name: "db", Path: "db", Env: keys("user", "USER")},
			v1alpha1.SecretClaimSpec{Sources: []v1alpha1.Source{{Path: "db"}}, Target: gone}},
		"for an existing claim there is none to make": {
			annotation.Request{Name: "db", Claim: "db"}, v1alpha1.SecretClaimSpec{}},
	} {
		if got := row.request.ClaimSpec(); !reflect.DeepEqual(got, row.want) {
			t.Errorf("%s: got %+v", sentence, got)
		}
	}
}

func TestSequences(t *testing.T) {
	for text, sequences := range map[string]map[string]int64{
		"":                       {},
		"db=0":                   {"db": 0},
		"db=1763800000,tls.ca=0": {"tls.ca": 0, "db": 1763800000},

		"configmap/db=3,db=1,secret/db=2": {"db": 1, "secret/db": 2, "configmap/db": 3},
	} {
		if got := annotation.FormatSequences(sequences); got != text {
			t.Errorf("%v is written %q, not %q", sequences, got, text)
		}
		if got, err := annotation.ParseSequences(text); err != nil || !reflect.DeepEqual(got, sequences) {
			t.Errorf("%q is read %v, %v", text, got, err)
		}
	}
	for sentence, text := range map[string]string{
		"no number": "db", "no target": "=1", "a negative": "db=-1", "a sign": "db=+1", "leading zeros": "db=01",
		"a blank": "db=1, tls=1", "one target twice": "db=1,db=2", "a trailing comma": "db=1,",
		"more than 63 bits": "db=9223372036854775808", "no name of a Secret": "DB=1",
		"a kind that is not watched": "pod/db=1", "a kind without a name": "secret/=1", "two kinds": "secret/secret/db=1",
	} {
		if got, err := annotation.ParseSequences(text); err == nil {
			t.Errorf("%s is read: %v", sentence, got)
		}
	}
}

func FuzzParseSequences(f *testing.F) {
	f.Add("db=1763800000,tls=0")
	f.Fuzz(func(t *testing.T, text string) {
		sequences, err := annotation.ParseSequences(text)
		if err != nil {
			return
		}
		again, err := annotation.ParseSequences(annotation.FormatSequences(sequences))
		if err != nil || !reflect.DeepEqual(sequences, again) {
			t.Errorf("%q does not come back: %v", text, err)
		}
	})
}
