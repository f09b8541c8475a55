package main

import (
	"context"
	"fmt"
	"log"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/yaml"
)

func sealedSecrets() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "bitnami.com", Version: "v1alpha1", Resource: "sealedsecrets"}
}

// itemsEach is how many items a SealedSecret of the bench has.
const itemsEach = 3

// pile is the SealedSecrets of a round, all there before a controller starts.
type pile struct {
	objects, namespaces int
	envelope            string // v1, or v2
	keys                int    // RSA keys that are there; sealed is to the oldest
}

func (p pile) String() string {
	if p.envelope == "v2" {
		return "v2"
	}
	return fmt.Sprintf("v1, %d of RSA-4096", p.keys)
}

func (p pile) namespace(i int) string { return fmt.Sprintf("bench-%02d", i%p.namespaces) }

// unsealed is what a controller took for a pile.
type unsealed struct {
	pile
	secretsRate, statusRate float64 // a second, from the first Secret on
	cpu                     time.Duration
	requests                []request
	again                   restarted // the same daemon, started again
}

// sealedRound measures both envelopes, and Sealed Secrets' own controller on
// the same work.
func (o options) sealedRound(ctx context.Context, rows *table) error {
	limit, err := rsaLimit(ctx)
	if err != nil {
		return err
	}
	one := pile{objects: o.claims, namespaces: 20, envelope: "v1", keys: 1}
	twelve, hybrid := one, one
	twelve.keys, hybrid.envelope = 12, "v2"
	var found []unsealed
	var creates float64
	for _, p := range []pile{one, twelve, hybrid} {
		log.Printf("sealed: a fresh cluster with %d SealedSecrets of %d items (%s)", p.objects, itemsEach, p)
		c, err := o.fresh(ctx, rows)
		if err != nil {
			return err
		}
		u, err := c.unsealPile(ctx, p)
		if err != nil {
			return fmt.Errorf("unsealing (%s): %w", p, err)
		}
		log.Printf("Secrets %.0f/s, all %.0f/s, %.1f CPU s; restarted: %d writes, %.2f CPU s",
			u.secretsRate, u.statusRate, u.cpu.Seconds(), writes(u.again.requests), u.again.cpu.Seconds())
		if p == hybrid {
			if creates, err = c.bareCreates(ctx, p); err != nil {
				return fmt.Errorf("running the bare loop: %w", err)
			}
		}
		found = append(found, u)
	}
	sealedRows(rows, found, limit, creates)
	if err := o.openTimes(ctx, rows); err != nil {
		return err
	}
	return o.upstreamRound(ctx, rows, one)
}

// unsealPile makes a pile and measures a daemon on it, and once more when
// nothing has changed.
func (c *cluster) unsealPile(ctx context.Context, p pile) (unsealed, error) {
	if err := c.heap(ctx, p); err != nil {
		return unsealed{}, fmt.Errorf("making SealedSecrets: %w", err)
	}
	made, err := c.secretsThat(ctx, watch.Added)
	if err != nil {
		return unsealed{}, err
	}
	defer made.stop()
	told, err := c.sealedSynced(ctx)
	if err != nil {
		return unsealed{}, err
	}
	defer told.stop()
	from, err := c.mark()
	if err != nil {
		return unsealed{}, err
	}
	d, err := c.startDaemon()
	if err != nil {
		return unsealed{}, err
	}
	found := unsealed{pile: p}
	if found.secretsRate, found.statusRate, err = rates(ctx, p, made, told); err != nil {
		return found, stopped(d, err)
	}
	if found.cpu, err = d.untilIdle(ctx, 2*time.Minute); err != nil {
		return found, stopped(d, err)
	}
	if found.requests, err = c.requestsSince(from); err != nil {
		return found, stopped(d, err)
	}
	if err := d.stop(); err != nil {
		return found, err
	}
	d, found.again, err = c.restart(ctx)
	if err != nil {
		return found, err
	}
	return found, d.stop()
}

func rates(ctx context.Context, p pile, made, told *sightings) (secrets, statuses float64, err error) {
	first, last, err := made.wait(ctx, p.objects, 10*time.Minute)
	if err != nil {
		return 0, 0, fmt.Errorf("waiting for Secrets: %w", err)
	}
	_, all, err := told.wait(ctx, p.objects, 5*time.Minute)
	if err != nil {
		return 0, 0, fmt.Errorf("waiting for statuses: %w", err)
	}
	return rate(p.objects, last.Sub(first)), rate(p.objects, all.Sub(first)), nil
}

// heap makes the pile's namespaces, keys and objects. They are sealed by the
// programs that people seal with.
func (c *cluster) heap(ctx context.Context, p pile) error {
	var namespaces strings.Builder
	for i := range p.namespaces {
		fmt.Fprintf(&namespaces, "---\n{apiVersion: v1, kind: Namespace, metadata: {name: %s}}\n", p.namespace(i))
	}
	if err := c.apply(ctx, namespaces.String()); err != nil {
		return err
	}
	certificate, err := c.sealingKeys(ctx, p)
	if err != nil {
		return fmt.Errorf("making keys: %w", err)
	}
	var plain strings.Builder
	for i := range p.objects {
		fmt.Fprintf(&plain, "---\n{apiVersion: v1, kind: Secret, metadata: {namespace: %s, name: s-%04d}, stringData: {user: user-%[2]d, password: correct horse battery %[2]d, token: staple-%[2]d}}\n", p.namespace(i), i)
	}
	program := exec.CommandContext(ctx, filepath.Join(c.root, "bin", "kubeseal"), "--cert", certificate, "--format", "yaml")
	if p.envelope == "v2" {
		program = exec.CommandContext(ctx, filepath.Join(c.root, "bin", "privyseal"), "seal", "--cert", certificate, "--envelope", "v2", "--environment", "", "--format", "yaml")
	}
	program.Stdin = strings.NewReader(plain.String())
	sealed, err := output(program)
	if err != nil {
		return err
	}
	var objects []*unstructured.Unstructured
	for _, document := range strings.Split(sealed, "\n---") {
		object := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(strings.TrimPrefix(document, "---")), &object.Object); err != nil {
			return fmt.Errorf("reading what was sealed: %w", err)
		}
		if object.Object != nil {
			objects = append(objects, object)
		}
	}
	if len(objects) != p.objects {
		return fmt.Errorf("%d Secrets were sealed to %d documents", p.objects, len(objects))
	}
	return each(ctx, len(objects), func(ctx context.Context, i int) error {
		_, err := c.objects.Resource(sealedSecrets()).Namespace(objects[i].GetNamespace()).Create(ctx, objects[i], metav1.CreateOptions{})
		return err
	})
}

// sealedSynced from now on.
func (c *cluster) sealedSynced(ctx context.Context) (*sightings, error) {
	from, err := c.now(ctx, sealedSecrets())
	if err != nil {
		return nil, err
	}
	w, err := c.objects.Resource(sealedSecrets()).Watch(ctx, metav1.ListOptions{ResourceVersion: from})
	if err != nil {
		return nil, fmt.Errorf("watching SealedSecrets: %w", err)
	}
	return follow(w, func(event watch.Event) bool {
		sealed, ok := event.Object.(*unstructured.Unstructured)
		if !ok {
			return false
		}
		conditions, _, _ := unstructured.NestedSlice(sealed.Object, "status", "conditions")
		for _, condition := range conditions {
			if fields, ok := condition.(map[string]any); ok && fields["type"] == "Synced" && fields["status"] == "True" {
				return true
			}
		}
		return false
	}), nil
}

// bareCreates is how many Secrets a second a bare loop creates.
func (c *cluster) bareCreates(ctx context.Context, p pile) (float64, error) {
	began := time.Now()
	err := each(ctx, p.objects, func(ctx context.Context, i int) error {
		secret := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "v1", "kind": "Secret",
			"metadata": map[string]any{"namespace": p.namespace(i), "name": fmt.Sprintf("bare-%04d", i)},
			"stringData": map[string]any{"user": fmt.Sprint("user-", i), "password": fmt.Sprint("correct horse battery ", i),
				"token": fmt.Sprint("staple-", i)},
		}}
		_, err := c.objects.Resource(secrets()).Namespace(p.namespace(i)).Create(ctx, secret, metav1.CreateOptions{})
		return err
	})
	return rate(p.objects, time.Since(began)), err
}

func sealedRows(rows *table, found []unsealed, rsa, creates float64) {
	one, twelve, hybrid := found[0], found[1], found[2]
	n := float64(one.objects)
	objects := rsa / itemsEach
	rows.add(
		row{fmt.Sprintf("%d SealedSecrets of %d items, v1: all Secrets there", one.objects, itemsEach),
			fmt.Sprintf("%.0f/s", one.secretsRate),
			fmt.Sprintf("%.0f/s: %d RSA-4096 operations each, on all cores", objects, itemsEach), percent(one.secretsRate, objects), "≥ 80 %"},
		row{"… and all statuses true", fmt.Sprintf("%.0f/s", one.statusRate), "", "", ""},
		row{"… API requests an object", fmt.Sprintf("%.2f", float64(len(one.requests))/n), "2: create, status", "", "≤ 3"},
		row{"… sealed to the oldest of 12 keys: CPU", fmt.Sprintf("%.1f s", twelve.cpu.Seconds()),
			fmt.Sprintf("%.1f s: with 1 key", one.cpu.Seconds()), fmt.Sprintf("%.2f", twelve.cpu.Seconds()/one.cpu.Seconds()), "≤ 1.1"},
		row{"… v2: all Secrets there", fmt.Sprintf("%.0f/s", hybrid.secretsRate),
			fmt.Sprintf("%.0f/s: a create each", creates), percent(hybrid.secretsRate, creates), "≥ 50 %"},
		row{"daemon restarted, all unsealed already, 12 keys: API writes", fmt.Sprint(writes(twelve.again.requests)), "0", "", "0"},
		row{"… CPU until idle, v1 with 12 keys", seconds(twelve.again.cpu), "", "", "≤ 1.5 s"},
		row{"… v2", seconds(hybrid.again.cpu), "", "", "≤ 1.5 s"},
	)
	rows.note("SealedSecrets: one fill of a fresh cluster each. The daemon used %.1f CPU seconds for v1 and %.1f for v2, with the start. RSA was measured on all cores with nothing beside it, while the API server and etcd use a part of them in the fill.",
		one.cpu.Seconds(), hybrid.cpu.Seconds())
	rows.note("Requests of the v1 fill, with the start: %s. Of the restart: %s.", tallied(one.requests), tallied(twelve.again.requests))
}
