package claim

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/providers"
)

func document(pairs ...string) providers.Document {
	made := providers.Document{Values: map[string]providers.Value{}}
	for i := 0; i < len(pairs); i += 2 {
		made.Values[pairs[i]] = providers.NewValue([]byte(pairs[i+1]))
	}
	return made
}

func shown(content content) string {
	var lines []string
	for _, key := range slices.Sorted(maps.Keys(content)) {
		lines = append(lines, key+"="+string(content[key].Bytes()))
	}
	return strings.Join(lines, " ")
}

func TestSourcesBecomeContent(t *testing.T) {
	db := document("user", "pay", "pass", "s3", "tls", `{"key":"K","chain":["A","B"],"n":7,"a/b":"slash"}`)
	for _, row := range []struct {
		name      string
		spec      v1alpha1.SecretClaimSpec
		documents []providers.Document
		want      string
	}{
		{"every key as it is",
			v1alpha1.SecretClaimSpec{Sources: []v1alpha1.Source{{}}},
			[]providers.Document{document("a", "1", "b.c", "2")}, "a=1 b.c=2"},
		{"chosen keys, one renamed, all prefixed",
			v1alpha1.SecretClaimSpec{Sources: []v1alpha1.Source{{Prefix: "DB_", Keys: []v1alpha1.Key{{From: "user"}, {From: "pass", To: "password"}}}}},
			[]providers.Document{db}, "DB_password=s3 DB_user=pay"},
		{"nested values by pointer",
			v1alpha1.SecretClaimSpec{Sources: []v1alpha1.Source{{Keys: []v1alpha1.Key{
				{Pointer: "/tls/key", To: "key"}, {Pointer: "/tls/chain/1", To: "ca"}, {Pointer: "/tls/n", To: "n"},
				{Pointer: "/tls/a~1b", To: "ab"}, {Pointer: "/tls/chain", To: "chain"}, {Pointer: "/user", To: "user"},
			}}}},
			[]providers.Document{db}, `ab=slash ca=B chain=["A","B"] key=K n=7 user=pay`},
		{"several sources into one",
			v1alpha1.SecretClaimSpec{Sources: []v1alpha1.Source{{}, {}}},
			[]providers.Document{document("a", "1"), document("b", "2")}, "a=1 b=2"},
		{"a later source that may override",
			v1alpha1.SecretClaimSpec{Sources: []v1alpha1.Source{{}, {Override: true}}},
			[]providers.Document{document("a", "1", "b", "1"), document("b", "2")}, "a=1 b=2"},
		{"a template decides alone what is there",
			v1alpha1.SecretClaimSpec{
				Sources:  []v1alpha1.Source{{}},
				Template: &v1alpha1.Template{Data: map[string]v1alpha1.TemplateText{"DSN": "pg://{{ .user }}:{{ .pass | urlquery }}@db"}},
			},
			[]providers.Document{db}, "DSN=pg://pay:s3@db"},
	} {
		got, err := render(row.spec, row.documents)
		if err != nil || shown(got) != row.want {
			t.Errorf("%s: got %s, %v; want %s", row.name, shown(got), err, row.want)
		}
	}
}

func TestWhatCannotBeRendered(t *testing.T) {
	const marker = "s3cr3t-marker"
	held := []providers.Document{document("pass", marker, "tls", `{"key":"`+marker+`"}`), document("pass", marker)}
	for _, row := range []struct {
		name, reason, mention string
		spec                  v1alpha1.SecretClaimSpec
	}{
		{"a key that is not there", v1alpha1.ReasonKeyNotFound, "spec.sources[0].keys[0]",
			v1alpha1.SecretClaimSpec{Sources: []v1alpha1.Source{{Keys: []v1alpha1.Key{{From: "nope"}}}}}},
		{"a pointer that leads nowhere", v1alpha1.ReasonKeyNotFound, "after /tls",
			v1alpha1.SecretClaimSpec{Sources: []v1alpha1.Source{{Keys: []v1alpha1.Key{{Pointer: "/tls/nope", To: "x"}}}}}},
		{"a pointer into a string", v1alpha1.ReasonKeyNotFound, "after /pass",
			v1alpha1.SecretClaimSpec{Sources: []v1alpha1.Source{{Keys: []v1alpha1.Key{{Pointer: "/pass/x", To: "x"}}}}}},
		{"the same key twice", v1alpha1.ReasonKeyConflict, "spec.sources[1]",
			v1alpha1.SecretClaimSpec{Sources: []v1alpha1.Source{{}, {}}}},
		{"a template that uses a key that is not there", v1alpha1.ReasonTemplateInvalid, "spec.template.data[x]",
			v1alpha1.SecretClaimSpec{Sources: []v1alpha1.Source{{}},
				Template: &v1alpha1.Template{Data: map[string]v1alpha1.TemplateText{"x": "{{ .nope }}"}}}},
	} {
		_, err := render(row.spec, held)
		var refusal *Refusal
		switch {
		case !errors.As(err, &refusal) || refusal.Reason != row.reason || !strings.Contains(refusal.Message, row.mention):
			t.Errorf("%s: got %v, want %s mentioning %q", row.name, err, row.reason, row.mention)
		case strings.Contains(refusal.Message, marker):
			t.Errorf("%s: the message holds the value", row.name)
		}
	}
}
