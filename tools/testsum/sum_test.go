package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

const pkg = "example.org/p"

func sumOf(needLab bool, events ...Event) (printed string, sum *Sum) {
	sum = newSum(needLab)
	var text strings.Builder
	for _, event := range events {
		text.WriteString(sum.Add(event))
	}
	text.WriteString(sum.Close())
	return text.String(), sum
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	return lines[len(lines)-1]
}

func ended(test, action string) Event {
	return Event{Package: pkg, Test: test, Action: action}
}

func said(test, output string) Event {
	return Event{Package: pkg, Test: test, Action: "output", Output: output}
}

func TestTheLastLineSaysHowManyPassedFailedAndWereSkipped(t *testing.T) {
	tests := map[string]struct {
		events []Event
		want   string
	}{
		"nothing ran": {
			nil,
			"0 passed, 0 failed, 0 skipped",
		},
		"a package without tests": {
			[]Event{ended("", "skip")},
			"0 passed, 0 failed, 0 skipped",
		},
		"one of each": {
			[]Event{ended("TestA", "pass"), ended("TestB", "fail"), ended("TestC", "skip"), ended("", "fail")},
			"1 passed, 1 failed, 1 skipped",
		},
		"a test counts by its subtests": {
			[]Event{ended("TestA/one", "pass"), ended("TestA/two", "fail"), ended("TestA", "fail"), ended("", "fail")},
			"1 passed, 1 failed, 0 skipped",
		},
		"a test that fails beside its subtests counts itself": {
			[]Event{ended("TestA/one", "pass"), ended("TestA", "fail"), ended("", "fail")},
			"1 passed, 1 failed, 0 skipped",
		},
		"a test that was cut off failed": {
			[]Event{ended("TestA", "pass"), ended("TestB", "run"), ended("", "fail")},
			"1 passed, 1 failed, 0 skipped",
		},
		"a package that fails without a test to blame": {
			[]Event{ended("TestA", "pass"), ended("", "fail")},
			"1 passed, 1 failed, 0 skipped",
		},
		"a package that does not build": {
			[]Event{{Package: pkg, Action: "fail", FailedBuild: pkg + " [test]"}},
			"0 passed, 1 failed, 0 skipped",
		},
		"a package that never ended": {
			[]Event{ended("TestA", "pass")},
			"0 passed, 1 failed, 0 skipped",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			printed, _ := sumOf(false, test.events...)
			if got := lastLine(printed); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestAFailureIsPrintedWholeAndASuccessNotAtAll(t *testing.T) {
	printed, _ := sumOf(false,
		said("TestA", "chatter\n"), ended("TestA", "pass"),
		said("TestB", "    b_test.go:7: got 1\n"), said("TestB", "        want 2\n"), ended("TestB", "fail"),
		ended("", "fail"))
	if !strings.Contains(printed, "    b_test.go:7: got 1\n        want 2\n") {
		t.Errorf("the failure is missing from:\n%s", printed)
	}
	if strings.Contains(printed, "chatter") {
		t.Errorf("the success's output is in:\n%s", printed)
	}
}

func TestABuildFailureIsPrintedOnce(t *testing.T) {
	printed, _ := sumOf(false,
		Event{ImportPath: "dep", Action: "build-output", Output: "dep.go:1: undefined: x\n"},
		Event{Package: "a", Action: "fail", FailedBuild: "dep"},
		Event{Package: "b", Action: "fail", FailedBuild: "dep"})
	if n := strings.Count(printed, "undefined: x"); n != 1 {
		t.Errorf("printed %d times in:\n%s", n, printed)
	}
	if got := lastLine(printed); got != "0 passed, 2 failed, 0 skipped" {
		t.Errorf("got %q", got)
	}
}

func TestASkippedTestIsNamedWithItsReason(t *testing.T) {
	reasons := map[string]string{
		"=== RUN   TestA\n    a_test.go:3: needs\n        root\n--- SKIP: TestA (0.00s)\n":      "needs root",
		"    a_test.go:3: some log\n    a_test.go:4: lab: none runs\n--- SKIP: TestA (0.00s)\n": "lab: none runs",
		"=== RUN   TestA\n--- SKIP: TestA (0.00s)\n":                                            "no reason given",
	}
	for output, reason := range reasons {
		printed, _ := sumOf(false, said("TestA", output), ended("TestA", "skip"), ended("", "pass"))
		if want := "skipped: " + pkg + ".TestA: " + reason + "\n"; !strings.Contains(printed, want) {
			t.Errorf("no %q in:\n%s", want, printed)
		}
	}
}

func TestWhereALabIsNeededATestSkippedForWantOfOneFailed(t *testing.T) {
	events := []Event{
		said("TestA", "    a_test.go:3: lab: none runs\n"), ended("TestA", "skip"),
		said("TestB", "    a_test.go:9: needs root\n"), ended("TestB", "skip"),
		ended("", "pass"),
	}
	printed, _ := sumOf(true, events...)
	if got := lastLine(printed); got != "0 passed, 1 failed, 1 skipped" {
		t.Errorf("got %q", got)
	}
}

func TestACommandThatFailsByItselfIsAFailure(t *testing.T) {
	sum := newSum(false)
	sum.FailCommand([]string{"go", "test"}, errors.New("exit status 1"))
	if got := lastLine(sum.Close()); got != "0 passed, 1 failed, 0 skipped" {
		t.Errorf("got %q", got)
	}
}

func TestArgumentsAreCutIntoCommands(t *testing.T) {
	got := split([]string{"--", "go", "test", "--", "go", "-C", "lab"})
	if len(got) != 2 || !slices.Equal(got[0], []string{"go", "test"}) || !slices.Equal(got[1], []string{"go", "-C", "lab"}) {
		t.Errorf("got %q", got)
	}
}

func TestWhatIsBesideRunsAtTheSameTime(t *testing.T) {
	got := lanes([]string{"--", "a", "--", "b", "--beside", "--", "c", "--beside"})
	want := [][][]string{{{"a"}, {"b"}}, {{"c"}}}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestSumsOfCommandsAreJoined(t *testing.T) {
	total := newSum(false)
	for _, events := range [][]Event{
		{ended("TestA", "pass"), ended("TestB", "fail"), ended("", "fail")},
		{ended("TestA", "pass"), ended("TestC", "skip"), ended("", "pass")},
		{ended("TestD", "pass")}, // and never ended
	} {
		_, sum := sumOf(false, events...)
		total.Join(sum)
	}
	if got := lastLine(total.Close()); got != "2 passed, 2 failed, 1 skipped" {
		t.Errorf("got %q", got)
	}
}
