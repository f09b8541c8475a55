package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/privyseal/privyseal/broker/plan"
)

func printPlan(to io.Writer, made plan.Plan) error {
	if len(made.Workloads) == 0 {
		_, err := fmt.Fprintln(to, "no workload would restart"+forChanges(made))
		return err
	}
	table := tabwriter.NewWriter(to, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "ORDER\tWAVE\tWHEN\tWORKLOAD\tPODS\tFOR\tOUTCOME\tBLOCKED BY")
	for _, entry := range made.Workloads {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s/%s/%s\t%s\t%s\t%s\t%s\n", number(entry.Order), number(entry.Wave), when(made, entry),
			entry.Namespace, entry.Kind, entry.Name, pods(entry), touched(entry), entry.Outcome, blocks(entry))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, line := range explained(made) {
		fmt.Fprintln(to, line)
	}
	return nil
}

// explained are what blocks workloads, each once.
func explained(made plan.Plan) []string {
	var lines []string
	for _, entry := range made.Workloads {
		for _, block := range entry.Blocks {
			line := fmt.Sprintf("%s: %s", block.Reason, block.Says)
			if !slices.Contains(lines, line) {
				lines = append(lines, line)
			}
		}
	}
	return lines
}

func forChanges(made plan.Plan) string {
	if len(made.Changes) == 0 {
		return ": none holds an old value"
	}
	return " if " + strings.Join(made.Changes, ", ") + " changed: none reads that"
}

func number(n int) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprint(n)
}

// when an entry's restart begins: now is the plan's moment.
func when(made plan.Plan, entry plan.Entry) string {
	switch {
	case entry.At.IsZero():
		return "-"
	case entry.At.Equal(made.At):
		return "at once"
	}
	return shown(entry.At, time.UTC)
}

func pods(entry plan.Entry) string {
	if entry.Pods == nil {
		return "-"
	}
	return fmt.Sprint(*entry.Pods)
}

// touched are the Secrets with their keys: "db (password, user)".
func touched(entry plan.Entry) string {
	var all []string
	for _, secret := range entry.Secrets {
		all = append(all, fmt.Sprintf("%s (%s)", secret.Secret, strings.Join(secret.Keys, ", ")))
	}
	if entry.Injection {
		all = append(all, "a secret that its pods ask for and lack")
	}
	return strings.Join(all, ", ")
}

func blocks(entry plan.Entry) string {
	var all []string
	for _, block := range entry.Blocks {
		all = append(all, string(block.Reason))
	}
	if entry.RestartNow != "" {
		all = append(all, fmt.Sprintf("nothing: restart-now says %q", entry.RestartNow))
	}
	if !entry.Ends.IsZero() {
		all = append(all, "nothing: what its pods hold ends at "+entry.Ends.UTC().Format(time.RFC3339))
	}
	if len(all) == 0 {
		return "-"
	}
	return strings.Join(all, ", ")
}
