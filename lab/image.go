package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// picture is an image made of files of this machine: no registry, no base
// image, no builder. The same files make the same bytes, so that an image that
// the node has already need not be given to it again.
type picture struct {
	tag        string            // as privyseal/privyseal:dev
	entrypoint []string          // may be empty
	user       string            // UID:GID; empty: root
	files      map[string]string // path in the image to path here
	links      map[string]string // symbolic links: path in the image to what it points to
}

// image is the command.
func image(ctx context.Context, config Config, args []string) error {
	pic := picture{files: map[string]string{}}
	for len(args) > 0 {
		switch {
		case args[0] == "--entrypoint" && len(args) > 1:
			pic.entrypoint, args = []string{args[1]}, args[2:]
		case args[0] == "--user" && len(args) > 1:
			pic.user, args = args[1], args[2:]
		case strings.Contains(args[0], "="):
			here, there, _ := strings.Cut(args[0], "=")
			pic.files[path.Clean("/"+there)], args = here, args[1:]
		case pic.tag == "":
			pic.tag, args = args[0], args[1:]
		default:
			return errUsage
		}
	}
	if pic.tag == "" || len(pic.files) == 0 {
		return errUsage
	}
	if config.Mode != ModeNode {
		return fmt.Errorf("a lab of mode %s has no node to give an image to", config.Mode)
	}
	fresh, err := pic.give(ctx, func(ctx context.Context, args ...string) (*exec.Cmd, error) {
		return config.insideCommand(ctx, args...)
	})
	if err != nil {
		return err
	}
	if fresh {
		fmt.Printf("the node has image %s\n", pic.tag)
	} else {
		fmt.Printf("the node had this image %s already\n", pic.tag)
	}
	return nil
}

// loadImages gives the node the images that it needs itself.
func (s *supervisor) loadImages(ctx context.Context) error {
	own := func(ctx context.Context, args ...string) (*exec.Cmd, error) {
		cmd := exec.CommandContext(ctx, args[0], args[1:]...)
		cmd.Env = serverEnv()
		return cmd, nil
	}
	pause := picture{tag: pauseImage, entrypoint: []string{"/pause"}, user: "65535:65535",
		files: map[string]string{"/pause": s.plan.Servers.Programs["pause"]}}
	client := picture{tag: clientImage, entrypoint: []string{"/pgclient"}, user: "65532:65532",
		files: map[string]string{"/pgclient": s.plan.Servers.Programs["pgclient"]}}
	for _, pic := range []picture{pause, busybox(), client} {
		if _, err := pic.give(ctx, own); err != nil {
			return fmt.Errorf("%s: %w", pic.tag, err)
		}
	}
	return nil
}

// busybox is Debian's, static, under the names that examples and tests call.
func busybox() picture {
	pic := picture{tag: busyboxImage, entrypoint: nil,
		files: map[string]string{"/bin/busybox": "/bin/busybox"}, links: map[string]string{}}
	for _, applet := range strings.Fields("sh cat env sleep echo ls wget nc id grep head date touch mkdir true " +
		"false printf test tr cut sort wc tail kill ps hostname rm cp mv chmod sed awk stat sha256sum base64 nslookup") {
		pic.links["/bin/"+applet] = "busybox"
	}
	return pic
}

type commander func(ctx context.Context, args ...string) (*exec.Cmd, error)

// give imports the image unless the node's containerd has the same: there an
// image is known by its name and by its configuration's digest.
func (pic picture) give(ctx context.Context, inside commander) (fresh bool, err error) {
	img, err := pic.make()
	if err != nil {
		return false, fmt.Errorf("making the image: %w", err)
	}
	id, err := img.ConfigName()
	if err != nil {
		return false, err
	}
	list, err := inside(ctx, "ctr", "-n", "k8s.io", "images", "ls")
	if err != nil {
		return false, err
	}
	known, err := list.Output()
	if err != nil {
		return false, fmt.Errorf("listing the node's images: %w", err)
	}
	old := findImage(string(known), pic.tag)
	if slices.Contains(old, id.String()) {
		return false, nil
	}
	tag, err := name.NewTag(pic.tag)
	if err != nil {
		return false, err
	}
	var archive bytes.Buffer
	if err := tarball.Write(tag, img, &archive); err != nil {
		return false, err
	}
	load, err := inside(ctx, "ctr", "-n", "k8s.io", "images", "import", "-")
	if err != nil {
		return false, err
	}
	load.Stdin = &archive
	if out, err := load.CombinedOutput(); err != nil {
		return false, fmt.Errorf("importing the image: %w: %s", err, bytes.TrimSpace(out))
	}
	return true, forget(ctx, inside, old)
}

// forget removes the images that had the name before; what a container still
// runs from stays until it ends.
func forget(ctx context.Context, inside commander, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	remove, err := inside(ctx, append([]string{"ctr", "-n", "k8s.io", "images", "rm"}, ids...)...)
	if err != nil {
		return err
	}
	if out, err := remove.CombinedOutput(); err != nil {
		return fmt.Errorf("removing the image before: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

// findImage reads containerd's listing (name, type, digest) and gives the IDs
// of the image with that name. The node's runtime lists each image under its
// ID, its configuration's digest, too; both names have one digest.
func findImage(listing, tag string) []string {
	var digest string
	ids := map[string][]string{}
	for line := range strings.Lines(listing) {
		fields := strings.Fields(line)
		switch {
		case len(fields) < 3:
		case fields[0] == tag || strings.HasSuffix(fields[0], "/"+tag):
			digest = fields[2]
		case strings.HasPrefix(fields[0], "sha256:"):
			ids[fields[2]] = append(ids[fields[2]], fields[0])
		}
	}
	return ids[digest]
}

// make has one layer, and no time but 1970.
func (pic picture) make() (v1.Image, error) {
	content, err := pic.layer()
	if err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(content)), nil
	}, tarball.WithCompressionLevel(gzip.BestSpeed))
	if err != nil {
		return nil, err
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return nil, err
	}
	return mutate.ConfigFile(img, pic.config(img))
}

func (pic picture) config(img v1.Image) *v1.ConfigFile {
	file, err := img.ConfigFile()
	if err != nil {
		file = &v1.ConfigFile{}
	}
	file = file.DeepCopy()
	file.OS, file.Architecture = "linux", "amd64"
	file.Created = v1.Time{Time: time.Unix(0, 0).UTC()}
	file.Config = v1.Config{
		Entrypoint: pic.entrypoint,
		User:       pic.user,
		Env:        []string{"PATH=/usr/local/bin:/usr/bin:/bin:/"},
		WorkingDir: "/",
	}
	return file
}

const passwd = "root:x:0:0:root:/:/bin/sh\nnonroot:x:65532:65532:nonroot:/tmp:/bin/sh\n"

// layer is a tar archive with sorted names, so that order adds nothing.
func (pic picture) layer() ([]byte, error) {
	var content bytes.Buffer
	out := tar.NewWriter(&content)
	entries := map[string]func(string) error{
		"tmp/":       func(n string) error { return out.WriteHeader(header(n, tar.TypeDir, 0o1777, 0)) },
		"etc/passwd": func(n string) error { return addBytes(out, n, 0o644, []byte(passwd)) },
	}
	for there, target := range pic.links {
		entries[there[1:]] = func(n string) error {
			h := header(n, tar.TypeSymlink, 0o777, 0)
			h.Linkname = target
			return out.WriteHeader(h)
		}
	}
	for there, here := range pic.files {
		entries[there[1:]] = func(n string) error {
			file, err := os.ReadFile(here)
			if err != nil {
				return err
			}
			return addBytes(out, n, 0o755, file)
		}
	}
	for entry := range entries { // and the folders above each
		for dir := path.Dir(strings.TrimSuffix(entry, "/")); dir != "."; dir = path.Dir(dir) {
			if entries[dir+"/"] == nil {
				entries[dir+"/"] = func(n string) error { return out.WriteHeader(header(n, tar.TypeDir, 0o755, 0)) }
			}
		}
	}
	for _, n := range slices.Sorted(maps.Keys(entries)) {
		if err := entries[n](n); err != nil {
			return nil, err
		}
	}
	return content.Bytes(), out.Close()
}

func header(name string, kind byte, mode, size int64) *tar.Header {
	return &tar.Header{Name: name, Typeflag: kind, Mode: mode, Size: size, ModTime: time.Unix(0, 0), Format: tar.FormatPAX}
}

func addBytes(out *tar.Writer, name string, mode int64, content []byte) error {
	if err := out.WriteHeader(header(name, tar.TypeReg, mode, int64(len(content)))); err != nil {
		return err
	}
	_, err := out.Write(content)
	return err
}
