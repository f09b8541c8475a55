package sealedsecret

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	// LedgerName is the ConfigMap in each namespace with what is remembered of
	// its SealedSecrets, whose own status has no place for it.
	LedgerName = "privyseal-unsealed"

	// batch is how long records are gathered before they are written, so that a
	// thousand SealedSecrets at once are few writes.
	batch = 5 * time.Second

	// maxRecords fit a ConfigMap. SealedSecrets beyond them are opened again when
	// a daemon starts.
	maxRecords = 5000
)

// ledger remembers which Secrets are in order, over restarts. What is lost of it
// costs decrypting something again, and nothing else.
type ledger struct {
	live   client.Reader
	writer client.Writer
	later  func(time.Duration, func())
	log    logr.Logger

	// living are the SealedSecrets of a namespace: what is remembered of others
	// is dropped.
	living func(ctx context.Context, namespace string) (map[types.UID]bool, error)

	mu    sync.Mutex
	pages map[string]*page
}

// page is the ledger of one namespace.
type page struct {
	mu      sync.Mutex
	loaded  bool
	due     bool
	records map[types.UID]record
}

func newLedger(config Config, living func(context.Context, string) (map[types.UID]bool, error)) *ledger {
	return &ledger{living: living, live: config.Live, writer: config.Client, later: config.Later, log: config.Log, pages: map[string]*page{}}
}

func (l *ledger) page(namespace string) *page {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.pages[namespace] == nil {
		l.pages[namespace] = &page{records: map[types.UID]record{}}
	}
	return l.pages[namespace]
}

// recall gives what is remembered of a SealedSecret.
func (l *ledger) recall(ctx context.Context, namespace string, uid types.UID) (known record, found bool, err error) {
	p := l.page(namespace)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := l.load(ctx, namespace, p); err != nil {
		return record{}, false, err
	}
	known, found = p.records[uid]
	return known, found, nil
}

// load reads a page, once. A record that somebody spoilt is none.
func (l *ledger) load(ctx context.Context, namespace string, p *page) error {
	if p.loaded {
		return nil
	}
	stored := &corev1.ConfigMap{}
	err := l.live.Get(ctx, client.ObjectKey{Namespace: namespace, Name: LedgerName}, stored)
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("reading ConfigMap %s/%s: %w", namespace, LedgerName, err)
	}
	living, err := l.living(ctx, namespace)
	if err != nil {
		return err
	}
	for uid, text := range stored.Data {
		if !living[types.UID(uid)] {
			continue
		}
		if known, err := parseRecord(text); err == nil {
			p.records[types.UID(uid)] = known
		}
	}
	p.loaded = true
	return nil
}

// note remembers that a Secret is in order.
func (l *ledger) note(ctx context.Context, namespace string, uid types.UID, now record) {
	p := l.page(namespace)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.records[uid] == now || len(p.records) >= maxRecords && p.records[uid] == (record{}) {
		return
	}
	p.records[uid] = now
	l.schedule(ctx, namespace, p)
}

// keep forgets all SealedSecrets of a namespace but these.
func (l *ledger) keep(ctx context.Context, namespace string, living map[types.UID]bool) {
	p := l.page(namespace)
	p.mu.Lock()
	defer p.mu.Unlock()
	before := len(p.records)
	maps.DeleteFunc(p.records, func(uid types.UID, _ record) bool { return !living[uid] })
	if p.loaded && len(p.records) != before {
		l.schedule(ctx, namespace, p)
	}
}

// schedule has the page written soon, and all that comes until then with it.
func (l *ledger) schedule(ctx context.Context, namespace string, p *page) {
	if p.due {
		return
	}
	p.due = true
	l.later(batch, func() {
		if ctx.Err() != nil {
			return // the lease is given up, and nothing may be written after that
		}
		if err := l.write(ctx, namespace, p); err != nil {
			l.log.Info("what was unsealed is not remembered, and is decrypted again after a restart", "namespace", namespace, "error", err.Error())
		}
	})
}

// write puts the page into its ConfigMap. Whoever leads knows best what is in
// order, so it writes over what is there.
func (l *ledger) write(ctx context.Context, namespace string, p *page) error {
	p.mu.Lock()
	p.due = false
	data := make(map[string]string, len(p.records))
	for uid, known := range p.records {
		data[string(uid)] = known.String()
	}
	p.mu.Unlock()
	object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: LedgerName}, Data: data}
	err := l.writer.Update(ctx, object)
	if apierrors.IsNotFound(err) {
		object.ResourceVersion, object.UID = "", ""
		err = l.writer.Create(ctx, object)
	}
	if err != nil {
		return fmt.Errorf("writing ConfigMap %s/%s: %w", namespace, LedgerName, err)
	}
	return nil
}
