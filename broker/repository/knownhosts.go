package repository

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
)

// knownHosts are host keys by the name that a known_hosts file gives: a host,
// or [host]:port where the port is not 22.
type knownHosts map[string][]ssh.PublicKey

// parseKnownHosts reads the lines of a known_hosts file, in the plain form that
// ssh-keyscan writes. Patterns, hashed names and markers are refused rather
// than passed over: somebody would take them for heeded. Errors wrap ErrInvalid.
func parseKnownHosts(text []byte) (knownHosts, error) {
	hosts := knownHosts{}
	for {
		marker, names, key, _, rest, err := ssh.ParseKnownHosts(text)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("%w: known_hosts is malformed; write what ssh-keyscan HOST prints", ErrInvalid)
		}
		if marker != "" {
			return nil, fmt.Errorf("%w: known_hosts: @%s is not supported; write the host's own key", ErrInvalid, marker)
		}
		for _, name := range names {
			if strings.ContainsAny(name, "|*?!") {
				return nil, fmt.Errorf("%w: known_hosts: %q is hashed or a pattern; write the host's name, as ssh-keyscan prints it", ErrInvalid, name)
			}
			hosts[name] = append(hosts[name], key)
		}
		text = rest
	}
	if len(hosts) == 0 {
		return nil, fmt.Errorf("%w: known_hosts is missing: no host is trusted on first use; write what ssh-keyscan HOST prints, and compare it with what the host's owner publishes", ErrInvalid)
	}
	return hosts, nil
}

// check implements ssh.HostKeyCallback. Errors wrap ErrDenied.
func (h knownHosts) check(address string, _ net.Addr, key ssh.PublicKey) error {
	known := h[hostName(address)]
	if slices.ContainsFunc(known, func(k ssh.PublicKey) bool { return bytes.Equal(k.Marshal(), key.Marshal()) }) {
		return nil
	}
	what := "known_hosts has no line for it"
	if len(known) > 0 {
		what = "known_hosts has another"
	}
	return fmt.Errorf("%w: host %s shows the key %s, and %s", ErrDenied, hostName(address), ssh.FingerprintSHA256(key), what)
}

// algorithms are those of the keys that are known. A server has several keys,
// and one that chose another than the known would look like a stranger.
func (h knownHosts) algorithms() []string {
	var all []string
	for _, keys := range h {
		for _, key := range keys {
			if key.Type() == ssh.KeyAlgoRSA {
				all = append(all, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256)
				continue
			}
			all = append(all, key.Type())
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// hostName is an address as known_hosts has it.
func hostName(address string) string {
	host, port, err := net.SplitHostPort(address)
	switch {
	case err != nil:
		return address
	case port == "22":
		return host
	default:
		return "[" + host + "]:" + port
	}
}
