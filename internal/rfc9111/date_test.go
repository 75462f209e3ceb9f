package rfc9111_test

import (
	"testing"
	"time"

	"github.com/go-weir/weir/internal/rfc9111"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func TestParseDate_section9110_5_6_7(t *testing.T) {
	t.Parallel()
	want := time.Date(2050, 8, 18, 2, 1, 18, 0, time.UTC)
	tests := []struct {
		name string
		s    string
		want time.Time // zero: no date
	}{
		{"IMF-fixdate", "Thu, 18 Aug 2050 02:01:18 GMT", want},
		{"RFC 850", "Thursday, 18-Aug-50 02:01:18 GMT", want},
		{"RFC 850, the longest day", "Wednesday, 17-Aug-50 02:01:18 GMT", want.AddDate(0, 0, -1)},
		{"asctime", "Thu Aug 18 02:01:18 2050", want},
		{"asctime, one digit", "Mon Aug  8 02:01:18 2050", want.AddDate(0, 0, -10)},
		{"asctime, a zero", "Mon Aug 08 02:01:18 2050", want.AddDate(0, 0, -10)},
		{"beyond 32 bits", "Sun, 21 Nov 2286 04:46:39 GMT", time.Date(2286, 11, 21, 4, 46, 39, 0, time.UTC)},
		{"29 February", "Thu, 29 Feb 2024 00:00:00 GMT", time.Date(2024, 2, 29, 0, 0, 0, 0, time.UTC)},
		{"leap second, 4.2", "Sat, 31 Dec 2016 23:59:60 GMT", time.Date(2016, 12, 31, 23, 59, 59, 0, time.UTC)},

		// RFC 9111 4.2: a cache recipient SHOULD match case-insensitively.
		{"weekday in capitals", "THU, 18 Aug 2050 02:01:18 GMT", want},
		{"month in capitals", "Thu, 18 AUG 2050 02:01:18 GMT", want},
		{"zone in small letters", "Thu, 18 Aug 2050 02:01:18 gMT", want},
		{"RFC 850 in capitals", "THURSDAY, 18-AUG-50 02:01:18 gmt", want},

		{"empty", "", time.Time{}},
		{"zero", "0", time.Time{}},
		{"UTC", "Thu, 18 Aug 2050 02:01:18 UTC", time.Time{}},
		{"AEST", "Thu, 18 Aug 2050 02:01:18 AEST", time.Time{}},
		{"offset", "Thu, 18 Aug 2050 02:01:18 +0000", time.Time{}},
		{"no zone", "Thu, 18 Aug 2050 02:01:18", time.Time{}},
		{"2-digit year", "Thu, 18 Aug 50 02:01:18 GMT", time.Time{}},
		{"no comma", "Thu 18 Aug 2050 02:01:18 GMT", time.Time{}},
		{"spaces", "Thu, 18  Aug  2050 02:01:18 GMT", time.Time{}},
		{"date dashes", "Thu, 18-Aug-2050 02:01:18 GMT", time.Time{}},
		{"time periods", "Thu, 18 Aug 2050 02.01.18 GMT", time.Time{}},
		{"1-digit hour", "Thu, 18 Aug 2050 2:01:18 GMT", time.Time{}},
		{"space for a digit", "Thu, 18 Aug 2050  2:01:18 GMT", time.Time{}},
		{"1-digit day", "Mon, 8 Aug 2050 02:01:18 GMT", time.Time{}},
		{"asctime, 1-digit day without space", "Mon Aug 8 02:01:18 2050", time.Time{}},
		{"asctime with zone", "Thu Aug 18 02:01:18 GMT 2050", time.Time{}},
		{"RFC 850, 4-digit year", "Thursday, 18-Aug-2050 02:01:18 GMT", time.Time{}},
		{"RFC 850, short day", "Thu, 18-Aug-50 02:01:18 GMT", time.Time{}},
		{"RFC 850, spaces", "Thursday, 18 Aug 50 02:01:18 GMT", time.Time{}},
		{"RFC 3339", "2050-08-18T02:01:18Z", time.Time{}},
		{"space before", " Thu, 18 Aug 2050 02:01:18 GMT", time.Time{}},
		{"space after", "Thu, 18 Aug 2050 02:01:18 GMT ", time.Time{}},
		{"two in a list", "Thu, 18 Aug 2050 02:01:18 GMT, Thu, 18 Aug 2050 02:01:18 GMT", time.Time{}},
		{"another weekday, overlooked", "Fri, 18 Aug 2050 02:01:18 GMT", want},
		{"no such weekday", "Xyz, 18 Aug 2050 02:01:18 GMT", time.Time{}},
		{"no such month", "Thu, 18 Aux 2050 02:01:18 GMT", time.Time{}},
		{"no such day", "Wed, 30 Feb 2050 02:01:18 GMT", time.Time{}},
		{"day 0", "Sun, 00 Aug 2050 02:01:18 GMT", time.Time{}},
		{"hour 24", "Thu, 18 Aug 2050 24:01:18 GMT", time.Time{}},
		{"minute 60", "Thu, 18 Aug 2050 02:60:18 GMT", time.Time{}},
		{"second 60 at another time", "Thu, 18 Aug 2050 02:01:60 GMT", time.Time{}},
		{"second 61", "Thu, 18 Aug 2050 23:59:61 GMT", time.Time{}},
		{"sign for a digit", "Thu, +8 Aug 2050 02:01:18 GMT", time.Time{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, ok := rfc9111.ParseDate(tt.s, noon)
			if ok != !tt.want.IsZero() || !got.Equal(tt.want) {
				t.Errorf("ParseDate(%q): got %v, %v; want %v", tt.s, got, ok, tt.want)
			}
		})
	}
}

// A date that appears to be more than 50 years ahead is in the past (RFC 9110
// 5.6.7): one second decides.
func TestParseDate_section9110_5_6_7_fiftyYears(t *testing.T) {
	t.Parallel()
	tests := []struct {
		s    string
		now  time.Time
		want int
	}{
		{"Sunday, 06-Nov-94 08:49:37 GMT", noon, 1994},
		{"Monday, 23-Nov-76 12:00:00 GMT", noon, 2076},
		{"Tuesday, 23-Nov-76 12:00:01 GMT", noon, 1976},
		{"Saturday, 01-Jan-00 00:00:00 GMT", noon, 2000},
		{"Thursday, 01-Jan-70 00:00:00 GMT", noon, 2070}, // a Wednesday: the weekday is no evidence
		{"Friday, 01-Jan-10 00:00:00 GMT", time.Date(2080, 1, 1, 0, 0, 0, 0, time.UTC), 2110},
		{"Wednesday, 01-Jan-10 00:00:00 GMT", time.Date(2080, 1, 1, 0, 0, 0, 0, time.UTC), 2110},
	}
	for _, tt := range tests {
		t.Run(tt.s, func(t *testing.T) {
			t.Parallel()
			got, ok := rfc9111.ParseDate(tt.s, tt.now)
			if ok != (tt.want != 0) || ok && got.Year() != tt.want {
				t.Errorf("ParseDate(%q) in %d: got %v, %v; want %v", tt.s, tt.now.Year(), got, ok, tt.want)
			}
		})
	}
}
