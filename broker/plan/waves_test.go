package plan_test

import (
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/v1alpha1"
)

func bounded(restarts v1alpha1.Restarts, windows ...v1alpha1.Window) *v1alpha1.Environment {
	return prod(func(e *v1alpha1.EnvironmentSpec) { e.Restarts, e.Windows = &restarts, windows })
}

func first(d *appsv1.Deployment) *appsv1.Deployment {
	return with(d, func(d *appsv1.Deployment) { d.Annotations = map[string]string{"privyseal.io/canary": "true"} })
}

func lasting(d time.Duration) *metav1.Duration { return &metav1.Duration{Duration: d} }

func TestABudgetMakesWaves(t *testing.T) {
	for name, row := range map[string]struct {
		environment *v1alpha1.Environment
		want        []string
	}{
		"two at once": {bounded(v1alpha1.Restarts{MaxConcurrent: new(int32(2))}), []string{
			"1 wave 1 05T15:30 a for db(*) restarts []",
			"2 wave 1 05T15:30 b for db(*) restarts []",
			"3 wave 2 05T15:30 c for db(*) restarts [turn]",
			"4 wave 2 05T15:30 last for db(*) restarts [turn]",
		}},
		"one every ten minutes, until the blackout": {bounded(v1alpha1.Restarts{Spread: lasting(10 * time.Minute)}, weekend()), []string{
			"1 wave 1 05T15:30 a for db(*) restarts []",
			"2 wave 2 05T15:40 b for db(*) restarts [turn]",
			"3 wave 3 05T15:50 c for db(*) restarts [turn]",
			"4 wave 4 08T04:00 last for db(*) restarts [turn window]",
		}},
		"one goes first": {bounded(v1alpha1.Restarts{Canary: &v1alpha1.Canary{Soak: *lasting(15 * time.Minute)}}), []string{
			"1 wave 1 05T15:30 last for db(*) restarts []",
			"2 wave 2 05T15:45 a for db(*) restarts [turn]",
			"3 wave 2 05T15:45 b for db(*) restarts [turn]",
			"4 wave 2 05T15:45 c for db(*) restarts [turn]",
		}},
		"one goes first, and is watched into the blackout": {bounded(v1alpha1.Restarts{
			Canary: &v1alpha1.Canary{Soak: *lasting(time.Hour)}, MaxConcurrent: new(int32(1))}, weekend()), []string{
			"1 wave 1 05T15:30 last for db(*) restarts []",
			"2 wave 2 08T04:00 a for db(*) restarts [turn window]",
			"3 wave 3 08T04:00 b for db(*) restarts [turn window]",
			"4 wave 4 08T04:00 c for db(*) restarts [turn window]",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			made, _ := described(t, []client.Object{labelled(), row.environment, claim("db"),
				deployment("a", "db"), deployment("b", "db"), deployment("c", "db"), first(deployment("last", "db"))})
			expect(t, made, row.want...)
		})
	}
}

func TestOneGoesFirstForEachSecret(t *testing.T) {
	made, _ := described(t, []client.Object{labelled(), claim("db"), claim("tls"),
		bounded(v1alpha1.Restarts{Canary: &v1alpha1.Canary{Soak: *lasting(15 * time.Minute)}}),
		deployment("a", "db"), deployment("b", "db"), deployment("c", "tls"), deployment("d", "db", "tls")})
	expect(t, made,
		"1 wave 1 05T15:30 a for db(*) restarts []",
		"2 wave 1 05T15:30 c for tls(*) restarts []",
		"3 wave 2 05T15:45 b for db(*) restarts [turn]",
		"4 wave 2 05T15:45 d for db(*) tls(*) restarts [turn]",
	)
}
