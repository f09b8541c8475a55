package rotate

import (
	"errors"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/providers"
	"github.com/privyseal/privyseal/rotation"
	"github.com/privyseal/privyseal/rotation/schedule"
)

// setup is a spec that was checked.
type setup struct {
	plan       rotation.Plan
	schedule   schedule.Plan
	generators map[string]generator // by the document's key
	users      rotation.Users
	engine     providers.Engine // that makes the values instead; zero: none
}

// parse checks a spec, as the rules of the CRD do and beyond them. Errors name the
// field.
func parse(spec v1alpha1.SecretRotationSpec) (setup, error) {
	timing, err := schedule.Parse(schedule.Spec{
		Schedule: spec.Schedule, TimeZone: spec.TimeZone,
		Jitter: durationOf(spec.Jitter), StartingDeadline: durationOf(spec.StartingDeadline),
	})
	if err != nil {
		return setup{}, fmt.Errorf("spec.%w", err)
	}
	plan := rotation.Plan{Strategy: rotation.Strategy(spec.Strategy), OnFailure: rotation.OnFailure(spec.OnFailure)}
	if d := spec.DropPreviousAfter; d != nil {
		plan.DropPreviousAfter = max(d.Duration, time.Nanosecond) // 0 is given, and too short
	}
	if err := addHooks(spec, &plan); err != nil {
		return setup{}, err
	}
	if err := plan.Check(); err != nil {
		return setup{}, fmt.Errorf("spec.%w", err)
	}
	asked := setup{plan: plan, schedule: timing}
	if asked.users, err = usersOf(spec); err != nil {
		return setup{}, err
	}
	if spec.Engine != nil {
		asked.engine, err = engineOf(spec)
		return asked, err
	}
	if spec.Path == "" {
		return setup{}, errors.New("spec.path: say which document is rotated, or give spec.engine")
	}
	if asked.generators, err = generatorsOf(spec.Generate); err != nil {
		return setup{}, err
	}
	return asked, asked.checkKeys()
}

// usersOf are the two of strategy AlternateUsers, and of no other.
func usersOf(spec v1alpha1.SecretRotationSpec) (rotation.Users, error) {
	given, wanted := spec.Users, spec.Strategy == v1alpha1.RotationAlternateUsers
	switch {
	case given == nil && wanted:
		return rotation.Users{}, fmt.Errorf("spec.users: strategy %s needs them: the key that has the user's name, and two names", v1alpha1.RotationAlternateUsers)
	case given == nil:
		return rotation.Users{}, nil
	case !wanted:
		return rotation.Users{}, fmt.Errorf("spec.users: they are for strategy %s; leave them out", v1alpha1.RotationAlternateUsers)
	case len(given.Names) != 2 || given.Names[0] == "" || given.Names[1] == "" || given.Names[0] == given.Names[1]:
		return rotation.Users{}, fmt.Errorf("spec.users.names: want two different names")
	}
	return rotation.Users{Key: given.Key, Names: [2]string(given.Names)}, nil
}

func durationOf(d *metav1.Duration) time.Duration {
	if d == nil {
		return 0
	}
	return d.Duration
}
