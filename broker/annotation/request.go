package annotation

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"

	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// Parsed is what the annotations of one pod template ask for.
type Parsed struct {
	// Requests, sorted by name. Names are unique.
	Requests []Request

	// Containers that get the secrets, as listed; empty where the annotation
	// is not there, and then the webhook's own rule decides.
	Containers []string

	// Restart says whether the workload is restarted when it holds an old
	// value: RestartAuto where the annotation is not there.
	Restart v1alpha1.RestartPolicy
}

// Request is one secret that a pod asks for: one privyseal.io/secret.<name>
// with what else is said of that name.
type Request struct {
	// Name is a DNS label of at most 40 characters.
	Name string

	// Path in the store, as it stands in a claim's source: "db" is relative to
	// the environment's root, "/kv/shared/ca" is absolute. Empty where Claim is
	// given.
	Path string

	// Claim names an existing SecretClaim in the pod's namespace. Empty where
	// Path is given.
	Claim string

	// Template, where not empty, renders the target's one key, which is called
	// Name, from the keys at Path. It is not checked here: the claim reports a
	// template that does not parse.
	Template string

	// Env is delivery as environment variables; nil for none.
	Env *Env

	// Volume is delivery as files; nil for none. At least one of Env and
	// Volume is given.
	Volume *Volume
}

// Env is delivery as environment variables: all keys, or some.
type Env struct {
	// All takes every key of the target under its own name, with Prefix put
	// before it.
	All bool

	// Prefix of the names where All is set; may be empty.
	Prefix string

	// Keys to take, in the order written; empty where All is set.
	Keys []EnvKey
}

// EnvKey is one key of the target and the variable that holds it.
type EnvKey struct {
	Key  string
	Name string
}

// Volume is delivery as files, one a key.
type Volume struct {
	// Path is the directory, absolute and clean.
	Path string

	// Mode of the files; nil for the webhook's default.
	Mode *int32
}

// EnvNames are the names of the variables that are known without the target's
// content: those of chosen keys, and that of a template's one key. The names
// of a whole target are known only to its claim.
func (r Request) EnvNames() []string {
	if r.Env == nil {
		return nil
	}
	if r.Env.All {
		if r.Template == "" {
			return nil
		}
		return []string{r.Env.Prefix + r.Name}
	}
	names := make([]string, 0, len(r.Env.Keys))
	for _, key := range r.Env.Keys {
		names = append(names, key.Name)
	}
	return names
}

// claimDomain versions what ClaimName hashes.
const claimDomain = "privyseal.io/annotation-claim/v1"

// ClaimName is the claim that this request is served by: the one it names, or
// <name>-<8 hex digits> of the SHA-256 over
//
//	len(domain) domain len(path) path len(template) template
//
// with lengths as 64-bit big-endian numbers. The same request in two workloads
// is one claim, two different ones never meet, and an edited annotation gives
// a new claim while old pods keep the old one's target.
//
// Which keys go into the environment is not part of it, where D3 had them: the
// target holds every key of the path in any case, since a volume may want
// them; whoever may write the pod may read the whole Secret; and a restart
// judges by the keys that the pod itself names. With them in, a pod that takes
// one more key would wait for a second copy of the same secret.
//
// 32 bits name a claim, they do not prove it. Who finds a claim of this name
// compares its spec with ClaimSpec before taking it for this request's.
func (r Request) ClaimName() string {
	if r.Claim != "" {
		return r.Claim
	}
	digest := sha256.New()
	for _, part := range []string{claimDomain, r.Path, r.Template} {
		writeSized(digest, part)
	}
	return r.Name + "-" + hex.EncodeToString(digest.Sum(nil)[:4])
}

func writeSized(digest hash.Hash, part string) {
	var size [8]byte
	binary.BigEndian.PutUint64(size[:], uint64(len(part)))
	digest.Write(size[:]) // a hash never returns an error
	digest.Write([]byte(part))
}

// ClaimSpec is the claim to make for a request that gives a path. Its target
// bears the claim's name and goes with it, since nobody wrote either by hand.
// For a request that names an existing claim there is none to make, and
// ClaimSpec is the zero spec.
//
// A template becomes template.data with the one key Name: mounted at
// /etc/secrets/db, privyseal.io/template.db is the file /etc/secrets/db/db.
//
// privyseal.io/restart is not in it: it speaks of one workload, and the claim
// may serve several.
func (r Request) ClaimSpec() v1alpha1.SecretClaimSpec {
	if r.Claim != "" {
		return v1alpha1.SecretClaimSpec{}
	}
	spec := v1alpha1.SecretClaimSpec{
		Sources: []v1alpha1.Source{{Path: r.Path}},
		Target:  &v1alpha1.Target{OnClaimDeleted: v1alpha1.DeleteTarget},
	}
	if r.Template != "" {
		spec.Template = &v1alpha1.Template{
			Data: map[string]v1alpha1.TemplateText{r.Name: v1alpha1.TemplateText(r.Template)},
		}
	}
	return spec
}
