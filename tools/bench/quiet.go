package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"log"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

const (
	foreignSecrets = 2000
	foreignSize    = 32 << 10
	refreshEvery   = 30 * time.Second
	refreshWatched = 90 * time.Second
)

// restarted is a daemon's start on a cluster where nothing changed.
type restarted struct {
	cpu      time.Duration
	memory   memory
	requests []request
	store    storeUse
}

// steady is a time in which nothing changes and claims are refreshed.
type steady struct {
	refreshes int
	cpu       time.Duration
	requests  []request
	store     storeUse
	memory    memory // at the end
}

// quiet is all that is measured of a daemon that has nothing to do.
type quiet struct {
	plain, foreign restarted // without and with Secrets of others
	reloading      restarted // with them, and a workload that Reloader's annotations have restarted for one
	steady         steady
}

func (c *cluster) beQuiet(ctx context.Context, w crowd) (quiet, error) {
	var q quiet
	log.Print("a restart with nothing changed")
	d, found, err := c.restart(ctx)
	if err != nil {
		return q, err
	}
	q.plain = found
	if err := d.stop(); err != nil {
		return q, err
	}
	log.Printf("a restart among %d Secrets of others", foreignSecrets)
	if err := c.crowdWithForeigners(ctx); err != nil {
		return q, fmt.Errorf("making Secrets of others: %w", err)
	}
	if d, q.foreign, err = c.restart(ctx); err != nil {
		return q, err
	}
	log.Printf("%s of refreshes every %s with nothing changed", refreshWatched, refreshEvery)
	if q.steady, err = c.refresh(ctx, w, d); err != nil {
		return q, stopped(d, err)
	}
	if err := d.stop(); err != nil {
		return q, err
	}
	log.Print("a restart among them with --reloader")
	if err := c.apply(ctx, reloaded); err != nil {
		return q, fmt.Errorf("making a workload that Reloader would restart: %w", err)
	}
	if d, q.reloading, err = c.restart(ctx, "--reloader"); err != nil {
		return q, err
	}
	return q, d.stop()
}

// reloaded reads one of the Secrets of others, and is to be restarted for it.
const reloaded = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: reloaded, namespace: foreign, annotations: {reloader.stakater.com/auto: "true"}}
spec:
  replicas: 0
  selector: {matchLabels: {app: reloaded}}
  template:
    metadata: {labels: {app: reloaded}}
    spec:
      containers: [{name: app, image: none, envFrom: [{secretRef: {name: f-0000}}]}]
`

// restart starts a daemon and waits until it is idle.
func (c *cluster) restart(ctx context.Context, flags ...string) (*daemon, restarted, error) {
	from, err := c.mark()
	if err != nil {
		return nil, restarted{}, err
	}
	d, err := c.startDaemon(flags...)
	if err != nil {
		return nil, restarted{}, err
	}
	found, err := c.restarted(ctx, d, from)
	if err != nil {
		return nil, restarted{}, stopped(d, err)
	}
	return d, found, nil
}

func (c *cluster) restarted(ctx context.Context, d *daemon, from mark) (found restarted, err error) {
	if found.cpu, err = d.untilIdle(ctx, time.Minute); err != nil {
		return found, err
	}
	if found.memory, err = d.memory(); err != nil {
		return found, err
	}
	if found.requests, err = c.requestsSince(from); err != nil {
		return found, err
	}
	found.store, err = c.storeUseSince(from)
	return found, err
}

// crowdWithForeigners makes Secrets that are none of the daemon's business.
func (c *cluster) crowdWithForeigners(ctx context.Context) error {
	if err := c.apply(ctx, "{apiVersion: v1, kind: Namespace, metadata: {name: foreign}}"); err != nil {
		return err
	}
	data := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", foreignSize)))
	return each(ctx, foreignSecrets, func(ctx context.Context, i int) error {
		secret := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "v1", "kind": "Secret", "data": map[string]any{"blob": data},
			"metadata": map[string]any{"namespace": "foreign", "name": fmt.Sprintf("f-%04d", i)},
		}}
		_, err := c.objects.Resource(secrets()).Namespace("foreign").Create(ctx, secret, metav1.CreateOptions{})
		return err
	})
}

// refresh has the claims refreshed often, waits until they are, and watches.
func (c *cluster) refresh(ctx context.Context, w crowd, d *daemon) (found steady, err error) {
	if err := c.turn(ctx, w, refreshEvery.String()); err != nil {
		return found, fmt.Errorf("changing the claims' interval: %w", err)
	}
	if err := c.allReady(ctx, w, 2*time.Minute); err != nil {
		return found, err
	}
	if err := pause(ctx, 5*time.Second); err != nil {
		return found, err
	}
	from, err := c.mark()
	if err != nil {
		return found, err
	}
	before, err := d.cpu()
	if err != nil {
		return found, err
	}
	if err := pause(ctx, refreshWatched); err != nil {
		return found, err
	}
	after, err := d.cpu()
	if err != nil {
		return found, err
	}
	found.cpu, found.refreshes = after-before, w.claims*int(refreshWatched/refreshEvery)
	if found.requests, err = c.requestsSince(from); err != nil {
		return found, err
	}
	if found.store, err = c.storeUseSince(from); err != nil {
		return found, err
	}
	found.memory, err = d.memory()
	return found, err
}

func (q quiet) rows(rows *table, w crowd) {
	s := q.steady
	rows.add(
		row{fmt.Sprintf("nothing changed, %d refreshes in %s: API requests", s.refreshes, refreshWatched), fmt.Sprint(len(s.requests)), "0", "", "0"},
		row{"… of these writes", fmt.Sprint(writes(s.requests)), "0", "", "0"},
		row{"… store reads a refresh", fmt.Sprintf("%.2f", float64(s.store.reads)/float64(s.refreshes)), "1", "", "1 a path"},
		row{"… CPU a refresh", fmt.Sprintf("%.2f ms", 1000*s.cpu.Seconds()/float64(s.refreshes)), "", "", "≤ 1 ms"},
		row{"… memory at its end", fmt.Sprintf("RSS %s, of that its own %s", mebibytes(s.memory.peak), mebibytes(s.memory.own)), "", "", ""},
		row{"daemon restarted, nothing changed: API writes", fmt.Sprint(writes(q.plain.requests)), "0", "", "0"},
		row{"… store reads", fmt.Sprintf("%d of %d", q.plain.store.reads, w.claims), "", "", "those that are due"},
		row{"… CPU until idle", fmt.Sprintf("%.2f s", q.plain.cpu.Seconds()), "", "", "≤ 1.5 s"},
		row{fmt.Sprintf("memory for %d Secrets of others, 32 KiB each", foreignSecrets),
			fmt.Sprintf("RSS %+.1f MiB, of that its own %+.1f MiB",
				float64(q.foreign.memory.peak-q.plain.memory.peak)/1024, float64(q.foreign.memory.own-q.plain.memory.own)/1024),
			"", "", "≤ +5 MiB"},
		row{"… with --reloader, and a workload that reads one",
			fmt.Sprintf("RSS %+.1f MiB, of that its own %+.1f MiB",
				float64(q.reloading.memory.peak-q.plain.memory.peak)/1024, float64(q.reloading.memory.own-q.plain.memory.own)/1024),
			"", "", "≤ +5 MiB"},
	)
	rows.note("A restarted daemon has RSS %s, of that its own %s; it asked the API server for %s. While nothing changed: %s.",
		mebibytes(q.plain.memory.peak), mebibytes(q.plain.memory.own), tallied(q.plain.requests), tallied(s.requests))
}
