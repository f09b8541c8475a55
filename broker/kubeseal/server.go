package kubeseal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/utils/clock"

	"github.com/privyseal/privyseal/broker/seal"
	"github.com/privyseal/privyseal/broker/sealingkey"
)

// Keys give the sealing keys as they are now.
type Keys interface {
	Snapshot(ctx context.Context) (sealingkey.Snapshot, error)
}

// Environments say which environment a namespace is in; "" is none. A namespace
// that does not exist is in none. Errors wrap environment.ErrTwo or
// environment.ErrSelector where it cannot be in one; others are the cluster's.
type Environments interface {
	Environment(ctx context.Context, namespace string) (string, error)
}

// Config of a Server.
type Config struct {
	// Address to listen on, as ":8080". Required.
	Address string

	// Keys to open with and to seal to. Required.
	Keys Keys

	// Environments of namespaces. Required.
	Environments Environments

	// Recovery keys, to which everything is sealed in version 2 besides the
	// cluster's own. Empty: none.
	Recovery []*seal.PublicKey

	// Registerer of metrics. Nil: they are not published.
	Registerer prometheus.Registerer

	// Log takes what went wrong. The zero value drops it.
	Log logr.Logger

	// Clock by which requests are counted. Nil: the system's.
	Clock clock.PassiveClock
}

// Server is the API. It is a manager.Runnable that does not wait for leadership.
type Server struct {
	config  Config
	handler http.Handler
	opening chan struct{}
}

// New makes a Server.
func New(config Config) *Server {
	if config.Clock == nil {
		config.Clock = clock.RealClock{}
	}
	if config.Log.GetSink() == nil {
		config.Log = logr.Discard()
	}
	server := &Server{config: config, opening: make(chan struct{}, maxOpening)}
	server.handler = server.routes(newMetrics(config.Registerer))
	return server
}

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (s *Server) NeedLeaderElection() bool { return false }

// Start implements manager.Runnable: it serves until ctx ends, and answers then
// what it was asked already.
func (s *Server) Start(ctx context.Context) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.config.Address)
	if err != nil {
		return fmt.Errorf("listening for kubeseal: %w", err)
	}
	return s.serve(ctx, listener)
}

const stopTimeout = 5 * time.Second

func (s *Server) serve(ctx context.Context, listener net.Listener) error {
	server := &http.Server{
		Handler:           s.handler,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(logr.ToSlogHandler(s.config.Log), slog.LevelDebug),
	}
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		deadline, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		stopped <- shutDown(deadline, server)
	})
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving kubeseal: %w", err)
	}
	if err := <-stopped; err != nil {
		return fmt.Errorf("stopping to serve kubeseal: %w", err)
	}
	return nil
}

// shutDown waits for the answers under way, and cuts what is still connected at
// the deadline: clients that connect and ask nothing keep no daemon from its
// clean end.
func shutDown(ctx context.Context, server *http.Server) error {
	err := server.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return server.Close()
	}
	return err
}
