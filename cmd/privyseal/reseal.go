package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	ssv1alpha1 "github.com/bitnami-labs/sealed-secrets/pkg/apis/sealedsecrets/v1alpha1"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/privyseal/privyseal/broker/manifest"
	"github.com/privyseal/privyseal/broker/seal"
)

// resealing is one run of privyseal reseal.
type resealing struct {
	recipients recipients
	controller controller
	keys       []string
	all        bool

	flags  *pflag.FlagSet
	stdout io.Writer
	stderr io.Writer

	// seal seals an object anew: by keys that are here, or by the cluster.
	seal  func(ctx context.Context, sealed *ssv1alpha1.SealedSecret) (*ssv1alpha1.SealedSecret, error)
	count int
}

func resealCommand() *cobra.Command {
	r := &resealing{}
	command := &cobra.Command{
		Use:   "reseal PATH...",
		Short: "Seal anew what is sealed to old keys, in files and folders",
		Long: `Reseal changes the ciphertexts of items that are sealed to other keys than the
newest, and not one other byte of a file. Which keys an item of version 2 is
sealed to stands in it; an item of version 1 does not say, so its object goes to
whoever can open it, and comes back unchanged if its key is the newest.

The cluster does the work, and values do not leave it. With --private-key it is
done here: for several clusters (a --cert for each), or to go from one envelope
to the other (--envelope).

Exit codes: 0 done, 1 something could not be sealed anew, 2 wrong command line.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError{errors.New("name the files or folders to seal anew")}
			}
			return nil
		},
		PreRunE: fromEnvironment,
		RunE: func(command *cobra.Command, args []string) error {
			r.flags, r.stdout, r.stderr = command.Flags(), command.OutOrStdout(), command.ErrOrStderr()
			return r.run(command.Context(), args)
		},
	}
	flags := command.Flags()
	r.controller.addTo(flags)
	r.recipients.addTo(flags)
	flags.StringSliceVar(&r.keys, "private-key", nil, "file with private keys, to work without the cluster's help; may be given many times")
	flags.BoolVar(&r.all, "all", false, "with --private-key: seal all items anew, whatever their keys")
	return command
}

func (r *resealing) run(ctx context.Context, paths []string) error {
	if err := r.choose(ctx); err != nil {
		return err
	}
	names, err := manifestsIn(paths, manifest.Kind)
	if err != nil {
		return err
	}
	failed := 0
	for _, name := range names {
		wrong := r.file(ctx, name)
		for _, err := range wrong {
			_, _ = fmt.Fprintf(r.stderr, "privyseal: %s: %v\n", name, err)
		}
		failed += len(wrong)
	}
	_, _ = fmt.Fprintf(r.stdout, "%d items sealed anew in %d files\n", r.count, len(names))
	if failed > 0 {
		return fmt.Errorf("%d objects could not be sealed anew, and were left as they are", failed)
	}
	return nil
}

// choose decides who opens the items.
func (r *resealing) choose(ctx context.Context) error {
	if len(r.keys) > 0 {
		return r.chooseHere(ctx)
	}
	for _, flag := range []string{"envelope", "recipient", "all", "cert"} {
		if r.flags.Changed(flag) {
			return usageError{fmt.Errorf("--%s goes with --private-key: the cluster seals to its own newest keys, in the envelope that an item has", flag)}
		}
	}
	controller, err := r.controller.dial(ctx)
	if err != nil {
		return err
	}
	text, err := controller.certificate(ctx)
	if err != nil {
		return err
	}
	newest, err := readOffer("what the cluster gives out", text)
	if err != nil {
		return err
	}
	r.seal = func(ctx context.Context, sealed *ssv1alpha1.SealedSecret) (*ssv1alpha1.SealedSecret, error) {
		if !mayBeOld(sealed, newest.hybrid) {
			return sealed, nil
		}
		return rotated(ctx, controller, sealed)
	}
	return nil
}

// mayBeOld says whether there is an item that is not known to be sealed to the
// cluster's newest key, which it gives out first.
func mayBeOld(sealed *ssv1alpha1.SealedSecret, newest []*seal.PublicKey) bool {
	if len(sealed.Spec.Data) > 0 || len(newest) == 0 {
		return true
	}
	for _, text := range sealed.Spec.EncryptedData {
		item, err := manifest.Decode(text)
		if err != nil {
			return true
		}
		parsed, err := seal.Parse(item)
		if err != nil || !slices.Contains(parsed.Recipients(), newest[0].ID()) {
			return true
		}
	}
	return false
}

func rotated(ctx context.Context, controller *api, sealed *ssv1alpha1.SealedSecret) (*ssv1alpha1.SealedSecret, error) {
	body, err := json.Marshal(sealed)
	if err != nil {
		return nil, fmt.Errorf("encoding the object: %w", err) // unreachable: it was read from a text
	}
	answer, err := controller.rotate(ctx, body)
	if err != nil {
		return nil, err
	}
	resealed := &ssv1alpha1.SealedSecret{}
	if err := json.Unmarshal(answer, resealed); err != nil {
		return nil, fmt.Errorf("reading the controller's answer: %w", err)
	}
	return resealed, checkAnswer(sealed, resealed)
}

// checkAnswer wants well-formed ciphertexts for the items that were asked about:
// what comes back replaces the only copy there may be.
func checkAnswer(sealed, resealed *ssv1alpha1.SealedSecret) error {
	if !slices.Equal(manifest.Items(sealed), manifest.Items(resealed)) || (len(sealed.Spec.Data) > 0) != (len(resealed.Spec.Data) > 0) {
		return errors.New("the controller's answer has other items than the object")
	}
	if wrong := checkItems(resealed, nil); len(wrong) > 0 {
		return fmt.Errorf("the controller's answer: %w", errors.Join(wrong...))
	}
	return nil
}

// chooseHere works with private keys: who has them can open everything.
func (r *resealing) chooseHere(ctx context.Context) error {
	keys, err := readPrivateKeys(r.keys)
	if err != nil {
		return err
	}
	sealer, err := r.recipients.sealer(ctx, &r.controller)
	if err != nil {
		return err
	}
	if r.recipients.envelope == "" && len(sealer.Recipients) > 0 {
		if sealer.RSA, err = r.oneCertificate(ctx); err != nil {
			return err
		}
	}
	homes := map[string]string{}
	r.seal = func(ctx context.Context, sealed *ssv1alpha1.SealedSecret) (*ssv1alpha1.SealedSecret, error) {
		home, err := r.home(ctx, sealed, sealer, homes)
		if err != nil {
			return nil, err
		}
		opened, err := manifest.Open(sealed, home, keys)
		opened.Clear()
		if err != nil {
			return nil, fmt.Errorf("%w%s", err, environmentHint(err, home))
		}
		old := oldItems(sealed, opened, sealer)
		resealed, _, err := manifest.Reseal(sealed, home, keys, sealer, func(item []byte) bool { return r.all || old[string(item)] })
		return resealed, err
	}
	return nil
}

// oneCertificate is that of the one cluster to seal to, so that items of version
// 1 stay what they are; nil if there are several.
func (r *resealing) oneCertificate(ctx context.Context) (*seal.RSAPublicKey, error) {
	all, err := r.recipients.offers(ctx, &r.controller)
	if err != nil || len(all) != 1 {
		return nil, err
	}
	return all[0].rsa, nil
}

// home of an object's namespace, asked for only where something of version 2 is
// opened or made.
func (r *resealing) home(ctx context.Context, sealed *ssv1alpha1.SealedSecret, sealer manifest.Sealer, homes map[string]string) (string, error) {
	binds := len(sealer.Recipients) > 0 && sealer.RSA == nil
	for _, text := range sealed.Spec.EncryptedData {
		item, err := manifest.Decode(text)
		if err != nil {
			continue // opening tells
		}
		version, err := seal.Version(item)
		binds = binds || err == nil && version == seal.V2
	}
	if !binds || manifest.Scope(sealed) == seal.ClusterWide {
		return "", nil
	}
	if home, known := homes[sealed.Namespace]; known {
		return home, nil
	}
	home, err := r.recipients.homeOf(ctx, r.flags, &r.controller, sealed.Namespace)
	if err == nil {
		homes[sealed.Namespace] = home
	}
	return home, err
}

// oldItems are those that are not sealed to the sealer's keys, or not in its
// envelope.
func oldItems(sealed *ssv1alpha1.SealedSecret, opened manifest.Opened, sealer manifest.Sealer) map[string]bool {
	old := map[string]bool{}
	if len(sealed.Spec.Data) > 0 {
		old[string(sealed.Spec.Data)] = sealer.RSA == nil || !slices.Contains(opened.Keys, sealer.RSA.Fingerprint())
	}
	for name, key := range opened.KeyOf {
		item, err := manifest.Decode(sealed.Spec.EncryptedData[name])
		if err != nil {
			continue // unreachable: it has just opened
		}
		parsed, err := seal.Parse(item)
		switch {
		case err != nil: // unreachable, likewise
		case parsed.Version() == seal.V1:
			old[string(item)] = sealer.RSA == nil || key != sealer.RSA.Fingerprint()
		default:
			old[string(item)] = !sameKeys(parsed.Recipients(), sealer.Recipients)
		}
	}
	return old
}

// file seals what a file holds anew. An object that cannot be stays as it is,
// and the others go on.
func (r *resealing) file(ctx context.Context, name string) (wrong []error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return []error{err}
	}
	file, err := manifest.Parse(text)
	if err != nil {
		return []error{err}
	}
	var edits []manifest.Edit
	for _, object := range file.Objects {
		if !object.IsSealedSecret() {
			continue
		}
		sealed, err := object.Sealed()
		if err != nil {
			wrong = append(wrong, err)
			continue
		}
		r.fillIn(sealed)
		resealed, err := r.seal(ctx, sealed)
		if err != nil {
			wrong = append(wrong, fmt.Errorf("%s: %w", object, err))
			continue
		}
		edits = append(edits, changes(object, sealed, resealed)...)
	}
	if len(edits) == 0 {
		return wrong
	}
	edited, err := file.Replace(edits)
	if err == nil {
		err = writeFile(name, edited, 0o644)
	}
	if err != nil {
		return append(wrong, err)
	}
	r.count += len(edits)
	_, _ = fmt.Fprintf(r.stdout, "%s: %d items\n", name, len(edits))
	return wrong
}

// fillIn gives the namespace to an object that names none, where --namespace
// says which: it is bound, and kustomize may write it later.
func (r *resealing) fillIn(sealed *ssv1alpha1.SealedSecret) {
	if sealed.Namespace == "" && manifest.Scope(sealed) != seal.ClusterWide {
		sealed.Namespace = r.controller.namespace
	}
}
