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
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"
)

const usage = `pgclient login            log in ten times a second, and write down in table attempts what came of it
pgclient set FOLDER       FOLDER has new/password, and old/password or the login of somebody
                          who may change it: give the user new/username, or ROLE, the new one
pgclient verify FOLDER    log in as the user with the new one
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "pgclient:", err)
		os.Exit(1)
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
	}
	fmt.Fprint(os.Stderr, usage)
	os.Exit(2)
	return nil
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
