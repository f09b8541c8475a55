package vault

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"net/url"

	"github.com/privyseal/privyseal/providers"
)

// errRedirect: the server sent us elsewhere. Whoever is there would get the
// token, so nobody follows.
var errRedirect = errors.New("redirect refused")

// transport is the one way out, of our own requests and of the logins'. It
// refuses redirects and bounds answers, so that neither depends on what the
// client above it does.
type transport struct{ base *http.Transport }

func newTransport(config *tls.Config, connections int) *transport {
	// HTTP/1.1 alone: the pool then bounds what Vault has to do for us at once,
	// and one connection that dies without a word holds up one request, not
	// all of them.
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &transport{base: &http.Transport{
		Proxy:               proxy,
		TLSClientConfig:     config,
		TLSHandshakeTimeout: defaultTimeout,
		Protocols:           protocols,
		MaxConnsPerHost:     connections,
		MaxIdleConnsPerHost: connections,
		MaxIdleConns:        connections,
		IdleConnTimeout:     idleConnection,
		// A compressed answer could unpack to more than was bounded.
		DisableCompression: true,
	}}
}

// proxy is the environment's (HTTPS_PROXY, NO_PROXY), for https alone: that is
// passed through unread, while a proxy of plain http would see the token.
func proxy(r *http.Request) (*url.URL, error) {
	if r.URL.Scheme != "https" {
		return nil, nil
	}
	return http.ProxyFromEnvironment(r)
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := t.base.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if response.StatusCode >= 300 && response.StatusCode < 400 {
		_ = response.Body.Close() // nothing is read from it
		return nil, errRedirect
	}
	response.Body = http.MaxBytesReader(nil, response.Body, maxAnswer)
	return response, nil
}

// request is what is asked of the server.
type request struct {
	method    string
	path      string // below /v1/, unescaped
	query     url.Values
	namespace string          // empty: none
	token     providers.Value // empty: none
	body      []byte          // JSON, which is cleared once it is sent; nil: none
}

// spent is a request's body that is cleared when the transport is done with it,
// which may be after the answer is there.
type spent struct {
	*bytes.Reader
	body []byte
}

// Close implements io.Closer.
func (s spent) Close() error {
	clear(s.body)
	return nil
}

// answer is what the server said. The body can hold values: clear it.
type answer struct {
	code int
	body []byte
}

// call makes one request. An error says that there was no answer, and wraps
// the fact; an answer may be of any code.
func (v *Vault) call(ctx context.Context, asked request) (answer, error) {
	address := v.address
	address.Path = "/v1/" + asked.path
	address.RawQuery = asked.query.Encode()
	r, err := http.NewRequestWithContext(ctx, asked.method, address.String(), nil)
	if err != nil {
		return answer{}, fault(providers.ErrInvalid, 0, "the request cannot be written")
	}
	if asked.body != nil {
		r.Body, r.ContentLength = spent{bytes.NewReader(asked.body), asked.body}, int64(len(asked.body))
		r.Header.Set("Content-Type", "application/json")
	}
	r.Header.Set("X-Vault-Request", "true")
	if asked.namespace != "" {
		r.Header.Set("X-Vault-Namespace", asked.namespace)
	}
	if token := asked.token.Bytes(); len(token) > 0 {
		r.Header.Set("X-Vault-Token", string(token))
	}
	response, err := v.http.Do(r)
	if err != nil {
		return answer{}, unanswered(err)
	}
	body, err := readAll(response)
	if closeErr := response.Body.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		clear(body)
		return answer{}, unanswered(err)
	}
	return answer{code: response.StatusCode, body: body}, nil
}

// readAll is io.ReadAll that grows no buffer when the length is known, since
// each buffer left behind would hold the values until it is overwritten.
func readAll(response *http.Response) ([]byte, error) {
	if n := response.ContentLength; n >= 0 && n <= maxAnswer {
		body := make([]byte, n)
		_, err := io.ReadFull(response.Body, body)
		return body, err
	}
	return io.ReadAll(response.Body)
}
