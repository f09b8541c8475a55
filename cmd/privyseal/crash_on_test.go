//go:build crashtest

package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
)

func TestACrashIsAtARequestAsTheAuditLogCallsIt(t *testing.T) {
	for _, c := range []struct{ method, url, verb, resource string }{
		{"POST", "/api/v1/namespaces/pay/secrets", "create", "secrets"},
		{"PUT", "/api/v1/namespaces/pay/secrets/db?fieldManager=privyseal", "update", "secrets"},
		{"POST", "/api/v1/namespaces/pay/serviceaccounts/privyseal/token", "create", "serviceaccounts/token"},
		{"PATCH", "/apis/privyseal.io/v1alpha1/namespaces/pay/secretclaims/db/status", "patch", "secretclaims/status"},
		{"PATCH", "/apis/privyseal.io/v1alpha1/clustersecretstores/vault/status", "patch", "clustersecretstores/status"},
		{"DELETE", "/apis/privyseal.io/v1alpha1/namespaces/pay/secretclaims/db", "delete", "secretclaims"},
		{"DELETE", "/api/v1/namespaces/pay/secrets", "deletecollection", "secrets"},
		{"GET", "/apis/coordination.k8s.io/v1/namespaces/privyseal-system/leases/privyseal", "get", "leases"},
		{"GET", "/api/v1/namespaces/pay", "get", "namespaces"},
		{"GET", "/api/v1/namespaces?limit=500", "list", "namespaces"},
		{"GET", "/api/v1/pods?watch=true&resourceVersion=7", "watch", "pods"},
		{"GET", "/apis/apps/v1/deployments?watch=0", "list", "deployments"},
		{"GET", "/api/v1", "", ""},
		{"GET", "/apis/privyseal.io/v1alpha1", "", ""},
		{"GET", "/version", "", ""},
	} {
		verb, resource := asked(httptest.NewRequest(c.method, c.url, nil))
		if verb != c.verb || resource != c.resource {
			t.Errorf("%s %s is %q of %q, want %q of %q", c.method, c.url, verb, resource, c.verb, c.resource)
		}
	}
}

func TestAPlaceToCrashAtIsReadOrRefused(t *testing.T) {
	got, err := parseCrash("patch:secretclaims/status:2:after")
	if want := (crash{verb: "patch", resource: "secretclaims/status", number: 2, after: true}); err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
	for place, says := range map[string]string{
		"":                        "want VERB:RESOURCE:N:before",
		"create:secrets:before":   "want VERB:RESOURCE:N:before",
		"create:secrets:0:before": `"0" is not a number from 1`,
		"create:secrets:x:before": `"x" is not a number from 1`,
		"create:secrets:1:during": `"during" is neither before nor after`,
	} {
		if _, err := parseCrash(place); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: got %v", place, err)
		}
	}
}

func TestACrashBeforeARequestSendsNothing(t *testing.T) {
	for place, want := range map[string]string{
		"create:secrets:2:before": "sent dead sent sent", // who dies here goes on, for the test
		"create:secrets:2:after":  "sent sent dead sent",
		"create:secrets:4:after":  "sent sent sent",
		"update:secrets:1:before": "sent sent sent",
	} {
		at, err := parseCrash(place)
		if err != nil {
			t.Fatal(err)
		}
		var story []string
		c := crasher{crash: at, met: new(atomic.Int64), die: func() { story = append(story, "dead") },
			base: roundTripper(func(*http.Request) (*http.Response, error) {
				story = append(story, "sent")
				return nil, nil
			})}
		for range 3 {
			if _, err := c.RoundTrip(httptest.NewRequest("POST", "/api/v1/namespaces/pay/secrets", nil)); err != nil {
				t.Fatal(err)
			}
		}
		if got := strings.Join(story, " "); got != want {
			t.Errorf("%s: %s, want %s", place, got, want)
		}
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
