package broker_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/brokertest"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// TestTheDaemonMayDieAtAnyStepOfARotation kills the daemon before and after each
// write that a rotation takes, at the API server and at Vault, and has the next
// daemon end it: with one new version in Vault, one rollout, and nothing left
// behind. Which writes those are the API server's audit log tells. With
// PRIVYSEAL_TEST_CRASHES=all, as make test-long has it, so it does in a rotation
// with hooks; and in one with which no pod gets ready, and which ends with the old
// value, from the first pod on that does not.
func TestTheDaemonMayDieAtAnyStepOfARotation(t *testing.T) {
	lab := brokertest.NewLab(t, brokertest.Ours)
	lab.Install(t, fast)
	defer lab.WithoutServe(t)()
	d := newDeaths(t, lab)
	// Behind the first failure nothing is as it should be.
	if !t.Run("done", func(t *testing.T) { d.all(t, goesWell) }) {
		return
	}
	if os.Getenv("PRIVYSEAL_TEST_CRASHES") != "all" {
		t.Log("deaths in a rotation with hooks, and in one that is rolled back, are for make test-long")
		return
	}
	if !t.Run("rolled back", func(t *testing.T) { d.all(t, isTakenBack) }) {
		return
	}
	d.system = newSystem(t, d.lab, d.tenant)
	t.Run("done with hooks", func(t *testing.T) { d.all(t, goesWell) })
}

// TestARotationOutlivesWhatItNeeds takes Vault and the API server away in the
// middle of a rotation, and the daemon that leads with another one waiting.
func TestARotationOutlivesWhatItNeeds(t *testing.T) {
	lab := brokertest.NewLab(t, brokertest.Ours)
	lab.Install(t, fast)
	defer lab.WithoutServe(t)()
	d := newDeaths(t, lab)
	f := &faults{T: t, lab: lab, tenant: d.tenant}
	t.Cleanup(f.heal)
	d.rotation(t, goesWell)
	for _, away := range []struct {
		name      string
		after     bool
		take, put []string
	}{
		{"Vault is sealed once it took the new value", true, []string{"vault", "seal"}, []string{"vault", "unseal"}},
		{"Vault is gone before it has the new value", false, []string{"stop", "vault"}, []string{"start", "vault"}},
	} {
		t.Run(away.name, func(t *testing.T) {
			d.begin(t)
			taken := make(chan struct{})
			d.gate.AtWrite(away.after, func() { f.order(away.take...); close(taken) })
			daemon := d.start(t)
			<-taken
			brokertest.Throughout(t, 5*time.Second, d.stillIn("Set", daemon))
			f.order(away.put...)
			brokertest.Eventually(t, within, d.over(t, goesWell))
			daemon.Stop(t)
		})
	}
	t.Run("the API server is gone while pods are restarted", func(t *testing.T) {
		d.begin(t)
		daemon := d.start(t)
		d.reaches(t, "Rolling")
		f.order("stop", "kube-apiserver")
		defer f.apiServerAnswers()
		// Who cannot renew its Lease ends, and is started again.
		daemon.Exited(t, within)
		f.apiServerAnswers()
		next := d.start(t)
		brokertest.Eventually(t, within, d.over(t, goesWell))
		next.Stop(t)
	})
	t.Run("another daemon leads while pods are restarted", func(t *testing.T) {
		d.begin(t)
		daemon := d.start(t)
		d.reaches(t, "Rolling")
		next := d.start(t)
		daemon.Kill() // its Lease runs out
		brokertest.Eventually(t, within, d.over(t, goesWell))
		next.Stop(t)
	})
}

// stillIn says that the rotation is in a phase, and that the daemon runs.
func (d *deaths) stillIn(phase string, daemon *brokertest.Daemon) func(context.Context) error {
	return func(ctx context.Context) error {
		of := &v1alpha1.SecretRotation{}
		if err := d.lab.Client.Get(ctx, d.tenant.Key("db"), of); err != nil {
			return err
		}
		if of.Status.Phase != phase || !daemon.Running() {
			return fmt.Errorf("it is in phase %q; the daemon runs: %t", of.Status.Phase, daemon.Running())
		}
		return nil
	}
}

// reaches waits until this round's rotation is in a phase.
func (d *deaths) reaches(t *testing.T, phase string) {
	t.Helper()
	brokertest.Eventually(t, within, func(ctx context.Context) error {
		of := &v1alpha1.SecretRotation{}
		if err := d.lab.Client.Get(ctx, d.tenant.Key("db"), of); err != nil {
			return err
		}
		if of.Status.RotatedNow != d.word() || of.Status.Phase != phase {
			return fmt.Errorf("it is in phase %q of %q", of.Status.Phase, of.Status.RotatedNow)
		}
		return nil
	})
}

// way that a rotation goes.
type way struct {
	// length of the passwords; those of 25 characters let no pod get ready.
	length int
	// timeout of the rollouts.
	timeout string
	// phase that it ends in, and by how much it raises the version in Vault, and
	// the generation of the Deployment.
	phase    string
	versions int
	rollouts int64
	// first and last of its writes to Vault that are its own.
	firstWrite, lastWrite int
	// from is the first kind of request that is its own; empty: all are.
	from string
}

var (
	goesWell    = way{length: 24, timeout: "2m", phase: "Done", versions: 1, rollouts: 1, firstWrite: 1, lastWrite: 1}
	isTakenBack = way{length: 25, timeout: "10s", phase: "RolledBack", versions: 2, rollouts: 2, firstWrite: 2, lastWrite: 2, from: "patch deployments"}
)

// deaths of daemons in the rotations of one tenant.
type deaths struct {
	lab       *brokertest.Lab
	gate      *brokertest.Gate
	tenant    *brokertest.Tenant
	arguments []string
	rounds    int
	before    situation
	// system that hooks give the password to; empty: there are no hooks.
	system string
}

// situation between two rotations.
type situation struct {
	password   string
	version    int
	generation int64
}

func newDeaths(t *testing.T, lab *brokertest.Lab) *deaths {
	t.Helper()
	lab, gate := lab.ThroughGate(t)
	d := &deaths{lab: lab, gate: gate, tenant: lab.NewTenant(t, "arrows")}
	lab.Vault.MayWrite(t, d.tenant)
	lab.Vault.Put(t, d.tenant.Path("db"), map[string]any{"password": "first", "host": "db.pay"})
	lab.Apply(t, rotated(d.tenant, `[ "${#PASSWORD}" != 25 ]`))
	d.arguments = []string{
		"--kubeconfig", lab.KubeconfigOfServe(t), "--namespaces", d.tenant.Namespace, "--dev-allow-http",
	}
	daemon := d.start(t)
	d.tenant.RunningPod(t, "app", within)
	daemon.Stop(t)
	return d
}

func (d *deaths) start(t *testing.T, environment ...string) *brokertest.Daemon {
	return d.lab.StartDaemon(t, "privyseal-crashtest", environment, d.arguments...)
}

// all places of a way to die at.
func (d *deaths) all(t *testing.T, way way) {
	d.rotation(t, way)
	for _, place := range d.recorded(t, way) {
		if !t.Run(place.String(), func(t *testing.T) { d.dies(t, way, place) }) {
			return
		}
	}
	for number := way.firstWrite; number <= way.lastWrite; number++ {
		for _, after := range []bool{false, true} {
			if !t.Run(fmt.Sprintf("write:vault:%d:after=%t", number, after), func(t *testing.T) { d.diesAtVault(t, way, number, after) }) {
				return
			}
		}
	}
}

// rotation that goes that way.
func (d *deaths) rotation(t *testing.T, way way) {
	t.Helper()
	if d.system != "" {
		d.lab.Apply(t, hookedRotation(d.tenant, d.system, setsPassword, triesIt))
		return
	}
	d.lab.Apply(t, strings.Replace(rotationOf(d.tenant, "0 3 29 2 *", way.timeout), "length: 24", fmt.Sprintf("length: %d", way.length), 1))
}

// begin a rotation, while no daemon runs.
func (d *deaths) begin(t *testing.T) {
	t.Helper()
	d.rounds++
	d.before.password, d.before.version = stored(t, d.lab, d.tenant)
	d.before.generation = generationOf(t, d.lab, d.tenant, "app")
	d.lab.Kubectl(t, "annotate", "srot", "db", "-n", d.tenant.Namespace, "--overwrite", "privyseal.io/rotate-now="+d.word())
}

func (d *deaths) word() string { return fmt.Sprintf("round-%d", d.rounds) }

// recorded are the places that a rotation offers of which nobody dies.
func (d *deaths) recorded(t *testing.T, way way) []place {
	t.Helper()
	d.begin(t)
	journal := d.lab.Journal(t)
	daemon := d.start(t)
	brokertest.Eventually(t, within, d.over(t, way))
	daemon.Stop(t)
	requests := journal.Requests(t, func(r brokertest.Request) bool {
		// Its Lease and events are killed at elsewhere, and are no step of this.
		return byDaemon(r) && r.Done() && r.Writes() && r.Resource != "leases" && r.Resource != "events"
	})
	if len(requests) < 10 {
		t.Fatalf("a rotation of %d writes is none: %v", len(requests), requests)
	}
	own := slices.IndexFunc(requests, func(r brokertest.Request) bool { return way.from == "" || r.Verb+" "+r.Resource == way.from })
	return places(requests, false)[2*max(own, 0):] // before and after each
}

// dies has a daemon die at a write to the API server, and another one end it.
func (d *deaths) dies(t *testing.T, way way, place place) {
	d.begin(t)
	daemon := d.start(t, "PRIVYSEAL_TEST_CRASH="+place.String())
	brokertest.Eventually(t, within, func(ctx context.Context) error {
		if !daemon.Running() || d.over(t, way)(ctx) == nil {
			return nil
		}
		return errors.New("it neither died nor ended the rotation")
	})
	if daemon.Running() {
		// How many statuses a claim has of it is chance.
		t.Log("it ended before")
		daemon.Stop(t)
		return
	}
	d.ended(t, way)
}

// diesAtVault has a daemon die at its number-th write to Vault.
func (d *deaths) diesAtVault(t *testing.T, way way, number int, after bool) {
	d.begin(t)
	var daemon *brokertest.Daemon
	killed := make(chan struct{})
	kill := func() { daemon.Kill(); close(killed) }
	daemon = d.start(t)
	d.atWrite(t, number, after, kill)
	select {
	case <-killed:
	case <-time.After(within):
		t.Fatal("it did not write")
	}
	d.ended(t, way)
}

// atWrite arms the gate for a later write once the earlier ones are seen in Vault.
func (d *deaths) atWrite(t *testing.T, number int, after bool, do func()) {
	t.Helper()
	brokertest.Eventually(t, within, func(context.Context) error {
		if _, version := stored(t, d.lab, d.tenant); version < d.before.version+number-1 {
			return fmt.Errorf("version %d is not yet written", d.before.version+number-1)
		}
		return nil
	})
	d.gate.AtWrite(after, do)
}

// ended says what was when a daemon died, and has the next one end it.
func (d *deaths) ended(t *testing.T, way way) {
	t.Helper()
	died := d.phase(t)
	endLease(t, d.lab)
	began := time.Now()
	next := d.start(t)
	brokertest.Eventually(t, within, d.over(t, way))
	t.Logf("died in phase %q; the next daemon ended it as %s in %s", died, way.phase, time.Since(began).Round(100*time.Millisecond))
	brokertest.Throughout(t, time.Second, d.over(t, way))
	next.Stop(t)
}

func (d *deaths) phase(t *testing.T) string {
	t.Helper()
	return d.lab.Kubectl(t, "get", "srot", "db", "-n", d.tenant.Namespace, "-o", "jsonpath={.status.phase}")
}

// over says that a rotation has ended as it should, and left nothing behind.
func (d *deaths) over(t *testing.T, way way) func(context.Context) error {
	return func(ctx context.Context) error {
		of := &v1alpha1.SecretRotation{}
		if err := d.lab.Client.Get(ctx, d.tenant.Key("db"), of); err != nil {
			return err
		}
		password, version := stored(t, d.lab, d.tenant)
		secret := &corev1.Secret{}
		if err := d.lab.Client.Get(ctx, d.tenant.Key("db"), secret); err != nil {
			return err
		}
		record := &corev1.Secret{}
		kept := d.lab.Client.Get(ctx, client.ObjectKey{Namespace: brokertest.System, Name: "privyseal-rotation-" + string(of.UID)}, record)
		status := of.Status
		switch {
		case status.RotatedNow != d.word() || status.Phase != way.phase:
			return fmt.Errorf("it is in phase %s of %s, want %s of %s: %s %+v", status.Phase, status.RotatedNow, way.phase, d.word(), status.Why, status.Conditions)
		case !apierrors.IsNotFound(kept):
			return fmt.Errorf("the record is left, or cannot be asked for: %v", kept)
		case version != d.before.version+way.versions:
			return fmt.Errorf("the Vault has version %d, and had %d: want %d more", version, d.before.version, way.versions)
		case (password == d.before.password) != (way.phase == "RolledBack"):
			return errors.New("the Vault has the wrong one of both passwords")
		case string(secret.Data["password"]) != password:
			return errors.New("the Secret has another password than the Vault")
		case len(status.History) == 0 || status.History[0].Run != "now:"+d.word() || len(status.History) > 1 && status.History[1].Run == status.History[0].Run:
			return fmt.Errorf("the history is %+v", status.History)
		}
		if d.system != "" && known(t, d.lab, d.tenant) != password {
			return errors.New("the system knows another password than the Vault has")
		}
		if left := d.lab.Kubectl(t, "get", "jobs", "-n", d.tenant.Namespace, "-o", "name"); left != "" {
			return fmt.Errorf("Jobs are left: %s", left)
		}
		return runsAlone(ctx, d.lab, d.tenant.Key("app"), d.before.generation+way.rollouts)
	}
}
