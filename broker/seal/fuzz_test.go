package seal_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/privyseal/privyseal/broker/seal"
	"github.com/privyseal/privyseal/providers"
)

// addVectors are the seeds: every form that an item can have, and can not have.
func addVectors(f *testing.F) {
	f.Helper()
	for _, name := range []string{"v1.json", "v2.json"} {
		for _, v := range loadVectors(f, name).Cases {
			if v.Zeros == 0 {
				f.Add(v.Item)
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	addVectors(f)
	f.Fuzz(func(t *testing.T, item []byte) {
		sealed, err := seal.Parse(item)
		version, versionErr := seal.Version(item)
		if err != nil {
			if !errors.Is(err, seal.ErrMalformed) && !errors.Is(err, seal.ErrVersion) && !errors.Is(err, seal.ErrTooLarge) {
				t.Errorf("got %v", err)
			}
			return
		}
		recipients := sealed.Recipients()
		if versionErr != nil || sealed.Version() != version || (version == seal.V1) != (len(recipients) == 0) {
			t.Errorf("version %d, %v, with recipients %v", version, versionErr, recipients)
		}
		for i := range recipients {
			if i > 0 && bytes.Compare(recipients[i-1][:], recipients[i][:]) >= 0 {
				t.Errorf("not sorted: %v", recipients)
			}
		}
	})
}

// FuzzOpenForged: nothing but the items that were sealed opens.
func FuzzOpenForged(f *testing.F) {
	addVectors(f)
	file := loadVectors(f, "v2.json")
	keys := file.pick(f, []string{"cluster", "recovery"})
	// Which of the vectors open has been settled by their own test.
	known := map[string]bool{}
	for _, v := range file.Cases {
		_, err := keys.Open(v.item(), password)
		known[string(v.item())] = err == nil
	}
	f.Fuzz(func(t *testing.T, item []byte) {
		opened, err := keys.Open(item, password)
		if err == nil && !known[string(item)] {
			t.Errorf("a forged item opens as %q", reveal(opened))
		}
		if err != nil && opened.Value.Bytes() != nil {
			t.Errorf("an error and a value: %v", err)
		}
	})
}

func FuzzSealOpen(f *testing.F) {
	f.Add([]byte("correct horse"), "prod", "payments", "db", "password", 0, 1)
	f.Add([]byte{}, "", "a", "b", "c", 1, 2)
	f.Add([]byte{0xFF}, "", "", "", "k", 2, 3)
	names := []string{"a", "b", "c"}
	f.Fuzz(func(t *testing.T, value []byte, environment, namespace, name, item string, scope, n int) {
		label := seal.Label{Scope: seal.Scope(scope), Environment: environment, Namespace: namespace, Name: name, Item: item}
		var public []*seal.PublicKey
		for i := range uint(n) % 4 {
			public = append(public, keyNamed(t, names[i]).Public())
		}
		sealed, err := seal.Seal(providers.NewValue(value), label, public...)
		if err != nil {
			if !errors.Is(err, seal.ErrLabel) && !errors.Is(err, seal.ErrKey) && !errors.Is(err, seal.ErrTooLarge) {
				t.Errorf("got %v", err)
			}
			return
		}
		for i := range public {
			opened, err := opens(keyNamed(t, names[i])).Open(sealed, label)
			if err != nil || !bytes.Equal(opened.Value.Bytes(), value) {
				t.Errorf("got %q, %v", reveal(opened), err)
			}
		}
	})
}

// FuzzMutated changes an item that opens, in one place and in its length.
func FuzzMutated(f *testing.F) {
	f.Add(0, byte(1), 0, []byte{})
	f.Add(3, byte(1), 0, []byte("x"))
	f.Add(1200, byte(0x80), 5, []byte{})
	cluster, recovery := keyNamed(f, "cluster"), keyNamed(f, "recovery")
	item := sealTo(f, "correct horse", password, cluster, recovery)
	keys := opens(cluster, recovery)
	f.Fuzz(func(t *testing.T, at int, change byte, cut int, more []byte) {
		mutated := bytes.Clone(item)
		mutated[uint(at)%uint(len(mutated))] ^= change
		mutated = append(mutated[:len(mutated)-int(uint(cut)%uint(len(mutated)))], more...)
		opened, err := keys.Open(mutated, password)
		if (err == nil) != bytes.Equal(mutated, item) {
			t.Errorf("byte %d xor %x, %d cut, %x more: got %q, %v", at, change, cut, more, reveal(opened), err)
		}
	})
}

func FuzzParseKeys(f *testing.F) {
	for _, name := range []string{"v1.json", "v2.json"} {
		for _, text := range loadVectors(f, name).Keys {
			f.Add([]byte(text))
		}
	}
	f.Add(keyNamed(f, "cluster").Public().PEM())
	f.Add([]byte("-----BEGIN PRIVYSEAL V2 PUBLIC KEY-----\n-----END PRIVYSEAL V2 PUBLIC KEY-----\n"))
	f.Add(certificate(f))
	f.Fuzz(func(t *testing.T, text []byte) {
		checkReparsed(t, text)
		if key, err := seal.ParseRSAKey(text, nil); err == nil {
			again, _ := key.PEM()
			if must(seal.ParseRSAKey(again, nil))(t).Fingerprint() != key.Fingerprint() {
				t.Error("an RSA key that is written and read is another")
			}
		} else if !errors.Is(err, seal.ErrKey) {
			t.Errorf("got %v", err)
		}
		if _, err := seal.ParseCertificate(text, day); err != nil && !errors.Is(err, seal.ErrKey) && !errors.Is(err, seal.ErrExpired) {
			t.Errorf("got %v", err)
		}
	})
}

func checkReparsed(t *testing.T, text []byte) {
	t.Helper()
	public, err := seal.ParsePublicKeys(text)
	if (err != nil) != errors.Is(err, seal.ErrKey) {
		t.Errorf("got %v", err)
	}
	for _, key := range public {
		if must(seal.ParsePublicKeys(key.PEM()))(t)[0].ID() != key.ID() {
			t.Error("a public key that is written and read is another")
		}
	}
	private, err := seal.ParsePrivateKeys(text)
	if (err != nil) != errors.Is(err, seal.ErrKey) {
		t.Errorf("got %v", err)
	}
	for _, key := range private {
		again := must(seal.ParsePrivateKeys(must(key.PEM())(t)))(t)
		if again[0].Public().ID() != key.Public().ID() {
			t.Error("a private key that is written and read is another")
		}
	}
}
