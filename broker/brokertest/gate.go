package brokertest

import (
	"crypto/tls"
	"crypto/x509"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
)

// Gate is a way to the lab's Vault on which something can happen just before a
// document is written, or just after.
type Gate struct {
	at atomic.Pointer[meeting]
}

// meeting is what happens at the next write.
type meeting struct {
	after bool
	do    func()
}

// ThroughGate is the lab as processes of the host reach it, which ask Vault
// through a gate, by plain HTTP.
func (l *Lab) ThroughGate(t testing.TB) (*Lab, *Gate) {
	t.Helper()
	vault, err := url.Parse(l.env["VAULT_ADDR"])
	if err != nil {
		t.Fatal(err)
	}
	trusted := x509.NewCertPool()
	trusted.AppendCertsFromPEM([]byte(l.VaultCA(t)))
	through := &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(vault) },
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted, MinVersion: tls.VersionTLS12}},
	}
	gate := &Gate{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		gate.pass(w, r, through)
	}))
	t.Cleanup(server.Close)
	there := *l
	there.env = maps.Clone(l.env)
	there.env["LAB_VAULT_IN_CLUSTER_ADDR"] = server.URL
	return &there, gate
}

// AtWrite has something done at the next write of a document: before Vault hears
// of it, which then never does, or after it was done, whose answer nobody gets.
func (g *Gate) AtWrite(after bool, do func()) { g.at.Store(&meeting{after: after, do: do}) }

func (g *Gate) pass(w http.ResponseWriter, r *http.Request, through http.Handler) {
	writes := (r.Method == http.MethodPut || r.Method == http.MethodPost) && strings.Contains(r.URL.Path, "/data/")
	var now *meeting
	if writes {
		now = g.at.Swap(nil)
	}
	if now == nil {
		through.ServeHTTP(w, r)
		return
	}
	if now.after {
		through.ServeHTTP(httptest.NewRecorder(), r)
	}
	now.do()
	panic(http.ErrAbortHandler) // cuts the connection
}
