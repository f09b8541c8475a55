package broker

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/privyseal/privyseal/providers"
)

// storeMetrics counts requests to stores by operation and outcome. There is no
// label for a path or a namespace: who reads what is the audit log's to say.
type storeMetrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
}

func newStoreMetrics(registerer prometheus.Registerer) *storeMetrics {
	m := &storeMetrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "privyseal_store_requests_total",
			Help: "Requests to stores, by operation and outcome.",
		}, []string{"operation", "outcome"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "privyseal_store_request_seconds",
			Help:    "Duration of requests to stores, by operation.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 7),
		}, []string{"operation"}),
	}
	registerer.MustRegister(m.requests, m.seconds)
	return m
}

// Observe implements vault.Observer.
func (m *storeMetrics) Observe(operation string, err error, seconds float64) {
	m.requests.WithLabelValues(operation, outcome(err)).Inc()
	m.seconds.WithLabelValues(operation).Observe(seconds)
}

// registerStaleClaims counts stale claims: one figure, since the claims
// themselves say which.
func registerStaleClaims(registerer prometheus.Registerer, count func() int) {
	registerer.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "privyseal_claims_stale",
		Help: "Claims whose Stale condition is True. 0 on a daemon that does not lead.",
	}, func() float64 { return float64(count()) }))
}

func outcome(err error) string {
	for fact, name := range map[error]string{
		providers.ErrNotFound: "not_found", providers.ErrDeleted: "deleted",
		providers.ErrDenied: "denied", providers.ErrUnavailable: "unavailable",
		providers.ErrInvalid: "invalid",
	} {
		if errors.Is(err, fact) {
			return name
		}
	}
	if err != nil {
		return "canceled"
	}
	return "ok"
}
