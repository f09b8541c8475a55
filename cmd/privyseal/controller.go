package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker"
)

// controller is where the cluster is, and in it whoever answers for its sealing
// keys. The flags are kubeseal's.
type controller struct {
	kubeconfig string
	context    string
	namespace  string
	name       string
	at         string
	url        string
}

const (
	controllerName      = "sealed-secrets-controller"
	controllerNamespace = "kube-system"
)

func (c *controller) addTo(flags *pflag.FlagSet) {
	flags.StringVar(&c.kubeconfig, "kubeconfig", "", "file to reach the cluster with (default: $KUBECONFIG, or ~/.kube/config)")
	flags.StringVar(&c.context, "context", "", "context of the kubeconfig (default: its current one)")
	flags.StringVarP(&c.namespace, "namespace", "n", "", "namespace of objects that name none (default: the context's)")
	flags.StringVar(&c.name, "controller-name", controllerName, "Service that answers kubeseal")
	flags.StringVar(&c.at, "controller-namespace", controllerNamespace, "namespace of that Service")
	flags.StringVar(&c.url, "controller-url", "", "address of the controller itself, https or loopback, in place of its Service")
}

// fromEnvironment takes flags that were not given from SEALED_SECRETS_FLAG, as
// kubeseal does.
func fromEnvironment(command *cobra.Command, _ []string) error {
	var wrong error
	command.Flags().VisitAll(func(flag *pflag.Flag) {
		variable := "SEALED_SECRETS_" + strings.ToUpper(strings.ReplaceAll(flag.Name, "-", "_"))
		text, there := os.LookupEnv(variable)
		if !there || flag.Changed || wrong != nil {
			return
		}
		if err := command.Flags().Set(flag.Name, text); err != nil {
			wrong = usageError{fmt.Errorf("$%s: %w", variable, err)}
		}
	})
	return wrong
}

func (c *controller) config() clientcmd.ClientConfig {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = c.kubeconfig
	overrides := &clientcmd.ConfigOverrides{CurrentContext: c.context}
	overrides.Context.Namespace = c.namespace
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, overrides)
}

// defaultNamespace is that of --namespace, else the context's.
func (c *controller) defaultNamespace() string {
	namespace, _, err := c.config().Namespace()
	if err != nil || namespace == "" {
		return "default"
	}
	return namespace
}

func (c *controller) access() (*rest.Config, error) {
	access, err := c.config().ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("finding the cluster (give --kubeconfig, or --cert to work without one): %w", err)
	}
	return access, nil
}

// cluster is a client as whoever runs the command.
func (c *controller) cluster() (client.Client, error) {
	access, err := c.access()
	if err != nil {
		return nil, err
	}
	return clientFor(access)
}

func clientFor(access *rest.Config) (client.Client, error) {
	scheme, err := broker.Scheme()
	if err != nil {
		return nil, err
	}
	made, err := client.New(access, client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("reaching the cluster: %w", err)
	}
	return made, nil
}

// api is the controller's HTTP API.
type api struct {
	http *http.Client
	base string
}

// dial finds the controller's API: at its address, or through the API server.
func (c *controller) dial(ctx context.Context) (*api, error) {
	if c.url != "" {
		if err := checkURL(c.url); err != nil {
			return nil, usageError{fmt.Errorf("--controller-url: %w", err)}
		}
		return &api{&http.Client{Timeout: askTimeout}, strings.TrimSuffix(c.url, "/")}, nil
	}
	access, err := c.access()
	if err != nil {
		return nil, err
	}
	cluster, err := c.cluster()
	if err != nil {
		return nil, err
	}
	service := &corev1.Service{}
	if err := cluster.Get(ctx, client.ObjectKey{Namespace: c.at, Name: c.name}, service); err != nil {
		return nil, fmt.Errorf("looking up the controller's Service %s/%s (say which by --controller-namespace and --controller-name): %w", c.at, c.name, err)
	}
	if len(service.Spec.Ports) == 0 {
		return nil, fmt.Errorf("the controller's Service %s/%s has no port", c.at, c.name)
	}
	access.Timeout = askTimeout
	through, err := rest.HTTPClientFor(access)
	if err != nil {
		return nil, fmt.Errorf("reaching the cluster: %w", err)
	}
	server, err := url.Parse(access.Host)
	if err != nil || server.Host == "" {
		return nil, fmt.Errorf("the kubeconfig's server %q is no address", access.Host)
	}
	base := server.JoinPath("api/v1/namespaces", c.at, "services", "http:"+c.name+":"+service.Spec.Ports[0].Name, "proxy")
	return &api{through, base.String()}, nil
}

const (
	askTimeout = 30 * time.Second
	maxAnswer  = 4 << 20
	// maxPatience is for an answer of "too many requests".
	maxPatience = 2 * time.Minute
)

func (a *api) certificate(ctx context.Context) ([]byte, error) {
	code, text, err := a.ask(ctx, http.MethodGet, "/v1/cert.pem", nil)
	switch {
	case err != nil:
		return nil, err
	case code != http.StatusOK:
		return nil, fmt.Errorf("asking for the certificate: the controller answers %d: %s", code, oneLine(text))
	}
	return text, nil
}

// errDoesNotOpen: the cluster says so of an object, and not why.
var errDoesNotOpen = errors.New("the cluster cannot open it: it was altered, moved, renamed, or sealed for another cluster or environment")

func (a *api) verify(ctx context.Context, object []byte) error {
	code, text, err := a.ask(ctx, http.MethodPost, "/v1/verify", object)
	switch {
	case err != nil:
		return err
	case code == http.StatusConflict:
		return errDoesNotOpen
	case code != http.StatusOK:
		return fmt.Errorf("asking whether it opens: the controller answers %d: %s", code, oneLine(text))
	}
	return nil
}

func (a *api) rotate(ctx context.Context, object []byte) ([]byte, error) {
	code, text, err := a.ask(ctx, http.MethodPost, "/v1/rotate", object)
	switch {
	case err != nil:
		return nil, err
	case code == http.StatusBadRequest:
		return nil, errDoesNotOpen
	case code != http.StatusOK:
		return nil, fmt.Errorf("asking to seal it anew: the controller answers %d: %s", code, oneLine(text))
	}
	return text, nil
}

// ask asks again where the controller says that it is too early.
func (a *api) ask(ctx context.Context, method, path string, body []byte) (int, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, maxPatience)
	defer cancel()
	for {
		code, wait, text, err := a.askOnce(ctx, method, path, body)
		if err != nil || code != http.StatusTooManyRequests {
			return code, text, err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return code, text, nil
		}
	}
}

func (a *api) askOnce(ctx context.Context, method, path string, body []byte) (code int, wait time.Duration, text []byte, err error) {
	request, err := http.NewRequestWithContext(ctx, method, a.base+path, bytes.NewReader(body))
	if err != nil {
		return 0, 0, nil, fmt.Errorf("asking the controller: %w", err)
	}
	request.Header.Set("Accept", "application/x-pem-file, */*")
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := a.http.Do(request)
	if err != nil {
		return 0, 0, nil, fmt.Errorf("asking the controller: %w", err)
	}
	defer response.Body.Close()
	text, err = io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return 0, 0, nil, fmt.Errorf("reading the controller's answer: %w", err)
	}
	seconds, _ := strconv.Atoi(response.Header.Get("Retry-After"))
	return response.StatusCode, max(time.Duration(seconds)*time.Second, time.Second), text, nil
}

// checkURL wants what nobody on the way can alter: who can give us another key
// reads what we seal.
func checkURL(text string) error {
	parsed, err := url.Parse(text)
	if err != nil || parsed.Host == "" {
		return fmt.Errorf("%q is no address; write https://host/path", text)
	}
	address := net.ParseIP(parsed.Hostname())
	loopback := parsed.Hostname() == "localhost" || address != nil && address.IsLoopback()
	if parsed.Scheme != "https" && !(parsed.Scheme == "http" && loopback) {
		return fmt.Errorf("%q: want https, or a loopback address: on the way of plain http anybody can put in a key of their own", text)
	}
	return nil
}

// fetch gets a certificate from an address.
func fetch(ctx context.Context, address string) ([]byte, error) {
	if err := checkURL(address); err != nil {
		return nil, usageError{fmt.Errorf("--cert: %w", err)}
	}
	code, _, text, err := (&api{&http.Client{Timeout: askTimeout, CheckRedirect: sameRules}, address}).askOnce(ctx, http.MethodGet, "", nil)
	if err != nil {
		return nil, err
	}
	if code != http.StatusOK {
		return nil, fmt.Errorf("fetching %s: the answer is %d", address, code)
	}
	return text, nil
}

func sameRules(request *http.Request, _ []*http.Request) error { return checkURL(request.URL.String()) }

func oneLine(text []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(text)), "\n")
	return fmt.Sprintf("%.200s", line)
}
