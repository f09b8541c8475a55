package chart

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
)

// right is one rule of a role, with where it holds: a namespace, or "" for all.
type right struct {
	rbacv1.PolicyRule
	role  string
	where string
}

// rightsOf returns what a service account of the release may do.
func rightsOf(t *testing.T, objects []object, account string) []right {
	t.Helper()
	bound := func(subjects []rbacv1.Subject) bool {
		return slices.Equal(subjects, []rbacv1.Subject{{Kind: "ServiceAccount", Name: account, Namespace: namespace}})
	}
	var rights []right
	for _, binding := range of[*rbacv1.ClusterRoleBinding](objects) {
		for _, role := range of[*rbacv1.ClusterRole](objects) {
			if bound(binding.Subjects) && binding.RoleRef.Name == role.Name {
				rights = append(rights, rightsIn(role.Name, "", role.Rules)...)
			}
		}
	}
	for _, binding := range of[*rbacv1.RoleBinding](objects) {
		for _, role := range of[*rbacv1.Role](objects) {
			if bound(binding.Subjects) && binding.RoleRef.Name == role.Name && binding.Namespace == role.Namespace {
				rights = append(rights, rightsIn(role.Name, role.Namespace, role.Rules)...)
			}
		}
	}
	if len(rights) == 0 {
		t.Fatalf("service account %s has no rights", account)
	}
	return rights
}

func rightsIn(role, where string, rules []rbacv1.PolicyRule) []right {
	var rights []right
	for _, rule := range rules {
		rights = append(rights, right{rule, role, where})
	}
	return rights
}

func TestNoRuleHasAWildcardOrAWayToMoreRights(t *testing.T) {
	forbidden := []string{"*", "bind", "escalate", "impersonate"}
	eachSet(t, func(t *testing.T, objects []object) {
		for _, o := range objects {
			var rules []rbacv1.PolicyRule
			switch role := o.Typed.(type) {
			case *rbacv1.ClusterRole:
				rules = role.Rules
				if role.AggregationRule != nil {
					t.Errorf("%s takes in the rules of others", o)
				}
			case *rbacv1.Role:
				rules = role.Rules
			}
			for _, rule := range rules {
				for _, word := range slices.Concat(rule.Verbs, rule.Resources, rule.APIGroups, rule.NonResourceURLs) {
					if slices.Contains(forbidden, word) || strings.Contains(word, "*") {
						t.Errorf("%s: %q in %v", o, word, rule)
					}
				}
			}
		}
	})
}

// In its own namespace the daemon drops what it sealed away for a rotation; the
// policy privyseal-records lets it delete nothing else there.
func TestNobodyMayDeleteASecretOfOthersUnlessTheValuesSaySo(t *testing.T) {
	for name, values := range sets {
		t.Run(name, func(t *testing.T) {
			objects := rendered(t, values)
			told := strings.Contains(values, "mayRecreate: true")
			for _, account := range of[*corev1.ServiceAccount](objects) {
				for _, r := range rightsOf(t, objects, account.Name) {
					if slices.Contains(r.Resources, "secrets") && (slices.Contains(r.Verbs, "delete") || slices.Contains(r.Verbs, "deletecollection")) &&
						(account.Name != "privyseal" || r.where != namespace && !told || slices.Contains(r.Verbs, "deletecollection")) {
						t.Errorf("%s in %q: %v", r.role, r.where, r.PolicyRule)
					}
				}
			}
		})
	}
}

func TestTheWebhookReadsNoSecretButItsOwnAuthority(t *testing.T) {
	for _, name := range []string{"default", "namespaced", "all given"} {
		t.Run(name, func(t *testing.T) {
			for _, r := range rightsOf(t, rendered(t, sets[name]), "privyseal-webhook") {
				if !slices.Contains(r.Resources, "secrets") {
					continue
				}
				if r.where != namespace || !slices.Equal(r.ResourceNames, []string{"privyseal-webhook-ca"}) {
					t.Errorf("%s in %q: %v", r.role, r.where, r.PolicyRule)
				}
			}
		})
	}
}

func TestTheWebhookReadsWhatItJudgesPodsByAndWritesNoneOfIt(t *testing.T) {
	for _, name := range []string{"default", "namespaced", "all given"} {
		t.Run(name, func(t *testing.T) {
			rights := rightsOf(t, rendered(t, sets[name]), "privyseal-webhook")
			for _, resource := range []string{"secretclaims", "environments", "namespaces"} {
				if !slices.ContainsFunc(rights, func(r right) bool {
					return r.where == "" && slices.Equal(r.Resources, []string{resource}) && slices.Equal(r.Verbs, []string{"get", "list", "watch"})
				}) {
					t.Errorf("%s: no right to read it, or one to write it", resource)
				}
			}
		})
	}
}

func TestWithNamespacesOnlyReadingWhatHoldsNoSecretIsClusterWide(t *testing.T) {
	allowed := []string{"namespaces", "environments", "environments/status", "clustersecretstores", "clustersecretstores/status", "mutatingwebhookconfigurations"}
	objects := rendered(t, sets["namespaced"])
	for _, r := range rightsOf(t, objects, "privyseal") {
		for _, resource := range r.Resources {
			if r.where == "" && !slices.Contains(allowed, resource) {
				t.Errorf("%s: %s cluster-wide", r.role, resource)
			}
			if !slices.Contains([]string{"", namespace, "payments", "orders"}, r.where) {
				t.Errorf("%s: rights in %s", r.role, r.where)
			}
		}
	}
	for _, where := range []string{"payments", "orders"} {
		if !slices.ContainsFunc(rightsOf(t, objects, "privyseal"), func(r right) bool {
			return r.where == where && slices.Contains(r.Resources, "secrets") && slices.Contains(r.Verbs, "update")
		}) {
			t.Errorf("no right to write targets in %s", where)
		}
	}
}

func TestConfigMapsOfTenantsAreReadOnlyWhereTheyMayHaveStoresOrBeReloadedFor(t *testing.T) {
	for name, values := range sets {
		t.Run(name, func(t *testing.T) {
			found, watched, reloads := false, false, strings.Contains(values, "reloader: {enabled: true")
			for _, r := range rightsOf(t, rendered(t, values), "privyseal") {
				if !slices.Contains(r.Resources, "configmaps") || r.where == namespace {
					continue
				}
				// What was unsealed is kept in a ConfigMap of one name.
				if slices.Equal(r.Verbs, []string{"create"}) || slices.Equal(r.ResourceNames, []string{"privyseal-unsealed"}) && slices.Equal(r.Verbs, []string{"get", "update"}) {
					continue
				}
				if reloads && slices.Equal(r.ResourceNames, []string{"privyseal-foreign"}) && slices.Equal(r.Verbs, []string{"update"}) {
					continue
				}
				if slices.Equal(r.Verbs, []string{"get", "list", "watch"}) {
					watched = true
					continue
				}
				found = true
				if !slices.Equal(r.Verbs, []string{"get"}) {
					t.Errorf("%s in %q: %v", r.role, r.where, r.PolicyRule)
				}
			}
			if watched != reloads {
				t.Errorf("Reloader's annotations are honoured: %t, and ConfigMaps can be watched: %t", reloads, watched)
			}
			if listed := strings.Contains(values, "allowedAddresses"); found != listed {
				t.Errorf("addresses are listed: %t, and ConfigMaps can be read: %t", listed, found)
			}
		})
	}
}

func TestStoresAreReadAndOnlyTheirStatusIsWritten(t *testing.T) {
	wanted := map[string][]string{
		"clustersecretstores":        {"get", "list", "watch"},
		"clustersecretstores/status": {"patch"},
		"secretstores":               {"get", "list", "watch"},
		"secretstores/status":        {"patch"},
	}
	eachSet(t, func(t *testing.T, objects []object) {
		found := map[string]bool{}
		for _, r := range rightsOf(t, objects, "privyseal") {
			for _, resource := range r.Resources {
				verbs, isStore := wanted[resource]
				if isStore && !slices.Equal(r.Verbs, verbs) {
					t.Errorf("%s: %v, want %v", r.role, r.PolicyRule, verbs)
				}
				found[resource] = found[resource] || isStore
			}
		}
		for resource := range wanted {
			if !found[resource] {
				t.Errorf("no right on %s", resource)
			}
		}
	})
}

func TestTokensAreIssuedForNamedServiceAccountsOnly(t *testing.T) {
	want := map[string][]string{
		"default":    {"privyseal"},
		"namespaced": {"privyseal", "vault-login"},
	}
	for name, accounts := range want {
		t.Run(name, func(t *testing.T) {
			found := false
			for _, r := range rightsOf(t, rendered(t, sets[name]), "privyseal") {
				if slices.Contains(r.Resources, "serviceaccounts/token") {
					found = true
					if !slices.Equal(r.ResourceNames, accounts) {
						t.Errorf("%s: for %v, want %v", r.role, r.ResourceNames, accounts)
					}
				}
			}
			if !found {
				t.Error("for none")
			}
		})
	}
}
