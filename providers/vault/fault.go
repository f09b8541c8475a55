package vault

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"syscall"

	"github.com/privyseal/privyseal/providers"
)

// notVault is said of an answer that no Vault gives.
const notVault = "this is not an answer of Vault: check spec.vault.address, and what lies before it"

// fault is a fact in our own words, with the HTTP code where there is one. The
// server's words are never among them.
func fault(fact error, code int, words string) error {
	if code == 0 {
		return fmt.Errorf("%w: %s", fact, words)
	}
	return fmt.Errorf("%w (HTTP %d): %s", fact, code, words)
}

// refused is what an answer to a read, or to a question for a mount, means
// where its code is no success.
func refused(code int) error {
	switch code {
	case http.StatusBadRequest:
		// A path and a version are well-formed when they come here; Vault
		// answers 400 to those while an engine is being upgraded or started.
		return fault(providers.ErrUnavailable, code, "the engine is not ready, or plain http was spoken to a TLS port")
	case http.StatusForbidden:
		return fault(providers.ErrDenied, code,
			"the login's policies do not let it read there, or there is no such mount: check the policies of the role")
	case http.StatusNotFound:
		return fault(providers.ErrNotFound, code, "there is no such document, version or mount: check the path")
	default:
		return busy(code)
	}
}

// loginRefused is what an answer to a login means where its code is no success.
func loginRefused(code int) error {
	switch code {
	case http.StatusBadRequest, http.StatusForbidden:
		return fault(providers.ErrDenied, code, "check the role, what it is bound to, and spec.vault.auth")
	case http.StatusNotFound, http.StatusMethodNotAllowed:
		return fault(providers.ErrInvalid, code, "there is no such login method: check spec.vault.auth and its mount")
	default:
		return busy(code)
	}
}

// busy is what any answer means that is neither a success nor a refusal.
func busy(code int) error {
	words := notVault
	switch {
	case code == http.StatusTooManyRequests:
		words = "it limits our rate: check its quotas"
	case code == http.StatusPreconditionFailed:
		words = "its replica has not caught up yet"
	case code == 472 || code == 473:
		words = "it is a standby that serves nobody"
	case code == http.StatusServiceUnavailable:
		words = "it is sealed, starting, or without an active node"
	case code >= 500:
		words = "it failed: see its log"
	}
	return fault(providers.ErrUnavailable, code, words)
}

// unanswered is what it means that there was no answer. The error's own text
// is left out: it repeats names out of the server's certificate, or the path.
func unanswered(err error) error {
	var (
		certificate *tls.CertificateVerificationError
		operation   *net.OpError
		record      tls.RecordHeaderError
		name        *net.DNSError
		large       *http.MaxBytesError
		network     net.Error
		syntax      *json.SyntaxError
		shape       *json.UnmarshalTypeError
	)
	fact, words := providers.ErrUnavailable, "the connection failed"
	switch {
	case errors.As(err, &certificate):
		words = "its certificate is not trusted: check spec.vault.tls"
	case errors.As(err, &operation) && operation.Op == "remote error": // an alert, whose type crypto/tls keeps to itself
		words = "it refuses our side of TLS: check the client certificate, and that it speaks TLS 1.2 or newer"
	case errors.Is(err, http.ErrSchemeMismatch), errors.As(err, &record):
		words = "it does not speak TLS: check spec.vault.address"
	case errors.Is(err, errRedirect):
		words = "it redirects us, and a token is sent nowhere else: give the address of the active node or of a load balancer"
	case errors.As(err, &large):
		fact, words = providers.ErrInvalid, fmt.Sprintf("its answer is larger than %d MiB", maxAnswer>>20)
	case errors.As(err, &syntax), errors.As(err, &shape):
		words = notVault
	case errors.As(err, &name):
		words = "its name does not resolve: check spec.vault.address"
	case errors.Is(err, syscall.ECONNREFUSED):
		words = "the connection was refused: is it running, and is spec.vault.address right?"
	case errors.As(err, &network) && network.Timeout():
		words = "it did not answer in time"
	}
	return fault(fact, 0, words)
}
