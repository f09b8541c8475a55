//go:build crashtest

package main

import (
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"

	"k8s.io/client-go/rest"
)

// crashVariable says at which request a build with the tag crashtest dies as
// by kill -9: VERB:RESOURCE:N:before or …:after. The verb and the resource are
// those of the audit log (patch:secretclaims/status), N counts such requests
// from 1, and before and after say whether the N-th is still sent: after, the
// API server has done what it asks for, and nobody here has heard of it.
const crashVariable = "PRIVYSEAL_TEST_CRASH"

// killed is the exit code of a process that kill -9 ended, as shells tell it.
const killed = 137

// crash is a place in the daemon's life.
type crash struct {
	verb, resource string
	number         int64
	after          bool
}

// crashing has the daemon die where the environment says, if it does.
func crashing(access *rest.Config) error {
	place, told := os.LookupEnv(crashVariable)
	if !told {
		return nil
	}
	at, err := parseCrash(place)
	if err != nil {
		return err
	}
	met := new(atomic.Int64)
	access.Wrap(func(base http.RoundTripper) http.RoundTripper {
		return crasher{crash: at, met: met, base: base, die: func() {
			fmt.Fprintf(os.Stderr, "dying at %s\n", place)
			os.Exit(killed)
		}}
	})
	return nil
}

func parseCrash(place string) (crash, error) {
	parts := strings.Split(place, ":")
	if len(parts) != 4 {
		return crash{}, fmt.Errorf("%s=%q: want VERB:RESOURCE:N:before or VERB:RESOURCE:N:after", crashVariable, place)
	}
	number, err := strconv.ParseInt(parts[2], 10, 64)
	if err != nil || number < 1 {
		return crash{}, fmt.Errorf("%s=%q: %q is not a number from 1", crashVariable, place, parts[2])
	}
	if parts[3] != "before" && parts[3] != "after" {
		return crash{}, fmt.Errorf("%s=%q: %q is neither before nor after", crashVariable, place, parts[3])
	}
	return crash{verb: parts[0], resource: parts[1], number: number, after: parts[3] == "after"}, nil
}

// crasher counts the requests of one kind, of all clients together, and dies
// at one of them.
type crasher struct {
	crash
	met  *atomic.Int64
	base http.RoundTripper
	die  func()
}

// RoundTrip implements http.RoundTripper.
func (c crasher) RoundTrip(r *http.Request) (*http.Response, error) {
	verb, resource := asked(r)
	here := verb == c.verb && resource == c.resource && c.met.Add(1) == c.number
	if here && !c.after {
		c.die()
	}
	response, err := c.base.RoundTrip(r)
	if here && c.after {
		c.die()
	}
	return response, err
}

// asked is what a request asks of the API server, in the words of its audit
// log; "" for what is no resource.
func asked(r *http.Request) (verb, resource string) {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	switch {
	case parts[0] == "api" && len(parts) > 2: // api/v1/…
		parts = parts[2:]
	case parts[0] == "apis" && len(parts) > 3: // apis/apps/v1/…
		parts = parts[3:]
	default:
		return "", ""
	}
	// A namespace is where something is, unless nothing follows it.
	if parts[0] == "namespaces" && len(parts) > 2 {
		parts = parts[2:]
	}
	resource = parts[0]
	if len(parts) > 2 {
		resource += "/" + parts[2]
	}
	return verbOf(r, len(parts) > 1), resource
}

func verbOf(r *http.Request, named bool) string {
	switch r.Method {
	case http.MethodPost:
		return "create"
	case http.MethodPut:
		return "update"
	case http.MethodPatch:
		return "patch"
	case http.MethodDelete:
		if named {
			return "delete"
		}
		return "deletecollection"
	case http.MethodGet:
		if watch, err := strconv.ParseBool(r.URL.Query().Get("watch")); err == nil && watch {
			return "watch"
		}
		if named {
			return "get"
		}
		return "list"
	}
	return ""
}
