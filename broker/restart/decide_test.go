package restart_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/privyseal/privyseal/broker/annotation"
	"github.com/privyseal/privyseal/broker/restart"
	"github.com/privyseal/privyseal/broker/target"
	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/broker/waits"
)

// A fact changes what a workload's facts are; each row below lists them.
type fact func(*restart.Facts)

// pod adds a live pod that was created at that second, with what its template
// was restarted for.
func pod(created int64, restartedFor string, parts ...part) fact {
	return func(f *restart.Facts) {
		f.Pods = append(f.Pods, restart.Pod{
			Reads:    restart.ReadsOf(spec(parts...)),
			Evidence: restart.EvidenceOf(podMeta(created, restartedFor, "")),
		})
	}
}

// ours adds a target; each key's history is newest first, as
// "password: b@200 a@0".
func ours(name string, histories ...string) fact {
	return func(f *restart.Facts) {
		if f.Targets == nil {
			f.Targets = map[string]restart.Target{}
		}
		f.Targets[name] = restart.Target{Revisions: revisions(histories...)}
	}
}

func revisions(histories ...string) target.Revisions {
	keys := map[string][]target.Revision{}
	for _, history := range histories {
		key, entries, _ := strings.Cut(history, ": ")
		for _, entry := range strings.Fields(entries) {
			var revision target.Revision
			digest, sequence, _ := strings.Cut(entry, "@")
			if _, err := fmt.Sscan(sequence, &revision.Sequence); err != nil {
				panic(err)
			}
			revision.Digest = digest
			keys[key] = append(keys[key], revision)
		}
	}
	return target.Revisions{KID: "k1", Keys: keys}
}

func claimNever(name string) fact {
	return func(f *restart.Facts) {
		known := f.Targets[name]
		known.Restart = v1alpha1.RestartNever
		f.Targets[name] = known
	}
}

func template(restartedFor string, parts ...part) fact {
	return func(f *restart.Facts) {
		line, err := annotation.ParseSequences(restartedFor)
		if err != nil {
			panic(err)
		}
		f.RestartedFor, f.TemplateReads = line, restart.ReadsOf(spec(parts...))
	}
}

func never(f *restart.Facts) { f.Never = true }

func held(by restart.Standing) fact { return func(f *restart.Facts) { f.Held = by } }

// closed: a window forbids restarts.
func closed(f *restart.Facts) { f.Hold = waits.Hold{Environment: "prod", Cause: waits.Closed} }

// asked gives a reason to restart now, on the workload.
func asked(reason string) fact {
	return func(f *restart.Facts) { f.Workload, f.AskedNow = "Deployment/web", reason }
}

// askedOn gives one on a target's claim.
func askedOn(name, reason string) fact {
	return func(f *restart.Facts) {
		known := f.Targets[name]
		known.AskedNow = reason
		f.Targets[name] = known
	}
}

// noted is a reason in the status of a target's claim.
func noted(name, workload, reason string, sequence int64) fact {
	return func(f *restart.Facts) {
		known := f.Targets[name]
		known.RestartNow = append(known.RestartNow, v1alpha1.RestartNow{Workload: workload, Reason: reason, Sequence: sequence})
		f.Targets[name] = known
	}
}

// sentence tells a decision: "patch db=200; stale db/password rolling".
func sentence(d restart.Decision) string {
	said := []string{"leave it"}
	if d.Patch != nil {
		said[0] = "patch " + annotation.FormatSequences(d.Patch)
	}
	for _, stale := range d.Stale {
		said = append(said, fmt.Sprintf("stale %s/%s %s", stale.Target, strings.Join(stale.Keys, "+"), stale.Standing))
	}
	if d.RestartNow != "" {
		said = append(said, "since "+d.RestartNow)
	}
	if d.Deferred && d.Patch != nil {
		said = append(said, "patched and deferred")
	}
	return strings.Join(said, "; ")
}

func TestAWorkload(t *testing.T) {
	changed := ours("db", "password: b@200 a@0", "user: u@0")
	for name, test := range map[string]struct {
		facts []fact
		want  string
	}{
		"without pods is left":          {[]fact{changed}, "leave it"},
		"that reads nothing is left":    {[]fact{changed, pod(100, "")}, "leave it"},
		"that reads a stranger is left": {[]fact{changed, pod(100, "", envFrom("other"))}, "leave it"},

		"with an old key is restarted": {
			[]fact{changed, pod(100, "", envKey("db", "password"))},
			"patch db=200; stale db/password rolling"},
		"with all keys is restarted": {
			[]fact{changed, pod(100, "", envFrom("db"))},
			"patch db=200; stale db/password rolling"},
		"with one old pod among new ones is restarted": {
			[]fact{changed, pod(300, "", envFrom("db")), pod(100, "", envFrom("db")), pod(300, "", envFrom("db"))},
			"patch db=200; stale db/password rolling"},
		"that reads an unchanged key is left": {
			[]fact{changed, pod(100, "", envKey("db", "user"))}, "leave it"},
		"whose pods are younger than the change is left": {
			[]fact{changed, pod(230, "", envFrom("db"))}, "leave it"},
		"whose pods are barely younger is restarted, to be sure": {
			[]fact{changed, pod(229, "", envFrom("db"))},
			"patch db=200; stale db/password rolling"},
		"whose pods were restarted for the change is left": {
			[]fact{changed, pod(201, "db=200", envFrom("db")), template("db=200")}, "leave it"},

		"is left when the content is back to what its pods hold": {
			[]fact{ours("db", "password: a@300 b@200 a@0"), pod(100, "", envFrom("db"))}, "leave it"},
		"is restarted when its pods hold what is gone again": {
			[]fact{ours("db", "password: a@300 b@200 a@0"), pod(250, "db=200", envFrom("db")), template("db=200")},
			"patch db=300; stale db/password rolling"},
		"older than the history is restarted": {
			[]fact{ours("db", "password: e@500 d@400 c@300 b@200"), pod(100, "", envFrom("db"))},
			"patch db=500; stale db/password rolling"},
		"that reads everything is restarted for a new key": {
			[]fact{ours("db", "a: x@0", "b: y@200"), pod(100, "", envFrom("db"))},
			"patch db=200; stale db/b rolling"},
		"that reads one key is left when a new one comes": {
			[]fact{ours("db", "a: x@0", "b: y@200"), pod(100, "", envKey("db", "a"))}, "leave it"},
		"is left when only a _previous key came or went": {
			[]fact{ours("db", "password: a@0", "password_previous: z@200"), pod(100, "", envFrom("db"))}, "leave it"},
		"is left for a _previous key even by name": {
			[]fact{ours("db", "password_previous: z@200"), pod(100, "", envKey("db", "password_previous"))}, "leave it"},

		"gets one patch for two targets that changed": {
			[]fact{changed, ours("tls", "crt: n@210 o@0"), pod(100, "", envFrom("db"), volume("tls"))},
			"patch db=200,tls=210; stale db/password rolling; stale tls/crt rolling"},
		"gets a patch that covers what did not change too": {
			[]fact{changed, ours("tls", "crt: o@0"), pod(100, "", envFrom("db"), volume("tls"))},
			"patch db=200,tls=0; stale db/password rolling"},
		"gets a patch that covers what only its template reads": {
			[]fact{changed, ours("tls", "crt: o@90"), pod(100, "", envFrom("db")), template("", envFrom("db"), volume("tls"))},
			"patch db=200,tls=90; stale db/password rolling"},
		"keeps a counter that is ahead": {
			[]fact{changed, ours("tls", "crt: o@60"), pod(100, "", envFrom("db"), volume("tls")), template("db=0,tls=95")},
			"patch db=200,tls=95; stale db/password rolling"},
		"keeps the counter of a target that is gone but read": {
			[]fact{changed, pod(100, "", envFrom("db"), volume("tls")), template("tls=95")},
			"patch db=200,tls=95; stale db/password rolling"},
		"loses the counter of a target that nobody reads": {
			[]fact{changed, pod(100, "", envFrom("db")), template("old=95")},
			"patch db=200; stale db/password rolling"},

		"whose template covers the change is waited for": {
			[]fact{changed, pod(100, "", envFrom("db")), template("db=200")},
			"leave it; stale db/password rolling"},
		"whose template covers the read key is waited for, whatever else changed": {
			[]fact{ours("db", "password: b@200 a@0", "user: v@900 u@0"), pod(100, "", envKey("db", "password")), template("db=200")},
			"leave it; stale db/password rolling"},
		"that is paused is patched once": {
			[]fact{changed, pod(100, "", envFrom("db")), held(restart.HeldByPause)},
			"patch db=200; stale db/password paused"},
		"that is paused and patched is waited for": {
			[]fact{changed, pod(100, "", envFrom("db")), template("db=200"), held(restart.HeldByPause)},
			"leave it; stale db/password paused"},
		"that waits for hands is waited for": {
			[]fact{changed, pod(100, "", envFrom("db")), template("db=200"), held(restart.HeldByOnDelete)},
			"leave it; stale db/password on-delete"},
		"held for one change gets a patch for the next": {
			[]fact{ours("db", "password: c@300 b@200 a@0"), pod(100, "", envFrom("db")), template("db=200"), held(restart.HeldByPartition)},
			"patch db=300; stale db/password partition"},
		"that was undone by its people is left, for its pods are new": {
			[]fact{changed, pod(400, "", envFrom("db")), template("")}, "leave it"},

		"that says never is shown": {
			[]fact{changed, pod(100, "", envFrom("db")), never},
			"leave it; stale db/password workload-never"},
		"whose claim says never is shown": {
			[]fact{changed, claimNever("db"), pod(100, "", envFrom("db"))},
			"leave it; stale db/password claim-never"},
		"is restarted for another claim and covers the one that says never": {
			[]fact{changed, claimNever("db"), ours("tls", "crt: n@210 o@0"), pod(100, "", envFrom("db"), volume("tls"))},
			"patch db=200,tls=210; stale db/password rolling; stale tls/crt rolling"},
		"that says never wins over claims that say auto": {
			[]fact{changed, ours("tls", "crt: n@210 o@0"), pod(100, "", envFrom("db"), volume("tls")), never},
			"leave it; stale db/password workload-never; stale tls/crt workload-never"},

		"in a blackout waits": {
			[]fact{changed, closed, pod(100, "", envFrom("db"))},
			"leave it; stale db/password window"},
		"in a blackout waits with its pause": {
			[]fact{changed, closed, pod(100, "", envFrom("db")), held(restart.HeldByPause)},
			"leave it; stale db/password window"},
		"in a blackout that was patched before rolls on": {
			[]fact{changed, closed, pod(100, "", envFrom("db")), template("db=200")},
			"leave it; stale db/password rolling"},
		"in a blackout that has nothing to wait for is left": {
			[]fact{changed, closed, pod(300, "", envFrom("db"))}, "leave it"},
		"in a blackout that says never is shown as such": {
			[]fact{changed, closed, pod(100, "", envFrom("db")), never},
			"leave it; stale db/password workload-never"},
		"in a blackout whose claim says never is shown as such": {
			[]fact{changed, closed, claimNever("db"), pod(100, "", envFrom("db"))},
			"leave it; stale db/password claim-never"},

		"goes for a reason on the workload": {
			[]fact{changed, closed, asked("hurry"), noted("db", "Deployment/web", "hurry", 200), pod(100, "", envFrom("db"))},
			"patch db=200; stale db/password rolling; since hurry"},
		"goes for a reason on the claim": {
			[]fact{changed, closed, askedOn("db", "hurry"), noted("db", "", "hurry", 200), pod(100, "", envFrom("db"))},
			"patch db=200; stale db/password rolling; since hurry"},
		"goes for one target's reason, and covers the other": {
			[]fact{changed, ours("tls", "crt: n@210 o@0"), closed, askedOn("db", "hurry"), noted("db", "", "hurry", 200), pod(100, "", envFrom("db"), volume("tls"))},
			"patch db=200,tls=210; stale db/password rolling; stale tls/crt rolling; since hurry"},
		"waits with a reason that is not noted": {
			[]fact{changed, closed, asked("hurry"), pod(100, "", envFrom("db"))},
			"leave it; stale db/password window"},
		"waits with a reason that was noted for an earlier change": {
			[]fact{changed, closed, asked("hurry"), noted("db", "Deployment/web", "hurry", 199), pod(100, "", envFrom("db"))},
			"leave it; stale db/password window"},
		"goes for a reason on the workload that is noted on another claim": {
			[]fact{changed, ours("tls", "crt: o@0"), closed, asked("hurry"), noted("tls", "Deployment/web", "hurry", 200), pod(100, "", envFrom("db"), volume("tls"))},
			"patch db=200,tls=0; stale db/password rolling; since hurry"},
		"waits with a reason on the workload that was noted for another target's earlier change": {
			[]fact{changed, ours("tls", "crt: n@150 o@0"), closed, asked("hurry"), noted("tls", "Deployment/web", "hurry", 150), pod(160, "tls=150", envFrom("db"), volume("tls"))},
			"leave it; stale db/password window"},
		"waits with a reason that was taken back": {
			[]fact{changed, closed, noted("db", "Deployment/web", "hurry", 200), noted("db", "", "", 200), pod(100, "", envFrom("db"))},
			"leave it; stale db/password window"},
		"waits with another workload's reason": {
			[]fact{changed, closed, asked("hurry"), noted("db", "Deployment/other", "hurry", 200), pod(100, "", envFrom("db"))},
			"leave it; stale db/password window"},
		"waits with another target's reason": {
			[]fact{changed, ours("tls", "crt: o@0"), closed, askedOn("tls", "hurry"), noted("tls", "", "hurry", 200), pod(100, "", envFrom("db"), volume("tls"))},
			"leave it; stale db/password window"},
		"waits with the reason of a claim that says never": {
			[]fact{changed, ours("tls", "crt: n@210 o@0"), claimNever("tls"), closed, askedOn("tls", "hurry"), noted("tls", "", "hurry", 210), pod(100, "", envFrom("db"), volume("tls"))},
			"leave it; stale db/password window; stale tls/crt window"},
		"says nothing of a reason where nothing forbids it": {
			[]fact{changed, asked("hurry"), noted("db", "Deployment/web", "hurry", 200), pod(100, "", envFrom("db"))},
			"patch db=200; stale db/password rolling"},
	} {
		t.Run(name, func(t *testing.T) {
			var facts restart.Facts
			for _, add := range test.facts {
				add(&facts)
			}
			if diff := cmp.Diff(test.want, sentence(restart.Decide(facts))); diff != "" {
				t.Error(diff)
			}
		})
	}
}
