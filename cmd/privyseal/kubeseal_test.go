package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/privyseal/privyseal/broker/kubeseal"
	"github.com/privyseal/privyseal/broker/seal"
	"github.com/privyseal/privyseal/broker/sealingkey"
)

// makeKeys is the story's command "keys NAME": NAME.cert.pem and NAME.key.pem,
// as a cluster has them, and NAME.backup.yaml, as kubectl writes its key Secrets.
func makeKeys(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: keys NAME")
	}
	rsa, err := seal.GenerateRSAKey(seal.RSAConfig{Now: time.Now(), Bits: 2048})
	ts.Check(err)
	hybrid, err := seal.GenerateKey()
	ts.Check(err)
	private, certificate := rsa.PEM()
	privateV2, err := hybrid.PEM()
	ts.Check(err)
	write := func(name string, text []byte) { ts.Check(os.WriteFile(ts.MkAbs(name), text, 0o600)) }
	write(args[0]+".cert.pem", slices.Concat(certificate, hybrid.Public().PEM()))
	write(args[0]+".v1.pem", certificate)
	write(args[0]+".v2.pem", hybrid.Public().PEM())
	write(args[0]+".key.pem", slices.Concat(private, privateV2))
	encode := base64.StdEncoding.EncodeToString
	write(args[0]+".backup.yaml", fmt.Appendf(nil, "kind: List\napiVersion: v1\nitems:\n- {kind: Secret, apiVersion: v1, data: {tls.key: %s, tls.crt: %s}}\n- {kind: Secret, apiVersion: v1, data: {private.pem: %s}}\n",
		encode(private), encode(certificate), encode(privateV2)))
}

// cluster is what the story's API knows.
type cluster struct{ snapshot sealingkey.Snapshot }

func (c cluster) Snapshot(context.Context) (sealingkey.Snapshot, error) { return c.snapshot, nil }

func (c cluster) Environment(_ context.Context, namespace string) (string, error) {
	if namespace == "pay" {
		return "production", nil
	}
	return "", nil
}

// serveKubeseal is the story's command "cluster NEWEST OLD...": the API with the
// keys of these names, at $CLUSTER.
func serveKubeseal(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: cluster NEWEST OLD...")
	}
	var made sealingkey.Snapshot
	var keys privateKeys
	for _, name := range args {
		text, err := os.ReadFile(ts.MkAbs(name + ".key.pem"))
		ts.Check(err)
		ts.Check(keys.addPEM(text))
	}
	text, err := os.ReadFile(ts.MkAbs(args[0] + ".key.pem"))
	ts.Check(err)
	certificate, err := os.ReadFile(ts.MkAbs(args[0] + ".v1.pem"))
	ts.Check(err)
	made.RSA, err = seal.ParseRSAKey(text, certificate)
	ts.Check(err)
	made.Hybrid, made.Open = keys.hybrid[0], seal.NewKeys(keys.rsa, keys.hybrid)
	for _, key := range keys.hybrid {
		made.Keys = append(made.Keys, sealingkey.Key{Kind: sealingkey.V2, ID: key.Public().ID().String()})
	}
	server := httptest.NewServer(kubeseal.New(kubeseal.Config{Keys: cluster{made}, Environments: cluster{made}}))
	ts.Defer(server.Close)
	ts.Setenv("CLUSTER", server.URL)
}

// editFile is the story's command "edit FILE OLD NEW".
func editFile(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: edit FILE OLD NEW")
	}
	text := ts.ReadFile(args[0])
	if !strings.Contains(text, args[1]) {
		ts.Fatalf("%s has no %q", args[0], args[1])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(strings.Replace(text, args[1], args[2], 1)), 0o600))
}

// without is the story's command "without FILE PATTERN OUT": the lines of FILE
// in which PATTERN does not occur.
func without(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: without FILE PATTERN OUT")
	}
	var kept []string
	for _, line := range strings.SplitAfter(ts.ReadFile(args[0]), "\n") {
		if !strings.Contains(line, args[1]) {
			kept = append(kept, line)
		}
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[2]), []byte(strings.Join(kept, "")), 0o600))
}

// setup gives each story a cache and a home of its own.
func setup(env *testscript.Env) error {
	env.Setenv("XDG_CACHE_HOME", filepath.Join(env.WorkDir, "cache"))
	env.Setenv("HOME", env.WorkDir)
	return nil
}
