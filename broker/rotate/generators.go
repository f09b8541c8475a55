package rotate

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/providers"
	"github.com/privyseal/privyseal/rotation"
	"github.com/privyseal/privyseal/rotation/generate"
)

// generator makes the value of one key, and what belongs to it.
type generator struct {
	generate.Spec
	// public is the key that gets what may be known of a private one, and field
	// where it is said; empty: it is kept nowhere.
	public, field string
}

// maxKey is the longest key that a rotation can be of.
const maxKey = 253

func generatorsOf(specs map[string]v1alpha1.Generator) (map[string]generator, error) {
	if len(specs) == 0 {
		return nil, fmt.Errorf("spec.generate: give at least one key, and how its value is made")
	}
	generators := make(map[string]generator, len(specs))
	for _, key := range slices.Sorted(maps.Keys(specs)) {
		made, err := generatorOf(specs[key], fieldOf(key))
		if err != nil {
			return nil, err
		}
		generators[key] = made
	}
	return generators, nil
}

// fieldOf a key's generator.
func fieldOf(key string) string { return fmt.Sprintf("spec.generate[%.64s]", key) }

func generatorOf(given v1alpha1.Generator, field string) (generator, error) {
	made := generator{Spec: generate.Spec{Password: passwordOf(given.Password), Hex: bytesOf(given.Hex), Base64: bytesOf(given.Base64)}}
	if given.UUID != nil {
		made.UUID = &generate.UUID{}
	}
	made.addKeys(given, field)
	if err := made.Check(field); err != nil {
		return generator{}, err
	}
	if given.X509 != nil && given.X509.Certificate == "" {
		return generator{}, fmt.Errorf("%s.x509.certificate: give the key that gets the certificate", field)
	}
	return made, nil
}

// addKeys adds the generators of keys, of which each says where the public one goes.
func (g *generator) addKeys(given v1alpha1.Generator, field string) {
	if rsa := given.RSA; rsa != nil {
		g.RSA = &generate.RSA{Bits: int(rsa.Bits)}
		g.public, g.field = rsa.PublicKey, field+".rsa.publicKey"
	}
	if ecdsa := given.ECDSA; ecdsa != nil {
		g.ECDSA = &generate.ECDSA{Curve: ecdsa.Curve}
		g.public, g.field = ecdsa.PublicKey, field+".ecdsa.publicKey"
	}
	if ed25519 := given.Ed25519; ed25519 != nil {
		g.Ed25519 = &generate.Ed25519{}
		g.public, g.field = ed25519.PublicKey, field+".ed25519.publicKey"
	}
	if ssh := given.SSH; ssh != nil {
		g.SSH = &generate.SSH{Type: string(ssh.Type), Bits: int(ssh.Bits), Comment: ssh.Comment}
		g.public, g.field = ssh.PublicKey, field+".ssh.publicKey"
	}
	if x509 := given.X509; x509 != nil {
		g.X509 = &generate.X509{
			CommonName: x509.CommonName, DNSNames: x509.DNSNames, IPAddresses: x509.IPAddresses,
			Validity: durationOf(x509.Validity), KeyType: string(x509.KeyType),
		}
		g.public, g.field = x509.Certificate, field+".x509.certificate"
	}
}

func passwordOf(given *v1alpha1.PasswordGenerator) *generate.Password {
	if given == nil {
		return nil
	}
	made := &generate.Password{
		Length: int(given.Length), Symbols: given.Symbols, Exclude: given.Exclude,
		Without: given.Without, Policy: given.Policy,
	}
	if len(given.Minimum) > 0 {
		made.Minimum = make(map[string]int, len(given.Minimum))
		for class, least := range given.Minimum {
			made.Minimum[class] = int(least)
		}
	}
	return made
}

func bytesOf(given *v1alpha1.BytesGenerator) *generate.Bytes {
	if given == nil {
		return nil
	}
	return &generate.Bytes{Length: int(given.Length)}
}

// checkKeys checks that each value of a rotation has a key of its own.
func (s setup) checkKeys() error {
	owned := map[string]string{}
	own := func(key, field string) error {
		longest := key
		if s.plan.Strategy == rotation.Overlap {
			longest = rotation.PreviousKey(key)
		}
		by, taken := owned[key]
		switch {
		case key == "" || len(longest) > maxKey:
			return fmt.Errorf("%s: key %.64q: a key has 1 to %d characters, with what is put behind the key of a value before", field, key, maxKey)
		case rotation.IsPreviousKey(key):
			return fmt.Errorf("%s: key %.64q: what is under such a name is a value before, for which no pod is restarted; give it another", field, key)
		case taken:
			return fmt.Errorf("%s: key %.64q is that of %s already; give it another", field, key, by)
		}
		owned[key] = field
		return nil
	}
	for _, key := range slices.Sorted(maps.Keys(s.generators)) {
		if err := own(key, fieldOf(key)); err != nil {
			return err
		}
	}
	for _, key := range slices.Sorted(maps.Keys(s.generators)) {
		if made := s.generators[key]; made.public != "" {
			if err := own(made.public, made.field); err != nil {
				return err
			}
		}
	}
	if s.plan.Strategy == rotation.AlternateUsers {
		return own(s.users.Key, "spec.users.key")
	}
	return nil
}

// checkValidity checks that a certificate outlasts the time to the next run.
func (s setup) checkValidity(now time.Time) error {
	for _, key := range slices.Sorted(maps.Keys(s.generators)) {
		x509 := s.generators[key].X509
		if x509 == nil {
			continue
		}
		if longest := s.schedule.Longest(now); x509.Lasts() <= longest {
			return fmt.Errorf("%s.x509.validity: the certificate is good for %s, and up to %s go by between two runs of spec.schedule; have it be good for longer, or run more often",
				fieldOf(key), x509.Lasts(), longest)
		}
	}
	return nil
}

// fresh are the new values of all keys, which the caller clears, whatever the error.
func (s setup) fresh(now time.Time) (map[string]providers.Value, error) {
	fresh := make(map[string]providers.Value, 2*len(s.generators))
	for key, generator := range s.generators {
		made, err := generator.Generate(nil, now)
		if err != nil {
			return fresh, fmt.Errorf("%s: %w", fieldOf(key), err)
		}
		fresh[key] = made.Secret
		if generator.public != "" {
			fresh[generator.public] = providers.NewValue(made.Public)
		}
	}
	return fresh, nil
}
