package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
)

// vault is the lab's Vault, as its root.
type vault struct {
	address string
	token   string
	client  *http.Client
}

func newVault(env map[string]string) (*vault, error) {
	authority, err := os.ReadFile(env["VAULT_CACERT"])
	if err != nil {
		return nil, fmt.Errorf("reading the lab's certificate authority: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(authority) {
		return nil, errors.New("reading the lab's certificate authority: it holds no certificate")
	}
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, MaxIdleConnsPerHost: hands,
	}
	return &vault{address: env["VAULT_ADDR"], token: env["VAULT_TOKEN"], client: &http.Client{Transport: transport}}, nil
}

// do makes one request; into may be nil.
func (v *vault) do(ctx context.Context, method, path string, body, into any) error {
	var sent bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&sent).Encode(body); err != nil {
			return fmt.Errorf("writing the request for %s: %w", path, err)
		}
	}
	request, err := http.NewRequestWithContext(ctx, method, v.address+"/v1/"+path, &sent)
	if err != nil {
		return fmt.Errorf("asking Vault for %s: %w", path, err)
	}
	request.Header.Set("X-Vault-Token", v.token)
	response, err := v.client.Do(request)
	if err != nil {
		return fmt.Errorf("asking Vault for %s: %w", path, err)
	}
	answer, err := io.ReadAll(response.Body)
	if err := errors.Join(err, response.Body.Close()); err != nil {
		return fmt.Errorf("reading Vault's answer for %s: %w", path, err)
	}
	if response.StatusCode >= http.StatusMultipleChoices {
		return fmt.Errorf("asking Vault for %s: it answers %s", path, response.Status)
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(answer, into); err != nil {
		return fmt.Errorf("reading Vault's answer for %s: %w", path, err)
	}
	return nil
}

// put writes a document of the KV v2 mount: three keys of 100 bytes, that tell
// one edition of it from another.
func (v *vault) put(ctx context.Context, path string, edition int) error {
	document := map[string]string{}
	for _, key := range []string{"username", "password", "token"} {
		document[key] = fmt.Sprintf("%-99s%d", key+" of "+path, edition%10)[:100]
	}
	return v.do(ctx, http.MethodPost, "kv/data/"+path, map[string]any{"data": document}, nil)
}

func (v *vault) read(ctx context.Context, path string) (map[string]string, error) {
	var answer struct {
		Data struct{ Data map[string]string }
	}
	err := v.do(ctx, http.MethodGet, "kv/data/"+path, nil, &answer)
	return answer.Data.Data, err
}

// admit lets a namespace's service account read the documents below a path.
func (v *vault) admit(ctx context.Context, namespace, path, audience string) error {
	role := "privyseal-" + namespace
	policy := map[string]any{"policy": fmt.Sprintf("path %q { capabilities = [\"read\"] }", "kv/data/"+path+"/*")}
	if err := v.do(ctx, http.MethodPut, "sys/policies/acl/"+role, policy, nil); err != nil {
		return err
	}
	return v.do(ctx, http.MethodPost, "auth/kubernetes/role/"+role, map[string]any{
		"bound_service_account_names": "privyseal", "bound_service_account_namespaces": namespace,
		"audience": audience, "policies": role, "ttl": "1h",
	}, nil)
}

func (v *vault) version(ctx context.Context) (string, error) {
	var health struct{ Version string }
	err := v.do(ctx, http.MethodGet, "sys/health", nil, &health)
	return health.Version, err
}
