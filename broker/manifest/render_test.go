package manifest_test

import (
	"errors"
	"strings"
	"testing"

	ssv1alpha1 "github.com/bitnami-labs/sealed-secrets/pkg/apis/sealedsecrets/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/privyseal/privyseal/broker/manifest"
	"github.com/privyseal/privyseal/providers"
)

func value(text string) providers.Value { return providers.NewValue([]byte(text)) }

func rendering(template string) (string, error) {
	sealed := &ssv1alpha1.SealedSecret{ObjectMeta: metav1.ObjectMeta{Name: "db", Namespace: "pay"}}
	sealed.Spec.Template.Data = map[string]string{"out": template, "host": "db.example", "user": "loses"}
	secret, err := manifest.Render(sealed, manifest.Opened{Data: map[string]providers.Value{
		"user": value("pay"), "password": value("hunter2"),
	}})
	if err != nil {
		return "", err
	}
	if got := string(secret.Data["user"]); got != "pay" {
		return "", errors.New("the text won over the value: " + got)
	}
	return string(secret.Data["out"]), nil
}

func TestTemplatesRenderAsUpstreams(t *testing.T) {
	for template, want := range map[string]string{
		`{{ .user }}:{{ .password }}@{{ .host }}`:                            "pay:hunter2@db.example",
		`{{ .user | b64enc | quote }}`:                                       `"cGF5"`,
		`{{ .missing }}`:                                                     "<no value>",
		`{{ range $i, $c := until 3 }}{{ $i }}{{ end }}`:                     "012",
		`{{ define "x" }}<{{ . }}>{{ end }}{{ template "x" .user }}`:         "<pay>",
		`{{ randAlphaNum 8 | len }}`:                                         "8",
		`{{ printf "%-5s|" .user }}`:                                         "pay  |",
		`{{ dict "a" 1 "b" (list 1 2) | toJson }}`:                           `{"a":1,"b":[1,2]}`,
		`{{ $d := dict }}{{ $_ := set $d "k" .user }}{{ $d.k }}`:             "pay",
		`{{ "a\nb" | nindent 2 }}`:                                           "\n  a\n  b",
		`{{ (merge (dict "a" 1) (dict "b" 2)) | toJson }}`:                   `{"a":1,"b":2}`,
		`{{ genPrivateKey "ecdsa" | contains "EC PRIVATE KEY" }}`:            "true",
		`{{ regexReplaceAll "u" .password "-" }}{{ replace "a" "b" .user }}`: "h-nter2pby",
	} {
		if got, err := rendering(template); err != nil || got != want {
			t.Errorf("%s: got %q, %v, want %q", template, got, err, want)
		}
	}
}

func TestATemplateThatIsWrongIsNamedAndTellsNoValue(t *testing.T) {
	for template, says := range map[string]string{
		`{{ .user `:                           "unclosed action",
		`{{ env "HOME" }}`:                    `function "env" not defined`,
		`{{ expandenv "$HOME" }}`:             `function "expandenv" not defined`,
		`{{ getHostByName "localhost" }}`:     `function "getHostByName" not defined`,
		`{{ fail .password }}`:                "check the items it uses",
		`{{ .password | mustToDate "2006" }}`: "check the items it uses",
		`{{ template "nowhere" }}`:            "check the items it uses",
	} {
		_, err := rendering(template)
		if !errors.Is(err, manifest.ErrTemplate) || !strings.Contains(err.Error(), says) || !strings.HasPrefix(err.Error(), "spec.template.data out: ") {
			t.Errorf("%s: got %v", template, err)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the error tells the value: %v", template, err)
		}
	}
}

func TestATemplateCannotStallOrEndTheDaemon(t *testing.T) {
	for _, template := range []string{
		`{{ repeat 2000000000 "x" }}`,
		`{{ repeat -9223372036854775808 "x" }}`,
		`{{ until 1000000000 }}`,
		`{{ range until 1000 }}{{ range until 1000 }}{{ range until 1000 }}{{ end }}{{ end }}{{ end }}`,
		`{{ $x := "ab" }}{{ range until 64 }}{{ $x = print $x $x }}{{ end }}`,
		`{{ $x := list "ab" }}{{ range until 64 }}{{ $x = list $x $x }}{{ end }}{{ $x }}`,
		`{{ $d := dict }}{{ $_ := set $d "d" $d }}{{ $d }}`,
		`{{ $d := dict }}{{ $e := dict "d" (list $d) }}{{ $_ := set $d "e" $e }}{{ $d }}`,
		`{{ $d := dict }}{{ $_ := merge $d (dict "d" $d) }}{{ $d }}`,
		`{{ define "x" }}{{ template "x" }}{{ template "x" }}{{ end }}{{ template "x" }}`,
		`{{ range until 1000 }}{{ $x := genPrivateKey "ecdsa" }}{{ end }}`,
		`{{ $x := repeat 5000 "a" }}{{ replace "a" $x (replace "a" $x $x) }}`,
		`{{ printf "%999999d%999999d%999999d%999999d%999999d%999999d%999999d%999999d%999999d%999999d%999999d%999999d%999999d%999999d%999999d%999999d%999999d%999999d%999999d%999999d%999999d%999999d%999999d%999999d%999999d%999999d%999999d%999999d%999999d%999999d%999999d%999999d%999999d%999999d%999999d%999999d%999999d%999999d%999999d%999999d%999999d%999999d%999999d%999999d%999999d%999999d%999999d%999999d%999999d%999999d%999999d%999999d%999999d%999999d%999999d%999999d%999999d%999999d%999999d%999999d%999999d%999999d%999999d%999999d%999999d%999999d%999999d%999999d" 1 }}`,
		`{{ range until 2 }}{{ repeat 700000 "x" }}{{ end }}`,
	} {
		if got, err := rendering(template); !errors.Is(err, manifest.ErrTemplate) {
			t.Errorf("%.80s: got %d bytes, %v", template, len(got), err)
		}
	}
}
