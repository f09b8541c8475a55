package rotate_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/privyseal/privyseal/broker/annotation"
	"github.com/privyseal/privyseal/broker/rotate"
	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/broker/window"
)

// nightly is a rotation at three each morning, as a file has it.
func nightly(change ...func(*v1alpha1.SecretRotation)) *v1alpha1.SecretRotation {
	of := &v1alpha1.SecretRotation{ObjectMeta: metav1.ObjectMeta{Namespace: "pay", Name: "db"}, Spec: v1alpha1.SecretRotationSpec{
		Path: "db", Schedule: "0 3 * * *",
		Generate: map[string]v1alpha1.Generator{"password": {UUID: &v1alpha1.UUIDGenerator{}}},
	}}
	for _, one := range change {
		one(of)
	}
	return of
}

func noon() time.Time { return time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC) }

func closed(from string, hours int) []window.Window {
	return []window.Window{{Kind: window.Blackout, Schedule: from, Duration: time.Duration(hours) * time.Hour}}
}

func TestATimetableHasJitterAndWindowsInIt(t *testing.T) {
	jitter := func(of *v1alpha1.SecretRotation) { of.Spec.Jitter = &metav1.Duration{Duration: time.Hour} }
	for name, row := range map[string]struct {
		of      *v1alpha1.SecretRotation
		windows []window.Window
		want    []string
	}{
		"a plain one":                         {nightly(), nil, []string{"2026-06-02T03:00 02 03:00", "2026-06-03T03:00 03 03:00"}},
		"a window that opens later":           {nightly(), closed("0 1 * * *", 5), []string{"2026-06-02T03:00 02 06:00", "2026-06-03T03:00 03 06:00"}},
		"of several in a blackout the last":   {nightly(), closed("0 1 2 * *", 30), []string{"2026-06-03T03:00 03 07:00"}},
		"one that is suspended has none":      {nightly(func(of *v1alpha1.SecretRotation) { of.Spec.Suspend = true }), nil, []string{"it is suspended"}},
		"nor has one whose windows are never": {nightly(), closed("0 * * * *", 1), []string{"run 2026-06-02T03:00 waits: "}},
		"nor one that is refused": {nightly(func(of *v1alpha1.SecretRotation) { of.Spec.Schedule = "@daily" }), nil,
			[]string{"spec.schedule"}},
	} {
		t.Run(name, func(t *testing.T) {
			found, err := rotate.Timetable(row.of, row.windows, noon(), noon(), noon().Add(48*time.Hour))
			var got []string
			for _, start := range found {
				got = append(got, start.Run+start.At.Format(" 02 15:04"))
			}
			if err != nil {
				if len(got) > 0 || !strings.HasPrefix(err.Error(), row.want[0]) {
					t.Errorf("it says %v after %v", err, got)
				}
				return
			}
			if diff := cmp.Diff(row.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	found, err := rotate.Timetable(nightly(jitter), nil, noon(), noon(), noon().Add(24*time.Hour))
	if err != nil || len(found) != 1 {
		t.Fatalf("%v, %v", found, err)
	}
	if late := found[0].At.Sub(three().Add(24 * time.Hour)); late <= 0 || late >= time.Hour {
		t.Errorf("the jitter is %s", late)
	}
	// It is the same for whoever asks, whenever.
	later, err := rotate.Timetable(nightly(jitter), nil, noon(), found[0].At, found[0].At.Add(time.Minute))
	if err != nil || !cmp.Equal(found, later) {
		t.Errorf("asked otherwise it is %v, %v", later, err)
	}
	if before, err := rotate.Timetable(nightly(jitter), nil, noon().Add(72*time.Hour), noon(), noon().Add(24*time.Hour)); err != nil || !cmp.Equal(found, before) {
		t.Errorf("asked afterwards it is %v, %v", before, err)
	}
}

func TestATimetableThatNobodyLooksThroughIsRefused(t *testing.T) {
	often := nightly(func(of *v1alpha1.SecretRotation) { of.Spec.Schedule = "* * * * *" })
	if _, err := rotate.Timetable(often, nil, noon(), noon(), noon().Add(8*24*time.Hour)); !errors.Is(err, rotate.ErrMany) {
		t.Errorf("it says %v", err)
	}
}

func TestWhatComesNextIsToldBeforeItHappens(t *testing.T) {
	asked := func(of *v1alpha1.SecretRotation) { of.Annotations = map[string]string{annotation.RotateNow: "x"} }
	suspended := func(of *v1alpha1.SecretRotation) { of.Spec.Suspend = true }
	phase := func(name string) func(*v1alpha1.SecretRotation) {
		return func(of *v1alpha1.SecretRotation) { of.Status.Phase, of.Status.Run = name, "2026-06-01T03:00" }
	}
	missed := func(of *v1alpha1.SecretRotation) {
		of.Status.Schedule = &v1alpha1.RotationSchedule{Cron: of.Spec.Schedule, Since: metav1.NewTime(noon().Add(-24 * time.Hour))}
	}
	for name, row := range map[string]struct {
		of      *v1alpha1.SecretRotation
		windows []window.Window
		want    string
	}{
		"the next of the schedule":      {nightly(), nil, `2026-06-02T03:00 02 03:00 ""`},
		"one that somebody asks for":    {nightly(asked), closed("0 0 * * *", 23), `now:x 01 12:00 ""`},
		"one that was missed":           {nightly(missed), nil, `2026-06-01T03:00 01 12:00 ""`},
		"one that was missed and waits": {nightly(missed), closed("0 11 * * *", 2), `2026-06-01T03:00 01 13:00 ""`},
		"one that is suspended":         {nightly(suspended), nil, `2026-06-02T03:00 - "it is suspended"`},
		"one that is asked for, and is": {nightly(asked, suspended), nil, `now:x - "it is suspended"`},
		"one under way":                 {nightly(phase("Rolling")), nil, `2026-06-01T03:00 - ""`},
		"one that is held at its start": {nightly(phase("Due")), closed("0 11 * * *", 2), `2026-06-01T03:00 - "windows hold it back until 2026-06-01T13:00:00Z"`},
		"windows that cannot be used":   {nightly(), closed("0 0 30 2 *", 2), `2026-06-02T03:00 - "spec.windows[0].schedule \"0 0 30 2 *\": unusable schedule`},
	} {
		t.Run(name, func(t *testing.T) {
			found := rotate.LookAhead(row.of, row.windows, noon())
			begins := "-"
			if !found.Begins.IsZero() {
				begins = found.Begins.Format("02 15:04")
			}
			if got := fmt.Sprintf("%s %s %q", found.Run, begins, found.Hold); !strings.HasPrefix(got, row.want) || found.Refusal != nil {
				t.Errorf("it is %s, and %v", got, found.Refusal)
			}
		})
	}
	if found := rotate.LookAhead(nightly(func(of *v1alpha1.SecretRotation) { of.Spec.Schedule = "@daily" }), nil, noon()); found.Refusal == nil {
		t.Error("a malformed schedule is not refused")
	}
}

func TestThePlanOfARotationHasAllKeysThatChange(t *testing.T) {
	strategy := func(is v1alpha1.RotationStrategy) func(*v1alpha1.SecretRotation) {
		return func(of *v1alpha1.SecretRotation) { of.Spec.Strategy = is }
	}
	users := func(of *v1alpha1.SecretRotation) {
		of.Spec.Users = &v1alpha1.RotationUsers{Key: "user", Names: []string{"a", "b"}}
	}
	keys := func(of *v1alpha1.SecretRotation) {
		of.Spec.Generate["id"] = v1alpha1.Generator{Ed25519: &v1alpha1.Ed25519Generator{PublicKey: "id.pub"}}
		of.Spec.Generate["tls"] = v1alpha1.Generator{X509: &v1alpha1.X509Generator{Certificate: "tls.crt"}}
		of.Spec.Generate["ssh"] = v1alpha1.Generator{SSH: &v1alpha1.SSHGenerator{}}
	}
	engine := func(is v1alpha1.RotationEngine) func(*v1alpha1.SecretRotation) {
		return func(of *v1alpha1.SecretRotation) { of.Spec.Path, of.Spec.Generate, of.Spec.Engine = "", nil, &is }
	}
	for name, row := range map[string]struct {
		of   *v1alpha1.SecretRotation
		want string
	}{
		"a value":                      {nightly(), "[password] of /db by spec.path, Replace"},
		"what belongs to private keys": {nightly(keys), "[id id.pub password ssh tls tls.crt] of /db by spec.path, Replace"},
		"values before": {nightly(keys, strategy(v1alpha1.RotationOverlap)),
			"[id id.pub id.pub_previous id_previous password password_previous ssh ssh_previous tls tls.crt tls.crt_previous tls_previous] of /db by spec.path, Overlap"},
		"the user": {nightly(users, strategy(v1alpha1.RotationAlternateUsers)), "[password user] of /db by spec.path, AlternateUsers"},
		"users of another strategy, which are refused": {nightly(users), "[password] of /db by spec.path, Replace"},
		"a role's password":                            {nightly(engine(v1alpha1.RotationEngine{RotateRole: "database/rotate-role/pay"})), "[password] of /database/static-creds/pay by spec.engine, Engine"},
		"what an engine keeps":                         {nightly(engine(v1alpha1.RotationEngine{RotateKey: "transit/keys/pay"})), "[] of /transit/keys/pay by spec.engine, Engine"},
		"an engine that is refused":                    {nightly(engine(v1alpha1.RotationEngine{})), "[] of  by spec.engine, Engine"},
	} {
		t.Run(name, func(t *testing.T) {
			if row.of.Spec.Path != "" {
				row.of.Spec.Path = "/db"
			}
			field, path := rotate.Document(row.of.Spec)
			got := fmt.Sprintf("%v of %s by %s, %s", rotate.KeysOf(row.of), path, field, rotate.StrategyOf(row.of.Spec))
			if diff := cmp.Diff(row.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
