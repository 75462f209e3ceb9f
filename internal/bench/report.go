package bench

import (
	"fmt"
	"io"
	"math"
	"strings"
	"unicode/utf8"
)

// sheet is one table of the report.
type sheet struct {
	title   string
	columns []string // without the contestant's name
	rows    [][]string
	notes   []string
	// exactness says that it is the table which the column "under attack" of all
	// others comes from.
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

// write writes the table as Markdown that can be read as it is. worst, if it
// is known, becomes a column: what a contestant admitted under attack.
func (s *sheet) write(w io.Writer, worst map[string]string) {
	head := append([]string{""}, s.columns...)
	rows := make([][]string, len(s.rows))
	for i, row := range s.rows {
		rows[i] = append([]string(nil), row...)
	}
	if len(worst) > 0 && !s.exactness {
		head = append(head, "under attack")
		for i, row := range rows {
			rows[i] = append(row, worst[row[0]])
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
