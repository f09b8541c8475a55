package main

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/home"
	"github.com/privyseal/privyseal/broker/manifest"
	"github.com/privyseal/privyseal/broker/seal"
)

// recipients are the flags that say to whom is sealed.
type recipients struct {
	certs       []string
	more        []string
	envelope    string
	environment string
}

func (r *recipients) addTo(flags *pflag.FlagSet) {
	flags.StringArrayVar(&r.certs, "cert", nil, "file or address (https or loopback) with the keys to seal to, in place of asking the cluster; once for each cluster")
	flags.StringArrayVar(&r.more, "recipient", nil, "file with further keys of version 2 to seal to, such as one for recovery")
	flags.StringVar(&r.envelope, "envelope", "", "v1 (as kubeseal seals) or v2 (post-quantum, and bound to environment and key) (default: v2 where the cluster has a key for it)")
	flags.StringVar(&r.environment, "environment", "", "Environment that the namespace is in, which v2 binds; empty for none (default: asked of the cluster)")
}

// offered are the keys of one cluster, or one file.
type offered struct {
	from   string
	rsa    *seal.RSAPublicKey
	hybrid []*seal.PublicKey
}

// readOffer reads what cert.pem holds. It has a certificate, or keys of version
// 2, or both.
func readOffer(from string, text []byte) (offered, error) {
	offer := offered{from: from}
	var err error
	if holds(text, "CERTIFICATE") {
		if offer.rsa, err = seal.ParseCertificate(text, time.Now()); err != nil {
			return offer, fmt.Errorf("reading %s: %w", from, err)
		}
	}
	if holds(text, seal.PublicKeyType) {
		if offer.hybrid, err = seal.ParsePublicKeys(text); err != nil {
			return offer, fmt.Errorf("reading %s: %w", from, err)
		}
	}
	if offer.rsa == nil && offer.hybrid == nil {
		hint := ""
		if strings.Contains(string(text), "PRIVATE KEY") {
			hint = "; this is a private key, and it belongs nowhere but in the cluster and its backup"
		}
		return offer, fmt.Errorf("reading %s: no certificate and no public key in it; get one by privyseal cert%s", from, hint)
	}
	return offer, nil
}

func holds(text []byte, blockType string) bool {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == blockType {
			return true
		}
	}
	// A block that is cut off is no reason to pass over it in silence.
	return strings.Contains(string(text), "-----BEGIN "+blockType+"-----")
}

// offers are what --cert says, else what the cluster gives out.
func (r *recipients) offers(ctx context.Context, cluster *controller) ([]offered, error) {
	var all []offered
	for _, from := range r.certs {
		text, err := readCert(ctx, from)
		if err != nil {
			return nil, err
		}
		offer, err := readOffer(from, text)
		if err != nil {
			return nil, err
		}
		all = append(all, offer)
	}
	if len(all) > 0 {
		return all, nil
	}
	controller, err := cluster.dial(ctx)
	if err != nil {
		return nil, err
	}
	text, err := controller.certificate(ctx)
	if err != nil {
		return nil, err
	}
	offer, err := readOffer("what the cluster gives out", text)
	return []offered{offer}, err
}

func readCert(ctx context.Context, from string) ([]byte, error) {
	if strings.Contains(from, "://") {
		return fetch(ctx, from)
	}
	text, err := os.ReadFile(from)
	if err != nil {
		return nil, fmt.Errorf("reading --cert: %w", err)
	}
	return text, nil
}

// sealer chooses the envelope and its keys. The environment is still to be set.
func (r *recipients) sealer(ctx context.Context, cluster *controller) (manifest.Sealer, error) {
	if r.envelope != "" && r.envelope != "v1" && r.envelope != "v2" {
		return manifest.Sealer{}, usageError{fmt.Errorf("--envelope %q: want v1 or v2", r.envelope)}
	}
	all, err := r.offers(ctx, cluster)
	if err != nil {
		return manifest.Sealer{}, err
	}
	for _, from := range r.more {
		text, err := os.ReadFile(from)
		if err != nil {
			return manifest.Sealer{}, fmt.Errorf("reading --recipient: %w", err)
		}
		offer, err := readOffer(from, text)
		if err != nil {
			return manifest.Sealer{}, err
		}
		if offer.hybrid == nil {
			return manifest.Sealer{}, fmt.Errorf("--recipient %s: no key of version 2 in it", from)
		}
		all = append(all, offered{from: from, hybrid: offer.hybrid})
	}
	return choose(all, r.envelope)
}

// choose is v2 where any offer has it; then all of them must, or one of the
// clusters could not open what is sealed.
func choose(all []offered, envelope string) (manifest.Sealer, error) {
	var made manifest.Sealer
	seen := map[seal.KeyID]bool{}
	var without string
	for _, offer := range all {
		if offer.hybrid == nil {
			without = offer.from
		}
		for _, key := range offer.hybrid {
			if !seen[key.ID()] {
				seen[key.ID()] = true
				made.Recipients = append(made.Recipients, key)
			}
		}
	}
	switch {
	case envelope == "v1" || envelope == "" && made.Recipients == nil:
		if len(all) != 1 {
			return made, usageError{errors.New("v1 seals to one key: give one --cert and no --recipient, or seal with --envelope v2")}
		}
		if all[0].rsa == nil {
			return made, fmt.Errorf("%s has no certificate, which v1 needs", all[0].from)
		}
		return manifest.Sealer{RSA: all[0].rsa}, nil
	case without != "":
		return made, fmt.Errorf("%s has no key of version 2; seal with --envelope v1, or ask a cluster that has one", without)
	}
	return made, nil
}

// homeOf is the environment that v2 binds: --environment, else what the cluster
// says. It is never guessed: an item that was sealed for another one opens
// nowhere.
func (r *recipients) homeOf(ctx context.Context, flags *pflag.FlagSet, cluster *controller, namespace string) (string, error) {
	if flags.Changed("environment") {
		return r.environment, nil
	}
	if len(r.certs) > 0 || cluster.url != "" {
		return "", usageError{fmt.Errorf("v2 binds the environment of namespace %s, and no cluster is asked: give --environment NAME, or --environment= if it is in none, or seal with --envelope v1", namespace)}
	}
	asked, err := cluster.cluster()
	if err != nil {
		return "", err
	}
	home, err := askHome(ctx, asked, namespace)
	if err != nil {
		return "", fmt.Errorf("asking for the environment of namespace %s (or say it by --environment): %w", namespace, err)
	}
	return home, nil
}

// askHome asks the cluster which environment a namespace is in. One that is not
// there is an error: it is not guessed what it will be in.
func askHome(ctx context.Context, cluster client.Client, namespace string) (string, error) {
	found, err := home.Of(ctx, cluster, namespace)
	if err != nil || found == nil {
		return "", err
	}
	return found.Name, nil
}
