package sealedsecret

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	ssv1alpha1 "github.com/bitnami-labs/sealed-secrets/pkg/apis/sealedsecrets/v1alpha1"
	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// RecordsName is the ConfigMap of a namespace that its records are kept in.
const RecordsName = "privyseal-unsealed"

// settle is how long records are gathered before they are written, all of a
// namespace in one request. What a crash loses of them costs opening as much once
// more.
const settle = 5 * time.Second

// maxRecords is how many records a ConfigMap has room for. The SealedSecrets of a
// namespace beyond that are opened again at each start.
const maxRecords = 5000

// record is what is known of a SealedSecret that was unsealed.
type record struct {
	// Input is the keyed digest of what the Secret was made of, with the kid in
	// front.
	Input string
	// UID and Version of the Secret when it was last right.
	UID     types.UID
	Version string
}

// MarshalJSON implements json.Marshaler.
func (r record) MarshalJSON() ([]byte, error) {
	return json.Marshal([3]string{r.Input, string(r.UID), r.Version})
}

// UnmarshalJSON implements json.Unmarshaler.
func (r *record) UnmarshalJSON(text []byte) error {
	var fields [3]string
	if err := json.Unmarshal(text, &fields); err != nil {
		return err
	}
	*r = record{Input: fields[0], UID: types.UID(fields[1]), Version: fields[2]}
	return nil
}

// kid is the install key that the record was made with.
func (r record) kid() string {
	kid, _, _ := strings.Cut(r.Input, ":")
	return kid
}

// records are those of all namespaces. They are read when a namespace is first
// asked for, and written some time after they changed.
type records struct {
	live   client.Reader
	writer client.Client
	log    logr.Logger

	dirty workqueue.TypedRateLimitingInterface[string]

	mu  sync.Mutex
	all map[string]*namespaceRecords
}

type namespaceRecords struct {
	of      map[types.UID]record
	changed map[types.UID]bool // not written yet; with no record: to be removed
}

func newRecords(live client.Reader, writer client.Client, log logr.Logger) *records {
	return &records{
		live: live, writer: writer, log: log, all: map[string]*namespaceRecords{},
		dirty: workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[string](time.Second, 5*time.Minute)),
	}
}

// get gives the record of a SealedSecret; the zero record where there is none.
func (r *records) get(ctx context.Context, namespace string, sealed types.UID) (record, error) {
	r.mu.Lock()
	known := r.all[namespace]
	r.mu.Unlock()
	if known == nil {
		loaded, err := r.load(ctx, namespace)
		if err != nil {
			return record{}, err
		}
		r.mu.Lock()
		if r.all[namespace] == nil {
			r.all[namespace] = loaded
		}
		known = r.all[namespace]
		r.mu.Unlock()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return known.of[sealed], nil
}

// load reads a namespace's ConfigMap. What cannot be read in it was not written
// here, and is as good as lost.
func (r *records) load(ctx context.Context, namespace string) (*namespaceRecords, error) {
	loaded := &namespaceRecords{of: map[types.UID]record{}, changed: map[types.UID]bool{}}
	config := &corev1.ConfigMap{}
	err := r.live.Get(ctx, client.ObjectKey{Namespace: namespace, Name: RecordsName}, config)
	if client.IgnoreNotFound(err) != nil {
		return nil, fmt.Errorf("reading what was unsealed in namespace %s: %w", namespace, err)
	}
	there, err := r.there(ctx, namespace)
	if err != nil {
		return nil, err
	}
	for uid, text := range config.Data {
		var one record
		switch {
		case !there[types.UID(uid)]: // deleted while no daemon ran
			loaded.changed[types.UID(uid)] = true
		case json.Unmarshal([]byte(text), &one) == nil:
			loaded.of[types.UID(uid)] = one
		}
	}
	return loaded, nil
}

// there are the UIDs of a namespace's SealedSecrets.
func (r *records) there(ctx context.Context, namespace string) (map[types.UID]bool, error) {
	var all ssv1alpha1.SealedSecretList
	if err := r.writer.List(ctx, &all, client.InNamespace(namespace), client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing SealedSecrets: %w", err)
	}
	there := map[types.UID]bool{}
	for i := range all.Items {
		there[all.Items[i].UID] = true
	}
	return there, nil
}

// put remembers a record.
func (r *records) put(namespace string, sealed types.UID, now record) {
	r.change(namespace, sealed, func(known *namespaceRecords) bool {
		before, found := known.of[sealed]
		if !found && len(known.of) >= maxRecords {
			return false
		}
		known.of[sealed] = now
		return !found || before != now
	})
}

// forget drops the records of SealedSecrets that are gone.
func (r *records) forget(namespace string, sealed types.UID) {
	r.change(namespace, sealed, func(known *namespaceRecords) bool {
		_, found := known.of[sealed]
		delete(known.of, sealed)
		return found
	})
}

func (r *records) change(namespace string, sealed types.UID, do func(*namespaceRecords) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	known := r.all[namespace]
	if known == nil || !do(known) {
		return
	}
	known.changed[sealed] = true
	r.dirty.AddAfter(namespace, settle)
}

// Start implements manager.Runnable: it writes until ctx ends, and then once
// more what is left. It runs on the leader.
func (r *records) Start(ctx context.Context) error {
	go func() {
		<-ctx.Done()
		r.dirty.ShutDown()
	}()
	for {
		namespace, ended := r.dirty.Get()
		if ended {
			break
		}
		if err := r.flush(ctx, namespace); err != nil && ctx.Err() == nil {
			r.log.Error(err, "remembering what was unsealed; a restart opens it again", "namespace", namespace)
			r.dirty.AddRateLimited(namespace)
		} else {
			r.dirty.Forget(namespace)
		}
		r.dirty.Done(namespace)
	}
	return r.flushAll(ctx)
}

// lastWords bounds what is written when the daemon ends.
const lastWords = 5 * time.Second

func (r *records) flushAll(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWords)
	defer cancel()
	r.mu.Lock()
	var namespaces []string
	for namespace, known := range r.all {
		if len(known.changed) > 0 {
			namespaces = append(namespaces, namespace)
		}
	}
	r.mu.Unlock()
	for _, namespace := range namespaces {
		if err := r.flush(ctx, namespace); err != nil {
			r.log.Error(err, "remembering what was unsealed; a restart opens it again", "namespace", namespace)
		}
	}
	return nil
}

// flush writes what changed in a namespace.
func (r *records) flush(ctx context.Context, namespace string) error {
	patch, taken := r.take(namespace)
	if len(taken) == 0 {
		return nil
	}
	err := r.write(ctx, namespace, patch)
	if apierrors.IsForbidden(err) && apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return nil
	}
	if err != nil {
		r.mu.Lock()
		for _, uid := range taken {
			r.all[namespace].changed[uid] = true
		}
		r.mu.Unlock()
		return fmt.Errorf("writing ConfigMap %s/%s: %w", namespace, RecordsName, err)
	}
	return nil
}

// take gives the patch of what changed; nil says that a record is to be removed.
func (r *records) take(namespace string) (patch map[string]*string, taken []types.UID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	known := r.all[namespace]
	patch = map[string]*string{}
	for uid := range known.changed {
		taken = append(taken, uid)
		now, there := known.of[uid]
		if !there {
			patch[string(uid)] = nil
			continue
		}
		text, err := json.Marshal(now)
		if err != nil {
			panic(err) // unreachable: strings always marshal
		}
		patch[string(uid)] = new(string(text))
	}
	known.changed = map[types.UID]bool{}
	return patch, taken
}

func (r *records) write(ctx context.Context, namespace string, patch map[string]*string) error {
	body, err := json.Marshal(map[string]any{"data": patch})
	if err != nil {
		return err
	}
	config := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: RecordsName}}
	err = r.writer.Patch(ctx, config, client.RawPatch(types.MergePatchType, body))
	if !apierrors.IsNotFound(err) {
		return err
	}
	config = &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: RecordsName}, Data: map[string]string{}}
	for uid, text := range patch {
		if text != nil {
			config.Data[uid] = *text
		}
	}
	return r.writer.Create(ctx, config)
}
