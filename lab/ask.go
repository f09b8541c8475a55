package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

// asker speaks HTTP with the lab's servers as the lab's admin. It goes to them
// directly, whatever proxy the environment names.
type asker struct {
	client *http.Client // to servers with the lab's certificates
	probes *http.Client // to servers that made one up; asked for nothing but their health
}

func newAsker(p plan) (*asker, error) {
	authority, err := os.ReadFile(p.pki("ca.crt"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	pair, err := tls.LoadX509KeyPair(p.pki("admin.crt"), p.pki("admin.key"))
	if err != nil {
		return nil, fmt.Errorf("reading the admin's certificate: %w", err)
	}
	trusting := &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}}
	probing := &tls.Config{Certificates: []tls.Certificate{pair}, InsecureSkipVerify: true}
	return &asker{
		client: &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{TLSClientConfig: trusting}},
		probes: &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{TLSClientConfig: probing}},
	}, nil
}

// answers is a probe: does the address answer 200?
func (a *asker) answers(url string) func(context.Context) error {
	return func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		response, err := a.probes.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		io.Copy(io.Discard, response.Body)
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("%s answers %s", url, response.Status)
		}
		return nil
	}
}

// question is one request with a JSON body and a JSON answer.
type question struct {
	method string
	url    string
	token  string // for Vault
	kind   string // content type; empty: application/json
	body   any    // nil: none
	into   any    // nil: not wanted
}

// statusError is an answer that is not 2xx.
type statusError struct {
	code    int
	message string
}

func (e statusError) Error() string { return e.message }

// status is an error's HTTP status, 0 where there was no answer.
func statusOf(err error) int {
	var answer statusError
	errors.As(err, &answer)
	return answer.code
}

func (a *asker) do(ctx context.Context, q question) error {
	var body io.Reader
	if q.body != nil {
		content, err := json.Marshal(q.body)
		if err != nil {
			return err
		}
		body = bytes.NewReader(content)
	}
	request, err := http.NewRequestWithContext(ctx, q.method, q.url, body)
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	if q.kind != "" {
		request.Header.Set("Content-Type", q.kind)
	}
	if q.token != "" {
		request.Header.Set("X-Vault-Token", q.token)
	}
	response, err := a.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode/100 != 2 {
		return statusError{response.StatusCode, fmt.Sprintf("%s %s: %s: %s", q.method, q.url, response.Status, bytes.TrimSpace(answer))}
	}
	if q.into == nil || len(answer) == 0 {
		return nil
	}
	return json.Unmarshal(answer, q.into)
}
