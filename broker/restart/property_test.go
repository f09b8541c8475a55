package restart_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/privyseal/privyseal/broker/restart"
	"github.com/privyseal/privyseal/broker/target"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// world is a workload, its targets and its pods, with all that a daemon cannot
// know: what each pod really holds.
type world struct {
	t       *testing.T
	rand    *rand.Rand
	now     int64
	story   []string
	targets map[string]target.Revisions

	reads    restart.Reads    // of the template, hence of new pods
	template map[string]int64 // restarted-for
	version  int              // of the template, as its resourceVersion
	pods     []*worldPod

	closed  bool             // by a window
	covered map[string]int64 // by target, the highest sequence ever patched for
	patches int
}

type worldPod struct {
	created  int64
	template map[string]int64
	holds    map[string]string // target/key → digest
}

// view is what the daemon's caches show: the world as it was at some time.
type view struct {
	facts   restart.Facts
	version int
}

func (w *world) say(format string, args ...any) {
	w.story = append(w.story, fmt.Sprintf("%d: ", w.now)+fmt.Sprintf(format, args...))
}

func (w *world) fail(format string, args ...any) {
	w.t.Helper()
	for _, line := range w.story {
		w.t.Log(line)
	}
	w.t.Fatalf(format, args...)
}

// change gives some keys of a target other contents, at times an earlier one.
func (w *world) change() {
	name := w.pick("db", "tls")
	revisions := w.targets[name]
	sequence := max(revisions.Sequence()+1, w.now)
	for _, key := range []string{"a", "b", "a_previous"} {
		digest := w.pick("x", "y", "z")
		entries := revisions.Keys[key]
		if w.rand.IntN(2) == 0 || entries[0].Digest == digest {
			continue
		}
		entries = slices.Insert(slices.Clone(entries), 0, target.Revision{Digest: digest, Sequence: sequence})
		revisions.Keys[key] = entries[:min(len(entries), 4)]
		w.say("%s/%s becomes %s at %d", name, key, digest, sequence)
	}
}

func (w *world) pick(of ...string) string { return of[w.rand.IntN(len(of))] }

// start makes a pod from the template, holding what is there now.
func (w *world) start() *worldPod {
	pod := &worldPod{created: w.now, template: w.template, holds: map[string]string{}}
	for name, revisions := range w.targets {
		for key, entries := range revisions.Keys {
			pod.holds[name+"/"+key] = entries[0].Digest
		}
	}
	return pod
}

// look is what a daemon with fresh caches would see.
func (w *world) look() view {
	facts := restart.Facts{RestartedFor: w.template, TemplateReads: w.reads, Targets: map[string]restart.Target{}}
	if w.closed {
		closed(&facts)
	}
	for name, revisions := range w.targets {
		facts.Targets[name] = restart.Target{
			Revisions: target.Revisions{KID: revisions.KID, Keys: maps.Clone(revisions.Keys)},
			Restart:   v1alpha1.RestartAuto,
		}
	}
	for _, pod := range w.pods {
		facts.Pods = append(facts.Pods, restart.Pod{
			Reads:    w.reads,
			Evidence: restart.Evidence{Created: max(0, pod.created-30), Seen: pod.template},
		})
	}
	return view{facts, w.version}
}

// reallyStale says whether a live pod holds another content than the present
// one of a key that it reads, or has outlived the key's history.
func (w *world) reallyStale() bool {
	for _, pod := range w.pods {
		for name, revisions := range w.targets {
			for key, entries := range revisions.Keys {
				counts := w.reads[name].Has(key) && key != "a_previous"
				outlived := entries[len(entries)-1].Sequence > max(pod.created-30, pod.template[name])
				if counts && (outlived || pod.holds[name+"/"+key] != entries[0].Digest) {
					return true
				}
			}
		}
	}
	return false
}

// act judges a view and sends the patch, which the API server refuses if the
// template has moved since.
func (w *world) act(seen view, fresh bool) {
	decision := restart.Decide(seen.facts)
	if decision.Patch == nil || seen.version != w.version {
		return
	}
	w.say("patch %v", decision.Patch)
	if fresh && w.closed {
		w.fail("a patch, though a window forbids it")
	}
	if fresh && !w.reallyStale() {
		w.fail("a patch, though every pod holds what is there")
	}
	news := false
	for name, sequence := range decision.Patch {
		if sequence < w.template[name] {
			w.fail("%s goes backward from %d to %d", name, w.template[name], sequence)
		}
		if before, named := w.covered[name]; !named || sequence > before {
			news = true
		}
		w.covered[name] = max(w.covered[name], sequence)
	}
	if !news {
		w.fail("a second patch for the same change")
	}
	w.template, w.version, w.patches = decision.Patch, w.version+1, w.patches+1
}

// replace lets the workload's own controller replace one pod of an old
// template.
func (w *world) replace() {
	for i, pod := range w.pods {
		if !maps.Equal(pod.template, w.template) {
			w.say("a pod is replaced")
			w.pods[i] = w.start()
			return
		}
	}
}

func (w *world) scale() {
	if w.rand.IntN(2) == 0 && len(w.pods) > 0 {
		w.say("a pod goes")
		w.pods = w.pods[1:]
		return
	}
	w.say("a pod comes")
	w.pods = append(w.pods, w.start())
}

func newWorld(t *testing.T, seed uint64) *world {
	first := func() target.Revisions {
		return target.Revisions{KID: "k1", Keys: map[string][]target.Revision{
			"a": {{Digest: "x"}}, "b": {{Digest: "x"}}, "a_previous": {{Digest: "x"}}}}
	}
	w := &world{t: t, rand: rand.New(rand.NewPCG(seed, 1)), now: 1000,
		targets: map[string]target.Revisions{"db": first(), "tls": first()}, covered: map[string]int64{}}
	w.reads = restart.Reads{"db": {All: true}}
	if w.rand.IntN(2) == 0 {
		w.reads = restart.Reads{"db": {Names: map[string]bool{"a": true}}, "tls": {All: true}}
	}
	w.pods = []*worldPod{w.start(), w.start()}
	return w
}

// A daemon that looks again after each event, crashes, repeats itself, at times
// acts on an old view, and at times may not restart anything makes one patch for each change that a live pod
// missed, none otherwise, and none backward; and in the end every pod holds
// what is there.
func TestOnePatchForOneChangeWhateverHappens(t *testing.T) {
	for seed := range uint64(2000) {
		w := newWorld(t, seed)
		old := w.look()
		for range 60 {
			// More than the half minute by which a pod's age is rounded down:
			// within it a patch may come that was not needed.
			w.now += 31 + w.rand.Int64N(60)
			switch w.rand.IntN(9) {
			case 0, 1:
				w.change()
			case 2:
				w.scale()
			case 3, 4:
				w.replace()
			case 5: // a deposed leader, or one that crashed after its patch
				w.act(old, false)
			case 6:
				old = w.look()
			case 7: // one that is up to date, twice over
				w.act(w.look(), true)
				w.act(w.look(), true)
			case 8:
				w.closed = !w.closed
			}
		}
		w.settle()
	}
}

// settle lets the daemon look until nothing is left to do.
func (w *world) settle() {
	w.closed = false
	before := w.patches
	w.act(w.look(), true)
	for range len(w.pods) {
		w.now += 31
		w.replace()
		w.act(w.look(), true)
	}
	if w.patches > before+1 {
		w.fail("%d patches for what one could cover", w.patches-before)
	}
	if w.reallyStale() {
		w.fail("a pod is left with an old content")
	}
	if decision := restart.Decide(w.look().facts); decision.Patch != nil || len(decision.Stale) > 0 {
		w.fail("at rest there is still %+v", decision)
	}
}
