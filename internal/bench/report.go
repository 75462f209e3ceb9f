package bench

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// comparison is a chapter of the report: all tables about contestants of one
// kind.
type comparison struct {
	title string
	each  string // what a time is measured of
	// modules tells those of its peers from others that go.mod requires.
	modules func(path string) bool
	// column is the heading of the verdicts, about tells what it is.
	column, about string
	// verdicts, if they are known, become a column of every table, by contestant:
	// how right it is.
	verdicts map[string]string
	sheets   []*sheet
}

// sheet adds a table to the comparison.
func (c *comparison) sheet(title string, columns ...string) *sheet {
	s := &sheet{title: title, columns: columns}
	c.sheets = append(c.sheets, s)
	return s
}

// write writes the comparison as Markdown, and nothing if it was not made.
// required are the modules with their versions.
func (c *comparison) write(w io.Writer, setting string, required []string) {
	if len(c.sheets) == 0 {
		return
	}
	peers := slices.DeleteFunc(slices.Clone(required), func(module string) bool {
		path, _, _ := strings.Cut(module, " ")
		return !c.modules(path)
	})
	fmt.Fprintf(w, "\n## %s beside each other, %s\n\n%s\n", c.title, time.Now().Format(time.DateOnly), setting)
	if len(peers) > 0 {
		fmt.Fprintf(w, "%s.\n", strings.Join(peers, ", "))
	}
	fmt.Fprintf(w, "Ratios are of time per %s in the same round: below 1 is faster.\n", c.each)
	if len(c.verdicts) > 0 {
		fmt.Fprintln(w, c.about)
	}
	for _, s := range c.sheets {
		s.write(w, c.column, c.verdicts)
	}
}

// sheet is one table of the report.
type sheet struct {
	title   string
	columns []string // without the contestant's name
	rows    [][]string
	notes   []string
	// exactness says that it is the table which the verdicts in all others come
	// from.
	exactness bool
}

// add appends the row of a contestant.
func (s *sheet) add(name string, cells ...string) {
	s.rows = append(s.rows, append([]string{name}, cells...))
}

// note appends a line below the table.
func (s *sheet) note(format string, args ...any) {
	s.notes = append(s.notes, fmt.Sprintf(format, args...))
}

// write writes the table as Markdown that can be read as it is. The verdicts, if
// they are known, become its last column.
func (s *sheet) write(w io.Writer, column string, verdicts map[string]string) {
	head := append([]string{""}, s.columns...)
	rows := make([][]string, len(s.rows))
	for i, row := range s.rows {
		rows[i] = append([]string(nil), row...)
	}
	if len(verdicts) > 0 && !s.exactness {
		head = append(head, column)
		for i, row := range rows {
			rows[i] = append(row, verdicts[row[0]])
		}
	}
	widths := make([]int, len(head))
	for _, row := range append([][]string{head}, rows...) {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	fmt.Fprintf(w, "\n### %s\n\n", s.title)
	line := func(cells []string) {
		for i, cell := range cells {
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if i == 0 {
				cell += pad
			} else {
				cell = pad + cell
			}
			fmt.Fprintf(w, "| %s ", cell)
		}
		fmt.Fprintln(w, "|")
	}
	line(head)
	rule := make([]string, len(head))
	for i := range rule {
		if rule[i] = strings.Repeat("-", widths[i]); i > 0 {
			rule[i] = strings.Repeat("-", max(0, widths[i]-1)) + ":"
		}
	}
	line(rule)
	for _, row := range rows {
		line(row)
	}
	if len(s.notes) > 0 {
		fmt.Fprintf(w, "\n%s\n", strings.Join(s.notes, "\n"))
	}
}

// none stands for what was not measured.
const none = "–"

// number writes three digits: 0.123, 1.23, 12.3, 123, 1230; 0 is none.
func number(f float64) string {
	switch {
	case f == 0:
		return none
	case math.Abs(f) < 1:
		return fmt.Sprintf("%.3f", f)
	case math.Abs(f) < 10:
		return fmt.Sprintf("%.2f", f)
	case math.Abs(f) < 100:
		return fmt.Sprintf("%.1f", f)
	}
	return fmt.Sprintf("%.0f", f)
}

// times writes a ratio.
func times(f float64) string {
	switch {
	case f == 0:
		return none
	case f >= 100:
		return fmt.Sprintf("%.0f", f)
	case f >= 0.095:
		return fmt.Sprintf("%.2f", f)
	}
	return fmt.Sprintf("%.3f", f)
}

// part writes how much of something a decision took: whole if it nearly is.
func part(total, decisions float64) string {
	per := total / decisions
	if whole := math.Round(per); per >= 10 || math.Abs(per-whole) < 0.05 {
		return fmt.Sprintf("%.0f", whole)
	}
	return fmt.Sprintf("%.1f", per)
}

// size writes bytes.
func size(bytes int64) string {
	switch {
	case bytes < 10_000:
		return fmt.Sprintf("%d B", bytes)
	case bytes < 10_000_000:
		return fmt.Sprintf("%d KB", (bytes+500)/1000)
	}
	return fmt.Sprintf("%d MB", (bytes+500_000)/1_000_000)
}
