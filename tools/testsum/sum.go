package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Event is one line of `go test -json`; see `go doc test2json` and
// `go help buildjson`.
type Event struct {
	Action      string
	Package     string
	ImportPath  string // of a build's events
	Test        string
	Elapsed     float64
	Output      string
	FailedBuild string
}

// Sum is what the events so far amount to.
type Sum struct {
	needLab  bool
	packages map[string]*pack
	builds   map[string]*strings.Builder

	passed  int
	failed  []string
	skipped []skip
}

// pack is a package whose tests run.
type pack struct {
	order  []string
	tests  map[string]*test
	output strings.Builder
}

// test is a test or subtest; action is empty until it ended.
type test struct {
	action string
	output strings.Builder
}

type skip struct{ name, reason string }

// newSum returns a Sum of nothing. With needLab, a test skipped for want of a
// lab is a failure.
func newSum(needLab bool) *Sum {
	return &Sum{needLab: needLab, packages: map[string]*pack{}, builds: map[string]*strings.Builder{}}
}

// Add takes one event in and returns what is to be printed for it.
func (s *Sum) Add(event Event) string {
	if event.Action == "build-output" {
		if s.builds[event.ImportPath] == nil {
			s.builds[event.ImportPath] = &strings.Builder{}
		}
		s.builds[event.ImportPath].WriteString(event.Output)
		return ""
	}
	if event.Package == "" {
		return ""
	}
	p := s.packages[event.Package]
	if p == nil {
		p = &pack{tests: map[string]*test{}}
		s.packages[event.Package] = p
	}
	if event.Test != "" {
		return p.add(event)
	}
	switch event.Action {
	case "output":
		p.output.WriteString(event.Output)
	case "pass", "fail", "skip":
		delete(s.packages, event.Package)
		return s.end(event, p)
	}
	return ""
}

// add takes in an event of one test, and tells of a long one when it ends.
func (p *pack) add(event Event) string {
	t := p.tests[event.Test]
	if t == nil {
		t = &test{}
		p.tests[event.Test] = t
		p.order = append(p.order, event.Test)
	}
	switch event.Action {
	case "output":
		t.output.WriteString(event.Output)
	case "pass", "fail", "skip":
		t.action = event.Action
		if event.Elapsed >= 10 && !strings.Contains(event.Test, "/") {
			return fmt.Sprintf("      %s: %s after %.0fs\n", event.Test, event.Action, event.Elapsed)
		}
	}
	return ""
}

// end closes a package: counts its tests and returns its line, with all that
// its failures said.
func (s *Sum) end(event Event, p *pack) string {
	if len(p.order) == 0 && event.Action != "fail" {
		return ""
	}
	var text strings.Builder
	failedBefore := len(s.failed)
	for _, name := range p.order {
		t := p.tests[name]
		if t.action == "" || t.action == "fail" { // or cut off, by a panic or the timeout
			text.WriteString(t.output.String())
		}
		s.count(event.Package+"."+name, t, p.childActions(name))
	}
	verdict := "ok  "
	if event.Action == "fail" {
		verdict = "FAIL"
		if len(s.failed) == failedBefore { // no test is to blame
			s.failed = append(s.failed, event.Package)
		}
		if build := s.builds[event.FailedBuild]; build != nil {
			text.WriteString(build.String())
			build.Reset() // once is enough
		}
		text.WriteString(p.output.String())
	}
	return fmt.Sprintf("%s%s  %s  %.1fs\n", text.String(), verdict, event.Package, event.Elapsed)
}

// childActions returns how the subtests of a test ended.
func (p *pack) childActions(name string) []string {
	var actions []string
	for _, other := range p.order {
		if strings.HasPrefix(other, name+"/") {
			actions = append(actions, p.tests[other].action)
		}
	}
	return actions
}

// count adds one ended test. One with subtests counts only where it failed and
// none of them did.
func (s *Sum) count(name string, t *test, children []string) {
	if len(children) > 0 {
		blamed := slices.Contains(children, "fail") || slices.Contains(children, "")
		if t.action == "pass" || t.action == "skip" || blamed {
			return
		}
	}
	switch t.action {
	case "pass":
		s.passed++
	case "skip":
		reason := reasonOf(t.output.String())
		if s.needLab && strings.HasPrefix(reason, "lab:") {
			s.failed = append(s.failed, name+" (skipped: "+reason+")")
			return
		}
		s.skipped = append(s.skipped, skip{name, reason})
	default:
		s.failed = append(s.failed, name)
	}
}

// place is what the testing package puts before a message.
var place = regexp.MustCompile(`^\s*\S+\.go:\d+: `)

// reasonOf finds what a skipped test said last before it was skipped.
func reasonOf(output string) string {
	var reason []string
	for line := range strings.Lines(output) {
		line = strings.TrimRight(line, "\n")
		switch trimmed := strings.TrimSpace(line); {
		case strings.HasPrefix(trimmed, "=== "), strings.HasPrefix(trimmed, "--- "):
		case place.MatchString(line):
			reason = []string{place.ReplaceAllString(line, "")}
		case len(reason) > 0: // more lines of the same message
			reason = append(reason, trimmed)
		}
	}
	if len(reason) == 0 {
		return "no reason given"
	}
	return strings.Join(reason, " ")
}

// FailCommand counts a command that failed without a test to blame, and
// returns what is to be printed for it.
func (s *Sum) FailCommand(command []string, err error) string {
	name := strings.Join(command, " ")
	s.failed = append(s.failed, name)
	return fmt.Sprintf("FAIL  %s: %v\n", name, err)
}

// cutOff counts packages that never ended as failed.
func (s *Sum) cutOff() {
	for name := range s.packages {
		s.failed = append(s.failed, name+" (never ended)")
	}
	clear(s.packages)
}

// Join ends another command's sum, and adds it.
func (s *Sum) Join(other *Sum) {
	other.cutOff()
	s.passed += other.passed
	s.failed = append(s.failed, other.failed...)
	s.skipped = append(s.skipped, other.skipped...)
}

// Close ends the sum and returns its last lines.
func (s *Sum) Close() string {
	s.cutOff()
	var text strings.Builder
	for _, skip := range s.skipped {
		fmt.Fprintf(&text, "skipped: %s: %s\n", skip.name, skip.reason)
	}
	for _, name := range s.failed {
		fmt.Fprintf(&text, "failed: %s\n", name)
	}
	fmt.Fprintf(&text, "%d passed, %d failed, %d skipped\n", s.passed, len(s.failed), len(s.skipped))
	return text.String()
}
