package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// limits are what a bare loop does a second, with 32 hands, as the daemon's
// service account: read a document of Vault and create a Secret of it, without
// and with one status write. It knows, checks and remembers nothing.
type limits struct{ secrets, statuses float64 }

// bare is the loop.
type bare struct {
	cluster *cluster
	crowd   crowd
	secrets kubernetes.Interface // as compact on the wire as there is
	claims  dynamic.Interface
}

// limitsNow measures the bare loop where the daemon was measured, with the API
// server as warm as that left it. The loop has namespaces of its own, in no
// environment, and no daemon runs.
func (c *cluster) limitsNow(ctx context.Context, w crowd) (limits, error) {
	compact := rest.CopyConfig(c.access)
	compact.ContentType = runtime.ContentTypeProtobuf
	secrets, err := kubernetes.NewForConfig(compact)
	if err != nil {
		return limits{}, fmt.Errorf("making a client: %w", err)
	}
	claims, err := dynamic.NewForConfig(c.access)
	if err != nil {
		return limits{}, fmt.Errorf("making a client: %w", err)
	}
	b := bare{cluster: c, crowd: w, secrets: secrets, claims: claims}
	if err := b.prepare(ctx); err != nil {
		return limits{}, fmt.Errorf("preparing the bare loop: %w", err)
	}
	var found limits
	if found.secrets, err = b.loop(ctx, "bare-a", nil); err != nil {
		return limits{}, fmt.Errorf("running the bare loop: %w", err)
	}
	if found.statuses, err = b.loop(ctx, "bare-b", b.tell); err != nil {
		return limits{}, fmt.Errorf("running the bare loop with statuses: %w", err)
	}
	return found, nil
}

func (b bare) namespace(group string, i int) string {
	return strings.Replace(b.crowd.namespace(i), "bench", group, 1)
}

func (b bare) prepare(ctx context.Context) error {
	var manifests strings.Builder
	for i := range b.crowd.namespaces {
		for _, group := range []string{"bare-a", "bare-b"} {
			fmt.Fprintf(&manifests, "---\n{apiVersion: v1, kind: Namespace, metadata: {name: %s}}\n", b.namespace(group, i))
		}
	}
	if err := b.cluster.apply(ctx, manifests.String()); err != nil {
		return err
	}
	return each(ctx, b.crowd.claims, func(ctx context.Context, i int) error {
		return b.cluster.ask(ctx, b.namespace("bare-b", i), b.crowd.claim(i), b.crowd.path(i), "")
	})
}

// loop gives items a second.
func (b bare) loop(ctx context.Context, group string, after func(context.Context, *corev1.Secret) error) (float64, error) {
	began := time.Now()
	err := each(ctx, b.crowd.claims, func(ctx context.Context, i int) error {
		document, err := b.cluster.vault.read(ctx, b.crowd.document(i))
		if err != nil {
			return err
		}
		secret := &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: b.namespace(group, i), Name: b.crowd.claim(i)}, Data: map[string][]byte{},
		}
		for key, value := range document {
			secret.Data[key] = []byte(value)
		}
		made, err := b.secrets.CoreV1().Secrets(secret.Namespace).Create(ctx, secret, metav1.CreateOptions{})
		if err != nil || after == nil {
			return err
		}
		return after(ctx, made)
	})
	return rate(b.crowd.claims, time.Since(began)), err
}

// tell writes a status such as the daemon writes.
func (b bare) tell(ctx context.Context, made *corev1.Secret) error {
	status, err := json.Marshal(map[string]any{"status": map[string]any{
		"observedGeneration": 1, "sequence": 0, "sourceVersions": []int{1},
		"target": map[string]any{"name": made.Name, "uid": made.UID, "resourceVersion": made.ResourceVersion,
			"revision": "k1:00000000000000000000000000000000"},
		"consumers": map[string]any{"current": 0, "stale": 0},
		"conditions": []any{map[string]any{"type": "Ready", "status": "True", "reason": "Synced", "observedGeneration": 1,
			"message": "Secret " + made.Name + " holds what the store holds", "lastTransitionTime": metav1.Now()}},
	}})
	if err != nil {
		return fmt.Errorf("writing a status: %w", err)
	}
	_, err = b.claims.Resource(claims()).Namespace(made.Namespace).
		Patch(ctx, made.Name, types.MergePatchType, status, metav1.PatchOptions{}, "status")
	return err
}
