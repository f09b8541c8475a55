package kubeseal

import (
	"errors"
	"io"
	"net/http"
	"runtime/debug"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

func (s *Server) routes(m *apiMetrics) http.Handler {
	verify := newLimiter(s.config.Clock, verifyPace(), globalPace())
	rotate := newLimiter(s.config.Clock, rotatePace(), globalPace())
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, "ok")
	})
	mux.Handle("GET /v1/cert.pem", m.instrument("/v1/cert.pem", http.HandlerFunc(s.certificate)))
	mux.Handle("POST /v1/verify", m.instrument("/v1/verify", s.bounded(verify, s.verify)))
	mux.Handle("POST /v1/rotate", m.instrument("/v1/rotate", s.bounded(rotate, s.rotate)))
	return s.surviving(mux)
}

// surviving answers for a handler that panics. What it panicked with could hold
// a value, so only the place is told.
func (s *Server) surviving(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if recover() != nil {
				s.config.Log.Error(errPanic, "answering kubeseal", "path", r.URL.Path, "stack", string(debug.Stack()))
				answer(w, http.StatusInternalServerError, "internal error")
			}
		}()
		next.ServeHTTP(w, r)
	})
}

var errPanic = errors.New("a handler panicked")

// bounded hands on what comes at a bearable pace and is not too long. Which
// answer is given depends on the request alone.
func (s *Server) bounded(limit *limiter, next func(http.ResponseWriter, *http.Request, []byte)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if seconds := limit.wait(r.Header.Get("X-Forwarded-For")); seconds > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(seconds))
			answer(w, http.StatusTooManyRequests, "too many requests")
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
			answer(w, http.StatusRequestEntityTooLarge, "the object is too large")
			return
		}
		if err != nil {
			answer(w, http.StatusBadRequest, "the object did not arrive")
			return
		}
		select {
		case s.opening <- struct{}{}:
			defer func() { <-s.opening }()
			next(w, r, body)
		case <-r.Context().Done():
			answer(w, http.StatusServiceUnavailable, "too busy")
		}
	})
}

func answer(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	_, _ = io.WriteString(w, text+"\n") // a client that went away has no use for it
}

// apiMetrics have upstream's names, by which people's dashboards know them.
type apiMetrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
}

func newMetrics(registerer prometheus.Registerer) *apiMetrics {
	m := &apiMetrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sealed_secrets_controller_http_requests_total",
			Help: "Requests of kubeseal, by path, code and method.",
		}, []string{"path", "code", "method"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "sealed_secrets_controller_http_request_duration_seconds",
			Help: "Duration of kubeseal's requests, by path and method.",
		}, []string{"path", "method"}),
	}
	if registerer != nil {
		registerer.MustRegister(m.requests, m.seconds)
	}
	return m
}

func (m *apiMetrics) instrument(path string, next http.Handler) http.Handler {
	labels := prometheus.Labels{"path": path}
	return promhttp.InstrumentHandlerDuration(m.seconds.MustCurryWith(labels),
		promhttp.InstrumentHandlerCounter(m.requests.MustCurryWith(labels), next))
}
