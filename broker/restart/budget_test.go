package restart_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/privyseal/privyseal/broker/restart"
	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/broker/waits"
)

func midday() time.Time { return time.Date(2031, 6, 6, 12, 0, 0, 0, time.UTC) }

func deploymentNamed(namespace, name string) restart.Workload {
	return restart.Workload{Kind: "Deployment", NamespacedName: types.NamespacedName{Namespace: namespace, Name: name}}
}

// peer that reads db, as in "web covered ready 5m".
func peer(text string) restart.Peer {
	words := strings.Fields(text)
	p := restart.Peer{Workload: deploymentNamed("pay", words[0]), Target: "db"}
	for i, word := range words {
		switch word {
		case "covered":
			p.Covered = true
		case "rolling":
			p.UnderWay, p.Live = true, 2
		case "fails":
			p.UnderWay, p.Fails, p.Live = true, "CrashLoopBackOff", 2
		case "first":
			p.First = true
		case "unready":
			p.Live = 2
		case "ready":
			since, err := time.ParseDuration(words[i+1])
			if err != nil {
				panic(err)
			}
			p.Ready, p.Live = midday().Add(-since), 2
		}
	}
	return p
}

func TestAnEnvironmentAllowsARestart(t *testing.T) {
	plain, canary := restart.Limits{Environment: "prod", Max: 3}, restart.Limits{Environment: "prod", Canary: true, Soak: 5 * time.Minute}
	for name, row := range map[string]struct {
		limits  restart.Limits
		asker   restart.Asker
		peers   []string
		want    waits.Cause
		now     string
		until   time.Duration
		untried bool
	}{
		"to a workload alone":                                   {limits: plain},
		"whose peers roll":                                      {limits: plain, peers: []string{"a covered rolling", "b", "c covered ready 1s"}},
		"not behind one that fails for the same change":         {limits: plain, peers: []string{"a", "b covered fails"}, want: waits.Stopped, now: "Deployment/b was restarted for the same change, and its rollout fails (CrashLoopBackOff): mend it, or change the secret again"},
		"behind one that fails for another change":              {limits: plain, peers: []string{"b fails"}},
		"not during its own rollout":                            {limits: plain, asker: restart.Asker{Rollout: restart.Rollout{UnderWay: true}}, want: waits.Turn, now: "its own rollout is under way"},
		"to one whose own rollout fails, which may be the cure": {limits: plain, asker: restart.Asker{Rollout: restart.Rollout{UnderWay: true, Fails: "CrashLoopBackOff"}}},
		"not while others' pods of its disruption budget are away": {limits: plain,
			asker: restart.Asker{Unready: 1, Disruptions: []restart.Disruption{{Name: "zk", Allowed: 0, Healthy: 3, Expected: 5}}},
			want:  waits.Disrupted, now: "PodDisruptionBudget zk has 3 of 5 pods ready, and allows no more to be away"},
		"while its own are away, which may be the cure": {limits: plain,
			asker: restart.Asker{Unready: 2, Disruptions: []restart.Disruption{{Allowed: 0, Healthy: 3, Expected: 5}}}},
		"while the disruption budget has one to spare": {limits: plain,
			asker: restart.Asker{Disruptions: []restart.Disruption{{Allowed: 1, Healthy: 4, Expected: 5}}}},
		"under a disruption budget that never spares any": {limits: plain,
			asker: restart.Asker{Disruptions: []restart.Disruption{{Allowed: 0, Healthy: 5, Expected: 5}}}},

		"to the first of all":                        {limits: canary, peers: []string{"a", "b"}, untried: true},
		"not while the first rolls":                  {limits: canary, peers: []string{"a covered rolling", "b"}, want: waits.Turn, now: "Deployment/a goes first, and is not ready yet"},
		"not while the first is not ready":           {limits: canary, peers: []string{"a covered unready"}, want: waits.Turn, now: "Deployment/a goes first, and is not ready yet"},
		"not while the first is watched":             {limits: canary, peers: []string{"a covered ready 4m"}, want: waits.Turn, now: "Deployment/a went first, and is ready since 2031-06-06T11:56:00Z", until: time.Minute},
		"when the first was ready for long enough":   {limits: canary, peers: []string{"a covered ready 5m", "b covered rolling"}},
		"not when the first fails":                   {limits: canary, peers: []string{"a covered fails"}, want: waits.Stopped, now: "Deployment/a was restarted for the same change, and its rollout fails (CrashLoopBackOff): mend it, or change the secret again"},
		"not before the one that was chosen":         {limits: canary, peers: []string{"a", "z first"}, want: waits.Turn, now: "Deployment/z is to go first"},
		"to one that was chosen too":                 {limits: canary, asker: restart.Asker{First: true}, peers: []string{"z first"}, untried: true},
		"when the first has no pods any more":        {limits: canary, peers: []string{"a covered"}, untried: true},
		"whatever was chosen when one is found good": {limits: canary, peers: []string{"a covered ready 6m", "z first"}},
	} {
		t.Run(name, func(t *testing.T) {
			asker := row.asker
			asker.Workload, asker.Stale = deploymentNamed("pay", "asker"), []string{"db"}
			for _, text := range row.peers {
				asker.Peers = append(asker.Peers, peer(text))
			}
			hold, untried := row.limits.Allows(asker, midday())
			now := hold.Now
			if now == "" {
				now = hold.Why
			}
			if hold.Cause != row.want || now != row.now && hold.Holds() {
				t.Errorf("held by %q: %q", hold.Cause, now)
			}
			if got := hold.Until; !got.IsZero() && got.Sub(midday()) != row.until || got.IsZero() && row.until != 0 {
				t.Errorf("until %s", got)
			}
			if diff := cmp.Diff(row.untried, slices.Equal(untried, []string{"pay/db"})); diff != "" {
				t.Errorf("untried: %v", untried)
			}
		})
	}
}

// waiter as in "prod/pay/web", which waits since the second given.
func waiter(text string, since int64, untried ...string) restart.Waiter {
	parts := strings.Split(text, "/")
	return restart.Waiter{Workload: deploymentNamed(parts[1], parts[2]), Environment: parts[0], Since: since, Untried: untried}
}

func TestPlacesAreGiven(t *testing.T) {
	sick := waiter("prod/a/sick", 1)
	sick.Sick = true
	for name, row := range map[string]struct {
		round restart.Round
		want  []string
	}{
		"to all where nothing bounds them": {
			round: restart.Round{Waiting: []restart.Waiter{waiter("prod/a/x", 1), waiter("prod/a/y", 2)}}, want: []string{"x", "y"}},
		"to as many as the environment lets": {
			round: restart.Round{Limits: limits("prod", 3, 0), Rolling: rolling("prod/a", 1),
				Waiting: []restart.Waiter{waiter("prod/a/x", 1), waiter("prod/a/y", 2), waiter("prod/a/z", 3)}}, want: []string{"x", "y"}},
		"to none where all are taken": {
			round: restart.Round{Limits: limits("prod", 1, 0), Rolling: rolling("prod/a", 1),
				Waiting: []restart.Waiter{waiter("prod/a/x", 1)}}},
		"to the namespace that has the fewest": {
			round: restart.Round{Limits: limits("prod", 4, 0), Rolling: rolling("prod/a", 1),
				Waiting: []restart.Waiter{waiter("prod/a/x", 1), waiter("prod/a/y", 1), waiter("prod/b/u", 9), waiter("prod/b/v", 9)}}, want: []string{"u", "x", "v"}},
		"to the oldest change in a namespace": {
			round: restart.Round{Limits: limits("prod", 1, 0), Waiting: []restart.Waiter{waiter("prod/a/x", 2), waiter("prod/a/y", 1)}}, want: []string{"y"}},
		"to those last of which no pod is ready": {
			round: restart.Round{Limits: limits("prod", 1, 0), Waiting: []restart.Waiter{sick, waiter("prod/a/x", 2)}}, want: []string{"x"}},
		"to one at a time where they are spread": {
			round: restart.Round{Limits: limits("prod", 0, time.Minute), Waiting: []restart.Waiter{waiter("prod/a/x", 2), waiter("prod/b/y", 1)}}, want: []string{"y"}},
		"to none so soon after the last": {
			round: restart.Round{Limits: limits("prod", 0, time.Minute), Last: map[string]time.Time{"prod": midday().Add(-time.Minute + time.Second)},
				Waiting: []restart.Waiter{waiter("prod/a/x", 2)}}},
		"to one for a change that nobody tried": {
			round: restart.Round{Limits: limits("prod", 0, 0), Waiting: []restart.Waiter{waiter("prod/a/x", 1, "a/db"), waiter("prod/a/y", 2, "a/db"), waiter("prod/a/z", 3, "a/tls")}}, want: []string{"x", "z"}},
		"to none for a change that one is at": {
			round: restart.Round{Limits: limits("prod", 0, 0), Trying: map[string]bool{"a/db": true},
				Waiting: []restart.Waiter{waiter("prod/a/x", 1, "a/db"), waiter("prod/a/z", 3, "a/tls")}}, want: []string{"z"}},
		"past one whose environment has none": {
			round: restart.Round{Max: 2, Limits: limits("prod", 1, 0), Rolling: rolling("prod/a", 1),
				Waiting: []restart.Waiter{waiter("prod/a/x", 1), waiter("dev/b/y", 2), waiter("dev/b/z", 3)}}, want: []string{"y"}},
	} {
		t.Run(name, func(t *testing.T) {
			row.round.Now = midday()
			var got []string
			for _, granted := range row.round.Grants() {
				got = append(got, granted.Name)
			}
			if diff := cmp.Diff(row.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func limits(environment string, most int, spread time.Duration) map[string]restart.Limits {
	return map[string]restart.Limits{environment: {Environment: environment, Max: most, Spread: spread}}
}

func rolling(where string, n int) map[string]map[string]int {
	environment, namespace, _ := strings.Cut(where, "/")
	return map[string]map[string]int{environment: {namespace: n}}
}

// However many wait where, and however long their rollouts take: no bound is
// passed, places are not left empty, and everybody's turn comes.
func TestNoBoundIsPassedAndEverybodysTurnComes(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 1))
		round := restart.Round{Now: midday(), Max: random.IntN(5), Limits: map[string]restart.Limits{},
			Rolling: map[string]map[string]int{"": {}, "dev": {}, "prod": {}}, Last: map[string]time.Time{}}
		for _, environment := range []string{"dev", "prod"} {
			round.Limits[environment] = restart.Limits{Environment: environment, Max: random.IntN(4), Spread: time.Duration(random.IntN(3)) * time.Second}
		}
		for i := range 30 {
			environment := []string{"", "dev", "prod"}[random.IntN(3)]
			round.Waiting = append(round.Waiting, waiter(fmt.Sprintf("%s/%s%d/w%02d", environment, environment, random.IntN(3), i), int64(random.IntN(5))))
		}
		running := map[restart.Workload]restart.Waiter{}
		for second := 0; len(round.Waiting)+len(running) > 0; second++ {
			if second > 1000 {
				t.Fatalf("seed %d: after %d s %d still wait", seed, second, len(round.Waiting))
			}
			granted := round.Grants()
			for _, w := range granted {
				at := slices.IndexFunc(round.Waiting, func(one restart.Waiter) bool { return one.Workload == w })
				one := round.Waiting[at]
				round.Waiting = slices.Delete(round.Waiting, at, at+1)
				if last, known := round.Last[one.Environment]; known && round.Now.Sub(last) < round.Limits[one.Environment].Spread {
					t.Fatalf("seed %d: %s begins %s after the last", seed, w, round.Now.Sub(last))
				}
				running[w], round.Last[one.Environment] = one, round.Now
				round.Rolling[one.Environment][w.Namespace]++
			}
			checkBounds(t, seed, round, len(running))
			if len(granted) == 0 && len(running) == 0 && round.Limits["dev"].Spread+round.Limits["prod"].Spread == 0 {
				t.Fatalf("seed %d: nothing rolls, and nothing may", seed)
			}
			for w, one := range running {
				if random.IntN(3) == 0 {
					delete(running, w)
					round.Rolling[one.Environment][w.Namespace]--
				}
			}
			round.Now = round.Now.Add(time.Second)
		}
	}
}

func checkBounds(t *testing.T, seed uint64, round restart.Round, all int) {
	t.Helper()
	if round.Max > 0 && all > round.Max {
		t.Fatalf("seed %d: %d roll in the cluster, of %d", seed, all, round.Max)
	}
	for environment, namespaces := range round.Rolling {
		n := 0
		for _, rolling := range namespaces {
			n += rolling
		}
		if most := round.Limits[environment].Max; most > 0 && n > most {
			t.Fatalf("seed %d: %d roll in %s, of %d", seed, n, environment, most)
		}
	}
}

func TestLimitsOfAnEnvironment(t *testing.T) {
	if _, limited := restart.LimitsOf(nil); limited {
		t.Error("none is limited")
	}
	e := &v1alpha1.Environment{ObjectMeta: metav1.ObjectMeta{Name: "prod"}}
	if _, limited := restart.LimitsOf(e); limited {
		t.Error("one without restarts is limited")
	}
	e.Spec.Restarts = &v1alpha1.Restarts{}
	limits, limited := restart.LimitsOf(e)
	if diff := cmp.Diff(restart.Limits{Environment: "prod"}, limits); diff != "" || !limited {
		t.Error(diff, limited)
	}
	if got := limits.String(); got != "none while its own rollout is under way" {
		t.Error(got)
	}
	e.Spec.Restarts = &v1alpha1.Restarts{MaxConcurrent: new(int32(3)), Spread: &metav1.Duration{Duration: 30 * time.Second},
		Canary: &v1alpha1.Canary{Soak: metav1.Duration{Duration: 5 * time.Minute}}}
	limits, _ = restart.LimitsOf(e)
	want := "one workload goes first and has to be ready for 5m0s, at most 3 at once, one every 30s, none while its own rollout is under way"
	if got := limits.String(); got != want {
		t.Error(got)
	}
}
