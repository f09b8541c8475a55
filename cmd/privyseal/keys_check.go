package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/utils/clock"

	"github.com/privyseal/privyseal/broker/copies"
	"github.com/privyseal/privyseal/broker/manifest"
	"github.com/privyseal/privyseal/broker/recovery"
	"github.com/privyseal/privyseal/broker/seal"
)

// checking is one run of privyseal keys check.
type checking struct {
	keyPath    string
	record     bool
	kubeconfig string
	namespace  string

	stdout io.Writer
	stderr io.Writer

	keys    []*seal.PrivateKey
	bundle  *time.Time // when the newest was made
	bundles int
	copies  int
	items   int
	others  int // SealedSecrets that are no copies
	closed  int
}

func keysCheckCommand() *cobra.Command {
	c := &checking{}
	command := &cobra.Command{
		Use:   "check PATH... --key FILE",
		Short: "Prove that bundles and sealed copies open with a recovery key",
		Long: `Prove that recovery bundles, and the sealed copies in files and folders, open with
a recovery key and nothing else, and forget what comes out. Where the file holds
several keys, each of them has to open everything. SealedSecrets that are no
copies are passed over: they open with the keys that are in the bundle.

With --record, note in the cluster when this was shown and for which key, for
"privyseal status keys" and the metric privyseal_recovery_checked_timestamp_seconds.

Exit codes: 0 all opens, 1 something does not, 2 wrong command line.`,
		RunE: func(command *cobra.Command, args []string) error {
			c.stdout, c.stderr = command.OutOrStdout(), command.ErrOrStderr()
			return c.run(command.Context(), args)
		},
	}
	flags := command.Flags()
	flags.StringVar(&c.keyPath, "key", "", "file with the recovery key")
	flags.BoolVar(&c.record, "record", false, "note in the cluster that this key opens all of this")
	flags.StringVar(&c.namespace, "namespace", "privyseal-system", "namespace of the daemon, for --record")
	flags.StringVar(&c.kubeconfig, "kubeconfig", "", "file to reach the cluster with, for --record (default: as kubectl)")
	return command
}

func (c *checking) run(ctx context.Context, paths []string) error {
	switch {
	case len(paths) == 0:
		return usageError{errors.New("name a bundle, or files and folders with sealed copies")}
	case c.kubeconfig != "" && !c.record:
		return usageError{errors.New("--kubeconfig is for --record")}
	}
	var err error
	if c.keys, err = readRecoveryKeys(c.keyPath); err != nil {
		return err
	}
	if err := c.paths(paths); err != nil {
		return err
	}
	switch {
	case c.closed > 0:
		return fmt.Errorf("%d of %d bundles and sealed copies do not open", c.closed, c.closed+c.bundles+c.copies)
	case c.bundles+c.copies == 0:
		return fmt.Errorf("there is no bundle and no sealed copy in %s; copies are SealedSecrets that the daemon put into git", strings.Join(paths, ", "))
	}
	if c.copies > 0 {
		fmt.Fprintf(c.stdout, "%d sealed copies with %d items open with %s\n", c.copies, c.items, c.named())
	}
	if c.others > 0 {
		fmt.Fprintf(c.stdout, "%d SealedSecrets are no copies, and were passed over\n", c.others)
	}
	if !c.record {
		return nil
	}
	return c.note(ctx)
}

// named are the keys, as people are told of them.
func (c *checking) named() string {
	var ids []string
	for _, key := range c.keys {
		ids = append(ids, key.Public().ID().String())
	}
	return "recovery key " + strings.Join(ids, ", and with ")
}

// paths checks files and folders. What is named must be something; in folders,
// what is neither a bundle nor a manifest is passed over.
func (c *checking) paths(paths []string) error {
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return fmt.Errorf("looking for bundles and copies: %w", err)
		}
		if !info.IsDir() {
			if err := c.file(path); err != nil {
				return err
			}
			continue
		}
		names, err := manifestsIn([]string{path}, manifest.Kind)
		if err != nil {
			return err
		}
		bundles, err := bundlesIn(path)
		if err != nil {
			return err
		}
		for _, name := range append(bundles, names...) {
			if err := c.file(name); err != nil {
				return err
			}
		}
	}
	return nil
}

// bundlesIn are the files of a folder that hold a bundle, whatever their names.
func bundlesIn(folder string) ([]string, error) {
	var found []string
	err := filepath.WalkDir(folder, func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && entry.Name() == ".git":
			return fs.SkipDir
		case !entry.Type().IsRegular():
			return nil
		}
		info, err := entry.Info()
		if err != nil || info.Size() > recovery.MaxBundle {
			return err
		}
		text, err := os.ReadFile(name)
		if err == nil && strings.HasPrefix(string(text), "-----BEGIN "+recovery.BlockType+"-----") {
			found = append(found, name)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("looking for bundles: %w", err)
	}
	return found, nil
}

func (c *checking) file(name string) error {
	if slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(name)) {
		return c.manifest(name)
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	var bundle recovery.Bundle
	for _, key := range c.keys {
		bundle.Clear()
		if bundle, err = openBundle(name, text, c.keyPath, []*seal.PrivateKey{key}); err != nil {
			c.tell(err)
			return nil
		}
	}
	defer bundle.Clear()
	c.bundles++
	if made := bundle.Made; c.bundle == nil || made.After(*c.bundle) {
		c.bundle = &made
	}
	fmt.Fprintf(c.stdout, "%s opens; it was made %s and holds:\n", name, bundle.Made.Format(time.RFC3339))
	for _, line := range bundle.Contents() {
		fmt.Fprintln(c.stdout, line)
	}
	return nil
}

func (c *checking) tell(err error) {
	c.closed++
	_, _ = fmt.Fprintf(c.stderr, "privyseal: %v\n", err)
}

func (c *checking) manifest(name string) error {
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	file, err := manifest.Parse(text)
	if err != nil {
		c.tell(fmt.Errorf("%s: %w", name, err))
		return nil
	}
	for _, object := range file.Objects {
		if object.IsSealedSecret() {
			c.object(name, object)
		}
	}
	return nil
}

func (c *checking) object(name string, object *manifest.Object) {
	sealed, err := object.Sealed()
	if err != nil {
		c.tell(fmt.Errorf("%s: %w", name, err))
		return
	}
	if !copies.IsCopy(sealed) {
		c.others++
		return
	}
	items := 0
	for _, key := range c.keys {
		if items, err = copies.Opens(sealed, seal.NewKeys(nil, []*seal.PrivateKey{key})); err != nil {
			c.tell(fmt.Errorf("%s: %s does not open with recovery key %s: %w", name, object, key.Public().ID(), err))
			return
		}
	}
	c.copies++
	c.items += items
}

// note records the check in the cluster.
func (c *checking) note(ctx context.Context) error {
	cluster, err := reach(c.kubeconfig)
	if err != nil {
		return err
	}
	proof := recovery.Proof{At: clock.RealClock{}.Now().UTC().Truncate(time.Second), Copies: c.copies, Bundle: c.bundle}
	for _, key := range c.keys {
		if err := recovery.Record(ctx, cluster, c.namespace, key.Public().ID().String(), proof); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintf(c.stdout, "recorded in ConfigMap %s/%s\n", c.namespace, recovery.ProofsName)
	return err
}
