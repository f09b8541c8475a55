package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// object is something the lab keeps in its cluster, applied at each start.
type object struct {
	path string // below the API server's address
	body map[string]any
}

// vaultObjects are Vault's identity for token reviews and, where there are
// pods, the Service that they find it by.
func (p plan) vaultObjects() []object {
	meta := map[string]any{"name": "vault", "namespace": "vault"}
	objects := []object{
		{"/api/v1/namespaces/vault", map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": "vault"}}},
		{"/api/v1/namespaces/vault/serviceaccounts/vault", map[string]any{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta}},
		{"/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/lab-vault", map[string]any{
			"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": map[string]any{"name": "lab-vault"},
			"roleRef":  map[string]any{"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:auth-delegator"},
			"subjects": []any{map[string]any{"kind": "ServiceAccount", "name": "vault", "namespace": "vault"}}}},
	}
	if p.Config.Mode != ModeNode { // an endpoint must not be a loopback address
		return objects
	}
	ports := []any{map[string]any{"name": "https", "port": p.Site.Vault, "protocol": "TCP"}}
	return append(objects,
		object{"/api/v1/namespaces/vault/services/vault", map[string]any{"apiVersion": "v1", "kind": "Service", "metadata": meta,
			"spec": map[string]any{"ports": []any{map[string]any{"name": "https", "port": 8200, "protocol": "TCP"}}}}},
		object{"/apis/discovery.k8s.io/v1/namespaces/vault/endpointslices/vault", map[string]any{
			"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4", "ports": ports,
			"metadata":  map[string]any{"name": "vault", "namespace": "vault", "labels": map[string]string{"kubernetes.io/service-name": "vault"}},
			"endpoints": []any{map[string]any{"addresses": []string{p.Site.Host}, "conditions": map[string]bool{"ready": true}}}}},
	)
}

// apply brings objects to what they should be, also after a user changed them.
func apply(ctx context.Context, ask *asker, p plan, objects []object) error {
	for _, o := range objects {
		err := ask.do(ctx, question{
			method: http.MethodPatch, kind: "application/apply-patch+yaml", body: o.body,
			url: p.Site.apiURL() + o.path + "?fieldManager=privyseal-lab&force=true",
		})
		if err != nil {
			return fmt.Errorf("applying %s: %w", o.path, err)
		}
	}
	return nil
}

// reviewerToken asks for a token that outlives the lab's state folder.
func reviewerToken(ctx context.Context, ask *asker, p plan) (string, error) {
	var answer struct{ Status struct{ Token string } }
	err := ask.do(ctx, question{
		method: http.MethodPost, url: p.Site.apiURL() + "/api/v1/namespaces/vault/serviceaccounts/vault/token", into: &answer,
		body: map[string]any{"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
			"spec": map[string]any{"expirationSeconds": int(certLife.Seconds())}},
	})
	if err != nil {
		return "", fmt.Errorf("asking for Vault's token: %w", err)
	}
	return answer.Status.Token, nil
}

// accountThere asks for what every pod needs: the first sign that the
// controllers work, and not only answer.
func accountThere(ask *asker, p plan) func(context.Context) error {
	return func(ctx context.Context) error {
		return ask.do(ctx, question{method: http.MethodGet, url: p.Site.apiURL() + "/api/v1/namespaces/default/serviceaccounts/default"})
	}
}

// nodeReady asks whether the kubelet of this start has said that it is ready:
// an earlier start's word is still in etcd.
func nodeReady(ask *asker, p plan, since time.Time) func(context.Context) error {
	return func(ctx context.Context) error {
		var node struct {
			Status struct {
				Conditions []struct {
					Type, Status, Message string
					LastHeartbeatTime     time.Time
				}
			}
		}
		if err := ask.do(ctx, question{method: http.MethodGet, url: p.Site.apiURL() + "/api/v1/nodes/" + nodeName, into: &node}); err != nil {
			return err
		}
		for _, c := range node.Status.Conditions {
			switch {
			case c.Type != "Ready":
			case c.Status == "True" && !c.LastHeartbeatTime.Before(since.Truncate(time.Second)):
				return nil
			default:
				return fmt.Errorf("node: Ready is %s: %s", c.Status, c.Message)
			}
		}
		return errors.New("node: not registered yet")
	}
}

// podsSeen asks whether the kubelet of this start has looked at the pods of an
// earlier one: until then they are called ready, and none of them lives.
func podsSeen(ask *asker, p plan, since time.Time) func(context.Context) error {
	return func(ctx context.Context) error {
		var pods struct{ Items []pod }
		if err := ask.do(ctx, question{method: http.MethodGet, url: p.Site.apiURL() + "/api/v1/pods", into: &pods}); err != nil {
			return err
		}
		for _, pod := range pods.Items {
			if pod.ready() && pod.startedBefore(since.Truncate(time.Second)) {
				return fmt.Errorf("pod %s/%s is still called ready, as the lab before left it", pod.Metadata.Namespace, pod.Metadata.Name)
			}
		}
		return nil
	}
}

// pod is as much of one as shows whether it runs.
type pod struct {
	Metadata struct{ Namespace, Name string }
	Status   struct {
		Conditions        []struct{ Type, Status string }
		ContainerStatuses []struct {
			State struct {
				Running *struct{ StartedAt time.Time }
			}
		}
	}
}

func (p pod) ready() bool {
	for _, c := range p.Status.Conditions {
		if c.Type == "Ready" {
			return c.Status == "True"
		}
	}
	return false
}

func (p pod) startedBefore(t time.Time) bool {
	for _, c := range p.Status.ContainerStatuses {
		if running := c.State.Running; running != nil && running.StartedAt.Before(t) {
			return true
		}
	}
	return false
}

// nameAnswers asks the lab's DNS as a pod would.
func nameAnswers(ctx context.Context) error {
	resolver := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, net.JoinHostPort(dnsAddress, "53"))
	}}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	addresses, err := resolver.LookupHost(ctx, "kubernetes.default.svc.cluster.local.")
	if err == nil && addresses[0] != apiService {
		return fmt.Errorf("DNS: the API server's Service is %s, not %s", addresses[0], apiService)
	}
	return err
}
