package certs

import (
	"crypto/x509"
	"errors"
	"maps"
	"testing"
	"time"
)

// world is the Secret, the configuration's bundle as it was over time, and
// some replicas, without an API server between them.
type world struct {
	t         *testing.T
	lifetimes lifetimes
	now       time.Time
	data      map[string][]byte
	bundles   []published // oldest first
	keeper    *keeper
	replicas  []*leaf
	made      map[string]bool // authorities that there were
	most      int             // certificates in a bundle
}

type published struct {
	at    time.Time
	certs []*x509.Certificate
}

const service = "privyseal-webhook.privyseal-system.svc"

func newWorld(t *testing.T, l lifetimes) *world {
	return &world{
		t: t, lifetimes: l, now: time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC),
		data: map[string][]byte{}, bundles: []published{{}}, keeper: &keeper{lifetimes: l},
		replicas: make([]*leaf, 2), made: map[string]bool{},
	}
}

func (w *world) bundle() []*x509.Certificate { return w.bundles[len(w.bundles)-1].certs }

func (w *world) publish(certs []*x509.Certificate) {
	w.bundles = append(w.bundles, published{w.now, certs})
	w.most = max(w.most, len(certs))
}

func (w *world) authority() authority {
	w.t.Helper()
	a, err := parseAuthority(w.data)
	if err != nil {
		w.t.Fatal(err)
	}
	return a
}

// keep is what Certs.keep does.
func (w *world) keep() {
	w.t.Helper()
	a, changed, err := w.keeper.judge(w.authority(), w.bundle(), w.now)
	if err != nil {
		w.t.Fatal(err)
	}
	if changed {
		if err := a.into(w.data); err != nil {
			w.t.Fatal(err)
		}
		w.made[a.current.cert.SerialNumber.String()] = true
	}
	if certs := a.trusted(); string(encodeCerts(certs)) != string(encodeCerts(w.bundle())) {
		w.publish(certs)
	}
}

// serve is what Certs.serve does.
func (w *world) serve(replica int) {
	w.t.Helper()
	leaf, err := w.lifetimes.renewed(w.replicas[replica], w.authority(), []string{service, "127.0.0.1"}, w.now)
	if err != nil {
		w.t.Fatal(err)
	}
	w.replicas[replica] = leaf
}

// refused says whether an API server that is up to lag behind would refuse a
// replica, and why.
func (w *world) refused(replica int, lag time.Duration) error {
	leaf := w.replicas[replica]
	if leaf == nil {
		return errors.New("no certificate")
	}
	for i, bundle := range w.bundles {
		if i+1 < len(w.bundles) && !w.bundles[i+1].at.After(w.now.Add(-lag)) {
			continue // every API server has a newer one
		}
		pool := x509.NewCertPool()
		for _, cert := range bundle.certs {
			pool.AddCert(cert)
		}
		for _, host := range []string{service, "127.0.0.1"} {
			if _, err := leaf.cert.Verify(x509.VerifyOptions{Roots: pool, DNSName: host, CurrentTime: w.now}); err != nil {
				return err
			}
		}
	}
	return nil
}

// pass lets a time go by second by second, with a look every three, the
// replicas' between the keeper's, and fails where a replica that once was
// trusted is refused.
func (w *world) pass(duration time.Duration, lag time.Duration) {
	w.t.Helper()
	trusted := make([]bool, len(w.replicas))
	for end := w.now.Add(duration); w.now.Before(end); w.now = w.now.Add(time.Second) {
		second := int(w.now.Unix())
		if second%3 == 0 {
			w.keep()
		}
		for i := range w.replicas {
			if second%3 == i+1 {
				w.serve(i)
			}
			err := w.refused(i, lag)
			if err != nil && trusted[i] {
				w.t.Fatalf("replica %d refused at %s: %v", i, w.now.Format(time.TimeOnly), err)
			}
			trusted[i] = trusted[i] || err == nil
		}
	}
	for i, ok := range trusted {
		if !ok {
			w.t.Fatalf("replica %d never trusted", i)
		}
	}
}

// brief are lifetimes that let a test see many authorities.
func brief() lifetimes {
	return lifetimes{authority: 2 * time.Minute, leaf: 30 * time.Second, settle: 10 * time.Second}
}

const lag = 5 * time.Second

func TestAuthoritiesComeAndGoAndNobodyIsRefused(t *testing.T) {
	w := newWorld(t, brief())
	w.pass(30*time.Minute, lag)
	if len(w.made) < 15 {
		t.Errorf("only %d authorities in half an hour", len(w.made))
	}
	if w.most > 3 {
		t.Errorf("a bundle had %d certificates: old ones are not dropped", w.most)
	}
}

func TestLeafThatLivesAsLongAsItMay(t *testing.T) {
	l := brief()
	l.leaf = time.Minute
	newWorld(t, l).pass(20*time.Minute, lag)
}

func TestLeaseChangesHandsAllTheTime(t *testing.T) {
	w := newWorld(t, brief())
	w.pass(time.Minute, lag)
	for range 40 {
		w.keeper = &keeper{lifetimes: w.lifetimes}
		w.pass(20*time.Second, lag)
	}
	if len(w.made) < 5 {
		t.Errorf("only %d authorities", len(w.made))
	}
}

func TestReplicaThatStartsAtAnyTimeIsTrusted(t *testing.T) {
	w := newWorld(t, brief())
	w.pass(time.Minute, lag)
	for range 60 {
		w.replicas[1] = nil
		w.pass(11*time.Second, lag)
	}
}

func TestLostSecretRefusesNobody(t *testing.T) {
	for sentence, loss := range map[string]func(*world){
		"emptied":   func(w *world) { clear(w.data) },
		"truncated": func(w *world) { delete(w.data, nextKey); delete(w.data, nextCert); delete(w.data, oldCerts) },
	} {
		t.Run(sentence, func(t *testing.T) {
			w := newWorld(t, brief())
			for range 30 {
				w.pass(37*time.Second, lag)
				loss(w)
				w.keep()
				for i := range w.replicas {
					w.serve(i)
					if err := w.refused(i, 0); err != nil {
						t.Fatalf("replica %d refused: %v", i, err)
					}
				}
			}
		})
	}
}

func TestLostBundleIsPutBackAtTheNextLook(t *testing.T) {
	w := newWorld(t, brief())
	w.pass(time.Minute, lag)
	w.publish(nil)
	w.keep()
	for i := range w.replicas {
		if err := w.refused(i, 0); err != nil {
			t.Errorf("replica %d refused: %v", i, err)
		}
	}
}

func TestAuthorityThatExpiredWhileNobodyLookedIsReplaced(t *testing.T) {
	w := newWorld(t, brief())
	w.pass(time.Minute, lag)
	w.now = w.now.Add(time.Hour)
	w.pass(time.Minute, lag)
}

func TestAtRestNothingIsWritten(t *testing.T) {
	w := newWorld(t, Config{}.lifetimes())
	w.keep()
	before := maps.Clone(w.data)
	for range 1000 {
		w.now = w.now.Add(24 * time.Hour)
		w.keep()
	}
	if !maps.EqualFunc(before, w.data, func(a, b []byte) bool { return string(a) == string(b) }) || len(w.bundles) != 2 {
		t.Error("something was written in three years")
	}
}

func TestNextAuthorityDoesNotSignBeforeItIsTrusted(t *testing.T) {
	w := newWorld(t, brief())
	w.pass(time.Minute, lag)
	for w.authority().next == nil {
		w.now = w.now.Add(time.Second)
		w.keep()
	}
	// The configuration does not take the bundle: somebody puts the old one
	// back, again and again.
	old := []*x509.Certificate{w.authority().current.cert}
	for range 15 {
		w.now = w.now.Add(time.Second)
		w.publish(old)
		w.keep()
		w.publish(old)
		w.replicas[0] = nil
		if w.serve(0); !w.replicas[0].issuer.Equal(old[0]) {
			t.Fatal("signed by an authority that the configuration does not have")
		}
	}
}

func TestParseAuthorityRefuses(t *testing.T) {
	fresh := func() map[string][]byte {
		w := newWorld(t, brief())
		w.keep()
		return w.data
	}
	other := fresh()
	for sentence, spoil := range map[string]func(map[string][]byte){
		"a certificate without its key":    func(d map[string][]byte) { delete(d, currentKey) },
		"a key without its certificate":    func(d map[string][]byte) { delete(d, currentCert) },
		"another's key":                    func(d map[string][]byte) { d[currentKey] = other[currentKey] },
		"two certificates":                 func(d map[string][]byte) { d[currentCert] = append(d[currentCert], other[currentCert]...) },
		"a key in place of a certificate":  func(d map[string][]byte) { d[currentCert] = d[currentKey] },
		"text":                             func(d map[string][]byte) { d[oldCerts] = []byte("x") },
		"a time that is none":              func(d map[string][]byte) { d[oldUntil] = []byte("tomorrow") },
		"a next authority without its key": func(d map[string][]byte) { d[nextCert] = other[currentCert] },
	} {
		data := fresh()
		spoil(data)
		if _, err := parseAuthority(data); !errors.Is(err, errMalformed) {
			t.Errorf("%s: %v", sentence, err)
		}
	}
	if a, err := parseAuthority(nil); err != nil || a.current != nil {
		t.Errorf("an empty Secret: %v", err)
	}
}

func TestLifetimesHaveToFit(t *testing.T) {
	if _, err := New(Config{}); err == nil {
		t.Error("an empty configuration is taken")
	}
	l := Config{AuthorityLifetime: 2 * time.Minute}.lifetimes()
	if l.leaf != time.Minute || l.settle != 10*time.Second {
		t.Errorf("a brief authority's leaf lives %s and settles %s", l.leaf, l.settle)
	}
}
