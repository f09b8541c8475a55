package rotation_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/privyseal/privyseal/providers"
	"github.com/privyseal/privyseal/rotation"
)

// world is a small model of everything that a rotation meets: a store with
// versions and check-and-set, a system that accepts credentials, hooks that run
// on their own, Secrets and pods that follow, and daemons that come and go.
//
// A daemon remembers nothing, so being killed is the same as not doing what was
// decided. What was decided and is done much later, by one who does not know
// that another leads, is in late.
type world struct {
	t      *testing.T
	plan   rotation.Plan
	random *rand.Rand
	now    time.Time
	log    []string

	state  rotation.State
	run    string // due
	order  rotation.Order
	record *record
	hooks  map[hookName]*hook
	late   []func()

	version   int64
	document  document
	versions  map[int64]document
	storeAway bool

	accepted map[string][]string // passwords by user
	target   document            // the Secret
	pod      document            // what the pod was started with

	setFails, setBackFails, verifyFails, rolloutFails bool

	made     int             // values
	dropped  int             // values before
	known    map[string]bool // passwords that somebody else wrote
	foreign  string          // the last of those since the rotation began; "" is none
	note     string          // what somebody else wrote to another key
	ended    map[string]int  // how often a run was done
	outside  map[string]int  // attempts of a run that the system heard of
	attempts map[int]bool    // those
}

type document = map[string]providers.Value

type record struct {
	id      string
	attempt int
	from    int64
	change  rotation.Change
}

type hookName struct {
	do             rotation.Do
	attempt, round int
}

type hook struct {
	state    rotation.Hook
	change   rotation.Change
	affected bool
}

const user, password, previous, other = "user", "password", "password_previous", "other"

func newWorld(t *testing.T, plan rotation.Plan, seed uint64) *world {
	w := &world{t: t, plan: plan, random: rand.New(rand.NewPCG(seed, 6)), now: time.Date(2026, 6, 1, 3, 0, 0, 0, time.UTC),
		hooks: map[hookName]*hook{}, version: 3, versions: map[int64]document{}, accepted: map[string][]string{},
		known: map[string]bool{}, ended: map[string]int{}, outside: map[string]int{}, attempts: map[int]bool{}}
	w.document = document{user: text("app-a"), password: text("first"), other: text("untouched")}
	w.note = "untouched"
	w.accepted["app-a"] = []string{"first"}
	w.target, w.pod = w.document, w.document
	if err := plan.Check(); err != nil {
		t.Fatal(err)
	}
	return w
}

func text(s string) providers.Value { return providers.NewValue([]byte(s)) }

func read(d document, key string) string { return string(d[key].Bytes()) }

func same(a, b document) bool {
	return read(a, user) == read(b, user) && read(a, password) == read(b, password)
}

// facts as they are right now.
func (w *world) facts() rotation.Facts {
	f := rotation.Facts{Now: w.now, Run: w.run, Order: w.order}
	if w.record != nil {
		f.Record = rotation.Record{There: true, ID: w.record.id, Attempt: w.record.attempt, From: w.record.from}
	}
	if !w.storeAway {
		f.Store = rotation.Store{Known: true, Version: w.version}
		if w.record != nil {
			f.Store.Holds = w.record.change.Held(w.document)
		}
		left, there := w.versions[w.state.Kept][previous]
		is, still := w.document[previous]
		f.Store.Previous = there && still && is.Equal(left)
	}
	is := func(do rotation.Do) rotation.Hook {
		if h := w.hooks[hookName{do, w.state.Attempt, w.state.Round}]; h != nil {
			return h.state
		}
		return rotation.NotRun
	}
	f.Set, f.SetBack, f.Verify = is(rotation.RunSet), is(rotation.RunSetBack), is(rotation.RunVerify)
	f.Synced = same(w.target, w.document)
	works := w.accepts(w.pod) && (!w.rolloutFails || !w.isNew(w.pod))
	f.Consumers.Ready = same(w.pod, w.target) && works
	if w.rolloutFails && w.isNew(w.pod) {
		f.Consumers.Failed = "Deployment/web"
	}
	return f
}

// accepts says whether the system does. One that nobody has to tell of a new value
// asks the store itself.
func (w *world) accepts(d document) bool {
	return !w.plan.Set || slices.Contains(w.accepted[read(d, user)], read(d, password))
}

// isNew says whether a document has what the rotation that is under way made.
func (w *world) isNew(d document) bool {
	return w.record != nil && read(d, password) == string(w.record.change.After[password].Bytes())
}

// lead is what a daemon decides now: what it would write down or do.
func (w *world) lead() (state rotation.State, action rotation.Action, do func()) {
	before := w.state
	state, action = w.plan.Next(before, w.facts())
	if state != before && action != (rotation.Action{}) {
		w.t.Fatalf("in %+v it writes down %+v, and does %+v", before, state, action)
	}
	if state != before {
		return state, action, func() { w.write(before, state) }
	}
	return state, action, func() { w.do(action) }
}

// write a state down over the one that it follows.
func (w *world) write(before, after rotation.State) {
	if w.state != before {
		return
	}
	w.says("%s → %s %s", before.Phase, after.Phase, after.Why)
	w.state = after
	if after.Phase == rotation.Done && before.Phase != rotation.Done {
		w.ended[after.Run]++
	}
	if after.Phase.Ended() {
		w.settled()
	}
	if after.Phase == rotation.Halted && w.record == nil {
		w.t.Fatalf("it halts without the record: %s", after.Why)
	}
}

func (w *world) says(format string, arguments ...any) {
	w.log = append(w.log, fmt.Sprintf(format, arguments...))
}

// do an action as the package says that it is done.
func (w *world) do(a rotation.Action) {
	switch a.Do {
	case rotation.Wait, rotation.Tell:
		return
	case rotation.Prepare:
		w.prepare(a.Attempt)
	case rotation.RunSet, rotation.RunSetBack, rotation.RunVerify:
		name := hookName{a.Do, a.Attempt, a.Round}
		if w.record != nil && w.record.id == a.Record && w.hooks[name] == nil {
			w.hooks[name] = &hook{state: rotation.Running, change: w.record.change}
		}
	case rotation.StopSet, rotation.StopSetBack, rotation.StopVerify:
		started := map[rotation.Do]rotation.Do{rotation.StopSet: rotation.RunSet, rotation.StopSetBack: rotation.RunSetBack, rotation.StopVerify: rotation.RunVerify}[a.Do]
		if h := w.hooks[hookName{started, a.Attempt, a.Round}]; h != nil && h.state == rotation.Running {
			h.state = rotation.Failed
		}
	case rotation.Write, rotation.WriteBack:
		w.put(a)
	case rotation.Drop:
		w.drop(a.Record)
	case rotation.DropPrevious:
		w.dropPrevious(a)
	}
	w.says("  %s %d.%d", a.Do, a.Attempt, a.Round)
}

func (w *world) prepare(attempt int) {
	if w.storeAway || w.record != nil {
		return
	}
	w.made++
	change, err := w.plan.Change(providers.Document{Values: w.document}, document{password: text(fmt.Sprintf("made-%d", w.made))}, rotation.Users{Key: user, Names: [2]string{"app-a", "app-b"}})
	if err != nil {
		w.t.Fatal(err)
	}
	w.record = &record{id: fmt.Sprint(w.made), attempt: attempt, from: w.version, change: change}
	w.foreign = "" // what somebody wrote before is the old value now
}

func (w *world) put(a rotation.Action) {
	if w.storeAway || w.version != a.Version || w.record == nil || w.record.id != a.Record {
		return
	}
	w.store(a, w.record.change)
}

func (w *world) store(a rotation.Action, change rotation.Change) {
	if w.version != a.Version {
		return
	}
	if a.Do == rotation.Write {
		w.becomes(change.Forward(w.document))
	} else {
		w.becomes(change.Back(w.document))
	}
}

// becomes is the next version of the document.
func (w *world) becomes(next document) {
	w.version++
	w.document, w.versions[w.version] = next, next
}

// dropPrevious as the package says that it is done. Who wants the value after that
// finds it in the store's older versions.
func (w *world) dropPrevious(a rotation.Action) {
	if w.storeAway || w.version != a.Version {
		return
	}
	if w.record != nil {
		w.t.Fatal("the values before are dropped in the middle of a rotation")
	}
	next := maps.Clone(w.document)
	w.known[read(next, previous)] = true
	delete(next, previous)
	w.becomes(next)
	w.dropped++
}

// onItsWay is an action that comes late. A write has what it was given, though
// the record is gone meanwhile.
func (w *world) onItsWay(a rotation.Action, do func()) func() {
	if a.Do != rotation.Write && a.Do != rotation.WriteBack || w.record == nil {
		return do
	}
	change := w.record.change
	return func() { w.store(a, change) }
}

func (w *world) drop(id string) {
	if w.record == nil || w.record.id != id {
		return
	}
	w.record = nil
	for name, h := range w.hooks {
		if h.state == rotation.Running && name.do != rotation.RunVerify {
			w.t.Fatalf("the record goes while %+v runs", name)
		}
		delete(w.hooks, name)
	}
}

// affect is what a hook does to the system. It may do it twice.
func (w *world) affect(name hookName, h *hook) {
	before, after := h.change.Before, h.change.After
	in := func(d document) string {
		if _, there := d[user]; there {
			return read(d, user)
		}
		return read(w.document, user)
	}
	value := read(after, password)
	switch {
	case name.do == rotation.RunVerify:
		return
	case name.do == rotation.RunSetBack:
		w.accepted[in(before)] = []string{read(before, password)}
	case w.plan.Strategy == rotation.Overlap:
		w.accepted[in(before)] = []string{read(before, password), value}
	default:
		w.accepted[in(after)] = []string{value}
	}
	if name.do == rotation.RunSet && !w.attempts[name.attempt] {
		w.attempts[name.attempt] = true
		w.outside[w.state.Run]++
	}
	h.affected = true
}

// work is what goes on without a daemon: a hook, a claim or a rollout goes on a
// little.
func (w *world) work() {
	for name, h := range w.hooks {
		if h.state != rotation.Running {
			continue
		}
		fails := name.do == rotation.RunSet && w.setFails || name.do == rotation.RunSetBack && w.setBackFails || name.do == rotation.RunVerify && w.verifyFails
		switch w.random.IntN(3) {
		case 0:
			w.affect(name, h)
		case 1:
			if fails {
				h.state = rotation.Failed // having done it, or not
			} else if h.affected || name.do == rotation.RunVerify {
				h.state = rotation.Succeeded
			}
		}
	}
	switch w.random.IntN(3) {
	case 0:
		if !w.storeAway {
			w.target = w.document
		}
	case 1:
		w.pod = w.target
	}
}

// holds checks what has to be true at any moment.
func (w *world) holds() {
	if w.foreign != "" && read(w.document, password) != w.foreign {
		w.t.Fatalf("somebody wrote %s, and it was overwritten with %s", w.foreign, read(w.document, password))
	}
	if read(w.document, other) != w.note {
		w.t.Fatalf("somebody wrote %s to another key, and it is gone", w.note)
	}
	for run, times := range w.ended {
		if times > 1 {
			w.t.Fatalf("run %s was done %d times", run, times)
		}
	}
	for run, times := range w.outside {
		if times > 1 {
			w.t.Fatalf("the system heard of %d attempts of run %s", times, run)
		}
	}
	if w.plan.Strategy == rotation.AlternateUsers {
		return // nobody has to know the password of who is not in use
	}
	for _, accepted := range w.accepted["app-a"] {
		if !w.knows(accepted) {
			w.t.Fatalf("the system accepts %s, which nobody knows", accepted)
		}
	}
}

// knows says whether a password is kept anywhere.
func (w *world) knows(value string) bool {
	if w.known[value] || value == read(w.document, password) || value == read(w.document, previous) {
		return true
	}
	return w.record != nil && (value == read(w.record.change.Before, password) || value == read(w.record.change.After, password))
}

// settled checks what has to be true when a rotation ended.
func (w *world) settled() {
	if w.state.Phase == rotation.Accepted || w.foreign != "" {
		return
	}
	if !w.accepts(w.document) {
		w.t.Fatalf("it ended as %s, and the system does not accept %s of %s", w.state.Phase, read(w.document, password), read(w.document, user))
	}
	if w.record != nil || w.state.To == 0 && w.state.Phase == rotation.Done {
		w.t.Fatalf("it ended as %s with %+v, and its record is %+v", w.state.Phase, w.state, w.record)
	}
}
