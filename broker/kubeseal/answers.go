package kubeseal

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"slices"

	ssv1alpha1 "github.com/bitnami-labs/sealed-secrets/pkg/apis/sealedsecrets/v1alpha1"

	"github.com/privyseal/privyseal/broker/environment"
	"github.com/privyseal/privyseal/broker/manifest"
	"github.com/privyseal/privyseal/broker/seal"
	"github.com/privyseal/privyseal/broker/sealingkey"
)

// The refusals, one for each path, whatever the cause.
const (
	doesNotOpen      = "the sealed secret does not open"
	cannotBeResealed = "the sealed secret cannot be sealed anew"
)

// errForeign: a recipient of an item is not of this cluster. To seal anew would
// shut it out.
var errForeign = errors.New("sealed to a key of another cluster as well")

// certificate gives out the keys to seal to: the certificate first, which is
// what kubeseal takes, and then those of version 2, which it passes over.
func (s *Server) certificate(w http.ResponseWriter, r *http.Request) {
	keys, err := s.config.Keys.Snapshot(r.Context())
	if err != nil || keys.RSA == nil || keys.RSA.Certificate() == nil {
		s.config.Log.V(1).Info("no certificate to give out", "error", err)
		answer(w, http.StatusServiceUnavailable, "there is no sealing key yet")
		return
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: keys.RSA.Certificate().Raw})
	for _, key := range s.recipients(keys) {
		text = append(text, key.PEM()...)
	}
	w.Header().Set("Content-Type", "application/x-pem-file")
	_, _ = w.Write(text)
}

// recipients are the keys to seal to in version 2; none before there is a key.
func (s *Server) recipients(keys sealingkey.Snapshot) []*seal.PublicKey {
	if keys.Hybrid == nil {
		return nil
	}
	return append([]*seal.PublicKey{keys.Hybrid.Public()}, s.config.Recovery...)
}

// verify says whether an object opens: all of its items, and nothing of its
// template.
func (s *Server) verify(w http.ResponseWriter, r *http.Request, body []byte) {
	_, sealed, err := parse(body)
	if err != nil {
		answer(w, http.StatusBadRequest, "want one SealedSecret, as JSON or YAML")
		return
	}
	keys, home, err := s.surroundings(r.Context(), sealed)
	if err != nil {
		s.unavailable(w, err)
		return
	}
	opened, err := s.open(sealed, home, keys)
	opened.Clear()
	if err != nil {
		answer(w, http.StatusConflict, doesNotOpen)
		return
	}
	w.WriteHeader(http.StatusOK)
}

// rotate seals those items anew that are not sealed to the newest keys. It
// answers with the object as it came, in all but the ciphertexts.
func (s *Server) rotate(w http.ResponseWriter, r *http.Request, body []byte) {
	object, sealed, err := parse(body)
	if err != nil {
		answer(w, http.StatusBadRequest, cannotBeResealed)
		return
	}
	keys, home, err := s.surroundings(r.Context(), sealed)
	if err != nil {
		s.unavailable(w, err)
		return
	}
	resealed, err := s.reseal(sealed, home, keys)
	if err != nil {
		answer(w, http.StatusBadRequest, cannotBeResealed)
		return
	}
	text, err := json.Marshal(object.With(resealed))
	if err != nil || len(text) > manifest.MaxObject {
		answer(w, http.StatusBadRequest, cannotBeResealed)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(text)
}

// unavailable: what has to be asked before anything is opened gives no answer.
// That has nothing to do with the request.
func (s *Server) unavailable(w http.ResponseWriter, err error) {
	s.config.Log.Error(err, "answering kubeseal")
	w.Header().Set("Retry-After", "5")
	answer(w, http.StatusServiceUnavailable, "not available; try again later")
}

func parse(body []byte) (*manifest.Object, *ssv1alpha1.SealedSecret, error) {
	file, err := manifest.Parse(body)
	if err != nil {
		return nil, nil, err
	}
	if len(file.Objects) != 1 {
		return nil, nil, fmt.Errorf("%w: %d objects", manifest.ErrMalformed, len(file.Objects))
	}
	sealed, err := file.Objects[0].Sealed()
	return file.Objects[0], sealed, err
}

// home is the environment that an object's items must have been sealed for.
type home struct {
	name string
	// none can be told: the namespace is in two, or a selector is malformed.
	none error
}

// surroundings of an object. Errors say nothing of the object.
func (s *Server) surroundings(ctx context.Context, sealed *ssv1alpha1.SealedSecret) (sealingkey.Snapshot, home, error) {
	keys, err := s.config.Keys.Snapshot(ctx)
	if err != nil {
		return keys, home{}, fmt.Errorf("reading the sealing keys: %w", err)
	}
	if keys.Open == nil {
		keys.Open = seal.NewKeys(nil, nil)
	}
	name, err := s.config.Environments.Environment(ctx, sealed.Namespace)
	if errors.Is(err, environment.ErrTwo) || errors.Is(err, environment.ErrSelector) {
		return keys, home{none: err}, nil
	}
	if err != nil {
		return keys, home{}, fmt.Errorf("reading the environment of a namespace: %w", err)
	}
	return keys, home{name: name}, nil
}

func (s *Server) open(sealed *ssv1alpha1.SealedSecret, home home, keys sealingkey.Snapshot) (manifest.Opened, error) {
	if home.none != nil {
		return manifest.Opened{}, home.none
	}
	return manifest.Open(sealed, home.name, keys.Open)
}

func (s *Server) reseal(sealed *ssv1alpha1.SealedSecret, home home, keys sealingkey.Snapshot) (*ssv1alpha1.SealedSecret, error) {
	if keys.RSA == nil {
		return nil, fmt.Errorf("%w: none to seal to", seal.ErrKey)
	}
	// All of it has to open: an item that does not is no reason to say so of
	// the others.
	opened, err := s.open(sealed, home, keys)
	opened.Clear()
	if err != nil {
		return nil, err
	}
	stale, err := s.stale(sealed, opened, keys)
	if err != nil {
		return nil, err
	}
	sealer := manifest.Sealer{RSA: keys.RSA.Public(), Recipients: s.recipients(keys)}
	resealed, _, err := manifest.Reseal(sealed, home.name, keys.Open, sealer, func(item []byte) bool { return stale[string(item)] })
	return resealed, err
}

// stale are the items that are not sealed to the newest keys.
func (s *Server) stale(sealed *ssv1alpha1.SealedSecret, opened manifest.Opened, keys sealingkey.Snapshot) (map[string]bool, error) {
	stale := map[string]bool{}
	if len(sealed.Spec.Data) > 0 {
		stale[string(sealed.Spec.Data)] = !slices.Contains(opened.Keys, keys.RSA.Fingerprint())
		return stale, nil
	}
	for name, key := range opened.KeyOf {
		item, err := manifest.Decode(sealed.Spec.EncryptedData[name])
		if err != nil {
			return nil, err // unreachable: it has just opened
		}
		parsed, err := seal.Parse(item)
		switch {
		case err != nil:
			return nil, err // unreachable, likewise
		case parsed.Version() == seal.V1:
			stale[string(item)] = key != keys.RSA.Fingerprint()
		case keys.Hybrid != nil && !slices.Contains(parsed.Recipients(), keys.Hybrid.Public().ID()):
			if s.foreign(parsed.Recipients(), keys) {
				return nil, errForeign
			}
			stale[string(item)] = true
		}
	}
	return stale, nil
}

// foreign says whether one of the recipients is neither a key of ours, old ones
// included, nor one for recovery.
func (s *Server) foreign(recipients []seal.KeyID, keys sealingkey.Snapshot) bool {
	return slices.ContainsFunc(recipients, func(id seal.KeyID) bool {
		ours := slices.ContainsFunc(keys.Keys, func(key sealingkey.Key) bool { return key.ID == id.String() })
		return !ours && !slices.ContainsFunc(s.config.Recovery, func(key *seal.PublicKey) bool { return key.ID() == id })
	})
}
