package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"
)

func keysCheckCommand() *cobra.Command {
	var key string
	command := &cobra.Command{
		Use:   "check BUNDLE --key FILE",
		Short: "Prove that a bundle opens with a recovery key, and say what is in it",
		Args:  oneBundle,
		RunE: func(command *cobra.Command, args []string) error {
			bundle, err := openBundle(args[0], key)
			if err != nil {
				return err
			}
			defer bundle.Clear()
			fmt.Fprintf(command.OutOrStdout(), "%s opens; it was made %s and holds:\n", args[0], bundle.Made.Format(time.RFC3339))
			for _, line := range bundle.Contents() {
				fmt.Fprintln(command.OutOrStdout(), line)
			}
			return nil
		},
	}
	command.Flags().StringVar(&key, "key", "", "file with the recovery key")
	return command
}

func oneBundle(_ *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usageError{fmt.Errorf("want one bundle, got %d", len(args))}
	}
	return nil
}
