package copies

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// counters of the copies; nil counts nothing.
type counters struct {
	pushes   prometheus.Counter
	failures *prometheus.CounterVec
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
	}
	registerer.MustRegister(made.pushes, made.failures,
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

func (m *counters) failed(err error) {
	if m != nil {
		m.failures.WithLabelValues(failed("", err).reason).Inc()
	}
}
