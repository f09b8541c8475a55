package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	postgresPort = 5432
	postgresHome = "/var/lib/postgresql" // inside: the state folder's part that its user can reach
	postgresUser = "postgres"
	oldest       = 15 // PostgreSQL's major version
)

// postgresFolder is where the programs of the newest PostgreSQL here are.
// Debian keeps each version's in a folder of its own, outside of PATH.
func postgresFolder() (string, error) {
	newest, folder := oldest-1, ""
	programs, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	for _, program := range programs {
		bin := filepath.Dir(program)
		if version, err := strconv.Atoi(filepath.Base(filepath.Dir(bin))); err == nil && version > newest {
			newest, folder = version, bin
		}
	}
	if folder != "" {
		return folder, nil
	}
	program, err := exec.LookPath("initdb")
	if err != nil {
		return "", err
	}
	if program, err = filepath.EvalSymlinks(program); err != nil {
		return "", err
	}
	out, err := exec.Command(program, "--version").Output()
	if err != nil {
		return "", fmt.Errorf("asking %s for its version: %w", program, err)
	}
	if version := majorVersion(string(out)); version < oldest {
		return "", fmt.Errorf("%s is of version %d: want %d or later", program, version, oldest)
	}
	return filepath.Dir(program), nil
}

// majorVersion reads "initdb (PostgreSQL) 15.18 (Debian 15.18-0)"; 0 where it cannot.
func majorVersion(said string) int {
	_, rest, _ := strings.Cut(said, "(PostgreSQL) ")
	major, _, _ := strings.Cut(strings.TrimSpace(rest), ".")
	version, _ := strconv.Atoi(major)
	return version
}

// postgresOwner is whom PostgreSQL runs as: it refuses root.
func postgresOwner() (*syscall.Credential, error) {
	owner, err := user.Lookup(postgresUser)
	if err != nil {
		return nil, err
	}
	uid, err := strconv.ParseUint(owner.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(owner.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, err
}

// postgresKeys are what the lab knows and nobody else: the superuser's password.
type postgresKeys struct {
	Password string `json:"password"`
}

func (c Config) postgresKeysFile() string { return c.path("postgres.json") }

func (c Config) postgresKeys() (postgresKeys, error) {
	var keys postgresKeys
	return keys, readJSON(c.postgresKeysFile(), &keys)
}

func (s site) postgresAddress() string { return fmt.Sprintf("%s:%d", s.Host, postgresPort) }

// postgresURL is how the superuser logs in.
func (s site) postgresURL(keys postgresKeys) string {
	return fmt.Sprintf("postgres://%s:%s@%s/postgres?sslmode=disable", postgresUser, keys.Password, s.postgresAddress())
}

// mountPostgres shows PostgreSQL's part of the state folder where its user can
// look: the state folder itself may lie in root's home.
func (c Config) mountPostgres() error {
	owner, err := postgresOwner()
	if err != nil {
		return err
	}
	from := c.path("postgres")
	for _, dir := range []string{from, postgresHome} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	if err := os.Chown(from, int(owner.Uid), int(owner.Gid)); err != nil {
		return err
	}
	return unix.Mount(from, postgresHome, "", unix.MS_BIND, "")
}

// furnishPostgres makes the data folder where there is none yet. The password
// is written down before, and the folder gets its name at the end: so a kill in
// between leaves nothing that nobody can log in to.
func (p plan) furnishPostgres(ctx context.Context) error {
	data, scratch, told := filepath.Join(postgresHome, "data"), filepath.Join(postgresHome, "making"), filepath.Join(postgresHome, "password")
	if exists(data) {
		// It names a process of an earlier start's namespace.
		return os.RemoveAll(filepath.Join(data, "postmaster.pid"))
	}
	keys := postgresKeys{Password: rand.Text()}
	if err := writeJSON(p.Config.postgresKeysFile(), keys, 0o600); err != nil {
		return err
	}
	if err := os.RemoveAll(scratch); err != nil {
		return err
	}
	owner, err := postgresOwner()
	if err != nil {
		return err
	}
	if err := errors.Join(os.WriteFile(told, []byte(keys.Password), 0o600), os.Chown(told, int(owner.Uid), int(owner.Gid))); err != nil {
		return err
	}
	defer os.Remove(told)
	cmd := exec.CommandContext(ctx, filepath.Join(p.Postgres, "initdb"), "--pgdata="+scratch, "--username="+postgresUser,
		"--pwfile="+told, "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync")
	cmd.Env, cmd.Dir = serverEnv(), "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: owner, Pdeathsig: syscall.SIGKILL}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, strings.TrimSpace(string(out)))
	}
	access := "host all all " + labRange + " scram-sha-256\n"
	if err := os.WriteFile(filepath.Join(scratch, "pg_hba.conf"), []byte(access), 0o600); err != nil {
		return err
	}
	return os.Rename(scratch, data)
}

func (p plan) postgres() (server, error) {
	owner, err := postgresOwner()
	args := []string{"-D", filepath.Join(postgresHome, "data")}
	for _, setting := range []string{
		"listen_addresses=" + p.Site.Host, fmt.Sprintf("port=%d", postgresPort), "unix_socket_directories=",
		"shared_buffers=32MB", "max_connections=200",
		"dynamic_shared_memory_type=mmap",   // /dev/shm is the machine's, where a kill would leave it
		"fsync=off", "full_page_writes=off", // a lab need not survive a power cut; a kill it does
		"log_connections=off", "log_min_messages=warning",
	} {
		args = append(args, "-c", setting)
	}
	return server{
		name:    "postgres",
		program: filepath.Join(p.Postgres, "postgres"),
		args:    args,
		as:      owner,
		stop:    syscall.SIGINT, // ends its connections; with SIGTERM it waits for them
		ready: func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
			defer cancel()
			return quietly(ctx, filepath.Join(p.Postgres, "pg_isready"), "--quiet", "--host="+p.Site.Host, fmt.Sprintf("--port=%d", postgresPort))
		},
	}, err
}
