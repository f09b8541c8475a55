// The privyseal command: the daemon, its webhook, and the tools for people and
// pipelines, in one binary.
//
// Voice: errors are one line on standard error, lower case, without a full
// stop, and say what to do; standard output carries results alone. Exit codes:
// 0 done, 1 not done, 2 the command line was wrong; a command that has more says so.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx)
	stop()
	os.Exit(code)
}

func run(ctx context.Context) int {
	forgetVault()
	err := rootCommand().ExecuteContext(ctx)
	var usage usageError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &usage):
		fmt.Fprintf(os.Stderr, "privyseal: %s\nsee: privyseal --help\n", err)
		return 2
	default:
		fmt.Fprintf(os.Stderr, "privyseal: %s\n", err)
		return exitCode(err)
	}
}

// forgetVault drops VAULT_* variables: which Vault is asked, and as whom, is
// said by stores alone, and the Vault client would stumble over a malformed one.
func forgetVault() {
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "VAULT_") {
			_ = os.Unsetenv(name)
		}
	}
}

// usageError is a mistake on the command line.
type usageError struct{ error }

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "privyseal",
		Short:         "One daemon for the whole life of a Kubernetes secret",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.Args = func(_ *cobra.Command, args []string) error {
		if len(args) > 0 {
			return usageError{fmt.Errorf("unknown command %q", args[0])}
		}
		return nil
	}
	root.RunE = func(command *cobra.Command, _ []string) error { return command.Help() }
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(serveCommand(), webhookCommand(), sealCommand(), unsealCommand(), resealCommand(), verifyCommand(), certCommand(), keysCommand(), statusCommand(),
		calendarCommand(), planCommand(), rotateCommand())
	return root
}
