package rfc9111_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/go-weir/weir/internal/rfc9111"
)

func TestParseAge_section5_1(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		lines []string
		want  time.Duration
		ok    bool
	}{
		{"absent", nil, 0, false},
		{"zero", []string{"0"}, 0, true},
		{"seconds", []string{"7200"}, 7200 * time.Second, true},
		{"white space", []string{" 7200\t"}, 7200 * time.Second, true},
		{"2^31", []string{"2147483648"}, rfc9111.MaxDelta, true},
		{"beyond, 1.2.2", []string{"99999999999999999999"}, rfc9111.MaxDelta, true},
		{"list, old first", []string{"7200, 0"}, 7200 * time.Second, true},
		{"list, old last", []string{"0,7200"}, 0, true},
		{"lines, old first", []string{"7200", "0"}, 7200 * time.Second, true},
		{"lines, old last", []string{"0", "7200"}, 0, true},
		{"empty first member", []string{", 7200"}, 0, false},
		{"letters", []string{"abc"}, 0, false},
		{"negative", []string{"-7200"}, 0, false},
		{"decimal", []string{"7200.0"}, 0, false},
		{"quoted", []string{`"7200"`}, 0, false},
		// Red if ParseAge cuts at the comma alone.
		{"parameter", []string{"7200;foo=bar"}, 7200 * time.Second, true},
		{"parameter, a number", []string{"7200 ; foo=111"}, 7200 * time.Second, true},
		{"parameter, a list", []string{"7200;foo, 0"}, 7200 * time.Second, true},
		{"parameter of no number", []string{"abc;foo=7200"}, 0, false},
		{"parameter alone", []string{";foo=7200"}, 0, false},
		{"empty", []string{""}, 0, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, ok := rfc9111.ParseAge(lines("Age", tt.lines...))
			if got != tt.want || ok != tt.ok {
				t.Errorf("ParseAge(%q): got %v, %v; want %v, %v", tt.lines, got, ok, tt.want, tt.ok)
			}
		})
	}
}

func date(t time.Time) string { return t.UTC().Format(http.TimeFormat) }

func TestInitialAge_section4_2_3(t *testing.T) {
	t.Parallel()
	const s = time.Second
	tests := []struct {
		name  string
		date  string
		age   string
		delay time.Duration
		want  time.Duration
	}{
		{"new", date(noon), "", 0, 0},
		{"apparent_age", date(noon.Add(-20 * s)), "", 0, 20 * s},
		{"age_value", date(noon), "30", 0, 30 * s},
		{"age_value + response_delay", date(noon), "30", 5 * s, 35 * s},
		{"response_delay alone", date(noon), "", 5 * s, 5 * s},
		{"the greater, Date", date(noon.Add(-60 * s)), "30", 5 * s, 60 * s},
		{"the greater, Age", date(noon.Add(-10 * s)), "30", 5 * s, 35 * s},
		{"Date ahead", date(noon.Add(time.Hour)), "", 0, 0},
		{"no Date", "", "30", 0, 30 * s},
		{"Date unreadable", "yesterday", "", 0, 0},
		{"Age unreadable", date(noon.Add(-5 * s)), "-30", 0, 5 * s},
		{"request after response", date(noon), "30", -5 * s, 30 * s},
		{"overflow, 1.2.2", date(noon), "2147483648", time.Hour, rfc9111.MaxDelta},
		{"a Date of long ago, 1.2.2", "Mon, 01 Jan 0001 00:00:00 GMT", "", 0, rfc9111.MaxDelta},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := http.Header{}
			if tt.date != "" {
				h.Set("Date", tt.date)
			}
			if tt.age != "" {
				h.Set("Age", tt.age)
			}
			if got := rfc9111.InitialAge(h, noon.Add(-tt.delay), noon); got != tt.want {
				t.Errorf("InitialAge(%v), %v under way: got %v; want %v", h, tt.delay, got, tt.want)
			}
		})
	}
}

// A Date has no fractions; a response of this very second is not old.
func TestInitialAge_section4_2_3_withinTheSecond(t *testing.T) {
	t.Parallel()
	at := noon.Add(900 * time.Millisecond)
	if got := rfc9111.InitialAge(lines("Date", date(noon)), at, at); got != 0 {
		t.Errorf("age of a response of the same second: got %v; want 0", got)
	}
}

func TestCurrentAge_section4_2_3(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		initial time.Duration
		later   time.Duration
		want    time.Duration
	}{
		{"at once", 30 * time.Second, 0, 30 * time.Second},
		{"resident_time", 30 * time.Second, time.Minute, 90 * time.Second},
		{"a clock that went back", 30 * time.Second, -time.Minute, 30 * time.Second},
		{"overflow, 1.2.2", rfc9111.MaxDelta, time.Hour, rfc9111.MaxDelta},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := rfc9111.CurrentAge(tt.initial, noon, noon.Add(tt.later)); got != tt.want {
				t.Errorf("CurrentAge(%v) after %v: got %v; want %v", tt.initial, tt.later, got, tt.want)
			}
		})
	}
}

func TestSetAge_section5_1(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		-time.Hour:              "0",
		0:                       "0",
		999 * time.Millisecond:  "0",
		1999 * time.Millisecond: "1",
		time.Hour:               "3600",
		1<<63 - 1:               "2147483648",
	} {
		shared := []string{"9"}
		h := http.Header{"Age": shared}
		rfc9111.SetAge(h, d)
		if got := h.Values("Age"); len(got) != 1 || got[0] != want {
			t.Errorf("SetAge(%v): got %q; want %q", d, got, want)
		}
		if shared[0] != "9" {
			t.Errorf("SetAge(%v) wrote to a slice that may be shared", d)
		}
	}
}
