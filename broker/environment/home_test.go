package environment_test

import (
	"errors"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/privyseal/privyseal/broker/environment"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

func selecting(name string, selector metav1.LabelSelector) v1alpha1.Environment {
	return v1alpha1.Environment{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.EnvironmentSpec{NamespaceSelector: selector}}
}

func TestANamespaceIsIn(t *testing.T) {
	label := func(value string) metav1.LabelSelector {
		return metav1.LabelSelector{MatchLabels: map[string]string{"env": value}}
	}
	malformed := metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "env", Operator: "Is"}}}
	for sentence, row := range map[string]struct {
		environments []v1alpha1.Environment
		home         string
		err          error
		says         string
	}{
		"the one that selects it":                {[]v1alpha1.Environment{selecting("dev", label("dev")), selecting("prod", label("prod"))}, "prod", nil, ""},
		"none where none is":                     {nil, "", nil, ""},
		"none that selects another":              {[]v1alpha1.Environment{selecting("dev", label("dev"))}, "", nil, ""},
		"none that selects everything":           {[]v1alpha1.Environment{selecting("all", metav1.LabelSelector{})}, "", nil, ""},
		"neither of two":                         {[]v1alpha1.Environment{selecting("prod", label("prod")), selecting("live", label("prod"))}, "", environment.ErrTwo, "namespace pay is in more than one environment, live and prod"},
		"none while one's selector is malformed": {[]v1alpha1.Environment{selecting("prod", label("prod")), selecting("odd", malformed)}, "", environment.ErrSelector, "environment odd spec.namespaceSelector"},
	} {
		t.Run(sentence, func(t *testing.T) {
			home, err := environment.Home(row.environments, "pay", labels.Set{"env": "prod"})
			if !errors.Is(err, row.err) || err != nil && !strings.Contains(err.Error(), row.says) {
				t.Errorf("%v, not %v %q", err, row.err, row.says)
			}
			if got := home; (got == nil) != (row.home == "") || got != nil && got.Name != row.home {
				t.Errorf("%v, not %q", got, row.home)
			}
		})
	}
}
