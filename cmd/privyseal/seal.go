package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	ssv1alpha1 "github.com/bitnami-labs/sealed-secrets/pkg/apis/sealedsecrets/v1alpha1"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/manifest"
	"github.com/privyseal/privyseal/broker/seal"
)

// sealing is one run of privyseal seal.
type sealing struct {
	recipients recipients
	controller controller

	input, output, format string
	scope                 string
	name                  string
	mergeInto             string
	raw                   bool
	fromFile              []string
	allowEmpty            bool
	fresh                 bool

	flags  *pflag.FlagSet
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
}

func sealCommand() *cobra.Command {
	s := &sealing{}
	command := &cobra.Command{
		Use:   "seal",
		Short: "Seal Secrets, so that they can lie in git",
		Long: `Seal reads Secrets, as JSON or YAML, and writes SealedSecrets, which only the
cluster opens. Over an output file that is there, values that have not changed
keep their ciphertext: known by a keyed cache on this machine, or by the live
objects where you may read them.`,
		Args:    noArguments,
		PreRunE: fromEnvironment,
		RunE: func(command *cobra.Command, _ []string) error {
			s.flags, s.stdin, s.stdout, s.stderr = command.Flags(), command.InOrStdin(), command.OutOrStdout(), command.ErrOrStderr()
			return s.run(command.Context())
		},
	}
	flags := command.Flags()
	s.controller.addTo(flags)
	s.recipients.addTo(flags)
	flags.StringVarP(&s.input, "secret-file", "f", "", "file with the Secrets (default: standard input)")
	flags.StringVarP(&s.output, "sealed-secret-file", "w", "", "file to write (default: standard output)")
	flags.StringVarP(&s.format, "format", "o", "", "json or yaml (default: as the output file is called, else json)")
	flags.StringVar(&s.scope, "scope", "", "strict, namespace-wide or cluster-wide (default: as the Secret's annotations say, else strict)")
	flags.StringVar(&s.name, "name", "", "name of the Secret, in place of its own")
	flags.StringVar(&s.mergeInto, "merge-into", "", "SealedSecret file to add the items to, or to replace them in")
	flags.BoolVar(&s.raw, "raw", false, "seal one value, and write its ciphertext alone")
	flags.StringArrayVar(&s.fromFile, "from-file", nil, "with --raw: [key=]file of the value (default: standard input); v2 needs the key")
	flags.BoolVar(&s.allowEmpty, "allow-empty-data", false, "take a Secret without values")
	flags.BoolVar(&s.fresh, "fresh", false, "make new ciphertexts for unchanged values too")
	return command
}

// noArguments tells whoever gives a file as an argument where it belongs.
func noArguments(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("unknown argument %q: files are given by -f and -w", args[0])}
	}
	return nil
}

func (s *sealing) run(ctx context.Context) error {
	if err := s.check(); err != nil {
		return err
	}
	if s.raw {
		return s.runRaw(ctx)
	}
	secrets, err := s.secrets()
	if err != nil {
		return err
	}
	defer clearAll(secrets)
	if s.mergeInto != "" {
		return s.merge(ctx, secrets)
	}
	yaml, err := isYAML(s.output, s.format)
	if err != nil {
		return err
	}
	for _, secret := range secrets {
		if err := s.place(secret); err != nil {
			return err
		}
	}
	before, err := readBefore(s.output)
	if err != nil {
		return err
	}
	all, err := s.sealAll(ctx, secrets, before)
	if err != nil {
		return err
	}
	text, err := rewritten(before, all, !yaml)
	if err != nil {
		return err
	}
	if s.output == "" {
		_, err = s.stdout.Write(text)
		return err
	}
	return writeFile(s.output, text, 0o644)
}

func (s *sealing) check() error {
	if _, err := seal.ParseScope(s.scope); err != nil {
		return usageError{fmt.Errorf("--scope %q: want strict, namespace-wide or cluster-wide", s.scope)}
	}
	switch {
	case len(s.fromFile) > 0 && !s.raw:
		return usageError{errors.New("--from-file goes with --raw")}
	case s.raw && s.mergeInto != "":
		return usageError{errors.New("--raw writes a ciphertext alone; --merge-into takes a whole Secret")}
	case s.mergeInto != "" && s.output != "":
		return usageError{errors.New("--merge-into changes its file; leave out --sealed-secret-file")}
	}
	return nil
}

// secrets are those of the input. Whatever else stands there is a mistake: it
// would be missing in the output.
func (s *sealing) secrets() ([]*corev1.Secret, error) {
	text, err := readInput(s.stdin, s.input)
	if err != nil {
		return nil, err
	}
	defer clear(text)
	file, err := manifest.Parse(text)
	if err != nil {
		return nil, err
	}
	var all []*corev1.Secret
	for _, object := range file.Objects {
		if object.IsSealedSecret() {
			return nil, fmt.Errorf("%s: it is sealed already; privyseal reseal seals it anew", object)
		}
		secret, err := object.Secret()
		if err != nil {
			return nil, err
		}
		if len(secret.Data)+len(secret.StringData) == 0 && !s.allowEmpty {
			return nil, fmt.Errorf("%s: no values in data or stringData; if that is meant, give --allow-empty-data", object)
		}
		all = append(all, secret)
	}
	if len(all) == 0 {
		return nil, errors.New("no Secret in the input")
	}
	return all, nil
}

func clearAll(secrets []*corev1.Secret) {
	for _, secret := range secrets {
		for _, value := range secret.Data {
			clear(value)
		}
	}
}

// place says where a Secret belongs: its name, namespace and scope are what its
// items are bound to.
func (s *sealing) place(secret *corev1.Secret) error {
	if s.name != "" {
		secret.Name = s.name
	}
	if secret.Name == "" {
		return errors.New("a Secret has no metadata.name; write it there, or give --name")
	}
	if s.flags.Changed("scope") {
		scope, err := seal.ParseScope(s.scope)
		if err != nil {
			return err // unreachable: checked before
		}
		manifest.SetScope(secret, scope)
	}
	given := s.flags.Changed("namespace")
	switch {
	case manifest.Scope(secret) == seal.ClusterWide:
		return nil
	case given && secret.Namespace != "" && secret.Namespace != s.controller.namespace:
		return fmt.Errorf("the Secret %s is of namespace %s, and --namespace says %s; leave out one of them", secret.Name, secret.Namespace, s.controller.namespace)
	case secret.Namespace == "":
		secret.Namespace = s.controller.defaultNamespace()
	}
	return nil
}

// sealAll seals the Secrets, each for the environment of its namespace.
func (s *sealing) sealAll(ctx context.Context, secrets []*corev1.Secret, before *manifest.File) ([]*ssv1alpha1.SealedSecret, error) {
	sealer, err := s.recipients.sealer(ctx, &s.controller)
	if err != nil {
		return nil, err
	}
	keep := s.keeper()
	homes := map[string]string{}
	var all []*ssv1alpha1.SealedSecret
	for _, secret := range secrets {
		scope := manifest.Scope(secret)
		if err := s.setHome(ctx, &sealer, scope, secret.Namespace, homes); err != nil {
			return nil, err
		}
		sealed, err := keep.seal(ctx, sealer, secret, scope, find(before, secret))
		if err != nil {
			return nil, fmt.Errorf("sealing Secret %s/%s: %w", secret.Namespace, secret.Name, err)
		}
		all = append(all, sealed)
	}
	keep.done()
	return all, nil
}

// setHome finds the environment, once for each namespace, where it is bound.
func (s *sealing) setHome(ctx context.Context, sealer *manifest.Sealer, scope seal.Scope, namespace string, homes map[string]string) error {
	sealer.Environment = ""
	if len(sealer.Recipients) == 0 || scope == seal.ClusterWide {
		return nil
	}
	home, known := homes[namespace]
	if !known {
		var err error
		if home, err = s.recipients.homeOf(ctx, s.flags, &s.controller, namespace); err != nil {
			return err
		}
		homes[namespace] = home
	}
	sealer.Environment = home
	return nil
}

// keeper decides which ciphertexts stay.
type keeper struct {
	memory                 *remembered
	cluster                client.Client
	fresh                  bool
	byMemory, byCluster, n int
	stderr                 io.Writer
}

func (s *sealing) keeper() *keeper {
	k := &keeper{fresh: s.fresh, stderr: s.stderr}
	memory, err := recall()
	if err != nil {
		_, _ = fmt.Fprintf(s.stderr, "privyseal: working without the cache: %v\n", err)
	}
	k.memory = memory
	if len(s.recipients.certs) == 0 && s.controller.url == "" {
		k.cluster, _ = s.controller.cluster() // without it, ciphertexts are new
	}
	return k
}

// seal seals what has changed since before; nil is a Secret that was not there.
func (k *keeper) seal(ctx context.Context, sealer manifest.Sealer, secret *corev1.Secret, scope seal.Scope, before *ssv1alpha1.SealedSecret) (*ssv1alpha1.SealedSecret, error) {
	kept := map[string]string{}
	changed := secret.DeepCopy()
	changed.Data, changed.StringData = map[string][]byte{}, nil
	where := &ssv1alpha1.SealedSecret{ObjectMeta: metav1.ObjectMeta{Name: secret.Name, Namespace: secret.Namespace}}
	manifest.SetScope(where, scope)
	var live *live
	if before != nil && k.cluster != nil && !k.fresh {
		live = look(ctx, k.cluster, client.ObjectKeyFromObject(before))
	}
	values := manifest.Values(secret)
	for item, value := range values {
		label := manifest.LabelOf(where, sealer.Environment, item)
		if text, there := k.text(before, item, scope); there && sealedTo(text, sealer) {
			switch {
			case k.memory.knows(k.memory.digest(text, value, label, sealer)):
				k.byMemory++
				kept[item] = text
				continue
			case live.proves(item, text, value):
				k.byCluster++
				kept[item] = text
				continue
			}
		}
		changed.Data[item] = value.Bytes()
	}
	sealed, err := sealer.Seal(changed, scope)
	if err != nil {
		return nil, err
	}
	for item, text := range kept {
		sealed.Spec.EncryptedData[item] = text
	}
	for item, value := range values {
		k.memory.remember(k.memory.digest(sealed.Spec.EncryptedData[item], value, manifest.LabelOf(where, sealer.Environment, item), sealer))
	}
	k.n += len(values)
	return sealed, nil
}

// text is the ciphertext that an item has, if it could stay.
func (k *keeper) text(before *ssv1alpha1.SealedSecret, item string, scope seal.Scope) (string, bool) {
	if before == nil || k.fresh || manifest.Scope(before) != scope {
		return "", false
	}
	text, there := before.Spec.EncryptedData[item]
	return text, there
}

// done says what was kept and by which knowledge, and keeps what was learnt.
func (k *keeper) done() {
	if k.byMemory+k.byCluster > 0 {
		_, _ = fmt.Fprintf(k.stderr, "privyseal: %d of %d values have not changed and keep their ciphertext: %d by this machine's cache, %d by the cluster's objects\n",
			k.byMemory+k.byCluster, k.n, k.byMemory, k.byCluster)
	}
	if err := k.memory.keep(); err != nil {
		_, _ = fmt.Fprintf(k.stderr, "privyseal: the cache was not kept: %v\n", err)
	}
}

// readBefore reads the file that will be written; nil if it is not there.
func readBefore(name string) (*manifest.File, error) {
	if name == "" {
		return nil, nil
	}
	info, err := os.Stat(name)
	if err != nil || !info.Mode().IsRegular() || info.Size() == 0 {
		return nil, nil //nolint:nilerr // writing it tells
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	file, err := manifest.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s is there, and no manifest; move it away first: %w", name, err)
	}
	return file, nil
}
