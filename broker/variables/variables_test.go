package variables_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/privyseal/privyseal/broker/variables"
)

func app(whole []variables.Whole, own ...variables.Own) variables.Container {
	return variables.Container{Of: "Deployment web", Name: "app", Whole: whole, Own: own}
}

func TestAContainerGetsAVariableTwice(t *testing.T) {
	keys := map[string][]string{"db": {"password", "user"}, "api": {"password", "token"}}
	db := variables.Whole{Secret: "db", Annotation: "privyseal.io/env.db"}
	api := variables.Whole{Secret: "api"}
	type wholes = []variables.Whole
	for sentence, row := range map[string]struct {
		containers []variables.Container
		want       []string
	}{
		"not from one Secret": {[]variables.Container{app(wholes{db})}, nil},
		"from two that have a key of one name": {[]variables.Container{app(wholes{db, api})},
			[]string{"Deployment web, container app: password of annotation privyseal.io/env.db also in envFrom of Secret api"}},
		"whichever comes first": {[]variables.Container{app(wholes{api, db})},
			[]string{"Deployment web, container app: password of annotation privyseal.io/env.db also in envFrom of Secret api"}},
		"not with a prefix before one": {[]variables.Container{app(wholes{db, {Secret: "api", Prefix: "API_"}})}, nil},
		"by a prefix that makes the name": {[]variables.Container{app(wholes{{Secret: "db", Prefix: "p_"}, db}, variables.Own{Name: "p_user"})},
			[]string{"Deployment web, container app: p_user of envFrom of Secret db also in env of the container"}},
		"from the Secret and from its own env": {[]variables.Container{app(wholes{db}, variables.Own{Name: "user"}, variables.Own{Name: "HOME"})},
			[]string{"Deployment web, container app: user of annotation privyseal.io/env.db also in env of the container"}},
		"from a key of another Secret": {[]variables.Container{app(wholes{db}, variables.Own{Name: "user", Secret: "api", Key: "token"})},
			[]string{"Deployment web, container app: user of annotation privyseal.io/env.db also in env of the container, from Secret api"}},
		"not by the same key of the same Secret": {[]variables.Container{app(wholes{db}, variables.Own{Name: "user", Secret: "db", Key: "user"})}, nil},
		"not from a Secret that is not known":    {[]variables.Container{app(wholes{db, {Secret: "other"}})}, nil},
		"not in two containers":                  {[]variables.Container{app(wholes{db}), app(wholes{api})}, nil},
		"once, in however many pods": {[]variables.Container{app(wholes{db, api}), app(wholes{db, api})},
			[]string{"Deployment web, container app: password of annotation privyseal.io/env.db also in envFrom of Secret api"}},
	} {
		t.Run(sentence, func(t *testing.T) {
			var got []string
			for _, conflict := range variables.Conflicts("db", row.containers, keys) {
				got = append(got, conflict.String())
			}
			if diff := cmp.Diff(row.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestManyVariablesAreToldInShort(t *testing.T) {
	keys := map[string][]string{}
	for i := range 9 {
		name := fmt.Sprint("k", i)
		keys["db"], keys["api"] = append(keys["db"], name), append(keys["api"], name)
	}
	got := variables.Conflicts("db", []variables.Container{app([]variables.Whole{{Secret: "db"}, {Secret: "api"}})}, keys)
	want := "Deployment web, container app: k0, k1, k2, k3, k4 and 4 more of envFrom of Secret db also in envFrom of Secret api"
	if len(got) != 1 || got[0].String() != want {
		t.Error(got)
	}
}

// Why there is no rule against keys that cannot be variables: there are none.
func TestEveryKeyOfASecretCanBeAVariable(t *testing.T) {
	for c := rune(0); c <= 0x7f; c++ {
		for _, key := range []string{string(c), string(c) + "a", "1" + string(c), "a." + string(c)} {
			if len(validation.IsConfigMapKey(key)) == 0 && len(validation.IsRelaxedEnvVarName(key)) > 0 {
				t.Errorf("%q is a key of a Secret and no variable's name", key)
			}
		}
	}
}
