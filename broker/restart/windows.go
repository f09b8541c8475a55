package restart

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/broker/waits"
	"github.com/privyseal/privyseal/broker/window"
)

const (
	// lookAtWindows is how often a workload that waits for a window is looked at
	// though its time has not come: a machine's clock may be put right meanwhile.
	lookAtWindows = 10 * time.Minute
	// neverAgain is how long windows that leave no time are believed to leave
	// none.
	neverAgain = 24 * time.Hour
)

// hold is what windows keep back of a namespace's restarts now.
func (c *Controller) hold(ctx context.Context, namespace string) (waits.Hold, error) {
	return c.gather.hold(ctx, c.calendars, namespace, c.config.Clock.Now())
}

// hold is what windows keep back of a namespace's restarts at an instant. Where
// it is not known which environment the namespace is in, and some environment has
// windows or bounds its restarts, they are kept back: a restart too late is made
// up for.
func (g gatherer) hold(ctx context.Context, known *calendars, namespace string, now time.Time) (waits.Hold, error) {
	homes, err := g.homes(ctx)
	if err != nil || !slices.ContainsFunc(homes.environments, hasRules) {
		return waits.Hold{}, err
	}
	home, err := homes.of(ctx, namespace)
	if isUnclear(err) {
		return waits.Hold{Cause: waits.Unknown, Why: err.Error()}, nil
	}
	if err != nil || home == nil {
		return waits.Hold{}, err
	}
	return known.hold(home, now), nil
}

func hasRules(e v1alpha1.Environment) bool { return len(e.Spec.Windows) > 0 || e.Spec.Restarts != nil }

// calendars remember what was computed of each environment's windows, since
// every workload that waits asks for it. Nothing is lost with them.
type calendars struct {
	mu    sync.Mutex
	known map[string]calendar // by environment
}

type calendar struct {
	windows []v1alpha1.Window
	parsed  window.Calendar
	err     error
	// held is the last answer that held, which is good until the time given.
	held        waits.Hold
	from, until time.Time
}

func newCalendars() *calendars { return &calendars{known: map[string]calendar{}} }

// hold is what an environment's windows keep back at an instant.
func (c *calendars) hold(of *v1alpha1.Environment, now time.Time) waits.Hold {
	c.mu.Lock()
	defer c.mu.Unlock()
	known, met := c.known[of.Name]
	if !met || !slices.Equal(known.windows, of.Spec.Windows) {
		known = calendar{windows: slices.Clone(of.Spec.Windows)}
		known.parsed, known.err = window.Parse(WindowsOf(of))
	}
	if now.Before(known.from) || !now.Before(known.until) {
		known.held, known.until = known.judge(of.Name, now)
		known.from = now
	}
	c.known[of.Name] = known
	return known.held
}

// judge says what holds at an instant, and until when that is so; an answer
// that holds nothing is good for the instant alone.
func (k calendar) judge(name string, now time.Time) (held waits.Hold, until time.Time) {
	if k.err != nil {
		return waits.Hold{Environment: name, Cause: waits.Unknown, Why: k.err.Error()}, now.Add(neverAgain)
	}
	verdict := k.parsed.At(now)
	if verdict.Open {
		return waits.Hold{}, now
	}
	opens, err := k.parsed.Opens(now)
	if err != nil {
		return waits.Hold{Environment: name, Cause: waits.NeverOpen, Why: err.Error()}, now.Add(neverAgain)
	}
	return waits.Hold{Environment: name, Cause: waits.Closed, Until: opens, Why: verdict.Why}, opens
}

// unusable says that windows let nothing restart, now or later; nothing where
// they do.
func (c *calendars) unusable(of *v1alpha1.Environment, now time.Time) waits.Hold {
	if held := c.hold(of, now); held.Cause == waits.Unknown || held.Cause == waits.NeverOpen {
		return held
	}
	return waits.Hold{}
}

// WindowsOf an environment, as package window takes them.
func WindowsOf(e *v1alpha1.Environment) []window.Window {
	windows := make([]window.Window, 0, len(e.Spec.Windows))
	for _, w := range e.Spec.Windows {
		windows = append(windows, window.Window{
			Kind: window.Kind(w.Kind), Schedule: w.Schedule, Duration: w.Duration.Duration, TimeZone: w.TimeZone,
		})
	}
	return windows
}
