package rotate

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/providers"
	"github.com/privyseal/privyseal/rotation"
	"github.com/privyseal/privyseal/rotation/generate"
	"github.com/privyseal/privyseal/rotation/schedule"
)

// setup is a spec that was checked.
type setup struct {
	plan       rotation.Plan
	schedule   schedule.Plan
	generators map[string]generate.Spec // by the document's key
	engine     providers.Engine         // that makes the values instead; zero: none
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
	if spec.Strategy != "" && spec.Strategy != v1alpha1.RotationReplace {
		return setup{}, fmt.Errorf("spec.strategy %.64q: want %s", spec.Strategy, v1alpha1.RotationReplace)
	}
	if verify := spec.Verify; verify != nil {
		if verify.Consumers != v1alpha1.ConsumersReady {
			return setup{}, fmt.Errorf("spec.verify.consumers %.64q: want %s", verify.Consumers, v1alpha1.ConsumersReady)
		}
		plan.Consumers, plan.Timeouts.Consumers = true, durationOf(verify.Timeout)
		if t := verify.Timeout; t != nil && (t.Duration < rotation.MinTimeout || t.Duration > rotation.MaxTimeout) {
			return setup{}, fmt.Errorf("spec.verify.timeout %s: want from %s to %s", t.Duration, rotation.MinTimeout, rotation.MaxTimeout)
		}
	}
	if err := plan.Check(); err != nil {
		return setup{}, fmt.Errorf("spec.%w", err)
	}
	if spec.Engine != nil {
		engine, err := engineOf(spec)
		return setup{plan: plan, schedule: timing, engine: engine}, err
	}
	if spec.Path == "" {
		return setup{}, errors.New("spec.path: say which document is rotated, or give spec.engine")
	}
	generators, err := generatorsOf(spec.Generate)
	return setup{plan: plan, schedule: timing, generators: generators}, err
}

func durationOf(d *metav1.Duration) time.Duration {
	if d == nil {
		return 0
	}
	return d.Duration
}

// maxKey is the longest key that a rotation can be of.
const maxKey = 253

func generatorsOf(specs map[string]v1alpha1.Generator) (map[string]generate.Spec, error) {
	if len(specs) == 0 {
		return nil, fmt.Errorf("spec.generate: give at least one key, and how its value is made")
	}
	generators := make(map[string]generate.Spec, len(specs))
	for _, key := range slices.Sorted(maps.Keys(specs)) {
		if key == "" || len(key) > maxKey {
			return nil, fmt.Errorf("spec.generate[%.64q]: a key has 1 to %d characters", key, maxKey)
		}
		made := generatorOf(specs[key])
		if err := made.Check(fmt.Sprintf("spec.generate[%s]", key)); err != nil {
			return nil, err
		}
		generators[key] = made
	}
	return generators, nil
}

func generatorOf(given v1alpha1.Generator) generate.Spec {
	made := generate.Spec{Hex: bytesOf(given.Hex), Base64: bytesOf(given.Base64)}
	if given.UUID != nil {
		made.UUID = &generate.UUID{}
	}
	if password := given.Password; password != nil {
		made.Password = &generate.Password{
			Length: int(password.Length), Symbols: password.Symbols, Exclude: password.Exclude,
			Without: password.Without, Policy: password.Policy,
		}
		if len(password.Minimum) > 0 {
			made.Password.Minimum = make(map[string]int, len(password.Minimum))
			for class, least := range password.Minimum {
				made.Password.Minimum[class] = int(least)
			}
		}
	}
	return made
}

func bytesOf(given *v1alpha1.BytesGenerator) *generate.Bytes {
	if given == nil {
		return nil
	}
	return &generate.Bytes{Length: int(given.Length)}
}
