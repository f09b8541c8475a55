package rotate_test

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/rotate"
	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/providers"
)

// password has a spec make one so.
func password(change func(*v1alpha1.PasswordGenerator)) func(*v1alpha1.SecretRotationSpec) {
	return func(spec *v1alpha1.SecretRotationSpec) {
		generator := v1alpha1.PasswordGenerator{}
		change(&generator)
		spec.Generate = map[string]v1alpha1.Generator{"password": {Password: &generator}}
	}
}

func TestASpecThatCannotBeCarriedOutIsRefusedByItsField(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name   string
		change func(*v1alpha1.SecretRotationSpec)
		says   []string
	}{
		{"a date that never comes", func(s *v1alpha1.SecretRotationSpec) { s.Schedule = "0 3 30 2 *" }, []string{"spec.schedule", "never"}},
		{"a cron of others", func(s *v1alpha1.SecretRotationSpec) { s.Schedule = "@every 24h" }, []string{"spec.schedule", "five fields"}},
		{"an unknown time zone", func(s *v1alpha1.SecretRotationSpec) { s.TimeZone = "Europe/Bonn" }, []string{"spec.timeZone", "Europe/Bonn"}},
		{"a password that is guessed", password(func(p *v1alpha1.PasswordGenerator) { p.Length = 4 }), []string{"spec.generate[password].password"}},
		{"a policy that is none", password(func(p *v1alpha1.PasswordGenerator) { p.Policy = "length = 20" }), []string{"spec.generate[password].password.policy"}},
		{"a policy and symbols", password(func(p *v1alpha1.PasswordGenerator) { p.Policy, p.Symbols = "length = 20", "-" }), []string{"spec.generate[password].password.policy", "keep it or them"}},
		{"a certificate that expires before the next run", certificate(func(x *v1alpha1.X509Generator) { x.Validity = &metav1.Duration{Duration: 23 * time.Hour} }),
			[]string{"spec.generate[tls.key].x509.validity", "23h0m0s", "up to 24h0m0s go by between two runs"}},
		{"names that are none", certificate(func(x *v1alpha1.X509Generator) { x.DNSNames = []string{"db.pay.svc", "Not A Name"} }), []string{"spec.generate[tls.key].x509.dnsNames[1]"}},
		{"addresses that are none", certificate(func(x *v1alpha1.X509Generator) { x.IPAddresses = []string{"10.0.0.256"} }), []string{"spec.generate[tls.key].x509.ipAddresses[0]"}},
		{"a public key in the private one's place", func(s *v1alpha1.SecretRotationSpec) {
			s.Generate["password"] = v1alpha1.Generator{Ed25519: &v1alpha1.Ed25519Generator{PublicKey: "password"}}
		}, []string{"spec.generate[password].ed25519.publicKey", "is that of spec.generate[password] already"}},
		{"two public keys in one place", func(s *v1alpha1.SecretRotationSpec) {
			s.Generate["a"] = v1alpha1.Generator{SSH: &v1alpha1.SSHGenerator{PublicKey: "id.pub"}}
			s.Generate["b"] = v1alpha1.Generator{RSA: &v1alpha1.RSAGenerator{PublicKey: "id.pub"}}
		}, []string{"spec.generate[b].rsa.publicKey", "is that of spec.generate[a].ssh.publicKey already"}},
		{"a public key in a value's place before", func(s *v1alpha1.SecretRotationSpec) {
			s.Generate["a"] = v1alpha1.Generator{ECDSA: &v1alpha1.ECDSAGenerator{PublicKey: "password_previous"}}
		}, []string{"spec.generate[a].ecdsa.publicKey", "give it another"}},
		{"a key whose value before has no room", func(s *v1alpha1.SecretRotationSpec) {
			s.Strategy = v1alpha1.RotationOverlap
			s.Generate[strings.Repeat("k", 250)] = s.Generate["password"]
		}, []string{"spec.generate[kkk", "a key has 1 to 253 characters, with what is put behind"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, row.change)
			b.atThree(b.daemon())
			b.run(b.daemon())
			ready := b.condition(v1alpha1.ConditionReady)
			for _, part := range row.says {
				b.must(ready.Status == metav1.ConditionFalse && ready.Reason == v1alpha1.ReasonRotationInvalid && strings.Contains(ready.Message, part), "it does not say %q", part)
			}
			b.must(b.status().Phase == "" && b.status().NextRotation == nil && b.document().Version == 1, "it began")
		})
	}
}

func TestAPathThatMayBeReadAndNotWrittenIsRefusedWhenItIsWritten(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.store.DenyWrites(b.ref)
	daemon := b.daemon()
	b.run(daemon)
	ready := b.condition(v1alpha1.ConditionReady)
	b.must(ready.Reason == v1alpha1.ReasonPathNotWritable && strings.Contains(ready.Message, "create, update and read"), "it does not say so")
}

func TestASpecThatIsChangedMidwayIsForTheNextRunAndJudgedAtOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	daemon := b.daemon()
	b.atThree(daemon)
	b.world.follower = rotate.Follower{Workload: "Deployment/pay/web", Behind: "its rollout is under way"}
	b.until(daemon, "Rolling")
	other, err := providers.ParseRef("kv/prod/" + b.of.Namespace + "/other")
	if err != nil {
		t.Fatal(err)
	}
	b.store.Set(other, map[string]any{"token": "old"})
	b.store.DenyWrites(other)
	first := b.world.ref
	b.world.ref = other
	of := b.rotation()
	of.Spec.Path, of.Spec.Generate = "other", map[string]v1alpha1.Generator{"token": {UUID: &v1alpha1.UUIDGenerator{}}}
	if err := b.api.Update(t.Context(), of); err != nil {
		t.Fatal(err)
	}
	b.run(daemon)
	b.must(b.condition(v1alpha1.ConditionReady).Reason == v1alpha1.ReasonPathNotWritable, "it is not judged")
	b.world.follower = rotate.Follower{}
	b.until(daemon, "Done")
	if b.ref != first || b.document().Version != 2 || len(b.password()) != 64 {
		t.Error("what was begun did not end where it began")
	}
	b.clock.SetTime(three().Add(24 * time.Hour))
	b.run(daemon)
	b.must(b.status().Phase == "Done" && b.status().NextRotation == nil, "it begins where it may not write")
}

func TestOfTwoRotationsOnOnePathTheOneThatWasMadeFirstRotates(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	second := &v1alpha1.SecretRotation{ObjectMeta: metav1.ObjectMeta{Namespace: b.of.Namespace, Name: "zz"}, Spec: b.rotation().Spec}
	// Times of objects are whole seconds, and the UIDs of two of one second decide.
	b.create(second)
	first, other := b.of, client.ObjectKeyFromObject(second)
	if made := b.rotation(); made.CreationTimestamp.Equal(&second.CreationTimestamp) && second.UID < made.UID {
		first, other = other, first
	}
	daemon := b.daemon()
	b.of = other
	b.run(daemon)
	ready := b.condition(v1alpha1.ConditionReady)
	b.must(ready.Reason == v1alpha1.ReasonRotatedByAnother && strings.Contains(ready.Message, "SecretRotation "+first.String()), "it does not name the other")
	b.of = first
	b.run(daemon)
	b.must(b.condition(v1alpha1.ConditionReady).Status == metav1.ConditionTrue, "both are refused")

	// When it goes, the other takes over.
	if err := b.api.Delete(t.Context(), b.rotation()); err != nil {
		t.Fatal(err)
	}
	b.of = other
	b.run(daemon)
	b.must(b.condition(v1alpha1.ConditionReady).Status == metav1.ConditionTrue, "it is still refused")
}

func TestARotationThatIsRefusedWhileItIsUnderWayEndsWhereItBegan(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	daemon := b.daemon()
	b.atThree(daemon)
	b.world.follower = rotate.Follower{Workload: "Deployment/pay/web", Behind: "its rollout is under way"}
	b.until(daemon, "Rolling")
	b.world.refusal = &rotate.Refusal{Reason: v1alpha1.ReasonNoEnvironment, Message: "the namespace is in no environment"}
	b.run(daemon)
	b.must(b.condition(v1alpha1.ConditionReady).Reason == v1alpha1.ReasonNoEnvironment, "it does not say so")
	b.world.follower = rotate.Follower{}
	b.until(daemon, "Done")
	b.must(b.document().Version == 2 && b.status().NextRotation == nil, "it is not done")
}

func TestNothingIsRotatedInTheDaemonsNamespace(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	there := &v1alpha1.SecretRotation{ObjectMeta: metav1.ObjectMeta{Namespace: system, GenerateName: "db-"}, Spec: b.rotation().Spec}
	b.create(there)
	b.of = client.ObjectKeyFromObject(there)
	b.run(b.daemon())
	b.must(strings.Contains(b.condition(v1alpha1.ConditionReady).Message, "metadata.namespace"), "it is not refused")
}

// makes has a spec make its value so.
func makes(generator v1alpha1.Generator) func(*v1alpha1.SecretRotationSpec) {
	return func(spec *v1alpha1.SecretRotationSpec) { spec.Generate["password"] = generator }
}

// certificate has a spec make a key with a certificate.
func certificate(change func(*v1alpha1.X509Generator)) func(*v1alpha1.SecretRotationSpec) {
	x509 := &v1alpha1.X509Generator{Certificate: "tls.crt", DNSNames: []string{"db.pay.svc"}}
	change(x509)
	return func(spec *v1alpha1.SecretRotationSpec) {
		spec.Generate = map[string]v1alpha1.Generator{"tls.key": {X509: x509}}
	}
}

func users(key string, names ...string) *v1alpha1.RotationUsers {
	return &v1alpha1.RotationUsers{Key: key, Names: names}
}

// alternating has a spec alternate between users.
func alternating(key string, names ...string) func(*v1alpha1.SecretRotationSpec) {
	return func(spec *v1alpha1.SecretRotationSpec) {
		spec.Strategy, spec.Users = v1alpha1.RotationAlternateUsers, users(key, names...)
	}
}

// The daemon does so too, for one that was stored before its rule.
func TestTheAPIServerRefusesWhatNobodyCouldMean(t *testing.T) {
	t.Parallel()
	api := apiServer(t)
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "bad-"}}
	if err := api.Create(t.Context(), namespace); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		name   string
		change func(*v1alpha1.SecretRotationSpec)
		says   string
	}{
		{"no generator", func(s *v1alpha1.SecretRotationSpec) { s.Generate["password"] = v1alpha1.Generator{} }, "give exactly one of password, hex, base64, uuid, rsa, ecdsa, ed25519, ssh and x509"},
		{"two generators", func(s *v1alpha1.SecretRotationSpec) {
			s.Generate["password"] = v1alpha1.Generator{UUID: &v1alpha1.UUIDGenerator{}, Hex: &v1alpha1.BytesGenerator{}}
		}, "give exactly one of"},
		{"no key", func(s *v1alpha1.SecretRotationSpec) { s.Generate = map[string]v1alpha1.Generator{} }, "give exactly one of generate and engine"},
		{"a long key", func(s *v1alpha1.SecretRotationSpec) { s.Generate[strings.Repeat("k", 254)] = s.Generate["password"] }, "a key has 1 to 253 characters"},
		{"few bytes", func(s *v1alpha1.SecretRotationSpec) {
			s.Generate["password"] = v1alpha1.Generator{Hex: &v1alpha1.BytesGenerator{Length: 4}}
		}, "spec.generate.password.hex.length"},
		{"a class of others", password(func(p *v1alpha1.PasswordGenerator) { p.Minimum = map[string]int32{"vowels": 1} }), "the classes are"},
		{"a strategy of others", func(s *v1alpha1.SecretRotationSpec) { s.Strategy = "Swap" }, "spec.strategy"},
		{"two users whom nobody sets", alternating("user", "a", "b"), "somebody has to give the other user the new password"},
		{"no users to alternate", func(s *v1alpha1.SecretRotationSpec) { s.Strategy = v1alpha1.RotationAlternateUsers }, "users is for strategy AlternateUsers, which needs it"},
		{"users who do not alternate", func(s *v1alpha1.SecretRotationSpec) { s.Users = users("user", "a", "b") }, "users is for strategy AlternateUsers, which needs it"},
		{"one user", alternating("user", "a"), "spec.users.names"},
		{"the same user twice", alternating("user", "a", "a"), "want two different names"},
		{"a user without a name", alternating("user", "a", ""), "spec.users.names[1]"},
		{"no key for the user's name", alternating("", "a", "b"), "spec.users.key"},
		{"nothing to drop", func(s *v1alpha1.SecretRotationSpec) { s.DropPreviousAfter = &metav1.Duration{Duration: time.Hour} }, "dropPreviousAfter is for strategy Overlap"},
		{"dropped at once", func(s *v1alpha1.SecretRotationSpec) {
			s.Strategy, s.DropPreviousAfter = v1alpha1.RotationOverlap, &metav1.Duration{}
		}, "want from 1m to 8784h"},
		{"the key of a value before", func(s *v1alpha1.SecretRotationSpec) { s.Generate["password_previous"] = s.Generate["password"] }, "a key does not end in _previous"},
		{"short RSA keys", makes(v1alpha1.Generator{RSA: &v1alpha1.RSAGenerator{Bits: 1024}}), "spec.generate.password.rsa.bits"},
		{"a curve of others", makes(v1alpha1.Generator{ECDSA: &v1alpha1.ECDSAGenerator{Curve: "secp256k1"}}), "spec.generate.password.ecdsa.curve"},
		{"an old type of SSH key", makes(v1alpha1.Generator{SSH: &v1alpha1.SSHGenerator{Type: "dsa"}}), "spec.generate.password.ssh.type"},
		{"bits of a curve", makes(v1alpha1.Generator{SSH: &v1alpha1.SSHGenerator{Bits: 4096}}), "bits is for type rsa"},
		{"a certificate for nobody", certificate(func(x *v1alpha1.X509Generator) { x.DNSNames = nil }), "give a name in dnsNames"},
		{"a certificate that is kept nowhere", certificate(func(x *v1alpha1.X509Generator) { x.Certificate = "" }), "x509.certificate"},
		{"a certificate for minutes", certificate(func(x *v1alpha1.X509Generator) { x.Validity = &metav1.Duration{Duration: time.Minute} }), "want from 1h to 87600h"},
		{"a certificate of an old key", certificate(func(x *v1alpha1.X509Generator) { x.KeyType = "dsa" }), "x509.keyType"},
		{"a long common name", certificate(func(x *v1alpha1.X509Generator) { x.CommonName = strings.Repeat("n", 65) }), "x509.commonName"},
		{"another end", func(s *v1alpha1.SecretRotationSpec) { s.OnFailure = "Ignore" }, "spec.onFailure"},
		{"a long jitter", func(s *v1alpha1.SecretRotationSpec) { s.Jitter = &metav1.Duration{Duration: 25 * time.Hour} }, "want from 0s to 24h"},
		{"a short deadline", func(s *v1alpha1.SecretRotationSpec) { s.StartingDeadline = &metav1.Duration{Duration: time.Second} }, "want from 1m to 744h"},
		{"a short timeout", func(s *v1alpha1.SecretRotationSpec) { s.Verify.Timeout = &metav1.Duration{Duration: time.Second} }, "want from 10s to 24h"},
		{"nothing to verify by", func(s *v1alpha1.SecretRotationSpec) { s.Verify = &v1alpha1.RotationVerify{} }, "give consumers, job, or both"},
		{"a hook that is hurried", func(s *v1alpha1.SecretRotationSpec) {
			s.Set = &v1alpha1.RotationSet{Job: job("set"), Timeout: &metav1.Duration{Duration: time.Second}}
		}, "want from 10s to 24h"},
		{"a job without an image", func(s *v1alpha1.SecretRotationSpec) { s.Set = &v1alpha1.RotationSet{} }, "spec.set.job.image"},
		{"nobody's credentials", func(s *v1alpha1.SecretRotationSpec) {
			s.Set = &v1alpha1.RotationSet{Job: job("set"), CredentialsPath: strings.Repeat("a", 513)}
		}, "spec.set.credentialsPath"},
		{"a job of many words", func(s *v1alpha1.SecretRotationSpec) {
			s.Set = &v1alpha1.RotationSet{Job: job(strings.Fields(strings.Repeat("a ", 17))...)}
		}, "spec.set.job.command"},
		{"a job with a long word", func(s *v1alpha1.SecretRotationSpec) {
			s.Set = &v1alpha1.RotationSet{Job: job(strings.Repeat("a", 4097))}
		}, "spec.set.job.command"},
		{"a job with a variable of ours", func(s *v1alpha1.SecretRotationSpec) {
			hooks(s)
			s.Verify.Job.Env[0].Name = "PRIVYSEAL_HOOK"
		}, "variables that begin with PRIVYSEAL_ are set by the daemon"},
		{"a job with a variable that is none", func(s *v1alpha1.SecretRotationSpec) {
			hooks(s)
			s.Set.Job.Env[0].Name = "A-B"
		}, "spec.set.job.env[0].name"},
		{"a job that pulls at times", func(s *v1alpha1.SecretRotationSpec) {
			hooks(s)
			s.Set.Job.ImagePullPolicy = "Sometimes"
		}, "spec.set.job.imagePullPolicy"},
		{"something else to wait for", func(s *v1alpha1.SecretRotationSpec) { s.Verify.Consumers = "Restarted" }, "spec.verify.consumers"},
	} {
		t.Run(row.name, func(t *testing.T) {
			of := &v1alpha1.SecretRotation{ObjectMeta: metav1.ObjectMeta{Namespace: namespace.Name, Name: "bad"}}
			of.Spec = v1alpha1.SecretRotationSpec{
				Path: "db", Schedule: "0 3 * * *", Verify: &v1alpha1.RotationVerify{Consumers: v1alpha1.ConsumersReady},
				Generate: map[string]v1alpha1.Generator{"password": {Hex: &v1alpha1.BytesGenerator{}}},
			}
			row.change(&of.Spec)
			if err := api.Create(t.Context(), of, client.DryRunAll); err == nil || !strings.Contains(err.Error(), row.says) {
				t.Errorf("it says %v, not %q", err, row.says)
			}
			if err := rotate.Check(of.Spec); err == nil || !strings.HasPrefix(err.Error(), "spec.") {
				t.Errorf("the daemon says %v", err)
			}
		})
	}
}
