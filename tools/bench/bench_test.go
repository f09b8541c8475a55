package main

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// logged is a cluster whose audit logs hold these lines.
func logged(t *testing.T, api, vault string) *cluster {
	t.Helper()
	folder := t.TempDir()
	env := map[string]string{"LAB_AUDIT_LOG": filepath.Join(folder, "api"), "LAB_VAULT_AUDIT_LOG": filepath.Join(folder, "vault")}
	for name, content := range map[string]string{"LAB_AUDIT_LOG": api, "LAB_VAULT_AUDIT_LOG": vault} {
		if err := os.WriteFile(env[name], []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return &cluster{lab: &lab{env: env}}
}

func TestTheDaemonsRequestsAreCountedWithoutItsLeaseAndItsWatches(t *testing.T) {
	line := func(user, verb, resource, stage string) string {
		return `{"stage":"` + stage + `","verb":"` + verb + `","user":{"username":"` + user + `"},"objectRef":{` + resource +
			`,"namespace":"pay","name":"db"},"responseStatus":{"code":200},"stageTimestamp":"2026-11-25T03:00:00.000001Z"}` + "\n"
	}
	api := line(daemonUser, "create", `"resource":"secrets"`, "ResponseComplete") +
		line(daemonUser, "patch", `"resource":"secretclaims","subresource":"status"`, "ResponseComplete") +
		line(daemonUser, "create", `"resource":"serviceaccounts","subresource":"token"`, "ResponseComplete") +
		line(daemonUser, "watch", `"resource":"secrets"`, "ResponseStarted") +
		line(daemonUser, "watch", `"resource":"secrets"`, "ResponseComplete") +
		line(daemonUser, "update", `"resource":"leases"`, "ResponseComplete") +
		line("kubernetes-admin", "create", `"resource":"secrets"`, "ResponseComplete") +
		`{"stage":"Resp` // is being written
	found, err := logged(t, api, "").requestsSince(mark{})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := tallied(found), "1 create secrets, 1 create serviceaccounts/token, 1 patch secretclaims/status"; got != want {
		t.Errorf("counted %s, want %s", got, want)
	}
	if got := writes(found); got != 2 {
		t.Errorf("%d writes, want 2: making a token is none", got)
	}
	if found[0].at.Nanosecond() != 1000 || found[0].object != "pay/db" {
		t.Errorf("the first is %+v", found[0])
	}
}

func TestReadsAreCountedFromAMarkOnAndWithoutRoots(t *testing.T) {
	line := func(name, path, port string) string {
		return `{"type":"request","auth":{"display_name":"` + name + `"},"request":{"path":"` + path + `","remote_port":` + port + `}}` + "\n"
	}
	before := line("kubernetes-pay-privyseal", "kv/data/bench/pay/db", "1")
	vault := before +
		line("", "auth/kubernetes/login", "2") +
		line("kubernetes-pay-privyseal", "sys/internal/ui/mounts/kv/bench/pay/db", "2") +
		line("kubernetes-pay-privyseal", "kv/data/bench/pay/db", "3") +
		`{"type":"response","auth":{},"request":{"path":"kv/data/bench/pay/db","remote_port":3}}` + "\n" +
		line("root", "kv/data/bench/pay/db", "4")
	use, err := logged(t, "", vault).storeUseSince(mark{vault: int64(len(before))})
	if err != nil {
		t.Fatal(err)
	}
	if want := (storeUse{reads: 1, logins: 1, other: 1, connections: 2}); use != want {
		t.Errorf("counted %+v, want %+v", use, want)
	}
}

func TestManyHandsDoEachThingOnceAndStopAtAFault(t *testing.T) {
	var done atomic.Int64
	if err := each(t.Context(), 100, func(context.Context, int) error { done.Add(1); return nil }); err != nil || done.Load() != 100 {
		t.Errorf("%d were done, %v", done.Load(), err)
	}
	fault := errors.New("a fault")
	err := each(t.Context(), 1_000_000, func(_ context.Context, i int) error {
		done.Add(1)
		if i == 5 {
			return fault
		}
		return nil
	})
	if !errors.Is(err, fault) || done.Load() > 999_999 {
		t.Errorf("it ended with %v after %d", err, done.Load())
	}
}

func TestAWayThatIsClosedEndsConnectionsAndCanBeOpenedAgain(t *testing.T) {
	server, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Close() }()
	go func() {
		for {
			connection, err := server.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(connection, connection) }()
		}
	}()
	w := &way{to: server.Addr().String()}
	if err := w.open(t.Context(), "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	talk := func() (net.Conn, error) {
		connection, err := new(net.Dialer).DialContext(t.Context(), "tcp", w.address)
		if err != nil {
			return nil, err
		}
		if _, err := connection.Write([]byte("hello")); err != nil {
			return nil, err
		}
		_, err = io.ReadFull(connection, make([]byte, 5))
		return connection, err
	}
	connection, err := talk()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.close(); err != nil {
		t.Fatal(err)
	}
	if _, err := connection.Read(make([]byte, 1)); err == nil {
		t.Error("a connection outlived the way")
	}
	if _, err := talk(); err == nil {
		t.Error("a closed way lets somebody in")
	}
	if err := w.open(t.Context(), w.address); err != nil {
		t.Fatal(err)
	}
	if _, err := talk(); err != nil {
		t.Errorf("the way is open again: %v", err)
	}
}

func TestTheTableIsMarkdown(t *testing.T) {
	rows := &table{machine: "this machine."}
	rows.add(row{"writes", "0", "", "", "0"}, row{"first sync", "400/s", "800/s", percent(400, 800), "≥ 50 %"})
	var out strings.Builder
	rows.print(&out)
	lines := strings.Split(out.String(), "\n")
	if len(lines[0]) != len(lines[2]) || !strings.Contains(lines[3], "| 50 % ") || !strings.HasPrefix(lines[1], "| ---") {
		t.Errorf("printed\n%s", out.String())
	}
	if !strings.HasSuffix(strings.TrimSpace(out.String()), "those of this machine.") {
		t.Errorf("the machine is missing:\n%s", out.String())
	}
}

func TestTheMedianIsAMeasurementAndNoMean(t *testing.T) {
	itself := func(f float64) float64 { return f }
	if got := median([]float64{9, 1, 2}, itself); got != 2 {
		t.Errorf("the median is %v", got)
	}
	if got := spread([]float64{9, 1, 2}, itself); got != "1–9" {
		t.Errorf("the range is %s", got)
	}
}
