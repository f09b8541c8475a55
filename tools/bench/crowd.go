package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
)

// hands is how many goroutines the bench works with.
const hands = 32

// each calls do for 0 to n-1, with many hands, until one of them fails.
func each(ctx context.Context, n int, do func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan int)
	var working sync.WaitGroup
	for range hands {
		working.Go(func() {
			for i := range next {
				if err := do(ctx, i); err != nil {
					cancel(err)
				}
			}
		})
	}
feeding:
	for i := range n {
		select {
		case next <- i:
		case <-ctx.Done():
			break feeding
		}
	}
	close(next)
	working.Wait()
	return context.Cause(ctx)
}

// crowd is the claims of a round: their namespaces are in one environment, and
// each has a service account of its own to log in as.
type crowd struct {
	claims     int
	namespaces int
	onePath    bool   // all of a namespace read the same document
	interval   string // of their refresh; "": the default
	address    string // of Vault, as the store has it
}

const (
	environment = "bench"
	storeOf     = "vault"
)

func (w crowd) namespace(i int) string { return fmt.Sprintf("bench-%02d", i%w.namespaces) }

func (w crowd) claim(i int) string { return fmt.Sprintf("c-%04d", i) }

// path of a claim's document, below the environment's root.
func (w crowd) path(i int) string {
	if w.onePath {
		return "shared"
	}
	return w.claim(i)
}

// document is where that lies in the KV mount.
func (w crowd) document(i int) string { return environment + "/" + w.namespace(i) + "/" + w.path(i) }

// gather makes the crowd: documents, tenants and claims. No daemon runs yet.
func (c *cluster) gather(ctx context.Context, w crowd) error {
	if err := c.tenants(ctx, w); err != nil {
		return fmt.Errorf("making tenants: %w", err)
	}
	if err := c.write(ctx, w, 0); err != nil {
		return fmt.Errorf("writing documents: %w", err)
	}
	err := each(ctx, w.claims, func(ctx context.Context, i int) error {
		return c.ask(ctx, w.namespace(i), w.claim(i), w.path(i), w.interval)
	})
	if err != nil {
		return fmt.Errorf("making claims: %w", err)
	}
	return nil
}

// write gives each document another content.
func (c *cluster) write(ctx context.Context, w crowd, edition int) error {
	documents := w.claims
	if w.onePath {
		documents = w.namespaces
	}
	return each(ctx, documents, func(ctx context.Context, i int) error {
		return c.vault.put(ctx, w.document(i), edition)
	})
}

// ask makes one claim.
func (c *cluster) ask(ctx context.Context, namespace, name, path, interval string) error {
	spec := map[string]any{"sources": []any{map[string]any{"path": path}}}
	if interval != "" {
		spec["refresh"] = map[string]any{"interval": interval}
	}
	claim := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "privyseal.io/v1alpha1", "kind": "SecretClaim",
		"metadata": map[string]any{"namespace": namespace, "name": name}, "spec": spec,
	}}
	_, err := c.objects.Resource(claims()).Namespace(namespace).Create(ctx, claim, metav1.CreateOptions{})
	return err
}

func (c *cluster) tenants(ctx context.Context, w crowd) error {
	authority, err := os.ReadFile(c.env["VAULT_CACERT"])
	if err != nil {
		return fmt.Errorf("reading the lab's certificate authority: %w", err)
	}
	var manifests strings.Builder
	fmt.Fprintf(&manifests, `
{apiVersion: v1, kind: ConfigMap, metadata: {name: vault-ca, namespace: %[1]s}, data: {ca.crt: %[2]q}}
---
apiVersion: privyseal.io/v1alpha1
kind: ClusterSecretStore
metadata: {name: %[3]s}
spec:
  vault:
    address: %[4]s
    tls: {caConfigMapRef: {name: vault-ca}}
    auth: {kubernetes: {role: "privyseal-{{ .Namespace }}"}}
---
apiVersion: privyseal.io/v1alpha1
kind: Environment
metadata: {name: %[5]s}
spec:
  namespaceSelector: {matchLabels: {privyseal.io/environment: %[5]s}}
  stores: [%[3]s]
  root: "kv/{{ .Environment }}/{{ .Namespace }}"
  paths: ["kv/{{ .Environment }}/{{ .Namespace }}/**"]
`, system, authority, storeOf, w.address, environment)
	for i := range w.namespaces {
		if err := c.vault.admit(ctx, w.namespace(i), environment+"/"+w.namespace(i), w.address); err != nil {
			return err
		}
		fmt.Fprintf(&manifests, `
---
{apiVersion: v1, kind: Namespace, metadata: {name: %[1]s, labels: {privyseal.io/environment: %[2]s}}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: privyseal, namespace: %[1]s}}
`, w.namespace(i), environment)
	}
	return c.apply(ctx, manifests.String())
}

// turn has the claims refreshed at another interval.
func (c *cluster) turn(ctx context.Context, w crowd, interval string) error {
	patch, err := json.Marshal(map[string]any{"spec": map[string]any{"refresh": map[string]any{"interval": interval}}})
	if err != nil {
		return fmt.Errorf("writing a patch: %w", err)
	}
	return each(ctx, w.claims, func(ctx context.Context, i int) error {
		_, err := c.objects.Resource(claims()).Namespace(w.namespace(i)).
			Patch(ctx, w.claim(i), types.MergePatchType, patch, metav1.PatchOptions{})
		return err
	})
}

// wake makes all claims due at once, by a change of their environment.
func (c *cluster) wake(ctx context.Context) error {
	patch := fmt.Appendf(nil, `[{"op": "add", "path": "/spec/paths/-", "value": "kv/nobody/wake-%d"}]`, time.Now().UnixNano())
	_, err := c.objects.Resource(environments()).Patch(ctx, environment, types.JSONPatchType, patch, metav1.PatchOptions{})
	if err != nil {
		return fmt.Errorf("waking all claims: %w", err)
	}
	return nil
}

// allReady waits until each claim's status is that of its present spec.
func (c *cluster) allReady(ctx context.Context, w crowd, within time.Duration) error {
	return until(ctx, within, time.Second, func(ctx context.Context) (string, error) {
		list, err := c.objects.Resource(claims()).List(ctx, metav1.ListOptions{ResourceVersion: "0"})
		if err != nil {
			return "", err
		}
		ready := 0
		for i := range list.Items {
			if readyNow(&list.Items[i]) {
				ready++
			}
		}
		if ready >= w.claims {
			return "", nil
		}
		return fmt.Sprintf("%d of %d claims are ready", ready, w.claims), nil
	})
}

// readyNow says that a claim is Ready, with the spec that it has now.
func readyNow(claim *unstructured.Unstructured) bool {
	generation, _, _ := unstructured.NestedInt64(claim.Object, "status", "observedGeneration")
	conditions, _, _ := unstructured.NestedSlice(claim.Object, "status", "conditions")
	for _, condition := range conditions {
		if c, ok := condition.(map[string]any); ok && c["type"] == "Ready" {
			return c["status"] == "True" && generation == claim.GetGeneration()
		}
	}
	return false
}

// until asks every so often what is still missing, until that is nothing.
func until(ctx context.Context, within, every time.Duration, missing func(context.Context) (string, error)) error {
	deadline := time.Now().Add(within)
	for {
		what, err := missing(ctx)
		if err != nil {
			return err
		}
		if what == "" {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("waiting: after %s %s", within, what)
		}
		if err := pause(ctx, every); err != nil {
			return err
		}
	}
}

// pause is part of what is measured here: time that passes.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
