package bench

import (
	"strings"
	"testing"
)

func TestSheet_write(t *testing.T) {
	t.Parallel()
	s := &sheet{title: "speed", columns: []string{"1 caller, µs", "× weir"}}
	s.add("an empty EVALSHA", "9.5", "0.50")
	s.add("weir", "19", "1.00")
	s.note("%d rounds.", 5)
	const want = `
### speed

|                  | 1 caller, µs | × weir | under attack |
| ---------------- | -----------: | -----: | -----------: |
| an empty EVALSHA |          9.5 |   0.50 |              |
| weir             |           19 |   1.00 |    100 / 401 |

5 rounds.
`
	for range 2 { // the second shows that the first left the sheet as it was
		var got strings.Builder
		s.write(&got, "under attack", map[string]string{"weir": "100 / 401"})
		if got.String() != want {
			t.Errorf("got:\n%s\nwant:\n%s", got.String(), want)
		}
	}
	s.exactness = true
	var got strings.Builder
	s.write(&got, "under attack", map[string]string{"weir": "100 / 401"})
	if strings.Contains(got.String(), "under attack") {
		t.Errorf("the table of exactness has the column twice:\n%s", got.String())
	}
}

func TestComparison_write(t *testing.T) {
	t.Parallel()
	c := &comparison{
		title: "Sessions", each: "request", column: "kept", about: "Kept: how many.",
		modules:  func(path string) bool { return path == "gorilla/sessions" },
		verdicts: map[string]string{},
	}
	required := []string{"gorilla/sessions v1.4.0", "gorilla/sessions2 v9.9.9"}
	var got strings.Builder
	if c.write(&got, "Go.", required); got.String() != "" {
		t.Errorf("without tables: %q", got.String())
	}
	c.sheet("races").exactness = true
	c.sheet("read", "µs").add("weir", "1.00")
	c.write(&got, "Go.", required)
	for _, want := range []string{"## Sessions beside each other, ", "Go.\ngorilla/sessions v1.4.0.\n", "of time per request", "### races", "| weir | 1.00 |\n"} {
		if !strings.Contains(got.String(), want) {
			t.Errorf("%q is not in:\n%s", want, got.String())
		}
	}
	if strings.Contains(got.String(), "Kept") {
		t.Errorf("tells of verdicts that are not known:\n%s", got.String())
	}
	got.Reset()
	c.verdicts["weir"] = "20 of 20"
	c.write(&got, "Go.", required)
	for _, want := range []string{"Kept: how many.\n", "| weir | 1.00 | 20 of 20 |\n"} {
		if !strings.Contains(got.String(), want) {
			t.Errorf("%q is not in:\n%s", want, got.String())
		}
	}
}

func TestCells(t *testing.T) {
	t.Parallel()
	tests := []struct{ got, want string }{
		{number(0), "–"}, {number(0.1234), "0.123"}, {number(1.234), "1.23"}, {number(12.34), "12.3"}, {number(123.4), "123"}, {number(12345), "12345"},
		{times(0), "–"}, {times(0.0123), "0.012"}, {times(0.994), "0.99"}, {times(12.34), "12.34"}, {times(123.4), "123"},
		{part(200, 200), "1"}, {part(201, 200), "1"}, {part(300, 200), "1.5"}, {part(0, 200), "0"}, {part(2550, 200), "13"},
		{size(104), "104 B"}, {size(114_300), "114 KB"}, {size(134_000_000), "134 MB"},
	}
	for i, tt := range tests {
		if tt.got != tt.want {
			t.Errorf("%d: got %q; want %q", i, tt.got, tt.want)
		}
	}
}
