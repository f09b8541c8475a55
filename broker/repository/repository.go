package repository

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	git "github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/config"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/transport"
	"github.com/go-git/go-git/v5/storage/memory"

	"github.com/privyseal/privyseal/providers"
)

// Config of a Repository.
type Config struct {
	// URL of the repository: https or ssh. Required.
	URL string

	// Branch to keep the files in. Required.
	Branch string

	// Credentials for the server. Required.
	Credentials Credentials

	// SigningKey signs commits: an armored OpenPGP private key without a
	// passphrase. The zero Value: they are not signed.
	SigningKey providers.Value

	// AllowHTTP permits plain http, for development only.
	AllowHTTP bool
}

// Repository is one branch of a git repository. It holds no state but its
// configuration.
type Repository struct {
	config Config
	auth   transport.AuthMethod
	branch plumbing.ReferenceName
	signer *openpgp.Entity
}

// Open checks a configuration; it asks nobody. Errors wrap ErrInvalid.
func Open(config Config) (*Repository, error) {
	scheme, err := scheme(config.URL, config.AllowHTTP)
	if err != nil {
		return nil, err
	}
	branch := plumbing.NewBranchReferenceName(config.Branch)
	if branch.Validate() != nil {
		return nil, fmt.Errorf("%w: branch %q is no name that git takes", ErrInvalid, config.Branch)
	}
	auth, err := config.Credentials.auth(config.URL, scheme)
	if err != nil {
		return nil, err
	}
	signer, err := readSigner(config.SigningKey)
	if err != nil {
		return nil, err
	}
	return &Repository{config: config, auth: auth, branch: branch, signer: signer}, nil
}

func readSigner(key providers.Value) (*openpgp.Entity, error) {
	if len(key.Bytes()) == 0 {
		return nil, nil
	}
	ring, err := openpgp.ReadArmoredKeyRing(bytes.NewReader(key.Bytes()))
	if err != nil || len(ring) != 1 || ring[0].PrivateKey == nil {
		return nil, fmt.Errorf("%w: signing.asc holds no OpenPGP private key, or several; write what gpg --armor --export-secret-keys ID prints", ErrInvalid)
	}
	if ring[0].PrivateKey.Encrypted {
		return nil, fmt.Errorf("%w: signing.asc has a passphrase, which nobody could give; take it off", ErrInvalid)
	}
	return ring[0], nil
}

// Head names the commit that the branch is at; "" if it is not there. Errors
// wrap ErrDenied or ErrUnavailable.
func (r *Repository) Head(ctx context.Context) (string, error) {
	hash, err := r.head(ctx, r.remote(memory.NewStorage()))
	return text(hash), err
}

func (r *Repository) head(ctx context.Context, remote *git.Remote) (plumbing.Hash, error) {
	references, err := remote.ListContext(ctx, &git.ListOptions{Auth: r.auth, CABundle: r.config.Credentials.CA})
	if errors.Is(err, transport.ErrEmptyRemoteRepository) {
		return plumbing.ZeroHash, nil
	}
	if err != nil {
		return plumbing.ZeroHash, r.classify("asking for the branch", err)
	}
	for _, reference := range references {
		if reference.Name() == r.branch {
			return reference.Hash(), nil
		}
	}
	return plumbing.ZeroHash, nil
}

func (r *Repository) remote(store *memory.Storage) *git.Remote {
	return git.NewRemote(store, &config.RemoteConfig{Name: git.DefaultRemoteName, URLs: []string{r.config.URL}})
}

// Fetch brings the branch's last commit. Errors wrap ErrDenied or
// ErrUnavailable.
func (r *Repository) Fetch(ctx context.Context) (*Tree, error) {
	store := memory.NewStorage()
	remote := r.remote(store)
	head, err := r.head(ctx, remote)
	if err != nil || head.IsZero() {
		return &Tree{store: store}, err
	}
	err = remote.FetchContext(ctx, &git.FetchOptions{
		RefSpecs: []config.RefSpec{config.RefSpec("+" + r.branch + ":" + r.branch)},
		Depth:    1, Tags: git.NoTags, Auth: r.auth, CABundle: r.config.Credentials.CA,
	})
	if err != nil && !errors.Is(err, git.NoErrAlreadyUpToDate) {
		return nil, r.classify("fetching", err)
	}
	reference, err := store.Reference(r.branch)
	if err != nil {
		return nil, r.classify("fetching", err)
	}
	commit, err := object.GetCommit(store, reference.Hash())
	if err != nil {
		return nil, r.classify("reading the last commit", err)
	}
	root, err := commit.Tree()
	if err != nil {
		return nil, r.classify("reading the last commit", err)
	}
	return &Tree{store: store, head: reference.Hash(), root: root}, nil
}

// Commit puts one commit with the changes (files by path, nil to remove) on top
// of a tree that was fetched, and pushes it. It gives the new head. Errors wrap
// ErrConflict, ErrOccupied, ErrDenied or ErrUnavailable.
func (r *Repository) Commit(ctx context.Context, onto *Tree, changes map[string][]byte, message string, at time.Time) (string, error) {
	store, ours := onto.store.(*memory.Storage)
	if !ours {
		return "", errors.New("[unexpected] the tree is not one that was fetched")
	}
	root, err := graft(store, onto.root, changes)
	if err != nil {
		return "", err
	}
	if root.IsZero() {
		if root, err = emptyTree(store); err != nil {
			return "", err
		}
	}
	hash, err := r.write(store, onto.head, root, message, at)
	if err != nil {
		return "", err
	}
	remote := r.remote(store)
	err = remote.PushContext(ctx, &git.PushOptions{
		RefSpecs: []config.RefSpec{config.RefSpec(r.branch + ":" + r.branch)},
		Auth:     r.auth, CABundle: r.config.Credentials.CA,
	})
	if err == nil || errors.Is(err, git.NoErrAlreadyUpToDate) {
		return hash.String(), nil
	}
	// The server's word for "not a fast-forward" is a text of its own; where the
	// branch is now says the same.
	switch now, asked := r.head(ctx, r.remote(memory.NewStorage())); {
	case asked != nil:
	case now == hash:
		return hash.String(), nil // it arrived, and the answer did not
	case now != onto.head:
		return "", ErrConflict
	}
	return "", r.classify("pushing", err)
}

// write writes a commit, and has the branch point at it.
func (r *Repository) write(store *memory.Storage, parent, root plumbing.Hash, message string, at time.Time) (plumbing.Hash, error) {
	signature := object.Signature{Name: "Privyseal", Email: "privyseal@localhost", When: at.UTC()}
	commit := &object.Commit{Author: signature, Committer: signature, Message: message, TreeHash: root}
	if !parent.IsZero() {
		commit.ParentHashes = []plumbing.Hash{parent}
	}
	if err := r.sign(commit); err != nil {
		return plumbing.ZeroHash, err
	}
	encoded := store.NewEncodedObject()
	if err := commit.Encode(encoded); err != nil {
		return plumbing.ZeroHash, fmt.Errorf("writing the commit: %w", err)
	}
	hash, err := store.SetEncodedObject(encoded)
	if err != nil {
		return plumbing.ZeroHash, fmt.Errorf("writing the commit: %w", err)
	}
	return hash, store.SetReference(plumbing.NewHashReference(r.branch, hash))
}

func (r *Repository) sign(commit *object.Commit) error {
	if r.signer == nil {
		return nil
	}
	unsigned := &plumbing.MemoryObject{}
	if err := commit.EncodeWithoutSignature(unsigned); err != nil {
		return fmt.Errorf("writing the commit: %w", err)
	}
	reader, err := unsigned.Reader()
	if err != nil {
		return fmt.Errorf("writing the commit: %w", err)
	}
	var signature bytes.Buffer
	if err := openpgp.ArmoredDetachSign(&signature, r.signer, reader, nil); err != nil {
		return fmt.Errorf("%w: signing the commit: %w", ErrInvalid, err)
	}
	commit.PGPSignature = signature.String()
	return nil
}

func emptyTree(store *memory.Storage) (plumbing.Hash, error) {
	encoded := store.NewEncodedObject()
	if err := (&object.Tree{}).Encode(encoded); err != nil {
		return plumbing.ZeroHash, fmt.Errorf("writing a folder: %w", err)
	}
	return store.SetEncodedObject(encoded)
}

// classify says what kind of error the transport's is.
func (r *Repository) classify(doing string, err error) error {
	for _, refusal := range []error{
		transport.ErrAuthenticationRequired, transport.ErrAuthorizationFailed, transport.ErrRepositoryNotFound,
	} {
		if errors.Is(err, refusal) {
			return fmt.Errorf("%w: %s: %w", ErrDenied, doing, err)
		}
	}
	if errors.Is(err, ErrDenied) {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return fmt.Errorf("%w: %s: %w", ErrUnavailable, doing, err)
}
