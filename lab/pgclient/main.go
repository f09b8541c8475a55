// The lab's service with a database: it shows what a rotation is like for
// whoever uses the credential. It logs in to PostgreSQL anew ten times a
// second, and keeps one connection that it asks at each of these times; what
// came of each time is a row of a table, so that it outlives the pod.
//
// It also is a rotation's hook: it changes a password, or tries one.
//
// It finds the database by the variables that every client of PostgreSQL knows
// (PGHOST, PGPORT, PGDATABASE, PGUSER, PGPASSWORD). USER_FILE and PASSWORD_FILE
// name files that are read at each login instead.
//
// Beside that it is a service that takes two tokens, a client of it, and the hooks
// that belong to them: a database takes but one password of a user.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"
)

var errUsage = errors.New(`what is to be done?

pgclient login            log in ten times a second, and write down in table attempts what came of it
pgclient set FOLDER       FOLDER has new/password: give it to the user new/username, or ROLE.
                          By the login in admin/, that of the variables, or that in old/
pgclient verify FOLDER    log in as the user with the new one

pgclient tokens           be a service that takes two tokens, of which TOKEN is the first
pgclient present          present TOKEN to the SERVICE ten times a second
pgclient add FOLDER       have the SERVICE take new/token too; or, where PRIVYSEAL_HOOK is
                          set-back, forget old/token
pgclient try FOLDER       present new/token to the SERVICE`)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "pgclient:", err)
		code := 1
		if errors.Is(err, errUsage) {
			code = 2
		}
		os.Exit(code)
	}
}

func run(ctx context.Context, args []string) error {
	switch {
	case len(args) == 1 && args[0] == "login":
		return login(ctx)
	case len(args) == 2 && args[0] == "set":
		return set(ctx, folder(args[1]))
	case len(args) == 2 && args[0] == "verify":
		return verify(ctx, folder(args[1]))
	case len(args) == 1 && args[0] == "tokens":
		return tokens(ctx)
	case len(args) == 1 && args[0] == "present":
		return present(ctx)
	case len(args) == 2 && args[0] == "add":
		return add(ctx, folder(args[1]))
	case len(args) == 2 && args[0] == "try":
		return try(ctx, folder(args[1]))
	}
	return errUsage
}

// connect logs in; a user or a password that is empty is that of the variables.
func connect(ctx context.Context, user, password string) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig("connect_timeout=5")
	if err != nil {
		return nil, err
	}
	if user != "" {
		config.User = user
	}
	if password != "" {
		config.Password = password
	}
	return pgx.ConnectConfig(ctx, config)
}

// content is a file's, without the newline that an editor may have left.
func content(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	read, err := os.ReadFile(path)
	return strings.TrimRight(string(read), "\n"), err
}
