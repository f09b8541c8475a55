package environment

import (
	"slices"
	"strings"

	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// trustedDomains are those whose labels and annotations make some controller do
// something: sealing keys are chosen by them, Argo CD takes its clusters and
// repositories from Secrets so labelled and prunes by them, and Kubernetes'
// own components trust theirs.
func trustedDomains() []string {
	return []string{"kubernetes.io", "k8s.io", "argocd.argoproj.io", "sealedsecrets.bitnami.com"}
}

// MayLabel says whether claims may put a label or annotation of that key on
// their Secrets, in an environment (nil: in none): any key that no controller
// is known to trust, and those that the environment lists. Our own are nobody
// else's to set.
func MayLabel(key string, environment *v1alpha1.Environment) bool {
	domain, _, prefixed := strings.Cut(key, "/")
	if !prefixed {
		return true
	}
	if within(domain, v1alpha1.Group) {
		return false
	}
	if !slices.ContainsFunc(trustedDomains(), func(trusted string) bool { return within(domain, trusted) }) {
		return true
	}
	return environment != nil && slices.ContainsFunc(environment.Spec.TargetMetadata, func(listed string) bool {
		return key == listed || strings.HasSuffix(listed, "/") && strings.HasPrefix(key, listed)
	})
}

// within says that a domain is another or one below it.
func within(domain, of string) bool {
	return domain == of || strings.HasSuffix(domain, "."+of)
}
