// Package repository keeps files in one branch of a git repository.
//
// A run takes three steps. Head asks where the branch is, which is one small
// request. Fetch brings its last commit, and nothing of its history, into
// memory. Commit puts a commit with the changes on top of what was fetched and
// pushes it, never by force: if somebody was first, that is ErrConflict, and
// the caller begins again on top of theirs. There is nothing on disk, so a
// program that dies between the steps leaves nothing behind.
//
// Files are put into trees as they are: nothing is checked out, so neither
// attributes, hooks, filters nor links in the repository have a say.
//
// The package knows nothing of Kubernetes or of what the files hold.
package repository

import "errors"

var (
	// ErrInvalid: the URL, the branch or the credentials cannot be used.
	ErrInvalid = errors.New("unusable git repository")

	// ErrDenied: the server refuses the credentials or does not show them the
	// repository, or is not the server that it should be.
	ErrDenied = errors.New("the git server refuses")

	// ErrUnavailable: the repository could not be asked, or takes no commit.
	ErrUnavailable = errors.New("the git repository is unavailable")

	// ErrConflict: somebody else pushed meanwhile.
	ErrConflict = errors.New("somebody else pushed meanwhile")

	// ErrNoFile: nothing lies at a path.
	ErrNoFile = errors.New("no such file")

	// ErrOccupied: something other than a file lies at a path, or on the way to
	// it.
	ErrOccupied = errors.New("there is something that is no file")
)
