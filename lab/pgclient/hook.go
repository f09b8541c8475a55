package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// folder is where a hook finds both values, new/KEY and old/KEY, and perhaps the
// login of an administrator, admin/username and admin/password.
type folder string

// value is empty where there is none.
func (f folder) value(which, key string) (string, error) {
	read, err := content(filepath.Join(string(f), which, key))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return read, err
}

// login has what is there of one.
func (f folder) login(which string) (user, password string, err error) {
	if user, err = f.value(which, "username"); err != nil {
		return "", "", err
	}
	password, err = f.value(which, "password")
	return user, password, err
}

// wanted is whom the new password is for, and the password.
func (f folder) wanted() (user, password string, err error) {
	user, password, err = f.login("new")
	user = cmp.Or(user, os.Getenv("ROLE"))
	if err == nil && (user == "" || password == "") {
		err = errors.New("new/password is missing, or new/username and ROLE are")
	}
	return user, password, err
}

// changer is who changes a user's password: an administrator, else whoever the
// variables name, else who is in use, which is the user itself or the other one.
func (f folder) changer(user string) (by, password string, err error) {
	by, password, err = f.login("admin")
	if err != nil || password != "" || os.Getenv("PGPASSWORD") != "" {
		return by, password, err
	}
	by, password, err = f.login("old")
	return cmp.Or(by, user), password, err
}

// set may be done twice: whoever can log in with the new password has it.
func set(ctx context.Context, f folder) error {
	if verify(ctx, f) == nil {
		fmt.Println("the password is set already")
		return nil
	}
	user, password, err := f.wanted()
	if err != nil {
		return err
	}
	by, with, err := f.changer(user)
	if err != nil {
		return err
	}
	connection, err := connect(ctx, by, with)
	if err != nil {
		return fmt.Errorf("logging in to change it: %w", err)
	}
	defer func() { _ = connection.Close(ctx) }()
	// The statement takes no parameters; the server quotes them.
	var statement string
	if err := connection.QueryRow(ctx, "SELECT format('ALTER ROLE %I PASSWORD %L', $1::text, $2::text)", user, password).Scan(&statement); err != nil {
		return err
	}
	if _, err := connection.Exec(ctx, statement); err != nil {
		return fmt.Errorf("changing the password of %s: %w", user, err)
	}
	fmt.Println("the password of", user, "is changed")
	return verify(ctx, f)
}

func verify(ctx context.Context, f folder) error {
	user, password, err := f.wanted()
	if err != nil {
		return err
	}
	connection, err := connect(ctx, user, password)
	if err != nil {
		return fmt.Errorf("logging in with the new password: %w", err)
	}
	return errors.Join(connection.Ping(ctx), connection.Close(ctx))
}
