package rfc9111

import (
	"net/http"
	"strings"
	"time"
)

// ParseDate reads an HTTP-date (RFC 9110 5.6.7): an IMF-fixdate, or one of the
// obsolete forms of RFC 850 and asctime.
//
//	Sun, 06 Nov 1994 08:49:37 GMT
//	Sunday, 06-Nov-94 08:49:37 GMT
//	Sun Nov  6 08:49:37 1994
//
// It is strict where time.Parse and http.ParseTime are not: exactly these
// octets, no other zone than GMT, no one-digit hour, no missing comma, no 30th of
// February. What is no date makes an Expires past, a Last-Modified absent and an
// If-Modified-Since void. Letters match in any case, as RFC 9111 4.2 asks of a
// cache. A weekday that is not the date's is overlooked: it says nothing that the
// rest does not, and RFC 9110 5.6.7 encourages to be robust.
//
// now chooses the century of a two-digit year: a date more than 50 years ahead
// of it is in the past. The leap second 23:59:60 becomes 23:59:59, the nearest
// representable time that is not later (4.2). The result is in UTC.
func ParseDate(s string, now time.Time) (time.Time, bool) {
	// The longest is "Wednesday, 06-Nov-94 08:49:37 GMT".
	if len(s) < len("Sun Nov  6 08:49:37 1994") || len(s) > 33 {
		return time.Time{}, false
	}
	switch {
	case s[3] == ',':
		return parseIMF(s)
	case s[3] == ' ':
		return parseASCTime(s)
	}
	return parseRFC850(s, now)
}

func parseIMF(s string) (time.Time, bool) {
	if len(s) != len(http.TimeFormat) || s[4] != ' ' || s[7] != ' ' || s[11] != ' ' || s[16] != ' ' || !fold(s[25:], " gmt") {
		return time.Time{}, false
	}
	return civil(short(s[:3]), number(s[12:16]), month(s[8:11]), number(s[5:7]), s[17:25])
}

func parseASCTime(s string) (time.Time, bool) {
	if len(s) != len(time.ANSIC) || s[7] != ' ' || s[10] != ' ' || s[19] != ' ' {
		return time.Time{}, false
	}
	day := s[8:10]
	if day[0] == ' ' {
		day = day[1:]
	}
	return civil(short(s[:3]), number(s[20:24]), month(s[4:7]), number(day), s[11:19])
}

func parseRFC850(s string, now time.Time) (time.Time, bool) {
	name, rest, ok := strings.Cut(s, ",")
	if !ok || len(rest) != len(" 06-Nov-94 08:49:37 GMT") || rest[0] != ' ' || rest[3] != '-' || rest[7] != '-' || rest[10] != ' ' || !fold(rest[19:], " gmt") {
		return time.Time{}, false
	}
	weekday := -1
	for d, n := range weekdays {
		if fold(name, n) {
			weekday = d
		}
	}
	yy, clock := number(rest[8:10]), rest[11:19]
	if yy < 0 {
		return time.Time{}, false
	}
	// The latest year with these digits in which the date is not more than 50
	// years ahead. The weekday is no evidence of the century.
	limit := now.UTC().AddDate(50, 0, 0)
	year := limit.Year()/100*100 + yy
	m, day := month(rest[4:7]), number(rest[1:3])
	h, min, sec := number(clock[:2]), number(clock[3:5]), number(clock[6:])
	if time.Date(year, m, day, h, min, sec, 0, time.UTC).After(limit) {
		year -= 100
	}
	return civil(weekday, year, m, day, clock)
}

// civil makes a time of the parts of a date, any of which may be negative for
// unreadable; clock is "08:49:37".
func civil(weekday, year int, m time.Month, day int, clock string) (time.Time, bool) {
	if clock[2] != ':' || clock[5] != ':' {
		return time.Time{}, false
	}
	hour, minute, second := number(clock[:2]), number(clock[3:5]), number(clock[6:])
	if hour == 23 && minute == 59 && second == 60 {
		second = 59
	}
	if weekday < 0 || year < 0 || m < 1 || day < 1 || hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 59 {
		return time.Time{}, false
	}
	t := time.Date(year, m, day, hour, minute, second, 0, time.UTC)
	// time.Date turns 30 February into a day of March.
	if t.Day() != day {
		return time.Time{}, false
	}
	return t, true
}

var (
	weekdays = [...]string{"sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"}
	months   = [...]string{"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"}
)

// short returns the weekday of a three-letter name, or -1.
func short(s string) int {
	for d, n := range weekdays {
		if fold(s, n[:3]) {
			return d
		}
	}
	return -1
}

// month returns the month of a three-letter name, or 0.
func month(s string) time.Month {
	for m, n := range months {
		if fold(s, n) {
			return time.Month(m + 1)
		}
	}
	return 0
}

// number returns the value of a string of digits, or -1.
func number(s string) int {
	n := 0
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return -1
		}
		n = n*10 + int(s[i]-'0')
	}
	return n
}

// dateField reads a field that is one HTTP-date. Two lines, even equal ones,
// are no date: the field is a singleton (RFC 9110 5.5).
func dateField(h http.Header, key string, now time.Time) (t time.Time, present, valid bool) {
	lines := h[key]
	if len(lines) != 1 {
		return time.Time{}, len(lines) > 0, false
	}
	t, valid = ParseDate(trimOWS(lines[0]), now)
	return t, true, valid
}
