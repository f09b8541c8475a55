package broker_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	ssv1alpha1 "github.com/bitnami-labs/sealed-secrets/pkg/apis/sealedsecrets/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/privyseal/privyseal/broker/brokertest"
	"github.com/privyseal/privyseal/broker/manifest"
	"github.com/privyseal/privyseal/broker/seal"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// sealedMarkers is a test of what SealedSecrets give away.
type sealedMarkers struct {
	*testing.T
	*markers
	lab    *brokertest.Lab
	tenant *brokertest.Tenant
}

// No value that was sealed leaves its Secret by any way out, whatever becomes of
// it: not by the daemon, not by the answers that kubeseal gets, and not by what
// is kept in git. See TestNoValueIsSaidAnywhere.
func TestNoSealedValueIsSaidAnywhere(t *testing.T) {
	lab := brokertest.NewLab(t, brokertest.Ours)
	lab.Install(t, fast)
	m := &sealedMarkers{T: t, markers: &markers{}, lab: lab, tenant: lab.NewTenant(t, "sealed-markers")}
	for version, sealer := range sealers(t, lab, m.tenant) {
		for name, row := range outcomes {
			m.apply(version+"-"+name, sealer, row)
		}
		m.change(version+"-immutable", sealer, outcome{immutable: true})
		m.change(version+"-delivered", sealer, outcome{})
		m.askLikeKubeseal(sealer)
	}
	kept := m.keepInGit()

	// A name is no secret, so it may get out by every way that there is. That the
	// search finds it there shows that it would find a value.
	planted := &markers{}
	m.apply(planted.new(), sealers(t, lab, m.tenant)["v2"], outcome{told: "ErrUnsealFailed", edit: elsewhereSealed})
	ways := map[string]bool{"the tenant's objects": false, "the API server's audit log": false, "the log of privyseal-": false, "the metrics of privyseal-": false}
	said := everythingSaid(t, lab, m.tenant)
	said["what lies in git"] = kept
	for from, text := range said {
		if form := m.found(text); form != "" {
			t.Errorf("%s holds a value, as %s", from, form)
		}
		for way := range ways {
			ways[way] = ways[way] || strings.HasPrefix(from, way) && planted.found(text) != ""
		}
	}
	for way, found := range ways {
		if !found {
			t.Errorf("the search does not find in %s what is there", way)
		}
	}
}

// outcome is a SealedSecret, and what becomes of it.
type outcome struct {
	keys      []string // of its items; nil is password alone
	value     string   // in the place of a marker; %s is one
	template  map[string]string
	kind      corev1.SecretType
	immutable bool
	edit      func(*ssv1alpha1.SealedSecret)
	foreign   bool   // there is a Secret of its name already
	told      string // the reason; "" for in order
}

// elsewhereSealed has items open under another name than the object's.
func elsewhereSealed(sealed *ssv1alpha1.SealedSecret) {
	sealed.Namespace = "another-" + sealed.Namespace
}

var outcomes = map[string]outcome{
	"delivered": {},
	"immutable": {immutable: true},
	"rendered":  {template: map[string]string{"DSN": "postgres://{{ .password | urlquery }}@db {{ .password | b64enc }} {{ .password | sha256sum }}"}},

	"does-not-open": {told: "ErrUnsealFailed", edit: elsewhereSealed},
	"another-scope": {told: "ErrUnsealFailed", edit: func(sealed *ssv1alpha1.SealedSecret) {
		sealed.Annotations = map[string]string{ssv1alpha1.SealedSecretClusterWideAnnotation: "true"}
	}},
	"fails-aloud":    {told: "ErrUnsealFailed", template: map[string]string{"A": "{{ fail .password }}"}},
	"fails-on-value": {told: "ErrUnsealFailed", template: map[string]string{"A": "{{ .password.deeper }}"}},
	"no-number":      {told: "ErrUnsealFailed", template: map[string]string{"A": "{{ index .password 1000000 }}"}},
	"no-date":        {told: "ErrUnsealFailed", template: map[string]string{"A": `{{ mustToDate "2006" .password }}`}},
	"no-json":        {told: "ErrUnsealFailed", template: map[string]string{"A": "{{ mustFromJson .password }}"}},
	"no-version":     {told: "ErrUnsealFailed", template: map[string]string{"A": "{{ semver .password }}"}},
	"no-expression":  {told: "ErrUnsealFailed", template: map[string]string{"A": `{{ mustRegexMatch (print "(" .password) "x" }}`}},
	"no-template":    {told: "ErrUnsealFailed", template: map[string]string{"A": "{{ .password "}},
	"too-large":      {told: "ErrUnsealFailed", template: map[string]string{"A": "{{ repeat 1000000 .password }}"}},
	"refused-label": {told: "ErrUnsealFailed", edit: func(sealed *ssv1alpha1.SealedSecret) {
		sealed.Spec.Template.Labels = map[string]string{"argocd.argoproj.io/secret-type": "cluster"}
	}},
	"odd-key":    {told: "ErrUpdateFailed", keys: []string{"no key!"}},
	"odd-type":   {told: "ErrUpdateFailed", kind: corev1.SecretTypeTLS},
	"odd-value":  {told: "ErrUpdateFailed", kind: corev1.SecretTypeDockerConfigJson, keys: []string{corev1.DockerConfigJsonKey}, value: `{"auths": %s`},
	"not-ours":   {told: "ErrUpdateFailed", foreign: true},
	"of-a-token": {told: "ErrUpdateFailed", kind: corev1.SecretTypeServiceAccountToken},
}

// sealing makes a SealedSecret of new markers.
func (m *sealedMarkers) sealing(name string, sealer manifest.Sealer, row outcome) *ssv1alpha1.SealedSecret {
	m.Helper()
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: m.tenant.Namespace, Name: name}, Type: row.kind, Data: map[string][]byte{}}
	if row.immutable {
		secret.Immutable = new(true)
	}
	if row.keys == nil {
		row.keys = []string{"password"}
	}
	for _, key := range row.keys {
		secret.Data[key] = []byte(m.new())
		if row.value != "" {
			secret.Data[key] = fmt.Appendf(nil, row.value, secret.Data[key])
		}
	}
	if row.edit != nil && secret.Namespace != "" {
		moved := &ssv1alpha1.SealedSecret{ObjectMeta: secret.ObjectMeta}
		row.edit(moved)
		secret.Namespace = moved.Namespace
	}
	sealed, err := sealer.Seal(secret, seal.Strict)
	if err != nil {
		m.Fatal(err)
	}
	if row.edit != nil {
		row.edit(sealed)
	}
	sealed.Namespace, sealed.Spec.Template.Namespace = m.tenant.Namespace, m.tenant.Namespace
	sealed.Spec.Template.Data = row.template
	return sealed
}

// apply makes a SealedSecret, and waits for what becomes of it.
func (m *sealedMarkers) apply(name string, sealer manifest.Sealer, row outcome) {
	m.Helper()
	if row.foreign {
		foreign := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: m.tenant.Namespace, Name: name}, Data: map[string][]byte{"password": []byte(m.new())}}
		if err := m.lab.Client.Create(m.Context(), foreign); err != nil {
			m.Fatal(err)
		}
	}
	if err := m.lab.Client.Create(m.Context(), m.sealing(name, sealer, row)); err != nil {
		m.Fatal(err)
	}
	m.comesTo(name, row.told)
}

// change gives a SealedSecret that is in order another value. One whose Secret is
// immutable cannot follow.
func (m *sealedMarkers) change(name string, sealer manifest.Sealer, row outcome) {
	m.Helper()
	found := &ssv1alpha1.SealedSecret{}
	if err := m.lab.Client.Get(m.Context(), m.tenant.Key(name), found); err != nil {
		m.Fatal(err)
	}
	found.Spec = m.sealing(name, sealer, row).Spec
	if err := m.lab.Client.Update(m.Context(), found); err != nil {
		m.Fatal(err)
	}
	m.comesTo(name, map[bool]string{true: "ErrUpdateFailed"}[row.immutable])
}

func (m *sealedMarkers) comesTo(name, reason string) {
	m.Helper()
	brokertest.Eventually(m, within, func(ctx context.Context) error {
		found := &ssv1alpha1.SealedSecret{}
		if err := m.lab.Client.Get(ctx, m.tenant.Key(name), found); err != nil {
			return err
		}
		if found.Status == nil || found.Status.ObservedGeneration != found.Generation {
			return fmt.Errorf("%s was not looked at yet", name)
		}
		for _, is := range found.Status.Conditions {
			if inOrder := is.Status == corev1.ConditionTrue; is.Reason != reason || inOrder != (reason == "") {
				return fmt.Errorf("%s is %+v, want reason %q", name, is, reason)
			}
		}
		return nil
	})
}

// askLikeKubeseal asks the API for kubeseal good and bad questions, and searches
// the answers.
func (m *sealedMarkers) askLikeKubeseal(sealer manifest.Sealer) {
	m.Helper()
	marshal := func(object any) []byte {
		m.Helper()
		body, err := json.Marshal(object)
		if err != nil {
			m.Fatal(err)
		}
		return body
	}
	plain := marshal(&corev1.Secret{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: metav1.ObjectMeta{Namespace: m.tenant.Namespace, Name: "plain"}, Data: map[string][]byte{"password": []byte(m.new())}})
	good := marshal(m.sealing("asked", sealer, outcome{}))
	for name, ask := range map[string]struct {
		body           []byte
		verify, rotate int
	}{
		"what opens":                      {good, http.StatusOK, http.StatusOK},
		"what does not open":              {marshal(m.sealing("asked", sealer, outcome{edit: elsewhereSealed})), http.StatusConflict, http.StatusBadRequest},
		"what opens, and does not render": {marshal(m.sealing("asked", sealer, outcomes["fails-aloud"])), http.StatusOK, http.StatusOK},
		"a plain Secret":                  {plain, http.StatusBadRequest, http.StatusBadRequest},
		"a value and nothing else":        {[]byte(m.new()), http.StatusBadRequest, http.StatusBadRequest},
		"a value as an item": {bytes.ReplaceAll(good, []byte(`"encryptedData":{`), []byte(`"encryptedData":{"token":"`+m.new()+`",`)),
			http.StatusConflict, http.StatusBadRequest},
		"half of an object": {plain[:len(plain)-20], http.StatusBadRequest, http.StatusBadRequest},
	} {
		for path, want := range map[string]int{"verify": ask.verify, "rotate": ask.rotate} {
			brokertest.Eventually(m, within, func(context.Context) error {
				code, answer := m.post("/v1/"+path, ask.body)
				if form := m.found(answer); form != "" {
					m.Errorf("%s of %s answers with a value, as %s", path, name, form)
				}
				if code != want { // who asks too often is told 429, and waits
					return fmt.Errorf("%s of %s: %d %s, want %d", path, name, code, answer, want)
				}
				return nil
			})
		}
	}
}

// post asks the daemon's Service by the API server's proxy, as kubeseal does.
func (m *sealedMarkers) post(path string, body []byte) (int, string) {
	m.Helper()
	through, err := rest.HTTPClientFor(m.lab.Access)
	if err != nil {
		m.Fatal(err)
	}
	url := m.lab.Access.Host + "/api/v1/namespaces/" + brokertest.System + "/services/http:sealed-secrets-controller:http/proxy" + path
	request, err := http.NewRequestWithContext(m.Context(), http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		m.Fatal(err)
	}
	response, err := through.Do(request)
	if err != nil {
		m.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		m.Fatal(err)
	}
	return response.StatusCode, string(answer)
}

// keepInGit has a sealed copy kept of a claim, twice, and gives all that the
// repository holds, of the commits before the last one too.
func (m *sealedMarkers) keepInGit() string {
	m.Helper()
	recovery, err := seal.GenerateKey()
	if err != nil {
		m.Fatal(err)
	}
	git := m.lab.NewGit(m)
	d := drill{T: m.T, lab: m.lab, tenant: m.tenant, git: git}
	d.keepCopies(string(recovery.Public().PEM()))
	m.lab.Apply(m, fmt.Sprintf("{apiVersion: %s, kind: SecretClaim, metadata: {name: db, namespace: %s}, spec: {sources: [{path: db}]}}", v1alpha1.GroupVersion, m.tenant.Namespace))
	var kept string
	for commits := 1; commits <= 2; commits++ {
		m.lab.Vault.Put(m, m.tenant.Path("db"), map[string]any{"password": m.new()})
		brokertest.Eventually(m, within, func(ctx context.Context) error {
			if err := d.sealed(ctx); err != nil {
				return err
			}
			if kept, err = git.Run(ctx, copiesRepository, "log", "--patch", "--format=fuller", "main"); err != nil {
				return err
			}
			if made := strings.Count(kept, "\ncommit ") + 1; made != commits {
				return fmt.Errorf("the repository has %d commits, want %d", made, commits)
			}
			return nil
		})
	}
	if !strings.Contains(kept, "encryptedData") {
		m.Errorf("there is no copy in git: %s", kept)
	}
	return kept
}
