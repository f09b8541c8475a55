package environment_test

import (
	"testing"

	"github.com/privyseal/privyseal/broker/environment"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

func TestWhichLabelsAClaimMayPutOnItsSecret(t *testing.T) {
	listing := func(keys ...string) *v1alpha1.Environment {
		return &v1alpha1.Environment{Spec: v1alpha1.EnvironmentSpec{TargetMetadata: keys}}
	}
	for _, row := range []struct {
		name string
		key  string
		in   *v1alpha1.Environment
		may  bool
	}{
		{"a plain key", "team", nil, true},
		{"a key of the company's own", "example.com/team", nil, true},
		{"a domain that only ends alike", "notkubernetes.io/x", nil, true},
		{"a key without a prefix that is named like a domain", "kubernetes.io", nil, true},

		{"what chooses sealing keys", "sealedsecrets.bitnami.com/sealed-secrets-key", listing(), false},
		{"what makes a cluster of Argo CD", "argocd.argoproj.io/secret-type", listing(), false},
		{"what Argo CD prunes by", "app.kubernetes.io/instance", listing(), false},
		{"a key of Kubernetes itself", "kubernetes.io/service-account.name", listing(), false},
		{"another of it", "k8s.io/x", listing(), false},
		{"a key of one of its parts", "kubectl.kubernetes.io/last-applied-configuration", listing(), false},
		{"a key of one of its projects", "gateway.networking.k8s.io/x", listing(), false},
		{"a trusted key outside all environments", "app.kubernetes.io/name", nil, false},

		{"the very key that is listed", "app.kubernetes.io/name", listing("app.kubernetes.io/name"), true},
		{"its neighbour", "app.kubernetes.io/instance", listing("app.kubernetes.io/name"), false},
		{"a longer key", "app.kubernetes.io/name-too", listing("app.kubernetes.io/name"), false},
		{"a key of a listed prefix", "argocd.argoproj.io/secret-type", listing("x", "argocd.argoproj.io/"), true},
		{"a subdomain of a listed prefix", "x.argocd.argoproj.io/y", listing("argocd.argoproj.io/"), false},
		{"a domain that is listed without its slash", "argocd.argoproj.io/secret-type", listing("argocd.argoproj.io"), false},

		{"our own marks", v1alpha1.LabelClaimUID, listing(), false},
		{"our own marks, though listed", v1alpha1.LabelClaimUID, listing(v1alpha1.LabelClaimUID, "privyseal.io/"), false},
		{"below our own domain, though listed", "x.privyseal.io/y", listing("x.privyseal.io/"), false},
	} {
		if may := environment.MayLabel(row.key, row.in); may != row.may {
			t.Errorf("%s (%s): may is %t", row.name, row.key, may)
		}
	}
}
