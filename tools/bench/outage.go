package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/watch"
)

// outageRound takes Vault away from the daemon, changes everything meanwhile,
// and measures how long the Secrets take to be fresh when it is back.
func (o options) outageRound(ctx context.Context, rows *table) (err error) {
	log.Printf("outage: a fresh cluster with %d claims", o.outage)
	c, err := o.fresh(ctx, rows)
	if err != nil {
		return err
	}
	way := &way{to: strings.TrimPrefix(c.vault.address, "https://")}
	if err := way.open(ctx, "127.0.0.1:0"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, way.close()) }()
	w := crowd{claims: o.outage, namespaces: 20, interval: refreshEvery.String(), address: "https://" + way.address}
	if err := c.gather(ctx, w); err != nil {
		return err
	}
	d, err := c.startDaemon()
	if err != nil {
		return err
	}
	back, err := c.outage(ctx, w, way)
	if err != nil {
		return stopped(d, err)
	}
	rows.add(row{fmt.Sprintf("outage over, %d claims all changed: 99 %% are fresh after", w.claims), seconds(back), "", "", "≤ 60 s"})
	rows.note("The outage: for %s connections to Vault are refused, so that claims which are read every %s all miss their time.",
		outageFor, refreshEvery)
	return d.stop()
}

const outageFor = 40 * time.Second

func (c *cluster) outage(ctx context.Context, w crowd, way *way) (time.Duration, error) {
	if err := c.allReady(ctx, w, 5*time.Minute); err != nil {
		return 0, err
	}
	log.Printf("Vault is away for %s", outageFor)
	began := time.Now()
	if err := way.close(); err != nil {
		return 0, err
	}
	if err := c.write(ctx, w, 1); err != nil {
		return 0, fmt.Errorf("changing documents: %w", err)
	}
	if err := pause(ctx, outageFor-time.Since(began)); err != nil {
		return 0, err
	}
	updated, err := c.secretsThat(ctx, watch.Modified)
	if err != nil {
		return 0, err
	}
	defer updated.stop()
	log.Print("Vault is back")
	back := time.Now()
	if err := way.open(ctx, way.address); err != nil {
		return 0, err
	}
	_, last, err := updated.wait(ctx, w.claims*99/100, 5*time.Minute)
	if err != nil {
		return 0, fmt.Errorf("waiting for fresh Secrets: %w", err)
	}
	return last.Sub(back), nil
}

// way is a way to a server that can be closed. It passes bytes through unread.
type way struct {
	to      string
	address string // that it can be entered at

	mu       sync.Mutex
	listener net.Listener
	passing  map[net.Conn]bool
}

func (w *way) open(ctx context.Context, at string) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", at)
	if err != nil {
		return fmt.Errorf("opening the way to Vault: %w", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.listener, w.address, w.passing = listener, listener.Addr().String(), map[net.Conn]bool{}
	go func() {
		for {
			in, err := listener.Accept()
			if err != nil {
				return // it was closed
			}
			go w.pass(ctx, listener, in)
		}
	}()
	return nil
}

// close refuses new connections and ends those that there are.
func (w *way) close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.listener == nil {
		return nil
	}
	err := w.listener.Close()
	for connection := range w.passing {
		_ = connection.Close() // an end of it may have closed it already
	}
	w.listener = nil
	return err
}

// admit keeps connections, to end them with the way.
func (w *way) admit(listener net.Listener, connections ...net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.listener != listener {
		return false
	}
	for _, connection := range connections {
		w.passing[connection] = true
	}
	return true
}

func (w *way) pass(ctx context.Context, listener net.Listener, in net.Conn) {
	defer func() { _ = in.Close() }()
	out, err := new(net.Dialer).DialContext(ctx, "tcp", w.to)
	if err != nil {
		return
	}
	defer func() { _ = out.Close() }()
	if !w.admit(listener, in, out) {
		return
	}
	ended := make(chan struct{}, 2)
	for _, pair := range [][2]net.Conn{{in, out}, {out, in}} {
		go func() {
			_, _ = io.Copy(pair[0], pair[1]) // however it ends, both ends are closed
			ended <- struct{}{}
		}()
	}
	<-ended
}
