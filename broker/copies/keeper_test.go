package copies_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	ssv1alpha1 "github.com/bitnami-labs/sealed-secrets/pkg/apis/sealedsecrets/v1alpha1"
	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/yaml"

	"github.com/privyseal/privyseal/broker"
	"github.com/privyseal/privyseal/broker/brokertest"
	"github.com/privyseal/privyseal/broker/copies"
	"github.com/privyseal/privyseal/broker/seal"
	"github.com/privyseal/privyseal/broker/target"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

const within = 20 * time.Second

// ownKeys are the installation's keys, as the cluster holds them.
type ownKeys struct {
	mu  sync.Mutex
	all []*seal.PrivateKey // the first is sealed to
}

func (o *ownKeys) SealingKeys(context.Context) (copies.SealingKeys, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	keys := copies.SealingKeys{Seal: o.all[0].Public(), Open: seal.NewKeys(nil, o.all)}
	for _, key := range o.all {
		keys.Known = append(keys.Known, key.Public().ID())
	}
	return keys, nil
}

func (o *ownKeys) renew(t *testing.T) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.all = slices.Insert(o.all, 0, newKey(t))
}

func newKey(t *testing.T) *seal.PrivateKey {
	t.Helper()
	key, err := seal.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// story is an environment with a namespace of its own, the git server that its
// copies go to, and a keeper.
type story struct {
	*testing.T
	api      client.Client
	git      *brokertest.GitServer
	name     string // of the environment and of its namespace
	keys     *ownKeys
	recovery *seal.PrivateKey
	keeper   *copies.Keeper
	metrics  *prometheus.Registry
	journals []*journal    // of each daemon
	check    time.Duration // how often copies are opened; 0: at the start alone
	stop     func()
}

const system = "privyseal-system"

// tell begins a story; over is "https" or "ssh".
func tell(t *testing.T, over string, change ...func(*v1alpha1.Sealing)) *story {
	t.Helper()
	s := &story{T: t, api: brokertest.Client(t, shared.Access(t)), git: brokertest.NewGitServer(t),
		name: nameOf(t.Name()), keys: &ownKeys{all: []*seal.PrivateKey{newKey(t)}}, recovery: newKey(t)}
	s.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: s.name, Labels: map[string]string{"env": s.name}}})
	if err := client.IgnoreAlreadyExists(s.api.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: system}})); err != nil {
		t.Fatal(err)
	}
	credentials := map[string][]byte{"password": []byte(s.git.Token), "ca.crt": s.git.CA}
	url := s.git.HTTPS
	if over == "ssh" {
		credentials, url = map[string][]byte{"ssh-privatekey": s.git.PrivateKey, "known_hosts": s.git.KnownHosts}, s.git.SSH
	}
	s.create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: s.name}, Data: credentials})
	sealing := &v1alpha1.Sealing{Copies: v1alpha1.CopyAlways,
		Git:        v1alpha1.SealingGit{URL: url, CredentialsRef: v1alpha1.SecretRef{Name: s.name}},
		Recipients: []string{string(s.recovery.Public().PEM())}}
	for _, change := range change {
		change(sealing)
	}
	s.create(&v1alpha1.Environment{ObjectMeta: metav1.ObjectMeta{Name: s.name}, Spec: v1alpha1.EnvironmentSpec{
		NamespaceSelector: metav1.LabelSelector{MatchLabels: map[string]string{"env": s.name}},
		Stores:            []string{"vault"}, Root: "kv", Paths: []string{"kv/**"}, Sealing: sealing}})
	t.Cleanup(func() {
		_ = s.api.Delete(context.WithoutCancel(t.Context()), &v1alpha1.Environment{ObjectMeta: metav1.ObjectMeta{Name: s.name}})
	})
	return s
}

// nameOf is the end of a test's name, as a namespace has it.
func nameOf(test string) string {
	name := strings.ToLower(strings.ReplaceAll(test, "/", "-"))
	return strings.Trim(name[max(0, len(name)-40):], "-")
}

func (s *story) create(object client.Object) {
	s.Helper()
	if err := s.api.Create(s.Context(), object); err != nil {
		s.Fatal(err)
	}
}

// start starts a daemon's keeper; a second call is a daemon that starts anew.
func (s *story) start() {
	s.Helper()
	if s.stop != nil {
		s.stop()
	}
	scheme, err := broker.Scheme()
	if err != nil {
		s.Fatal(err)
	}
	mgr, err := ctrl.NewManager(shared.Access(s), ctrl.Options{
		Scheme: scheme, Logger: logr.Discard(), Metrics: metricsserver.Options{BindAddress: "0"},
		Controller: config.Controller{SkipNameValidation: new(true)},
	})
	if err != nil {
		s.Fatal(err)
	}
	journal := &journal{EventRecorder: mgr.GetEventRecorder("privyseal")}
	s.journals = append(s.journals, journal)
	s.metrics = prometheus.NewRegistry()
	s.keeper = copies.New(copies.Config{
		Events: journal, Registerer: s.metrics, Check: s.check,
		Cache: mgr.GetCache(), Live: mgr.GetAPIReader(), Keys: s.keys, Namespace: system, Clock: clock.RealClock{},
		Collect: 300 * time.Millisecond, Look: time.Second, Retry: 200 * time.Millisecond,
	})
	if err := s.keeper.SetupWithManager(mgr); err != nil {
		s.Fatal(err)
	}
	ctx, cancel := context.WithCancel(s.Context())
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			s.Errorf("the daemon ended: %v", err)
		}
	})
	s.stop = stop
	s.Cleanup(stop)
}

// claim makes a claim, with a target of these values as the line leaves it.
func (s *story) claim(name string, data map[string]string, change ...func(*v1alpha1.SecretClaim)) *v1alpha1.SecretClaim {
	s.Helper()
	claim := &v1alpha1.SecretClaim{ObjectMeta: metav1.ObjectMeta{Namespace: s.name, Name: name},
		Spec: v1alpha1.SecretClaimSpec{Sources: []v1alpha1.Source{{Path: "db"}}}}
	for _, change := range change {
		change(claim)
	}
	s.create(claim)
	s.create(s.secretOf(claim, 0, data))
	return claim
}

func (s *story) secretOf(claim *v1alpha1.SecretClaim, sequence int64, data map[string]string) *corev1.Secret {
	revisions := target.Revisions{KID: "k1-00000000", Keys: map[string][]target.Revision{}}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: s.name, Name: claim.Name}, Data: map[string][]byte{}}
	for key, value := range data {
		revisions.Keys[key] = []target.Revision{{Digest: fmt.Sprint(len(value)), Sequence: sequence}}
		secret.Data[key] = []byte(value)
	}
	secret.Labels = map[string]string{v1alpha1.LabelClaimUID: string(claim.UID)}
	secret.Annotations = map[string]string{v1alpha1.AnnotationRevisions: revisions.String()}
	return secret
}

// changes gives a target another content, and has the line say so.
func (s *story) changes(claim *v1alpha1.SecretClaim, sequence int64, data map[string]string) {
	s.Helper()
	if err := s.api.Update(s.Context(), s.secretOf(claim, sequence, data)); err != nil {
		s.Fatal(err)
	}
	s.keeper.Keep(client.ObjectKeyFromObject(claim), sequence)
}

// sealed waits for a claim's condition.
func (s *story) sealed(claim string, is metav1.ConditionStatus, reason, mention string) {
	s.Helper()
	brokertest.Eventually(s, within, func(context.Context) error {
		got, known := s.keeper.Sealed(types.NamespacedName{Namespace: s.name, Name: claim})
		if !known || got.Status != is || got.Reason != reason || !strings.Contains(got.Message, mention) {
			return fmt.Errorf("Sealed of %s is %+v (known %v), want %s %s mentioning %q", claim, got, known, is, reason, mention)
		}
		return nil
	})
}

// holds waits until the repository has exactly these files.
func (s *story) holds(paths ...string) {
	s.Helper()
	brokertest.Eventually(s, within, func(context.Context) error {
		if files := slices.Sorted(maps.Keys(s.git.Files())); !slices.Equal(files, slices.Sorted(slices.Values(paths))) {
			return fmt.Errorf("the repository holds %q, want %q; commits %q", files, paths, s.git.Commits())
		}
		return nil
	})
}

// opens reads a copy and opens one of its items with a key.
func (s *story) opens(name, item string, key *seal.PrivateKey) string {
	s.Helper()
	var manifest ssv1alpha1.SealedSecret
	if err := yaml.UnmarshalStrict([]byte(s.git.Files()[s.path(name)]), &manifest); err != nil {
		s.Fatal(err)
	}
	bytes, err := base64.StdEncoding.DecodeString(manifest.Spec.EncryptedData[item])
	if err != nil {
		s.Fatal(err)
	}
	opened, err := seal.NewKeys(nil, []*seal.PrivateKey{key}).Open(bytes, seal.Label{
		Environment: s.name, Namespace: manifest.Namespace, Name: manifest.Name, Item: item})
	if err != nil {
		s.Fatalf("opening %s of %s: %v", item, name, err)
	}
	return string(opened.Value.Bytes())
}

func (s *story) path(name string) string { return s.name + "/" + s.name + "/" + name + ".yaml" }

// stays fails if the branch gets another commit in a time in which it is looked
// at several times.
func (s *story) stays(commits int) {
	s.Helper()
	brokertest.Throughout(s, 3*time.Second, func(context.Context) error {
		if got := s.git.Commits(); len(got) != commits {
			return fmt.Errorf("commits %q, want %d", got, commits)
		}
		return nil
	})
}

func TestTwoClaimsGoIntoTheEmptyRepositoryWithOneCommit(t *testing.T) {
	for _, over := range []string{"https", "ssh"} {
		t.Run(over, func(t *testing.T) {
			s := tell(t, over)
			s.claim("db", map[string]string{"password": "one"}, func(c *v1alpha1.SecretClaim) {
				c.Spec.Template = &v1alpha1.Template{Metadata: &v1alpha1.TemplateMetadata{Labels: map[string]v1alpha1.LabelValue{"team": "pay"}}}
				c.Spec.Target = &v1alpha1.Target{Type: "example.com/db"}
			})
			s.claim("tls", map[string]string{"key": "two"})
			s.start()
			s.sealed("db", metav1.ConditionTrue, v1alpha1.ReasonInGit, s.path("db"))
			s.sealed("tls", metav1.ConditionTrue, v1alpha1.ReasonInGit, s.path("tls"))
			s.holds(s.path("db"), s.path("tls"))
			if commits := s.git.Commits(); len(commits) != 1 {
				t.Errorf("commits %q", commits)
			}
			for _, key := range []*seal.PrivateKey{s.keys.all[0], s.recovery} {
				if value := s.opens("db", "password", key); value != "one" {
					t.Errorf("the copy holds %q", value)
				}
			}
			var manifest ssv1alpha1.SealedSecret
			if err := yaml.UnmarshalStrict([]byte(s.git.Files()[s.path("db")]), &manifest); err != nil {
				t.Fatal(err)
			}
			if manifest.Annotations[v1alpha1.AnnotationStandby] != "true" || manifest.Spec.Template.Labels["team"] != "pay" || manifest.Spec.Template.Type != "example.com/db" {
				t.Errorf("the copy says %+v", manifest)
			}
			if text := s.git.Files()[s.path("db")]; strings.Contains(text, "null") || strings.Contains(text, "revisions") {
				t.Errorf("the copy has what nobody put there:\n%s", text)
			}
			s.stays(1)

			// A daemon that starts anew finds all as it should be.
			s.start()
			s.sealed("db", metav1.ConditionTrue, v1alpha1.ReasonInGit, "sequence 0")
			s.stays(1)
		})
	}
}

func TestACopyFollowsItsTargetAndNothingElse(t *testing.T) {
	s := tell(t, "https")
	db := s.claim("db", map[string]string{"password": "one"})
	s.claim("tls", map[string]string{"key": "two"})
	s.start()
	s.holds(s.path("db"), s.path("tls"))
	tls := s.git.Files()[s.path("tls")]

	s.changes(db, 1800000000, map[string]string{"password": "three"})
	s.sealed("db", metav1.ConditionTrue, v1alpha1.ReasonInGit, "sequence 1800000000")
	if value := s.opens("db", "password", s.recovery); value != "three" {
		t.Errorf("the copy holds %q", value)
	}
	if commits := s.git.Commits(); len(commits) != 2 || s.git.Files()[s.path("tls")] != tls {
		t.Errorf("commits %q; the other copy is the same: %v", commits, s.git.Files()[s.path("tls")] == tls)
	}

	// A new key of our own is no reason for a commit. A new recipient is.
	s.keys.renew(t)
	s.stays(2)
	another := newKey(t)
	var home v1alpha1.Environment
	if err := s.api.Get(t.Context(), client.ObjectKey{Name: s.name}, &home); err != nil {
		t.Fatal(err)
	}
	home.Spec.Sealing.Recipients = append(home.Spec.Sealing.Recipients, string(another.Public().PEM()))
	if err := s.api.Update(t.Context(), &home); err != nil {
		t.Fatal(err)
	}
	brokertest.Eventually(t, within, func(context.Context) error {
		if commits := s.git.Commits(); len(commits) != 3 {
			return fmt.Errorf("commits %q", commits)
		}
		return nil
	})
	if value := s.opens("tls", "key", another); value != "two" {
		t.Errorf("the copy holds %q", value)
	}
	s.stays(3)
}

func TestWhatOthersPushStaysAndACopyThatTheyChangeComesBack(t *testing.T) {
	s := tell(t, "https")
	s.git.Push("README.md", "theirs")
	s.git.BeforePush(func() { s.git.Push("other.yaml", "at the last moment") })
	s.claim("db", map[string]string{"password": "one"})
	s.start()
	s.holds("README.md", "other.yaml", s.path("db"))
	s.sealed("db", metav1.ConditionTrue, v1alpha1.ReasonInGit, "")
	if files := s.git.Files(); files["README.md"] != "theirs" || files["other.yaml"] != "at the last moment" {
		t.Errorf("the files are %v", files)
	}
	ours := s.git.Files()[s.path("db")]
	s.git.Push(s.path("db"), strings.Replace(ours, `sequence: "0"`, `sequence: "7"`, 1))
	brokertest.Eventually(t, within, func(context.Context) error {
		if text := s.git.Files()[s.path("db")]; !strings.Contains(text, `sequence: "0"`) {
			return fmt.Errorf("the copy says\n%s", text)
		}
		return nil
	})
}

func TestAForeignFileIsNamedAndLeftAlone(t *testing.T) {
	s := tell(t, "https")
	s.git.Push(s.path("db"), "theirs")
	s.git.Push(s.path("folder")+"/x", "theirs")
	s.claim("db", map[string]string{"password": "one"})
	s.claim("folder", map[string]string{"password": "one"})
	s.claim("tls", map[string]string{"key": "two"})
	s.start()
	s.sealed("db", metav1.ConditionFalse, v1alpha1.ReasonPathTaken, s.path("db"))
	s.sealed("folder", metav1.ConditionFalse, v1alpha1.ReasonPathTaken, s.path("folder"))
	s.sealed("tls", metav1.ConditionTrue, v1alpha1.ReasonInGit, s.path("tls"))
	if files := s.git.Files(); files[s.path("db")] != "theirs" || files[s.path("folder")+"/x"] != "theirs" {
		t.Errorf("the files are %v", files)
	}
}

// Of two installations with one repository and one path, the first has it.
func TestACopyOfAnotherInstallationIsForeign(t *testing.T) {
	s := tell(t, "https")
	s.claim("db", map[string]string{"password": "one"})
	s.start()
	s.holds(s.path("db"))
	s.stop()
	theirs := s.git.Files()[s.path("db")]

	// The same cluster again, brought back without its keys.
	if err := s.api.Delete(t.Context(), &v1alpha1.Environment{ObjectMeta: metav1.ObjectMeta{Name: s.name}}); err != nil {
		t.Fatal(err)
	}
	lost := s.keys.all
	s.keys.all = []*seal.PrivateKey{newKey(t)}
	s.create(&v1alpha1.Environment{ObjectMeta: metav1.ObjectMeta{Name: s.name}, Spec: v1alpha1.EnvironmentSpec{
		NamespaceSelector: metav1.LabelSelector{MatchLabels: map[string]string{"env": s.name}},
		Stores:            []string{"vault"}, Root: "kv", Paths: []string{"kv/**"},
		Sealing: &v1alpha1.Sealing{Copies: v1alpha1.CopyAlways, Git: v1alpha1.SealingGit{URL: s.git.HTTPS, CredentialsRef: v1alpha1.SecretRef{Name: s.name}}}}})
	s.start()
	s.sealed("db", metav1.ConditionFalse, v1alpha1.ReasonPathTaken, "another installation")
	if s.git.Files()[s.path("db")] != theirs {
		t.Error("the copy of another installation was overwritten")
	}

	// With them, its copies are its own again, and follow what is new.
	s.stop()
	s.keys.all = append(s.keys.all, lost...)
	s.start()
	s.sealed("db", metav1.ConditionTrue, v1alpha1.ReasonInGit, "")
}

func TestACopyGoesWithItsClaimOnlyWhereTheClaimSaysSo(t *testing.T) {
	s := tell(t, "https")
	gone := s.claim("gone", map[string]string{"a": "1"}, func(c *v1alpha1.SecretClaim) {
		c.Spec.Target = &v1alpha1.Target{OnClaimDeleted: v1alpha1.DeleteTarget}
	})
	kept := s.claim("kept", map[string]string{"a": "1"})
	s.start()
	s.holds(s.path("gone"), s.path("kept"))
	for _, claim := range []client.Object{gone, kept} {
		if err := s.api.Delete(t.Context(), claim); err != nil {
			t.Fatal(err)
		}
	}
	s.holds(s.path("kept"))
	s.stays(2)
}

func TestOnRequestKeepsOnlyWhatAsks(t *testing.T) {
	s := tell(t, "https", func(sealing *v1alpha1.Sealing) { sealing.Copies = "" })
	asks := s.claim("asks", map[string]string{"a": "1"}, func(c *v1alpha1.SecretClaim) { c.Spec.Seal = true })
	s.claim("silent", map[string]string{"a": "1"})
	s.start()
	s.sealed("silent", "", "", "")
	s.holds(s.path("asks"))
	if err := s.api.Get(t.Context(), client.ObjectKeyFromObject(asks), asks); err != nil {
		t.Fatal(err)
	}
	asks.Spec.Seal = false
	if err := s.api.Update(t.Context(), asks); err != nil {
		t.Fatal(err)
	}
	s.holds()
	s.sealed("asks", "", "", "")
}

func TestAClaimThatAsksWhereNobodyKeepsCopiesIsTold(t *testing.T) {
	s := tell(t, "https")
	s.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: s.name + "-out"}})
	s.create(&v1alpha1.SecretClaim{ObjectMeta: metav1.ObjectMeta{Namespace: s.name + "-out", Name: "db"},
		Spec: v1alpha1.SecretClaimSpec{Sources: []v1alpha1.Source{{Path: "/kv/db"}}, Seal: true}})
	s.start()
	brokertest.Eventually(t, within, func(context.Context) error {
		got, known := s.keeper.Sealed(types.NamespacedName{Namespace: s.name + "-out", Name: "db"})
		if !known || got.Reason != v1alpha1.ReasonSealingNotConfigured {
			return fmt.Errorf("Sealed is %+v", got)
		}
		return nil
	})
}

func TestAServerThatRefusesOrIsDownIsToldAndTriedAgain(t *testing.T) {
	s := tell(t, "https")
	s.setCredentials("password", "wrong")
	s.claim("db", map[string]string{"password": "one"})
	s.start()
	s.sealed("db", metav1.ConditionFalse, v1alpha1.ReasonRepositoryDenied, "refuses")
	s.git.Down(true)
	s.setCredentials("password", s.git.Token)
	s.sealed("db", metav1.ConditionFalse, v1alpha1.ReasonRepositoryUnavailable, "tried again")
	if len(s.git.Commits()) != 0 {
		t.Errorf("commits %q", s.git.Commits())
	}
	s.git.Down(false)
	s.sealed("db", metav1.ConditionTrue, v1alpha1.ReasonInGit, "")
	s.holds(s.path("db"))
}

func (s *story) setCredentials(key, value string) {
	s.Helper()
	var secret corev1.Secret
	if err := s.api.Get(s.Context(), client.ObjectKey{Namespace: system, Name: s.name}, &secret); err != nil {
		s.Fatal(err)
	}
	secret.Data[key] = []byte(value)
	if err := s.api.Update(s.Context(), &secret); err != nil {
		s.Fatal(err)
	}
}

func TestAnUnknownHostAndMistakesInTheEnvironmentAreToldByName(t *testing.T) {
	other := brokertest.NewGitServer(t)
	for name, row := range map[string]struct {
		change           func(*v1alpha1.Sealing)
		known            []byte
		reason, mentions string
	}{
		"host": {known: other.KnownHosts, reason: v1alpha1.ReasonRepositoryDenied, mentions: "known_hosts"},
		"path": {change: func(s *v1alpha1.Sealing) { s.Git.Path = "../{{ .Namespace }}/{{ .Name }}.yaml" },
			reason: v1alpha1.ReasonSealingInvalid, mentions: "spec.sealing.git.path"},
		"key": {change: func(s *v1alpha1.Sealing) { s.Recipients = []string{"x"} },
			reason: v1alpha1.ReasonSealingInvalid, mentions: "spec.sealing.recipients[0]"},
		"secret": {change: func(s *v1alpha1.Sealing) { s.Git.CredentialsRef.Name = "none" },
			reason: v1alpha1.ReasonSealingInvalid, mentions: "spec.sealing.git.credentialsRef"},
		"plain": {change: func(s *v1alpha1.Sealing) { s.Git.URL = "http://git.example.com/x.git" },
			reason: v1alpha1.ReasonSealingInvalid, mentions: "plain http"},
	} {
		t.Run(name, func(t *testing.T) {
			s := tell(t, "ssh", func(sealing *v1alpha1.Sealing) {
				if row.change != nil {
					row.change(sealing)
				}
			})
			if row.known != nil {
				s.setCredentials("known_hosts", string(row.known))
			}
			s.claim("db", map[string]string{"password": "one"})
			s.start()
			s.sealed("db", metav1.ConditionFalse, row.reason, row.mentions)
			if len(s.git.Commits()) != 0 {
				t.Errorf("commits %q", s.git.Commits())
			}
		})
	}
}

// The moment between the push and everything after it: the daemon that comes
// next finds its work done. That between the commit and the push leaves nothing
// at all, since a commit lies in memory.
func TestADaemonThatDiesAroundThePushDoesNothingTwice(t *testing.T) {
	s := tell(t, "https")
	s.claim("db", map[string]string{"password": "one"})
	arrived := make(chan struct{})
	s.git.BeforePush(func() { close(arrived) })
	s.start()
	select {
	case <-arrived:
	case <-t.Context().Done():
		t.Fatal("nothing was pushed")
	}
	s.stop()
	s.start()
	s.sealed("db", metav1.ConditionTrue, v1alpha1.ReasonInGit, "")
	s.stays(1)
}
