package kubeseal_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	ssv1alpha1 "github.com/bitnami-labs/sealed-secrets/pkg/apis/sealedsecrets/v1alpha1"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/cert"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/privyseal/privyseal/broker/environment"
	"github.com/privyseal/privyseal/broker/kubeseal"
	"github.com/privyseal/privyseal/broker/manifest"
	"github.com/privyseal/privyseal/broker/seal"
	"github.com/privyseal/privyseal/broker/sealingkey"
)

var start = time.Unix(1_800_000_000, 0)

// world is a cluster as the API sees it: keys, and namespaces of environments.
type world struct {
	old, now  sealingkey.Snapshot
	keys      sealingkey.Snapshot
	keysGone  error
	panics    bool
	homes     map[string]string
	homesGone error
	clock     *clocktesting.FakePassiveClock
	registry  *prometheus.Registry
	server    *kubeseal.Server
	recovery  *seal.PrivateKey
}

func (w *world) Snapshot(context.Context) (sealingkey.Snapshot, error) {
	if w.panics {
		panic("hunter2")
	}
	return w.keys, w.keysGone
}

func (w *world) Environment(_ context.Context, namespace string) (string, error) {
	if namespace == "torn" {
		return "", fmt.Errorf("namespace torn is %w", environment.ErrTwo)
	}
	return w.homes[namespace], w.homesGone
}

func generate(t testing.TB) (*seal.RSAKey, *seal.PrivateKey) {
	t.Helper()
	rsa, err := seal.GenerateRSAKey(seal.RSAConfig{Now: start, Bits: 2048})
	if err != nil {
		t.Fatal(err)
	}
	hybrid, err := seal.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return rsa, hybrid
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{
		homes: map[string]string{"pay": "production"}, registry: prometheus.NewRegistry(),
		clock: clocktesting.NewFakePassiveClock(start),
	}
	oldRSA, oldHybrid := generate(t)
	rsa, hybrid := generate(t)
	_, w.recovery = generate(t)
	w.old = sealingkey.Snapshot{RSA: oldRSA, Hybrid: oldHybrid, Open: seal.NewKeys([]*seal.RSAKey{oldRSA}, []*seal.PrivateKey{oldHybrid})}
	w.now = sealingkey.Snapshot{
		RSA: rsa, Hybrid: hybrid, Open: seal.NewKeys([]*seal.RSAKey{rsa, oldRSA}, []*seal.PrivateKey{hybrid, oldHybrid}),
		Keys: []sealingkey.Key{{Kind: sealingkey.V2, ID: hybrid.Public().ID().String()}, {Kind: sealingkey.V2, ID: oldHybrid.Public().ID().String()}},
	}
	w.keys = w.now
	w.server = kubeseal.New(kubeseal.Config{
		Keys: w, Environments: w, Clock: w.clock, Registerer: w.registry, Recovery: []*seal.PublicKey{w.recovery.Public()},
	})
	return w
}

// ask sends a request, long after the one before.
func (w *world) ask(method, path, body string) *httptest.ResponseRecorder {
	w.clock.SetTime(w.clock.Now().Add(time.Minute))
	recorder := httptest.NewRecorder()
	w.server.ServeHTTP(recorder, httptest.NewRequest(method, path, strings.NewReader(body)))
	return recorder
}

func v1(keys sealingkey.Snapshot) manifest.Sealer { return manifest.Sealer{RSA: keys.RSA.Public()} }

func v2(keys sealingkey.Snapshot, environment string, more ...*seal.PublicKey) manifest.Sealer {
	return manifest.Sealer{Recipients: append(more, keys.Hybrid.Public()), Environment: environment}
}

func sealed(t testing.TB, sealer manifest.Sealer, scope seal.Scope, modify ...func(*ssv1alpha1.SealedSecret)) string {
	t.Helper()
	object, err := sealer.Seal(&corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "db", Namespace: "pay"},
		Data:       map[string][]byte{"user": []byte("pay"), "password": []byte("hunter2")},
	}, scope)
	if err != nil {
		t.Fatal(err)
	}
	for _, change := range modify {
		change(object)
	}
	text, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestTheCertificateComesFirstAndKeysOfVersion2AfterIt(t *testing.T) {
	w := newWorld(t)
	got := w.ask("GET", "/v1/cert.pem", "")
	if got.Code != 200 || got.Header().Get("Content-Type") != "application/x-pem-file" {
		t.Fatalf("got %d, %v", got.Code, got.Header())
	}
	first, _ := pem.Decode(got.Body.Bytes())
	if first == nil || first.Type != "CERTIFICATE" {
		t.Errorf("the first block is %v", first)
	}
	rsa, err := seal.ParseCertificate(got.Body.Bytes(), start.Add(time.Hour))
	if err != nil || rsa.Fingerprint() != w.now.RSA.Fingerprint() {
		t.Errorf("got %v, %v", rsa, err)
	}
	if certificates, err := cert.ParseCertsPEM(got.Body.Bytes()); err != nil || len(certificates) != 1 {
		t.Errorf("kubeseal reads %d certificates, %v", len(certificates), err)
	}
	hybrid, err := seal.ParsePublicKeys(got.Body.Bytes())
	if err != nil || len(hybrid) != 2 || hybrid[0].ID() != w.now.Hybrid.Public().ID() || hybrid[1].ID() != w.recovery.Public().ID() {
		t.Errorf("got %v, %v", hybrid, err)
	}
	if strings.Contains(got.Body.String(), "PRIVATE") {
		t.Error("a private key was given out")
	}
	w.keys = sealingkey.Snapshot{RSA: w.now.RSA}
	if got := w.ask("GET", "/v1/cert.pem", ""); got.Code != 200 || strings.Contains(got.Body.String(), "PRIVYSEAL") {
		t.Errorf("without a key of version 2: %d\n%s", got.Code, got.Body)
	}
	w.keys = sealingkey.Snapshot{}
	if got := w.ask("GET", "/v1/cert.pem", ""); got.Code != 503 {
		t.Errorf("without keys: %d", got.Code)
	}
	if got := w.ask("GET", "/healthz", ""); got.Code != 200 || got.Body.String() != "ok\n" {
		t.Errorf("health: %d %q", got.Code, got.Body)
	}
}

func TestVerifyTellsWhetherAnObjectOpens(t *testing.T) {
	w := newWorld(t)
	for _, scope := range []seal.Scope{seal.Strict, seal.NamespaceWide, seal.ClusterWide} {
		for name, sealer := range map[string]manifest.Sealer{
			"version 1": v1(w.now), "version 1, old key": v1(w.old), "version 2": v2(w.now, "production"), "version 2, old key": v2(w.old, "production"),
		} {
			if got := w.ask("POST", "/v1/verify", sealed(t, sealer, scope)); got.Code != 200 || got.Body.Len() != 0 {
				t.Errorf("%s, %s: %d %s", name, scope, got.Code, got.Body)
			}
		}
	}
	// A template is not rendered: whether it fails could depend on a value.
	text := sealed(t, v1(w.now), seal.Strict, func(s *ssv1alpha1.SealedSecret) {
		s.Spec.Template.Data = map[string]string{"x": `{{ if hasPrefix "h" .password }}{{ fail "" }}{{ end }}`}
	})
	if got := w.ask("POST", "/v1/verify", text); got.Code != 200 {
		t.Errorf("a template that fails: %d", got.Code)
	}
}

// refusals are objects that do not open, each for another cause.
func refusals(t testing.TB, w *world) map[string]string {
	t.Helper()
	foreign := newWorld(t)
	item := func(name string, change func([]byte) []byte) func(*ssv1alpha1.SealedSecret) {
		return func(s *ssv1alpha1.SealedSecret) {
			raw, _ := base64.StdEncoding.DecodeString(s.Spec.EncryptedData[name])
			s.Spec.EncryptedData[name] = base64.StdEncoding.EncodeToString(change(raw))
		}
	}
	flip := func(raw []byte) []byte { raw[len(raw)-1] ^= 1; return raw }
	return map[string]string{
		"a key of another cluster, 1": sealed(t, v1(foreign.now), seal.Strict),
		"a key of another cluster, 2": sealed(t, v2(foreign.now, "production"), seal.Strict),
		"another environment":         sealed(t, v2(w.now, "staging"), seal.Strict),
		"a namespace in two":          sealed(t, v2(w.now, ""), seal.ClusterWide, func(s *ssv1alpha1.SealedSecret) { s.Namespace = "torn" }),
		"another namespace":           sealed(t, v1(w.now), seal.Strict, func(s *ssv1alpha1.SealedSecret) { s.Namespace = "shop" }),
		"another name":                sealed(t, v1(w.now), seal.Strict, func(s *ssv1alpha1.SealedSecret) { s.Name = "other" }),
		"no namespace":                sealed(t, v1(w.now), seal.Strict, func(s *ssv1alpha1.SealedSecret) { s.Namespace = "" }),
		"a wider scope":               sealed(t, v1(w.now), seal.Strict, func(s *ssv1alpha1.SealedSecret) { manifest.SetScope(s, seal.ClusterWide) }),
		"a wider scope, 2":            sealed(t, v2(w.now, "production"), seal.Strict, func(s *ssv1alpha1.SealedSecret) { manifest.SetScope(s, seal.NamespaceWide) }),
		"a forged body":               sealed(t, v1(w.now), seal.Strict, item("password", flip)),
		"a forged body, 2":            sealed(t, v2(w.now, "production"), seal.Strict, item("password", flip)),
		"a forged key":                sealed(t, v1(w.now), seal.Strict, item("user", func(raw []byte) []byte { raw[40] ^= 1; return raw })),
		"a forged stanza":             sealed(t, v2(w.now, "production"), seal.Strict, item("user", func(raw []byte) []byte { raw[200] ^= 1; return raw })),
		"a torn item":                 sealed(t, v1(w.now), seal.Strict, item("user", func(raw []byte) []byte { return raw[:20] })),
		"a torn item, 2":              sealed(t, v2(w.now, "production"), seal.Strict, item("user", func(raw []byte) []byte { return raw[:20] })),
		"an unknown version":          sealed(t, v1(w.now), seal.Strict, item("user", func([]byte) []byte { return []byte{0xff, 0xff, 9} })),
		"an empty item":               sealed(t, v1(w.now), seal.Strict, item("user", func([]byte) []byte { return nil })),
		"no base64":                   sealed(t, v1(w.now), seal.Strict, func(s *ssv1alpha1.SealedSecret) { s.Spec.EncryptedData["user"] = "hunter2!" }),
		"swapped items": sealed(t, v2(w.now, "production"), seal.Strict, func(s *ssv1alpha1.SealedSecret) {
			e := s.Spec.EncryptedData
			e["user"], e["password"] = e["password"], e["user"]
		}),
		"both kinds of data": sealed(t, v1(w.now), seal.Strict, func(s *ssv1alpha1.SealedSecret) { s.Spec.Data = []byte("x") }),
		"torn data":          sealed(t, v1(w.now), seal.Strict, func(s *ssv1alpha1.SealedSecret) { s.Spec.EncryptedData, s.Spec.Data = nil, []byte("x") }),
	}
}

func TestWhateverDoesNotOpenIsRefusedInTheSameWords(t *testing.T) {
	w := newWorld(t)
	for path, want := range map[string]struct {
		code int
		body string
	}{
		"/v1/verify": {409, "the sealed secret does not open\n"},
		"/v1/rotate": {400, "the sealed secret cannot be sealed anew\n"},
	} {
		var header http.Header
		for cause, text := range refusals(t, w) {
			got := w.ask("POST", path, text)
			if got.Code != want.code || got.Body.String() != want.body {
				t.Errorf("%s, %s: %d %q", path, cause, got.Code, got.Body)
			}
			if header != nil && !cmp.Equal(header, got.Header()) {
				t.Errorf("%s, %s: the header differs: %v, %v", path, cause, header, got.Header())
			}
			header = got.Header()
		}
	}
}

func TestWhatIsNoSealedSecretIsRefusedUnopened(t *testing.T) {
	w := newWorld(t)
	w.panics = true // at a look at the keys
	one := sealed(t, v1(w.now), seal.Strict)
	for name, body := range map[string]string{
		"nothing": "", "no object": "[]", "torn": one[:100], "two": one + one, "not UTF-8": "\xff", "a number": "5",
		"a Secret": `{"apiVersion":"v1","kind":"Secret","data":{}}`, "an item that is no text": `{"apiVersion":"bitnami.com/v1alpha1","kind":"SealedSecret","spec":{"encryptedData":{"a":5}}}`,
		"deep": strings.Repeat(`{"a":`, 5000) + "1" + strings.Repeat("}", 5000),
	} {
		if got := w.ask("POST", "/v1/verify", body); got.Code != 400 || got.Body.String() != "want one SealedSecret, as JSON or YAML\n" {
			t.Errorf("verify, %s: %d %s", name, got.Code, got.Body)
		}
		if got := w.ask("POST", "/v1/rotate", body); got.Code != 400 {
			t.Errorf("rotate, %s: %d %s", name, got.Code, got.Body)
		}
	}
	for _, path := range []string{"/v1/verify", "/v1/rotate"} {
		if got := w.ask("POST", path, strings.Repeat("x", 10<<20)); got.Code != 413 {
			t.Errorf("%s, ten megabytes: %d", path, got.Code)
		}
		if got := w.ask("GET", path, ""); got.Code != 405 {
			t.Errorf("GET %s: %d", path, got.Code)
		}
	}
	// The panic itself is survived, and not told.
	if got := w.ask("POST", "/v1/verify", one); got.Code != 500 || got.Body.String() != "internal error\n" {
		t.Errorf("a panic: %d %s", got.Code, got.Body)
	}
}

func TestRotateChangesCiphertextsOfOldKeysAndNothingElse(t *testing.T) {
	w := newWorld(t)
	for name, c := range map[string]struct {
		was     manifest.Sealer
		changes bool
	}{
		"version 1, old key": {v1(w.old), true}, "version 1, newest key": {v1(w.now), false},
		"version 2, old key": {v2(w.old, "production"), true}, "version 2, newest key": {v2(w.now, "production"), false},
		"version 2, old key and recovery": {v2(w.old, "production", w.recovery.Public()), true},
	} {
		for _, scope := range []seal.Scope{seal.Strict, seal.NamespaceWide, seal.ClusterWide} {
			t.Run(fmt.Sprint(name, " ", scope), func(t *testing.T) {
				text := sealed(t, c.was, scope, func(s *ssv1alpha1.SealedSecret) {
					s.Labels = map[string]string{"app": "pay"}
					s.Annotations = map[string]string{"note": "kept"}
					manifest.SetScope(s, scope)
					s.Spec.Template.Data = map[string]string{"url": "{{ .password }}"}
					// Who writes a wider scope into the template gets nothing by it.
					manifest.SetScope(&s.Spec.Template, seal.ClusterWide)
				})
				text = strings.Replace(text, `"template":{`, `"template":{"future":[1,{"a":null}],`, 1)
				got := w.ask("POST", "/v1/rotate", text)
				if got.Code != 200 || got.Header().Get("Content-Type") != "application/json" {
					t.Fatalf("got %d %s", got.Code, got.Body)
				}
				before, after := tree(t, text), tree(t, got.Body.String())
				if changed := !cmp.Equal(items(before), items(after)); changed != c.changes {
					t.Errorf("changed: %v, want %v", changed, c.changes)
				}
				resealed := &ssv1alpha1.SealedSecret{}
				if err := json.Unmarshal(got.Body.Bytes(), resealed); err != nil {
					t.Fatal(err)
				}
				newest := seal.NewKeys([]*seal.RSAKey{w.now.RSA}, []*seal.PrivateKey{w.now.Hybrid})
				opened, err := manifest.Open(resealed, "production", newest)
				if err != nil || string(opened.Data["password"].Bytes()) != "hunter2" {
					t.Errorf("with the newest keys: %v", err)
				}
				delete(before["spec"].(map[string]any), "encryptedData")
				delete(after["spec"].(map[string]any), "encryptedData")
				if diff := cmp.Diff(before, after); diff != "" {
					t.Error(diff)
				}
			})
		}
	}
}

func tree(t *testing.T, text string) map[string]any {
	t.Helper()
	var tree map[string]any
	if err := json.Unmarshal([]byte(text), &tree); err != nil {
		t.Fatal(err)
	}
	return tree
}

func items(tree map[string]any) any { return tree["spec"].(map[string]any)["encryptedData"] }

func TestRotateShutsNoOtherClusterOut(t *testing.T) {
	w, other := newWorld(t), newWorld(t)
	text := sealed(t, v2(w.old, "production", other.now.Hybrid.Public()), seal.Strict)
	if got := w.ask("POST", "/v1/rotate", text); got.Code != 400 {
		t.Errorf("got %d %s", got.Code, got.Body)
	}
	// With the newest key it stays as it is.
	text = sealed(t, v2(w.now, "production", other.now.Hybrid.Public()), seal.Strict)
	if got := w.ask("POST", "/v1/rotate", text); got.Code != 200 || !cmp.Equal(tree(t, text), tree(t, got.Body.String())) {
		t.Errorf("got %d %s", got.Code, got.Body)
	}
}

func TestWithoutTheClusterNothingIsSaidOfTheObject(t *testing.T) {
	w := newWorld(t)
	text := sealed(t, v1(w.now), seal.Strict)
	for _, gone := range []func(){
		func() { w.keysGone = errors.New("hunter2") },
		func() { w.keysGone, w.homesGone = nil, errors.New("hunter2") },
	} {
		gone()
		for _, path := range []string{"/v1/verify", "/v1/rotate"} {
			if got := w.ask("POST", path, text); got.Code != 503 || got.Body.String() != "not available; try again later\n" || got.Header().Get("Retry-After") == "" {
				t.Errorf("%s: %d %s", path, got.Code, got.Body)
			}
		}
	}
}

func TestAClientThatAsksTooOftenIsToldWhenToComeAgain(t *testing.T) {
	w := newWorld(t)
	text := sealed(t, v1(w.now), seal.Strict)
	from := func(client, path, body string) *httptest.ResponseRecorder {
		recorder, request := httptest.NewRecorder(), httptest.NewRequest("POST", path, strings.NewReader(body))
		request.Header.Set("X-Forwarded-For", client)
		w.server.ServeHTTP(recorder, request)
		return recorder
	}
	var codes []int
	for range 3 {
		codes = append(codes, from("a", "/v1/verify", text).Code)
	}
	if want := []int{200, 200, 429}; !cmp.Equal(codes, want) {
		t.Fatalf("got %v, want %v", codes, want)
	}
	for name, body := range map[string]string{"opens": text, "does not": "x", "is too long": strings.Repeat("x", 10<<20)} {
		if got := from("a", "/v1/verify", body); got.Code != 429 || got.Header().Get("Retry-After") != "1" {
			t.Errorf("an object that %s: %d, %v", name, got.Code, got.Header())
		}
	}
	if got := from("b", "/v1/verify", text); got.Code != 200 {
		t.Errorf("another client: %d", got.Code)
	}
	if got := from("a", "/v1/rotate", text); got.Code != 200 {
		t.Errorf("another path: %d", got.Code)
	}
	w.clock.SetTime(w.clock.Now().Add(time.Second))
	if got := from("a", "/v1/verify", text); got.Code != 200 {
		t.Errorf("a second later: %d", got.Code)
	}
	// Who claims to be many is held by the bound for all, and takes no memory.
	refused := 0
	for i := range 10_000 {
		if from(fmt.Sprint("c", i), "/v1/verify", "x").Code == 429 {
			refused++
		}
	}
	if refused < 9_900 {
		t.Errorf("of 10000 requests in one second %d were refused", refused)
	}
}

func TestRequestsAreCountedAsUpstreamCountsThem(t *testing.T) {
	w := newWorld(t)
	w.ask("GET", "/v1/cert.pem", "")
	w.ask("POST", "/v1/verify", "x")
	w.ask("POST", "/v1/verify", sealed(t, v1(w.now), seal.Strict))
	families, err := w.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			line := strings.TrimPrefix(family.GetName(), "sealed_secrets_controller_")
			for _, label := range metric.GetLabel() {
				line += " " + label.GetName() + "=" + label.GetValue()
			}
			got = append(got, fmt.Sprint(line, " ", metric.GetCounter().GetValue()+float64(metric.GetHistogram().GetSampleCount())))
		}
	}
	want := []string{
		"http_request_duration_seconds method=get path=/v1/cert.pem 1",
		"http_request_duration_seconds method=post path=/v1/verify 2",
		"http_requests_total code=200 method=get path=/v1/cert.pem 1",
		"http_requests_total code=200 method=post path=/v1/verify 1",
		"http_requests_total code=400 method=post path=/v1/verify 1",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestTheServerServesManyAtOnceUntilItIsStopped(t *testing.T) {
	w := newWorld(t)
	address := freeAddress(t)
	server := kubeseal.New(kubeseal.Config{Address: address, Keys: w, Environments: w})
	if server.NeedLeaderElection() {
		t.Error("only the leader would serve")
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- server.Start(ctx) }()
	text := sealed(t, v2(w.old, "production"), seal.Strict)
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			response, err := retrying(t, func() (*http.Response, error) {
				return http.Post("http://"+address+"/v1/rotate", "application/json", strings.NewReader(text))
			})
			if err != nil {
				t.Error(err)
				return
			}
			defer response.Body.Close()
			if body, err := io.ReadAll(response.Body); err != nil || response.StatusCode != 200 && response.StatusCode != 429 {
				t.Errorf("got %d %s, %v", response.StatusCode, body, err)
			}
		})
	}
	all.Wait()
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := kubeseal.New(kubeseal.Config{Address: "nowhere:-1", Keys: w, Environments: w}).Start(t.Context()); err == nil {
		t.Error("it listens nowhere")
	}
}

func TestAClientThatConnectsAndAsksNothingKeepsNoServerFromItsCleanEnd(t *testing.T) {
	w := newWorld(t)
	address := freeAddress(t)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- kubeseal.New(kubeseal.Config{Address: address, Keys: w, Environments: w}).Start(ctx) }()
	response, err := retrying(t, func() (*http.Response, error) { return http.Get("http://" + address + "/healthz") })
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	silent, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := silent.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the connection is not cut: %v", err)
	}
}

// retrying waits for the server to listen.
func retrying(t *testing.T, ask func() (*http.Response, error)) (*http.Response, error) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		response, err := ask()
		if err == nil {
			return response, nil
		}
		select {
		case <-deadline:
			return nil, err
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// FuzzBodies looks for bodies that crash a handler, or get another answer than
// the documented ones.
func FuzzBodies(f *testing.F) {
	w := newWorld(f)
	f.Add(sealed(f, v1(w.now), seal.Strict))
	f.Add(sealed(f, v2(w.now, "production"), seal.NamespaceWide))
	f.Add("apiVersion: bitnami.com/v1alpha1\nkind: SealedSecret\nspec: {data: AAAA}\n")
	f.Fuzz(func(t *testing.T, body string) {
		if got := w.ask("POST", "/v1/verify", body); got.Code != 200 && got.Code != 400 && got.Code != 409 && got.Code != 413 {
			t.Errorf("verify: %d %s", got.Code, got.Body)
		}
		if got := w.ask("POST", "/v1/rotate", body); got.Code != 200 && got.Code != 400 && got.Code != 413 {
			t.Errorf("rotate: %d %s", got.Code, got.Body)
		}
	})
}
