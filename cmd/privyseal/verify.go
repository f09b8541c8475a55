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

// verifying is one run of privyseal verify.
type verifying struct {
	controller controller
	certs      []string
	input      string
	online     bool
	noPlain    bool

	flags  *pflag.FlagSet
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer

	offers  []offered
	cluster *api
	objects int
	items   int
	wrong   int
}

func verifyCommand() *cobra.Command {
	v := &verifying{}
	command := &cobra.Command{
		Use:   "verify [PATH...]",
		Short: "Check SealedSecrets in files and folders, without a cluster or with one",
		Long: `Verify checks what can be known without keys: that items are well formed, that
the object says what they are bound to, and with --cert, that items of version 2
are sealed to those keys. With --online the cluster says whether they open.

Exit codes: 0 all is well, 1 something is not, 2 wrong command line.`,
		PreRunE: fromEnvironment,
		RunE: func(command *cobra.Command, args []string) error {
			v.flags, v.stdin, v.stdout, v.stderr = command.Flags(), command.InOrStdin(), command.OutOrStdout(), command.ErrOrStderr()
			return v.run(command.Context(), args)
		},
	}
	flags := command.Flags()
	v.controller.addTo(flags)
	flags.StringVarP(&v.input, "sealed-secret-file", "f", "", "file to check (default: the paths, else standard input)")
	flags.StringArrayVar(&v.certs, "cert", nil, "file or address with keys that items of version 2 must be sealed to; may be given many times")
	flags.BoolVar(&v.online, "online", false, "ask the cluster whether each object opens; so do --controller-name, -namespace and -url")
	flags.BoolVar(&v.noPlain, "no-plain-secrets", false, "refuse plain Secrets with values, as a hook before commits")
	return command
}

func (v *verifying) run(ctx context.Context, paths []string) error {
	if err := v.prepare(ctx); err != nil {
		return err
	}
	if v.input != "" {
		paths = append(paths, v.input)
	}
	if len(paths) == 0 || slices.Equal(paths, []string{"-"}) {
		text, err := readInput(v.stdin, "")
		if err != nil {
			return err
		}
		v.text(ctx, "standard input", text)
	} else {
		kinds := []string{manifest.Kind}
		if v.noPlain {
			kinds = append(kinds, "Secret")
		}
		names, err := manifestsIn(paths, kinds...)
		if err != nil {
			return err
		}
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				v.tell(name, err)
				continue
			}
			v.text(ctx, name, text)
		}
	}
	if v.wrong > 0 {
		return fmt.Errorf("%d problems in %d SealedSecrets", v.wrong, v.objects)
	}
	_, err := fmt.Fprintf(v.stdout, "%d SealedSecrets with %d items are well\n", v.objects, v.items)
	return err
}

func (v *verifying) prepare(ctx context.Context) error {
	for _, from := range v.certs {
		text, err := readCert(ctx, from)
		if err != nil {
			return err
		}
		offer, err := readOffer(from, text)
		if err != nil {
			return err
		}
		v.offers = append(v.offers, offer)
	}
	for _, flag := range []string{"controller-name", "controller-namespace", "controller-url"} {
		v.online = v.online || v.flags.Changed(flag)
	}
	if !v.online {
		return nil
	}
	var err error
	v.cluster, err = v.controller.dial(ctx)
	return err
}

func (v *verifying) tell(name string, err error) {
	v.wrong++
	_, _ = fmt.Fprintf(v.stderr, "privyseal: %s: %v\n", name, err)
}

func (v *verifying) text(ctx context.Context, name string, text []byte) {
	file, err := manifest.Parse(text)
	if err != nil {
		v.tell(name, err)
		return
	}
	for _, object := range file.Objects {
		switch {
		case object.IsSealedSecret():
			v.object(ctx, name, object)
		case v.noPlain && object.IsSecret() && hasValues(object):
			v.tell(name, fmt.Errorf("%s: a plain Secret; seal it: privyseal seal -f %s -w sealed.yaml", object, name))
		}
	}
}

func hasValues(object *manifest.Object) bool {
	for _, field := range []string{"data", "stringData"} {
		if values, _ := object.Tree[field].(map[string]any); len(values) > 0 {
			return true
		}
	}
	return false
}

func (v *verifying) object(ctx context.Context, name string, object *manifest.Object) {
	v.objects++
	sealed, err := object.Sealed()
	if err != nil {
		v.tell(name, err)
		return
	}
	if sealed.Namespace == "" && manifest.Scope(sealed) != seal.ClusterWide {
		sealed.Namespace = v.controller.namespace
	}
	wrong := append(checkPlace(sealed), checkItems(sealed, v.offers)...)
	for _, err := range wrong {
		v.tell(name, fmt.Errorf("%s: %w", object, err))
	}
	v.items += len(sealed.Spec.EncryptedData)
	if len(wrong) > 0 || v.cluster == nil {
		return
	}
	body, err := json.Marshal(sealed)
	if err == nil {
		err = v.cluster.verify(ctx, body)
	}
	if err != nil {
		v.tell(name, fmt.Errorf("%s: %w", object, err))
	}
}

// checkPlace wants what the items are bound to, and a scope that is what it
// looks like.
func checkPlace(sealed *ssv1alpha1.SealedSecret) []error {
	var wrong []error
	if sealed.Name == "" {
		wrong = append(wrong, errors.New("metadata.name is missing"))
	}
	if sealed.Namespace == "" && manifest.Scope(sealed) != seal.ClusterWide {
		wrong = append(wrong, fmt.Errorf("metadata.namespace is missing, and scope %s binds it; write it there, or give --namespace", manifest.Scope(sealed)))
	}
	for _, annotation := range []string{ssv1alpha1.SealedSecretClusterWideAnnotation, ssv1alpha1.SealedSecretNamespaceWideAnnotation} {
		if value, there := sealed.Annotations[annotation]; there && value != "true" {
			wrong = append(wrong, fmt.Errorf(`annotation %s is %.32q, which counts as not set; write "true", or remove it`, annotation, value))
		}
	}
	if len(sealed.Spec.Data) > 0 && len(sealed.Spec.EncryptedData) > 0 {
		wrong = append(wrong, manifest.ErrBoth)
	}
	return wrong
}

func checkItems(sealed *ssv1alpha1.SealedSecret, offers []offered) []error {
	var wrong []error
	if len(sealed.Spec.Data) > 0 {
		if _, err := seal.Parse(sealed.Spec.Data); err != nil {
			wrong = append(wrong, manifest.ItemError{Err: err})
		}
	}
	for _, name := range manifest.Items(sealed) {
		if err := checkItem(sealed.Spec.EncryptedData[name], offers); err != nil {
			wrong = append(wrong, manifest.ItemError{Item: name, Err: err})
		}
	}
	return wrong
}

// checkItem checks the form, and that each cluster which must open the item is
// among its recipients. An item of version 1 does not name its own.
func checkItem(text string, offers []offered) error {
	item, err := manifest.Decode(text)
	if err != nil {
		return err
	}
	parsed, err := seal.Parse(item)
	if err != nil || parsed.Version() == seal.V1 {
		return err
	}
	for _, offer := range offers {
		for _, key := range offer.hybrid {
			if !slices.Contains(parsed.Recipients(), key.ID()) {
				return fmt.Errorf("it is sealed to %v, and not to %s of %s; seal it anew", parsed.Recipients(), key.ID(), offer.from)
			}
		}
	}
	return nil
}
