package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// row is one promise.
type row struct {
	promise string
	figure  string
	limit   string // of this machine, in this run; "" where none applies
	ratio   string
	goal    string
}

// table is what the bench prints.
type table struct {
	rows    []row
	machine string
	notes   []string
}

func (t *table) add(rows ...row) { t.rows = append(t.rows, rows...) }

// note adds a line below the table: what a row consists of.
func (t *table) note(format string, args ...any) {
	t.notes = append(t.notes, fmt.Sprintf(format, args...))
}

// print writes the table so that it reads well as text and as Markdown. A
// write that fails has nowhere to be told.
func (t *table) print(out io.Writer) {
	columns := tabwriter.NewWriter(out, 0, 0, 1, ' ', 0)
	line := func(cells ...string) { _, _ = fmt.Fprintln(columns, "| "+strings.Join(cells, "\t| ")+"\t|") }
	line("promise", "figure", "raw limit in the same run", "ratio", "goal")
	line("---", "---", "---", "---", "---")
	for _, r := range t.rows {
		line(r.promise, r.figure, r.limit, r.ratio, r.goal)
	}
	_ = columns.Flush()
	_, _ = fmt.Fprintln(out)
	for _, note := range t.notes {
		_, _ = fmt.Fprintln(out, "* "+note)
	}
	if t.machine != "" {
		_, _ = fmt.Fprintln(out, "* The raw limits are those of "+t.machine)
	}
}

// median of some measurements, by a figure of theirs.
func median[M any](of []M, figure func(M) float64) M {
	sorted := slices.Clone(of)
	slices.SortFunc(sorted, func(a, b M) int {
		switch x, y := figure(a), figure(b); {
		case x < y:
			return -1
		case x > y:
			return 1
		}
		return 0
	})
	return sorted[len(sorted)/2]
}

// spread is the range of a figure over some measurements.
func spread[M any](of []M, figure func(M) float64) string {
	low, high := figure(of[0]), figure(of[0])
	for _, m := range of {
		low, high = min(low, figure(m)), max(high, figure(m))
	}
	return fmt.Sprintf("%.0f–%.0f", low, high)
}

func percent(part, whole float64) string {
	if whole == 0 {
		return ""
	}
	return fmt.Sprintf("%.0f %%", 100*part/whole)
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

// rate is n things in a time, a second.
func rate(n int, in time.Duration) float64 { return float64(n) / in.Seconds() }

func mebibytes(kibibytes int) string { return fmt.Sprintf("%.1f MiB", float64(kibibytes)/1024) }
