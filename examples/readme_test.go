package examples_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// A row of the README's table says what somebody wants and names the Example that
// shows it; go test runs the Examples, and this test finds them.
func TestReadme_rowsHaveExamples(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, ok := strings.Cut(string(readme), "| I want to… |")
	if !ok {
		t.Fatal("README.md has no table that begins with | I want to… |")
	}
	table, _, _ = strings.Cut(table, "\n\n")
	example := regexp.MustCompile(`\| \[(Example\w*)\]\(([\w/]+_test\.go)\) \|$`)

	rows := strings.Split(table, "\n")[2:] // after the head and the line below it
	for _, row := range rows {
		found := example.FindStringSubmatch(row)
		if found == nil {
			t.Errorf("no [Example…](file) at the end of the row\n%s", row)
			continue
		}
		file, err := os.ReadFile(filepath.Join("..", found[2]))
		if err != nil {
			t.Error(err)
			continue
		}
		body := regexp.MustCompile(`(?ms)^func ` + found[1] + `\(\) \{\n.*?^}$`).Find(file)
		if body == nil {
			t.Errorf("%s has no %s", found[2], found[1])
		} else if !strings.Contains(string(body), "// Output:") && !strings.Contains(string(body), "// Unordered output:") {
			t.Errorf("%s in %s has no output, so that go test only compiles it", found[1], found[2])
		}
	}
	if len(rows) < 30 {
		t.Errorf("the table has %d rows; want all of what Weir does", len(rows))
	}
}
