// The lab's Vault: the unmodified core, with only the engines and login
// methods that the lab mounts. The server's own command line links every cloud
// plugin there is and takes a quarter of an hour to build; this one takes
// minutes and answers the same HTTP API, starts sealed, keeps its data over a
// kill, and writes the same audit log.
//
// Vault is under the Business Source License: it is a test and demo part in a
// module of its own and is never linked into Privyseal.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	log "github.com/hashicorp/go-hclog"
	vaulthttp "github.com/hashicorp/vault/http"
	"github.com/hashicorp/vault/internalshared/configutil"
	"github.com/hashicorp/vault/sdk/physical"
	"github.com/hashicorp/vault/sdk/physical/file"
	"github.com/hashicorp/vault/sdk/physical/inmem"
	"github.com/hashicorp/vault/vault"
)

// Config is what the command line says.
type Config struct {
	Listen string // address and port of the TLS listener
	Cert   string // PEM file: the listener's certificate
	Key    string // PEM file: its key
	Data   string // storage folder; empty: in memory, for benches
}

func main() {
	var config Config
	flag.StringVar(&config.Listen, "listen", "127.0.0.1:8200", "address of the TLS listener")
	flag.StringVar(&config.Cert, "cert", "", "PEM file of the listener's certificate")
	flag.StringVar(&config.Key, "key", "", "PEM file of the listener's key")
	flag.StringVar(&config.Data, "data", "", "storage folder; empty keeps everything in memory")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := serve(ctx, config); err != nil {
		fmt.Fprintln(os.Stderr, "vault:", err)
		os.Exit(1)
	}
}

// serve answers until ctx ends, then seals.
func serve(ctx context.Context, config Config) error {
	logger := log.New(&log.LoggerOptions{Name: "vault", Level: log.Info, Output: os.Stderr})
	storage, kind, err := storageOf(config, logger)
	if err != nil {
		return fmt.Errorf("opening storage: %w", err)
	}
	core, err := vault.NewCore(&vault.CoreConfig{
		Physical:           storage,
		StorageType:        kind,
		RedirectAddr:       "https://" + config.Listen,
		DisableMlock:       true,
		Logger:             logger,
		LogicalBackends:    engines,
		CredentialBackends: logins,
		AuditBackends:      audits,
		BuiltinRegistry:    registry{},
	})
	if err != nil {
		return fmt.Errorf("making the core: %w", err)
	}
	server, err := listener(config, core)
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- server.ListenAndServeTLS("", "") }()
	select {
	case err := <-ended:
		return fmt.Errorf("serving %s: %w", config.Listen, err)
	case <-ctx.Done():
	}
	return errors.Join(server.Close(), core.Shutdown())
}

func storageOf(config Config, logger log.Logger) (physical.Backend, string, error) {
	if config.Data == "" {
		storage, err := inmem.NewInmem(nil, logger)
		return storage, "inmem", err
	}
	storage, err := file.NewFileBackend(map[string]string{"path": config.Data}, logger)
	return storage, "file", err
}

// listener asks callers for a client certificate without insisting on one, as
// Vault's own listener does, so that the cert login works beside the others.
func listener(config Config, core *vault.Core) (*http.Server, error) {
	pair, err := tls.LoadX509KeyPair(config.Cert, config.Key)
	if err != nil {
		return nil, fmt.Errorf("reading the listener's certificate: %w", err)
	}
	handler := vaulthttp.Handler.Handler(&vault.HandlerProperties{
		Core: core,
		ListenerConfig: &configutil.Listener{
			Address:            config.Listen,
			MaxRequestSize:     vaulthttp.DefaultMaxRequestSize,
			MaxRequestDuration: vault.DefaultMaxRequestDuration,
		},
	})
	return &http.Server{
		Addr:              config.Listen,
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		TLSConfig: &tls.Config{
			Certificates: []tls.Certificate{pair},
			ClientAuth:   tls.RequestClientCert,
			MinVersion:   tls.VersionTLS12,
			NextProtos:   []string{"h2", "http/1.1"},
		},
	}, nil
}
