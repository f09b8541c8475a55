// Command testsum runs `go test -json` commands and sums them up for people:
// a line a package, each failure whole, each skipped test with its reason, and
// at the very end how many passed, failed and were skipped.
//
//	testsum -- go test -json ./... -- go -C lab test -json ./...
//
// Commands run one after the other. What comes after --beside runs at the same
// time as what comes before it: tests that wait and tests that compute take no
// longer together than the longer of them alone.
//
// `go test` itself hides what was skipped and why, and says no total. A test
// with subtests counts by its subtests. A package that does not build, or ends
// without saying which test failed, counts as one failure, and so does a
// command that fails without any output. With CI=true in the environment a
// test that was skipped for want of a lab is a failure, since there its absence
// is nobody's choice.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"sync"
)

func main() {
	lanes := lanes(os.Args[1:])
	if len(lanes) == 0 {
		fmt.Fprintln(os.Stderr, "usage: testsum -- go test -json ./... [-- go -C lab test -json ./...] [--beside -- go test -json ./slow]")
		os.Exit(2)
	}
	needLab := os.Getenv("CI") == "true"
	sums := make([][]*Sum, len(lanes))
	var running sync.WaitGroup
	for i, commands := range lanes {
		running.Go(func() {
			for _, command := range commands {
				sum := newSum(needLab)
				follow(sum, command)
				sums[i] = append(sums[i], sum)
			}
		})
	}
	running.Wait()
	total := newSum(needLab)
	for _, sum := range slices.Concat(sums...) {
		total.Join(sum)
	}
	fmt.Print(total.Close())
	if len(total.failed) > 0 {
		os.Exit(1)
	}
}

// lanes cuts arguments at each "--beside" into what runs at the same time, and
// that into commands.
func lanes(args []string) [][][]string {
	var lanes [][][]string
	for {
		next := slices.Index(args, "--beside")
		if next < 0 {
			next = len(args)
		}
		if commands := split(args[:next]); len(commands) > 0 {
			lanes = append(lanes, commands)
		}
		if next == len(args) {
			return lanes
		}
		args = args[next+1:]
	}
}

// split cuts arguments at each "--" into commands.
func split(args []string) [][]string {
	var commands [][]string
	for len(args) > 0 {
		args = args[1:] // the "--" before
		next := slices.Index(args, "--")
		if next < 0 {
			next = len(args)
		}
		if next > 0 {
			commands = append(commands, args[:next])
		}
		args = args[next:]
	}
	return commands
}

// follow runs one command and adds its events to a sum of its own, printing as
// they come what is worth reading at once.
func follow(sum *Sum, command []string) {
	if err := stream(sum, command); err != nil && len(sum.failed) == 0 {
		fmt.Print(sum.FailCommand(command, err))
	}
}

func stream(sum *Sum, command []string) error {
	run := exec.Command(command[0], command[1:]...)
	run.Stderr = os.Stderr
	out, err := run.StdoutPipe()
	if err != nil {
		return err
	}
	if err := run.Start(); err != nil {
		return err
	}
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var event Event
			if json.Unmarshal(line, &event) == nil {
				fmt.Print(sum.Add(event))
			} else {
				_, _ = os.Stdout.Write(line) // a program's own word, past the test's output
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	return run.Wait()
}
