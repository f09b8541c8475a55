// Command bench measures what Privyseal promises of its speed and size, and
// prints one table: a row a promise, each beside the raw limit that the same
// machine showed in the same run, and beside the goal.
//
// The idea: absolute times say more of a machine than of a program, so what
// counts are counts (requests, writes, reads, bytes) and ratios to a bare loop
// that does the least work which has the same effect. The daemon is the
// ordinary bin/privyseal with its default flags, as a process of the host that
// has the rights of the chart's service account and no others. The cluster and
// the Vault are the lab's, made anew for each round. Everything shares the
// machine's cores.
//
// It asserts nothing: it ends with 0 whatever it measured, and with 1 only if
// it could not measure.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// options of a run.
type options struct {
	root   string // the checkout
	claims int
	outage int
	fills  int
	only   string
	kwok   string
}

func main() {
	log.SetFlags(log.Ltime)
	log.SetPrefix("bench: ")
	var o options
	flag.StringVar(&o.root, "root", ".", "the checkout, with bin/privyseal, bin/lab and bin/helm built")
	flag.StringVar(&o.kwok, "kwok", "bin/kwok", "the kwok program")
	flag.IntVar(&o.claims, "claims", 1000, "claims of a fill")
	flag.IntVar(&o.outage, "outage-claims", 5000, "claims that wait out an outage")
	flag.IntVar(&o.fills, "fills", 3, "fills, each of a fresh cluster; their median counts")
	flag.StringVar(&o.only, "only", "", "rounds to run, separated by commas: fill, quiet (after a fill), one-path, fan-out, outage, sealed (default: all)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := o.measure(ctx)
	stop()
	if err != nil {
		log.Print(err)
		os.Exit(1)
	}
}

// round is one part of the bench, on fresh clusters of its own.
type round struct {
	name    string
	measure func(context.Context, *table) error
}

func (o options) measure(ctx context.Context) (err error) {
	began := time.Now()
	if o.root, err = filepath.Abs(o.root); err != nil {
		return fmt.Errorf("finding the checkout: %w", err)
	}
	defer func() { err = errors.Join(err, removeLab(o.root)) }()
	rows := &table{}
	for _, r := range []round{
		{"fill", o.fillRound},
		{"one-path", o.onePathRound},
		{"fan-out", o.fanOutRound},
		{"outage", o.outageRound},
		{"sealed", o.sealedRound},
	} {
		if !o.wants(r.name) {
			continue
		}
		if err := r.measure(ctx, rows); err != nil {
			// What was measured until here is worth seeing.
			rows.print(os.Stdout)
			return fmt.Errorf("round %s: %w", r.name, err)
		}
	}
	rows.print(os.Stdout)
	fmt.Printf("\nThe whole bench took %.0f s.\n", time.Since(began).Seconds())
	return nil
}

// fresh is a fresh cluster of this machine.
func (o options) fresh(ctx context.Context, rows *table) (*cluster, error) {
	c, err := freshCluster(ctx, o.root)
	if err == nil && rows.machine == "" {
		rows.machine, err = c.machine(ctx)
	}
	return c, err
}

// wants says whether a round was asked for.
func (o options) wants(round string) bool {
	return o.only == "" || slices.Contains(strings.Split(o.only, ","), round)
}
