package main

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/annotation"
	"github.com/privyseal/privyseal/broker/brokertest"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// rotation of namespace pay, at three each morning.
func (d *desk) rotation(name string) *v1alpha1.SecretRotation {
	d.t.Helper()
	of := &v1alpha1.SecretRotation{ObjectMeta: metav1.ObjectMeta{Namespace: "pay", Name: name}, Spec: v1alpha1.SecretRotationSpec{
		Path: name, Schedule: "0 3 * * *", Generate: map[string]v1alpha1.Generator{"password": {UUID: &v1alpha1.UUIDGenerator{}}},
	}}
	d.create(of)
	return of
}

func (d *desk) look(name string) *v1alpha1.SecretRotation {
	d.t.Helper()
	of := &v1alpha1.SecretRotation{}
	d.check(d.cluster.Get(d.t.Context(), client.ObjectKey{Namespace: "pay", Name: name}, of))
	return of
}

// is what a daemon would write down.
func (d *desk) is(name string, change func(*v1alpha1.SecretRotationStatus)) {
	d.t.Helper()
	of := d.look(name)
	change(&of.Status)
	d.check(d.cluster.Status().Update(d.t.Context(), of))
}

// phase of a run, which for the word of an annotation begins here.
func (d *desk) phase(name, run, phase string) {
	d.t.Helper()
	d.is(name, func(s *v1alpha1.SecretRotationStatus) {
		s.Run, s.Phase = run, phase
		if word, asked := strings.CutPrefix(run, "now:"); asked {
			s.RotatedNow = word
		}
	})
}

// lines that a command has printed so far.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(text []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(text)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// begun is a command that somebody waits for.
type begun struct {
	d      *desk
	stdout *lines
	ended  chan error
	stop   context.CancelFunc
}

func (d *desk) begin(arguments ...string) *begun {
	ctx, stop := context.WithCancel(d.t.Context())
	b := &begun{d: d, stdout: &lines{}, ended: make(chan error, 1), stop: stop}
	command := rootCommand()
	command.SetOut(b.stdout)
	command.SetErr(b.stdout)
	command.SetArgs(arguments)
	go func() { b.ended <- command.ExecuteContext(ctx) }()
	return b
}

func (b *begun) prints(text string) {
	b.d.t.Helper()
	b.d.eventually(func() bool { return strings.Contains(b.stdout.String(), text) }, "it prints "+text)
}

// ends with an exit code and an error that says something.
func (b *begun) ends(code int, says string) {
	b.d.t.Helper()
	select {
	case err := <-b.ended:
		switch {
		case err == nil && code == 0:
		case err == nil || exitCode(err) != code || !strings.Contains(err.Error(), says):
			b.d.t.Errorf("it ends with %v, and printed %s", err, b.stdout)
		}
	case <-time.After(30 * time.Second):
		b.d.t.Fatalf("it does not end, and printed %s", b.stdout)
	}
}

func (d *desk) eventually(is func() bool, what string) {
	d.t.Helper()
	brokertest.Eventually(d.t, 30*time.Second, func(context.Context) error {
		if !is() {
			return errors.New("it is not so that " + what)
		}
		return nil
	})
}

// asked is the word of an annotation, once it is there.
func (d *desk) asked(name, annotated, not string) string {
	d.t.Helper()
	word := ""
	d.eventually(func() bool {
		word = annotation.Word(d.look(name).Annotations, annotated)
		return word != "" && word != not
	}, "the daemon is asked")
	return word
}

func TestRotationsFromTheCommandLine(t *testing.T) {
	d := newDesk(t)
	for _, story := range []struct {
		says string
		is   func(*desk)
	}{
		{"status rotations is an inventory", statusRotationsIsAnInventory},
		{"rotate asks for a run and follows it", rotateAsksForARunAndFollowsIt},
		{"who stops waiting stops nothing", whoStopsWaitingStopsNothing},
		{"one that halted goes on by an order", aRotationThatHaltedGoesOnByAnOrder},
		{"rotate says why nothing would happen", rotateSaysWhyNothingWouldHappen},
	} {
		t.Run(story.says, func(t *testing.T) {
			one := *d
			one.t = t
			story.is(&one)
			d.check(d.cluster.DeleteAllOf(t.Context(), &v1alpha1.SecretRotation{}, client.InNamespace("pay")))
		})
	}
}

func rotateAsksForARunAndFollowsIt(d *desk) {
	d.rotation("db")
	stdout, _ := d.must("rotate", "db", "--reason", "customers are  locked out")
	if stdout != "pay/db: asked for a run at once\n" {
		d.t.Errorf("it says %s", stdout)
	}
	first := d.asked("db", annotation.RotateNow, "")
	if !strings.HasPrefix(first, "customers are locked out 2") {
		d.t.Errorf("the word is %s", first)
	}
	// The same again is another run.
	waits := d.begin("rotate", "db", "-n", "pay", "--wait", "--reason", "customers are locked out")
	word := d.asked("db", annotation.RotateNow, first)
	for _, phase := range []string{"Due", "Prepared", "Set", "Written", "Rolling"} {
		d.phase("db", "now:"+word, phase)
		waits.prints("run now:" + word + ": " + phase)
	}
	d.phase("db", "now:"+word, "Done")
	waits.prints("run now:" + word + ": Done")
	waits.ends(0, "")

	waits = d.begin("rotate", "db", "--wait")
	second := d.asked("db", annotation.RotateNow, word)
	d.phase("db", "now:"+second, "Rolling")
	d.is("db", func(s *v1alpha1.SecretRotationStatus) { s.Phase, s.Why = "RolledBack", "the rollout of web failed" })
	waits.ends(exitTakenBack, "was taken back: the rollout of web failed")
}

func whoStopsWaitingStopsNothing(d *desk) {
	d.rotation("db")
	waits := d.begin("rotate", "db", "--wait")
	word := d.asked("db", annotation.RotateNow, "")
	d.phase("db", "now:"+word, "Rolling")
	waits.prints("Rolling")
	waits.stop()
	waits.ends(1, "rotation pay/db goes on")
	if is := d.look("db"); annotation.Word(is.Annotations, annotation.RotateNow) != word || is.Status.Phase != "Rolling" {
		d.t.Errorf("it is %+v", is)
	}
	// While it is under way, another goes after it.
	if stdout, _ := d.must("rotate", "db"); !strings.Contains(stdout, "; run now:"+word+" is under way (Rolling), and goes first") {
		d.t.Errorf("it says %s", stdout)
	}
	waits = d.begin("rotate", "db", "--wait")
	waits.prints("Rolling")
	d.check(d.cluster.Delete(d.t.Context(), d.look("db")))
	waits.ends(1, "SecretRotation pay/db was deleted meanwhile")
}

func aRotationThatHaltedGoesOnByAnOrder(d *desk) {
	d.rotation("db")
	if _, _, err := d.run("rotate", "db", "--order", "Retry"); err == nil || err.Error() != "SecretRotation pay/db has not halted (it never ran): there is nothing to order" {
		d.t.Errorf("it says %v", err)
	}
	waits := d.begin("rotate", "db", "--wait")
	run := "now:" + d.asked("db", annotation.RotateNow, "")
	d.phase("db", run, "Rolling")
	d.is("db", func(s *v1alpha1.SecretRotationStatus) { s.Phase, s.Why = "Halted", "the rollout of web failed" })
	waits.ends(exitHalted, "halted: the rollout of web failed; say how it goes on by --order Retry, RollBack or Accept")
	if _, _, err := d.run("rotate", "db"); err == nil || !strings.Contains(err.Error(), "pay/db halted: the rollout of web failed; say how") {
		d.t.Errorf("it says %v", err)
	}

	waits = d.begin("rotate", "db", "--order", "Retry", "--wait")
	order := d.asked("db", annotation.RotationOrder, "")
	if !strings.HasPrefix(order, "Retry 2") {
		d.t.Errorf("the order is %s", order)
	}
	d.is("db", func(s *v1alpha1.SecretRotationStatus) { s.Phase, s.Obeyed = "Rolling", order })
	waits.prints("Rolling")
	d.is("db", func(s *v1alpha1.SecretRotationStatus) { s.Phase = "Halted" })
	waits.ends(exitHalted, "halted")

	waits = d.begin("rotate", "db", "--order", "RollBack", "--wait")
	order = d.asked("db", annotation.RotationOrder, order)
	d.is("db", func(s *v1alpha1.SecretRotationStatus) { s.Phase, s.Obeyed = "RolledBack", order })
	waits.ends(0, "")
}

func rotateSaysWhyNothingWouldHappen(d *desk) {
	suspended, refused := d.rotation("suspended"), d.rotation("refused")
	suspended.Spec.Suspend = true
	d.check(d.cluster.Update(d.t.Context(), suspended))
	d.is("refused", func(s *v1alpha1.SecretRotationStatus) {
		s.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, ObservedGeneration: refused.Generation,
			Reason: v1alpha1.ReasonPathNotWritable, Message: "spec.path: it may not be written", LastTransitionTime: metav1.Now()}}
	})
	d.nobody()
	for _, row := range []struct {
		says      string
		arguments []string
	}{
		{"there is no SecretRotation pay/nothing; privyseal status rotations -A lists them", []string{"nothing"}},
		{"SecretRotation pay/suspended is suspended: no run begins before spec.suspend is false", []string{"suspended"}},
		{"SecretRotation pay/refused cannot be carried out (PathNotWritable): spec.path: it may not be written", []string{"refused"}},
		{"reading SecretRotation pay/suspended (that needs get on secretrotations): ", []string{"suspended", "--context", "nobody"}},
	} {
		if _, _, err := d.run(append([]string{"rotate"}, row.arguments...)...); err == nil || !strings.HasPrefix(err.Error(), row.says) {
			d.t.Errorf("%v: it says %v", row.arguments, err)
		}
	}
	for _, name := range []string{"suspended", "refused"} {
		if of := d.look(name); len(of.Annotations) > 0 {
			d.t.Errorf("%s has %v", name, of.Annotations)
		}
	}
	// Who may look and not ask.
	d.create(&rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "looks"}, Rules: []rbacv1.PolicyRule{
		{APIGroups: []string{v1alpha1.Group}, Resources: []string{"secretrotations"}, Verbs: []string{"get"}}}})
	d.create(&rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "looks"},
		RoleRef:  rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "looks"},
		Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: "nobody"}}})
	d.rotation("db")
	d.eventually(func() bool {
		_, _, err := d.run("rotate", "db", "--context", "nobody")
		return err != nil && strings.HasPrefix(err.Error(), "annotating SecretRotation pay/db (that needs patch on secretrotations): ")
	}, "it is said which right is missing")
}

// nobody is another context of the kubeconfig, of somebody without rights.
func (d *desk) nobody() {
	d.t.Helper()
	name := d.file("kubeconfig", "")
	config, err := clientcmd.LoadFromFile(name)
	d.check(err)
	as := config.AuthInfos["c"].DeepCopy()
	as.Impersonate = "nobody"
	config.AuthInfos["nobody"] = as
	context := config.Contexts["c"].DeepCopy()
	context.AuthInfo = "nobody"
	config.Contexts["nobody"] = context
	d.check(clientcmd.WriteToFile(*config, name))
}

func statusRotationsIsAnInventory(d *desk) {
	if stdout, _ := d.must("status", "rotations"); stdout != "there is no SecretRotation in namespace pay\n" {
		d.t.Errorf("it says %s", stdout)
	}
	d.rotation("db")
	d.rotation("never")
	d.is("db", func(s *v1alpha1.SecretRotationStatus) {
		s.Path, s.Phase, s.Run, s.Why = "kv/production/db", "Halted", "2026-06-01T03:00", "somebody else wrote"
		s.LastRotation = &metav1.Time{Time: time.Now().Add(-73 * time.Hour)}
		s.NextRotation = &metav1.Time{Time: time.Date(2126, 6, 2, 3, 0, 0, 0, time.UTC)}
		s.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionRotated, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonHalted,
			Message: "run 2026-06-01T03:00 halted, and both values are kept: somebody else wrote", LastTransitionTime: metav1.Now()}}
	})
	for _, where := range []string{"--all-namespaces", "--namespace=pay"} {
		stdout, _ := d.must("status", "rotations", where)
		for _, part := range []string{
			"ROTATION    PATH               STRATEGY   PHASE    LAST ", "pay/db      kv/production/db   Replace    Halted ", "   3d1h   Sun 2126-06-02 03:00 +00:00   ",
			"run 2026-06-01T03:00 halted, and both values are kept: somebody else wrote\n", "pay/never   never              Replace    -        never                         -      -   ",
		} {
			if !strings.Contains(stdout, part) {
				d.t.Errorf("there is no %q in\n%s", part, stdout)
			}
		}
	}
	if stdout, _ := d.must("status", "rotations", "-o", "json"); !strings.Contains(stdout, `"nextRotation": "2126-06-02T03:00:00Z"`) || !strings.Contains(stdout, `"ageSeconds": 2628`) {
		d.t.Errorf("it says %s", stdout)
	}
	if stdout, _ := d.must("status", "rotations", "-o", "yaml"); !strings.Contains(stdout, "\n  path: kv/production/db\n  phase: Halted\n") {
		d.t.Errorf("it says %s", stdout)
	}
}
