package main

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	k8sruntime "k8s.io/apimachinery/pkg/runtime"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

const keyBits = 4096

// sealingKeys makes a pile's keys and gives the file to seal to: the oldest
// RSA key's certificate, or what the daemon serves.
func (c *cluster) sealingKeys(ctx context.Context, p pile) (file string, err error) {
	var certificate []byte
	if p.envelope == "v2" {
		certificate, err = c.served(ctx)
	} else {
		certificate, err = c.rsaKeys(ctx, p.keys)
	}
	if err != nil {
		return "", err
	}
	file = filepath.Join(c.state, "cert.pem")
	return file, os.WriteFile(file, certificate, 0o600)
}

// rsaKeys makes key Secrets, an hour apart, and gives the oldest's certificate.
func (c *cluster) rsaKeys(ctx context.Context, n int) (oldest []byte, err error) {
	from := time.Now().Add(-time.Duration(n) * time.Hour)
	for i := range n {
		key, err := rsa.GenerateKey(rand.Reader, keyBits)
		if err != nil {
			return nil, fmt.Errorf("making an RSA key: %w", err)
		}
		template := &x509.Certificate{
			SerialNumber: big.NewInt(int64(i + 1)), Subject: pkix.Name{CommonName: "bench"},
			NotBefore: from.Add(time.Duration(i) * time.Hour), NotAfter: from.AddDate(10, 0, 0),
			IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageEncipherOnly,
		}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			return nil, fmt.Errorf("making a certificate: %w", err)
		}
		certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
		if i == 0 {
			oldest = certificate
		}
		object, err := k8sruntime.DefaultUnstructuredConverter.ToUnstructured(&corev1.Secret{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
			ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: fmt.Sprintf("sealed-secrets-key-%02d", i),
				Labels: map[string]string{"sealedsecrets.bitnami.com/sealed-secrets-key": "active"}},
			Type: corev1.SecretTypeTLS,
			Data: map[string][]byte{
				corev1.TLSCertKey: certificate,
				corev1.TLSPrivateKeyKey: pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY",
					Bytes: x509.MarshalPKCS1PrivateKey(key)}),
			},
		})
		if err != nil {
			return nil, err
		}
		if _, err := c.objects.Resource(secrets()).Namespace(system).Create(ctx, &unstructured.Unstructured{Object: object}, metav1.CreateOptions{}); err != nil {
			return nil, err
		}
	}
	return oldest, nil
}

// served has a daemon make its keys, and gives what it serves of them.
func (c *cluster) served(ctx context.Context) (certificate []byte, err error) {
	d, err := c.startDaemon()
	if err != nil {
		return nil, err
	}
	err = until(ctx, time.Minute, sampling, func(ctx context.Context) (string, error) {
		command := exec.CommandContext(ctx, filepath.Join(c.root, "bin", "privyseal"), "cert", "--controller-url", "http://"+kubesealAddress)
		text, err := output(command)
		if err != nil || !strings.Contains(text, "PRIVYSEAL V2 PUBLIC KEY") {
			return fmt.Sprintf("the daemon serves no key of version 2 (%v)", err), nil
		}
		certificate = []byte(text)
		return "", nil
	})
	return certificate, errors.Join(err, d.stop())
}

// rsaLimit is how many RSA-4096 items a second all cores open that do nothing
// else.
func rsaLimit(ctx context.Context) (float64, error) {
	key, err := rsa.GenerateKey(rand.Reader, keyBits)
	if err != nil {
		return 0, fmt.Errorf("making an RSA key: %w", err)
	}
	sealed, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, &key.PublicKey, make([]byte, 32), nil)
	if err != nil {
		return 0, fmt.Errorf("sealing: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	began, counts := time.Now(), make([]int, runtime.NumCPU())
	failed := make([]error, len(counts))
	var working sync.WaitGroup
	for core := range counts {
		working.Go(func() {
			for ctx.Err() == nil && failed[core] == nil {
				_, failed[core] = key.Decrypt(rand.Reader, sealed, &rsa.OAEPOptions{Hash: crypto.SHA256})
				counts[core]++
			}
		})
	}
	working.Wait()
	total := 0
	for _, count := range counts {
		total += count
	}
	return rate(total, time.Since(began)), errors.Join(failed...)
}

// openTimes adds how long one item takes to open, by Go's own benchmark.
func (o options) openTimes(ctx context.Context, rows *table) error {
	log := exec.CommandContext(ctx, "go", "-C", o.root, "test", "./broker/seal", "-run", "^$", "-bench", "^Benchmark(V2Open|V1Open4096)$")
	text, err := output(log)
	if err != nil {
		return fmt.Errorf("running the benchmark of broker/seal: %w", err)
	}
	took := func(name string) (time.Duration, error) {
		found := regexp.MustCompile(`(?m)^Benchmark` + name + `(?:-\d+)?\s+\d+\s+(\d+)(?:\.\d+)? ns/op`).FindStringSubmatch(text)
		if found == nil {
			return 0, fmt.Errorf("running the benchmark of broker/seal: no Benchmark%s in %q", name, text)
		}
		nanoseconds, err := strconv.Atoi(found[1])
		return time.Duration(nanoseconds), err
	}
	hybrid, err := took("V2Open")
	if err != nil {
		return err
	}
	v1, err := took("V1Open4096")
	if err != nil {
		return err
	}
	rows.add(row{"opening one item of v2", fmt.Sprintf("%.3f ms", 1000*hybrid.Seconds()),
		fmt.Sprintf("%.2f ms: v1, RSA-4096", 1000*v1.Seconds()), "", "≤ 0.2 ms"})
	return nil
}
