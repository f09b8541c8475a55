package foreign_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/brokertest"
	"github.com/privyseal/privyseal/broker/foreign"
	"github.com/privyseal/privyseal/broker/installkey"
	"github.com/privyseal/privyseal/broker/reloader"
)

// place is one test's namespace.
type place struct {
	*testing.T
	client.Client
	namespace string
	writes    atomic.Int64
	reads     atomic.Int64
}

func newPlace(t *testing.T) *place {
	p := &place{T: t, Client: brokertest.Client(t, server.Access(t))}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "foreign-"}}
	p.must(p.Client.Create(t.Context(), namespace))
	p.namespace = namespace.Name
	return p
}

func (p *place) must(err error) {
	p.Helper()
	if err != nil {
		p.Fatal(err)
	}
}

// Get, Create and Update count what a Keeper asks for.
func (p *place) Get(ctx context.Context, key client.ObjectKey, into client.Object, options ...client.GetOption) error {
	p.reads.Add(1)
	return p.Client.Get(ctx, key, into, options...)
}

func (p *place) Create(ctx context.Context, object client.Object, options ...client.CreateOption) error {
	p.writes.Add(1)
	return p.Client.Create(ctx, object, options...)
}

func (p *place) Update(ctx context.Context, object client.Object, options ...client.UpdateOption) error {
	p.writes.Add(1)
	return p.Client.Update(ctx, object, options...)
}

// keeper is that of another daemon.
func (p *place) keeper() *foreign.Keeper {
	return foreign.New(foreign.Config{Live: p, Writer: p, Keys: installkey.NewKeeper(installkey.Config{
		Reader: p.Client, Writer: p.Client, Namespace: p.namespace})})
}

func (p *place) of(name string) foreign.Object {
	return foreign.Object{Kind: reloader.Secret, NamespacedName: types.NamespacedName{Namespace: p.namespace, Name: name}}
}

// put gives a Secret a content, and its metadata.
func (p *place) put(name, value string) metav1.Object {
	p.Helper()
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: p.namespace, Name: name}, Data: map[string][]byte{"key": []byte(value)}}
	err := p.Client.Create(p.Context(), secret)
	if apierrors.IsAlreadyExists(err) {
		err = p.Client.Update(p.Context(), secret)
	}
	p.must(err)
	return secret
}

func (p *place) look(by *foreign.Keeper, name string, meta metav1.Object) bool {
	p.Helper()
	changed, err := by.Look(p.Context(), p.of(name), meta)
	p.must(err)
	return changed
}

func (p *place) sequence(by *foreign.Keeper, name string) int64 {
	p.Helper()
	history, known, err := by.Recall(p.Context(), p.of(name))
	p.must(err)
	if !known {
		p.Fatal(name, "is not known")
	}
	return history.Sequence()
}

func TestAChangeIsWhatIsNotWhatWasThere(t *testing.T) {
	p := newPlace(t)
	first := p.keeper()
	if p.look(first, "db", p.put("db", "marker-a")) {
		t.Error("the first look is a change")
	}
	if !p.look(first, "db", p.put("db", "marker-b")) || p.sequence(first, "db") == 0 {
		t.Error("another content is no change")
	}

	// The next daemon knows it, and reads nothing but the record.
	second := p.keeper()
	now := p.put("db", "marker-b")
	reads, writes := p.reads.Load(), p.writes.Load()
	if p.look(second, "db", now) || p.sequence(second, "db") != p.sequence(first, "db") {
		t.Error("to the next daemon it is a change")
	}
	if p.reads.Load() != reads+1 || p.writes.Load() != writes {
		t.Errorf("it reads %d and writes %d times", p.reads.Load()-reads, p.writes.Load()-writes)
	}
	if !p.look(second, "db", p.put("db", "marker-c")) {
		t.Error("what changed while no daemon ran is no change")
	}
	record := &corev1.ConfigMap{}
	p.must(p.Client.Get(t.Context(), types.NamespacedName{Namespace: p.namespace, Name: foreign.RecordName}, record))
	if text := fmt.Sprint(record.Data); strings.Contains(text, "marker") || !strings.Contains(text, `"db"`) {
		t.Error("the record holds", text)
	}

	p.must(second.Forget(t.Context(), p.of("db")))
	if p.look(second, "db", p.put("db", "marker-d")) {
		t.Error("what was forgotten is a change")
	}
}

// A leader that was deposed and does not know it writes over nothing, and when
// it looks again it knows what the other wrote.
func TestADeposedLeaderWritesOverNothing(t *testing.T) {
	p := newPlace(t)
	old, next := p.keeper(), p.keeper()
	p.look(old, "db", p.put("db", "a"))
	meta := p.put("db", "b")
	if !p.look(next, "db", meta) {
		t.Fatal("the next leader sees no change")
	}
	if changed, err := old.Look(t.Context(), p.of("db"), meta); changed || !apierrors.IsConflict(err) {
		t.Errorf("the deposed one gets %v, %v", changed, err)
	}
	if p.look(old, "db", meta) || p.sequence(old, "db") != p.sequence(next, "db") {
		t.Error("looking again, it makes the change its own")
	}
}

func TestManyChangesAreFewWrites(t *testing.T) {
	const many = 60
	p := newPlace(t)
	k := p.keeper()
	metas := map[string]metav1.Object{}
	for i := range many {
		metas[fmt.Sprint("db-", i)] = p.put(fmt.Sprint("db-", i), "a")
	}
	var all sync.WaitGroup
	for name, meta := range metas {
		all.Go(func() {
			if _, err := k.Look(t.Context(), p.of(name), meta); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	known, err := p.keeper().Known(t.Context(), p.namespace)
	if err != nil || len(known) != many {
		t.Errorf("the next daemon knows %d of %d, %v", len(known), many, err)
	}
	if writes := p.writes.Load(); writes >= many {
		t.Errorf("%d objects are %d writes", many, writes)
	}
}

// Where a namespace holds more than its record takes, the rest is refused and
// what is there stays.
func TestARecordThatIsFullSaysSo(t *testing.T) {
	p := newPlace(t)
	k := p.keeper()
	p.look(k, "db", p.put("db", "a"))
	large := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: p.namespace, Name: "large"}, Data: map[string][]byte{}}
	for i := range 11000 {
		large.Data[fmt.Sprintf("a-key-with-a-long-name-that-takes-some-room-%06d", i)] = []byte("x")
	}
	p.must(p.Client.Create(t.Context(), large))
	if _, err := k.Look(t.Context(), p.of("large"), large); !errors.Is(err, foreign.ErrFull) {
		t.Errorf("got %v", err)
	}
	if !p.look(k, "db", p.put("db", "b")) {
		t.Error("what was remembered is not")
	}
}
