package brokertest

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"testing"
)

// DaemonUser is whom the API server takes the chart's controllers for.
const DaemonUser = "system:serviceaccount:" + System + ":privyseal"

// Request is what the API server's audit log tells of a request that it
// answered.
type Request struct {
	User string
	Verb string
	// Resource with its subresource: secretclaims/status. Empty: none, as for
	// discovery.
	Resource  string
	Namespace string
	Name      string
	// Code of the answer.
	Code int
}

// Done says that the API server did what was asked.
func (r Request) Done() bool { return r.Code/100 == 2 }

// Writes says that the request is one that changes something, or makes a token.
func (r Request) Writes() bool {
	switch r.Verb {
	case "create", "update", "patch", "delete", "deletecollection":
		return true
	}
	return false
}

// Journal is the API server's audit log from some time on.
type Journal struct {
	path string
	from int64
}

// Journal begins now.
func (l *Lab) Journal(t testing.TB) *Journal {
	t.Helper()
	path := l.env["LAB_AUDIT_LOG"]
	if path == "" {
		skipWithout(t, "it has no audit log to count in (LAB=external)")
	}
	file, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return &Journal{path: path, from: file.Size()}
}

// Requests that were answered since the journal began, of those that are
// wanted, in the order of the answers. A watch is there when it begins.
func (j *Journal) Requests(t testing.TB, wanted func(Request) bool) []Request {
	t.Helper()
	file, err := os.Open(j.path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	text, err := io.ReadAll(io.NewSectionReader(file, j.from, 1<<40))
	if err != nil {
		t.Fatal(err)
	}
	var requests []Request
	for line := range bytes.Lines(text) {
		if !bytes.HasSuffix(line, []byte("\n")) {
			break // it is being written
		}
		var event auditEvent
		if err := json.Unmarshal(line, &event); err != nil {
			t.Fatalf("reading the audit log: %v: %s", err, line)
		}
		if request := event.request(); event.counts() && wanted(request) {
			requests = append(requests, request)
		}
	}
	return requests
}

// auditEvent is the part of audit.k8s.io/v1 Event that tests ask for.
type auditEvent struct {
	Stage     string
	Verb      string
	User      struct{ Username string }
	ObjectRef struct {
		Resource, Subresource, Namespace, Name string
	}
	ResponseStatus struct{ Code int }
}

// counts says that a request is told of here: a watch has a line when it
// begins and one when it ends.
func (e auditEvent) counts() bool { return e.Verb != "watch" || e.Stage == "ResponseStarted" }

func (e auditEvent) request() Request {
	resource := e.ObjectRef.Resource
	if e.ObjectRef.Subresource != "" {
		resource += "/" + e.ObjectRef.Subresource
	}
	return Request{
		User: e.User.Username, Verb: e.Verb, Resource: resource,
		Namespace: e.ObjectRef.Namespace, Name: e.ObjectRef.Name, Code: e.ResponseStatus.Code,
	}
}
