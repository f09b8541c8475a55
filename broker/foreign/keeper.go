package foreign

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/privyseal/privyseal/broker/installkey"
	"github.com/privyseal/privyseal/broker/reloader"
	"github.com/privyseal/privyseal/broker/target"
)

// RecordName is the ConfigMap in each namespace with what is remembered of it.
const RecordName = "privyseal-foreign"

// Keys give the keys of the installation's digests.
type Keys interface {
	Keyring(ctx context.Context) (*installkey.Keyring, error)
}

// Config of a Keeper.
type Config struct {
	// Live reads Secrets and ConfigMaps past all caches. Required.
	Live client.Reader

	// Writer writes the record of each namespace. Required.
	Writer client.Writer

	// Keys of the digests. Required.
	Keys Keys

	// Clock gives sequences. Nil: the wall clock.
	Clock clock.PassiveClock
}

// Keeper looks at what others write, and remembers it by keyed digests.
type Keeper struct {
	config Config

	mu    sync.Mutex
	pages map[string]*page
}

// New makes a Keeper; it does nothing yet.
func New(config Config) *Keeper {
	if config.Clock == nil {
		config.Clock = clock.RealClock{}
	}
	return &Keeper{config: config, pages: map[string]*page{}}
}

func (k *Keeper) page(namespace string) *page {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.pages[namespace] == nil {
		k.pages[namespace] = &page{}
	}
	return k.pages[namespace]
}

// Recall is an object's history as it is written down; known: it is.
func (k *Keeper) Recall(ctx context.Context, of Object) (history target.Revisions, known bool, err error) {
	now, known, err := k.recall(ctx, of)
	return now.revisions, known, err
}

func (k *Keeper) recall(ctx context.Context, of Object) (now record, known bool, err error) {
	p := k.page(of.Namespace)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := k.load(ctx, of.Namespace, p); err != nil {
		return record{}, false, err
	}
	now, known = p.records[of]
	return now, known, nil
}

// Known are the objects of a namespace that are remembered.
func (k *Keeper) Known(ctx context.Context, namespace string) ([]Object, error) {
	p := k.page(namespace)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := k.load(ctx, namespace, p); err != nil {
		return nil, err
	}
	objects := make([]Object, 0, len(p.records))
	for of := range p.records {
		objects = append(objects, of)
	}
	slices.SortFunc(objects, func(a, b Object) int { return strings.Compare(a.Target(), b.Target()) })
	return objects, nil
}

// load reads a page, if it is not the one that was read or written last.
func (k *Keeper) load(ctx context.Context, namespace string, p *page) error {
	if p.loaded {
		return nil
	}
	stored := &corev1.ConfigMap{}
	err := k.config.Live.Get(ctx, client.ObjectKey{Namespace: namespace, Name: RecordName}, stored)
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("reading ConfigMap %s/%s: %w", namespace, RecordName, err)
	}
	records, spoilt := parse(namespace, stored.Data)
	if spoilt != nil {
		log.FromContext(ctx).Info("What cannot be read of a record counts as seen for the first time",
			"configMap", namespace+"/"+RecordName, "reason", spoilt.Error())
	}
	p.records, p.version, p.loaded = records, stored.ResourceVersion, true
	return nil
}

// Look looks at an object of which metadata is known, and writes down what it
// holds, if that is not known yet. changed: it held something else before.
func (k *Keeper) Look(ctx context.Context, of Object, meta metav1.Object) (changed bool, err error) {
	before, known, err := k.recall(ctx, of)
	if err != nil || known && before.seen == versionOf(meta) {
		return false, err
	}
	ring, err := k.config.Keys.Keyring(ctx)
	if err != nil {
		return false, err
	}
	content, seen, err := k.read(ctx, of)
	if err != nil || seen == "" {
		return false, err
	}
	defer clearData(content)
	now := record{seen: seen, revisions: before.revisions.Observe(ring, target.Observed{
		Namespace: of.Namespace, Name: of.Target(), Data: content}, k.config.Clock.Now().Unix())}
	if known && now.revisions.String() == before.revisions.String() {
		k.seen(of, seen)
		return false, nil
	}
	if err := k.write(ctx, of, &now); err != nil {
		return false, err
	}
	return known && now.revisions.Sequence() > before.revisions.Sequence(), nil
}

// Forget forgets an object; when it is looked at again, that is the first time.
func (k *Keeper) Forget(ctx context.Context, of Object) error {
	_, known, err := k.recall(ctx, of)
	if err != nil || !known {
		return err
	}
	return k.write(ctx, of, nil)
}

// seen notes in memory that another version holds the same, which is not worth
// a write.
func (k *Keeper) seen(of Object, version string) {
	p := k.page(of.Namespace)
	p.mu.Lock()
	defer p.mu.Unlock()
	if now, known := p.records[of]; known {
		now.seen = version
		p.records[of] = now
	}
}

// versionOf an object. Another object under the name may have the version that
// one had, in a cluster that was brought back.
func versionOf(meta metav1.Object) string {
	return string(meta.GetUID()) + "/" + meta.GetResourceVersion()
}

// read gives an object's content and version; none for one that is gone.
func (k *Keeper) read(ctx context.Context, of Object) (content map[string][]byte, version string, err error) {
	var object client.Object
	switch of.Kind {
	case reloader.Secret:
		secret := &corev1.Secret{}
		object = secret
		if err = k.config.Live.Get(ctx, of.NamespacedName, secret); err == nil {
			content = secret.Data
		}
	case reloader.ConfigMap:
		settings := &corev1.ConfigMap{}
		object = settings
		if err = k.config.Live.Get(ctx, of.NamespacedName, settings); err == nil {
			content = contentOf(settings)
		}
	default:
		return nil, "", fmt.Errorf("reading %s: nothing of that kind is watched", of.Target())
	}
	if apierrors.IsNotFound(err) {
		return nil, "", nil
	}
	if err != nil {
		return nil, "", fmt.Errorf("reading %s in %s: %w", of.Target(), of.Namespace, err)
	}
	return content, versionOf(object), nil
}

// contentOf a ConfigMap, which has no key in both of its parts.
func contentOf(settings *corev1.ConfigMap) map[string][]byte {
	content := settings.BinaryData
	if content == nil {
		content = map[string][]byte{}
	}
	for key, value := range settings.Data {
		content[key] = []byte(value)
	}
	return content
}

func clearData(data map[string][]byte) {
	for _, value := range data {
		clear(value)
	}
}

// write writes a change of one object down, together with those of others that
// come while somebody else's are being written. It returns once it is done.
func (k *Keeper) write(ctx context.Context, of Object, now *record) error {
	p := k.page(of.Namespace)
	p.mu.Lock()
	if p.next == nil {
		p.next = &batch{changes: map[Object]*record{}}
	}
	mine := p.next
	mine.changes[of] = now
	p.mu.Unlock()

	p.writing.Lock()
	defer p.writing.Unlock()
	if !mine.done {
		p.mu.Lock()
		p.next = nil // it is mine: batches are written in their order
		p.mu.Unlock()
		mine.err, mine.done = k.send(ctx, of.Namespace, p, mine.changes), true
	}
	return mine.err
}

// send writes the page with some changes. It tests the version that it was read
// in, so that a leader that was deposed and does not know yet writes over
// nothing; what is there is read again then.
func (k *Keeper) send(ctx context.Context, namespace string, p *page, changes map[Object]*record) error {
	records := p.with(changes)
	data, err := format(records)
	if err != nil {
		return err
	}
	object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: RecordName}, Data: data}
	p.mu.Lock()
	object.ResourceVersion = p.version
	p.mu.Unlock()
	if object.ResourceVersion != "" {
		err = k.config.Writer.Update(ctx, object)
	}
	if object.ResourceVersion == "" || apierrors.IsNotFound(err) { // somebody deleted it, and it is all here
		object.ResourceVersion, object.UID = "", ""
		err = k.config.Writer.Create(ctx, object)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		p.loaded = false
		return fmt.Errorf("writing ConfigMap %s/%s: %w", namespace, RecordName, err)
	}
	p.records, p.version, p.loaded = records, object.ResourceVersion, true
	return nil
}
