// Command testsum runs `go test -json` commands and sums them up for people:
// a line a package, each failure whole, each skipped test with its reason, and
// at the very end how many passed, failed and were skipped.
//
//	testsum -- go test -json ./... -- go -C lab test -json ./...
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
)

func main() {
	commands := split(os.Args[1:])
	if len(commands) == 0 {
		fmt.Fprintln(os.Stderr, "usage: testsum -- go test -json ./... [-- go -C lab test -json ./...]")
		os.Exit(2)
	}
	sum := newSum(os.Getenv("CI") == "true")
	for _, command := range commands {
		follow(sum, command)
	}
	fmt.Print(sum.Close())
	if len(sum.failed) > 0 {
		os.Exit(1)
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

// follow runs one command and adds its events, printing as they come what is
// worth reading at once.
func follow(sum *Sum, command []string) {
	before := len(sum.failed)
	err := stream(sum, command)
	if err != nil && len(sum.failed) == before {
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
