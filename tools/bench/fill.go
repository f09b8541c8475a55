package main

import (
	"context"
	"fmt"
	"log"
	"time"

	"k8s.io/apimachinery/pkg/watch"
)

// filled is one fill: all claims are there before the daemon starts.
type filled struct {
	first, secrets, statuses time.Duration // from the daemon's start
	secretsRate, statusRate  float64       // a second, from the first Secret on
	limits                   limits

	cpu      time.Duration
	memory   memory
	requests []request
	store    storeUse
}

// fillRound measures fills, each in a cluster of its own, and in the last of
// these what a daemon does that has nothing to do.
func (o options) fillRound(ctx context.Context, rows *table) error {
	var fills []filled
	for i := range o.fills {
		log.Printf("fill %d of %d: a fresh cluster with %d claims", i+1, o.fills, o.claims)
		c, err := o.fresh(ctx, rows)
		if err != nil {
			return err
		}
		w := crowd{claims: o.claims, namespaces: 20, address: c.vault.address}
		if err := c.gather(ctx, w); err != nil {
			return err
		}
		fill, err := c.fill(ctx, w)
		if err != nil {
			return fmt.Errorf("filling: %w", err)
		}
		last := i == o.fills-1
		var quiet quiet
		if last && o.wants("quiet") {
			if quiet, err = c.beQuiet(ctx, w); err != nil {
				return fmt.Errorf("measuring a daemon that has nothing to do: %w", err)
			}
		}
		log.Print("the bare loop")
		if fill.limits, err = c.limitsNow(ctx, w); err != nil {
			return err
		}
		log.Printf("Secrets %.0f/s (bare loop %.0f/s), all %.0f/s (bare loop %.0f/s)",
			fill.secretsRate, fill.limits.secrets, fill.statusRate, fill.limits.statuses)
		fills = append(fills, fill)
		if !last {
			continue
		}
		fillRows(rows, w, fills)
		if o.wants("quiet") {
			quiet.rows(rows, w)
		}
	}
	return nil
}

// fill starts a daemon on claims that are there, and stops it when it is idle.
func (c *cluster) fill(ctx context.Context, w crowd) (filled, error) {
	made, err := c.secretsThat(ctx, watch.Added)
	if err != nil {
		return filled{}, err
	}
	defer made.stop()
	ready, err := c.claimsReady(ctx)
	if err != nil {
		return filled{}, err
	}
	defer ready.stop()
	from, err := c.mark()
	if err != nil {
		return filled{}, err
	}
	log.Print("the daemon starts")
	d, err := c.startDaemon()
	if err != nil {
		return filled{}, err
	}
	fill, err := c.filling(ctx, w, d, made, ready)
	if err != nil {
		return filled{}, stopped(d, err)
	}
	if fill.requests, err = c.requestsSince(from); err != nil {
		return filled{}, stopped(d, err)
	}
	if fill.store, err = c.storeUseSince(from); err != nil {
		return filled{}, stopped(d, err)
	}
	return fill, d.stop()
}

// stopped ends a daemon for an error.
func stopped(d *daemon, err error) error {
	if stopErr := d.stop(); stopErr != nil {
		return fmt.Errorf("%w (and %w)", err, stopErr)
	}
	return err
}

func (c *cluster) filling(ctx context.Context, w crowd, d *daemon, made, ready *sightings) (filled, error) {
	first, last, err := made.wait(ctx, w.claims, 5*time.Minute)
	if err != nil {
		return filled{}, fmt.Errorf("waiting for Secrets: %w", err)
	}
	_, all, err := ready.wait(ctx, w.claims, 5*time.Minute)
	if err != nil {
		return filled{}, fmt.Errorf("waiting for statuses: %w", err)
	}
	fill := filled{
		first: first.Sub(d.began), secrets: last.Sub(d.began), statuses: all.Sub(d.began),
		secretsRate: rate(w.claims, last.Sub(first)), statusRate: rate(w.claims, all.Sub(first)),
	}
	if fill.cpu, err = d.untilIdle(ctx, 2*time.Minute); err != nil {
		return filled{}, err
	}
	fill.memory, err = d.memory()
	return fill, err
}

func fillRows(rows *table, w crowd, fills []filled) {
	secretsOf := func(f filled) float64 { return f.secretsRate }
	statusOf := func(f filled) float64 { return f.statusRate }
	ratioOf := func(f filled) float64 { return f.secretsRate / f.limits.secrets }
	statusRatioOf := func(f filled) float64 { return f.statusRate / f.limits.statuses }
	secrets, statuses := median(fills, ratioOf), median(fills, statusRatioOf)
	last := fills[len(fills)-1]
	n := float64(w.claims)
	rows.add(
		row{fmt.Sprintf("first sync of %d claims: all Secrets there", w.claims),
			fmt.Sprintf("%.0f/s (%s); last after %s", secrets.secretsRate, spread(fills, secretsOf), seconds(secrets.secrets)),
			fmt.Sprintf("%.0f/s: a Vault read and a create each", secrets.limits.secrets),
			percent(secrets.secretsRate, secrets.limits.secrets), "≥ 50 %"},
		row{"… and all statuses true",
			fmt.Sprintf("%.0f/s (%s); last after %s", statuses.statusRate, spread(fills, statusOf), seconds(statuses.statuses)),
			fmt.Sprintf("%.0f/s: the same and a status write", statuses.limits.statuses),
			percent(statuses.statusRate, statuses.limits.statuses), "≥ 70 %"},
		row{"API requests a newly synced claim", fmt.Sprintf("%.2f", float64(len(last.requests))/n), "2: create, status", "", "≤ 3"},
		row{"store reads a newly synced claim", fmt.Sprintf("%.2f", float64(last.store.reads)/n), "1", "", "≤ 1.05"},
		row{"logins an identity", fmt.Sprintf("%.2f", float64(last.store.logins)/float64(w.namespaces)), "1", "", "1"},
		row{"TCP connections to Vault", fmt.Sprint(last.store.connections), "", "", "≤ 32, the concurrency"},
		row{fmt.Sprintf("memory after that, with %d claims", w.claims),
			fmt.Sprintf("RSS %s, of that its own %s", mebibytes(last.memory.peak), mebibytes(last.memory.own)), "", "",
			fmt.Sprintf("≤ %s", mebibytes(64<<10+6*w.claims))},
	)
	rows.note("First sync: of %d fills, each of a fresh cluster, the median by ratio (in brackets the range); a second from the first Secret on, the first after %s; counts and memory are the last fill's. The daemon used %.1f CPU seconds.",
		len(fills), seconds(secrets.first), last.cpu.Seconds())
	rows.note("Requests of the last fill, with the start: %s; to Vault %d reads, %d logins, %d others.",
		tallied(last.requests), last.store.reads, last.store.logins, last.store.other)
}

// onePathRound fills one namespace with claims that all read one document.
func (o options) onePathRound(ctx context.Context, rows *table) error {
	log.Printf("one path: a fresh cluster with %d claims that read the same document", o.claims)
	c, err := o.fresh(ctx, rows)
	if err != nil {
		return err
	}
	w := crowd{claims: o.claims, namespaces: 1, onePath: true, address: c.vault.address}
	if err := c.gather(ctx, w); err != nil {
		return err
	}
	fill, err := c.fill(ctx, w)
	if err != nil {
		return fmt.Errorf("filling: %w", err)
	}
	log.Printf("store reads: %d", fill.store.reads)
	rows.add(row{fmt.Sprintf("store reads of %d claims on one path, first sync", o.claims), fmt.Sprint(fill.store.reads), "1", "", "≤ 10"})
	return nil
}
