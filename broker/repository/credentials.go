package repository

import (
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing/transport"
	githttp "github.com/go-git/go-git/v5/plumbing/transport/http"
	"golang.org/x/crypto/ssh"

	"github.com/privyseal/privyseal/providers"
)

// Credentials that a repository is reached with. For https Password, which
// takes a token; for ssh PrivateKey and KnownHosts.
type Credentials struct {
	// Username for https; "" is git.
	Username string

	// Password or token for https.
	Password providers.Value

	// CA holds certificates, as PEM, that are trusted beside the system's.
	// Empty: none.
	CA []byte

	// PrivateKey for ssh, as PEM and without a passphrase.
	PrivateKey providers.Value

	// KnownHosts for ssh: lines as in OpenSSH's known_hosts.
	KnownHosts []byte
}

// handshakeTimeout bounds the way to an ssh server's session.
const handshakeTimeout = 15 * time.Second

// auth is the credentials as go-git takes them.
func (c Credentials) auth(address, scheme string) (transport.AuthMethod, error) {
	if scheme == "ssh" {
		return c.key(address)
	}
	if len(c.CA) > 0 && !x509.NewCertPool().AppendCertsFromPEM(c.CA) {
		return nil, fmt.Errorf("%w: ca.crt holds no certificate", ErrInvalid)
	}
	if len(c.Password.Bytes()) == 0 {
		return nil, fmt.Errorf("%w: password is missing: put the token there", ErrInvalid)
	}
	username := c.Username
	if username == "" {
		username = "git"
	}
	// A trailing newline is what `kubectl create secret --from-file` brings; no
	// token has one.
	return &githttp.BasicAuth{Username: username, Password: strings.TrimRight(string(c.Password.Bytes()), "\r\n")}, nil
}

func (c Credentials) key(address string) (transport.AuthMethod, error) {
	name, err := user(address)
	if err != nil {
		return nil, err
	}
	signer, err := ssh.ParsePrivateKey(c.PrivateKey.Bytes())
	var locked *ssh.PassphraseMissingError
	switch {
	case errors.As(err, &locked):
		return nil, fmt.Errorf("%w: ssh-privatekey has a passphrase, which nobody could give; make a key without", ErrInvalid)
	case err != nil:
		return nil, fmt.Errorf("%w: ssh-privatekey is missing or is no private key in PEM", ErrInvalid)
	}
	hosts, err := parseKnownHosts(c.KnownHosts)
	if err != nil {
		return nil, err
	}
	return &sshKey{user: name, signer: signer, hosts: hosts}, nil
}

// sshKey is go-git's AuthMethod for ssh: one key, and the hosts that are known.
// go-git's own reads known hosts from files only.
type sshKey struct {
	user   string
	signer ssh.Signer
	hosts  knownHosts
}

// Name implements transport.AuthMethod.
func (k *sshKey) Name() string { return "ssh-public-keys" }

// String implements transport.AuthMethod.
func (k *sshKey) String() string { return "user: " + k.user + ", " + k.Name() }

// ClientConfig is what go-git's ssh transport asks of a method.
func (k *sshKey) ClientConfig() (*ssh.ClientConfig, error) {
	return &ssh.ClientConfig{
		User: k.user, Auth: []ssh.AuthMethod{ssh.PublicKeys(k.signer)},
		HostKeyCallback: k.hosts.check, HostKeyAlgorithms: k.hosts.algorithms(),
		Timeout: handshakeTimeout,
	}, nil
}
