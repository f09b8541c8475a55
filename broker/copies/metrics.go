package copies

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// counters of the copies; nil counts nothing.
type counters struct {
	pushes   prometheus.Counter
	failures *prometheus.CounterVec
	mended   *prometheus.CounterVec
}

// newCounters registers them. There is no label for a claim: its condition says
// what is wrong with it.
func newCounters(registerer prometheus.Registerer, keeper *Keeper) *counters {
	if registerer == nil {
		return nil
	}
	made := &counters{
		pushes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "privyseal_copies_pushes_total",
			Help: "Commits with sealed copies that were pushed.",
		}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "privyseal_copies_failures_total",
			Help: "Rounds that could not bring a repository up to date, by the reason that claims are told.",
		}, []string{"reason"}),
		mended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "privyseal_copies_mended_total",
			Help: "Copies of a content that had a copy, and were made anew since that one was not sealed to each recovery key (recipients), did not open (closed), or held something else (value).",
		}, []string{"flaw"}),
	}
	registerer.MustRegister(made.pushes, made.failures, made.mended, newChecks(keeper),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "privyseal_copies_pending",
			Help: "Claims whose sealed copy is not current. 0 on a daemon that does not lead.",
		}, func() float64 {
			count, _ := keeper.told.pending()
			return float64(count)
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "privyseal_copies_oldest_pending_seconds",
			Help: "For how long the oldest of them has been owed.",
		}, func() float64 { return keeper.owedFor().Seconds() }))
	return made
}

// owedFor is the age of the oldest copy that is owed.
func (k *Keeper) owedFor() time.Duration {
	count, since := k.told.pending()
	if count == 0 {
		return 0
	}
	return k.config.Clock.Now().Sub(since)
}

func (m *counters) pushed() {
	if m != nil {
		m.pushes.Inc()
	}
}

func (m *counters) mendedOne(found flaw) {
	if m != nil {
		m.mended.WithLabelValues(string(found)).Inc()
	}
}

// checks tells what was found when copies were opened last, here and by those
// who hold the recovery keys.
type checks struct {
	keeper                  *Keeper
	flawed, checked, proven *prometheus.Desc
}

func newChecks(keeper *Keeper) *checks {
	return &checks{
		keeper: keeper,
		flawed: prometheus.NewDesc("privyseal_copies_flawed",
			"Sealed copies in git that would be of no use for recovery, and that nothing mends: their claim is gone, or its Secret is not there.", []string{"environment"}, nil),
		checked: prometheus.NewDesc("privyseal_copies_checked_timestamp_seconds",
			"When the daemon last opened every sealed copy with its own key.", []string{"environment"}, nil),
		proven: prometheus.NewDesc("privyseal_recovery_checked_timestamp_seconds",
			"When a recovery key of an environment was last shown to open copies (privyseal keys check --record); 0 for never. Not there on a daemon that does not lead.", []string{"key"}, nil),
	}
}

// Describe implements prometheus.Collector.
func (c *checks) Describe(to chan<- *prometheus.Desc) {
	to <- c.flawed
	to <- c.checked
	to <- c.proven
}

// Collect implements prometheus.Collector.
func (c *checks) Collect(to chan<- prometheus.Metric) {
	c.keeper.mu.Lock()
	defer c.keeper.mu.Unlock()
	keys := map[string]bool{}
	for environment, seen := range c.keeper.known {
		to <- prometheus.MustNewConstMetric(c.flawed, prometheus.GaugeValue, float64(seen.flawed), environment)
		to <- prometheus.MustNewConstMetric(c.checked, prometheus.GaugeValue, seconds(seen.checked), environment)
		for _, key := range seen.recipients {
			keys[key] = true
		}
	}
	for key := range keys {
		to <- prometheus.MustNewConstMetric(c.proven, prometheus.GaugeValue, seconds(c.keeper.proven[key]), key)
	}
}

// seconds since 1970; 0 for never.
func seconds(at time.Time) float64 {
	if at.IsZero() {
		return 0
	}
	return float64(at.Unix())
}

func (m *counters) failed(err error) {
	if m != nil {
		m.failures.WithLabelValues(failed("", err).reason).Inc()
	}
}
