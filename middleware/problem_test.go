package middleware_test

import (
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-weir/weir/middleware"
)

func TestWriteProblem(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name       string
		problem    middleware.Problem
		retryAfter time.Duration
		body       string
		after      string
	}{
		{"status alone", middleware.Problem{Status: 404}, 0, `{"title":"Not Found","status":404}`, ""},
		{"all", middleware.Problem{Type: "https://example.com/t", Title: "T", Status: 429, Detail: `d "<`, Policies: []string{"p", "q"}}, time.Minute,
			`{"type":"https://example.com/t","title":"T","status":429,"detail":"d \"\u003c","violated-policies":["p","q"]}`, "60"},
		{"a nanosecond", middleware.Problem{Status: 503}, 1, `{"title":"Service Unavailable","status":503}`, "1"},
		{"a second", middleware.Problem{Status: 503}, time.Second, `{"title":"Service Unavailable","status":503}`, "1"},
		{"more than a second", middleware.Problem{Status: 503}, time.Second + 1, `{"title":"Service Unavailable","status":503}`, "2"},
		{"for ever", middleware.Problem{Status: 503}, math.MaxInt64, `{"title":"Service Unavailable","status":503}`, "9223372037"},
		{"negative", middleware.Problem{Status: 503}, -time.Second, `{"title":"Service Unavailable","status":503}`, ""},
		{"bytes that are no text", middleware.Problem{Status: 400, Detail: "\xff"}, 0, `{"title":"Bad Request","status":400,"detail":"\ufffd"}`, ""},
	}
	for _, tt := range tests {
		w := httptest.NewRecorder()
		middleware.WriteProblem(w, tt.problem, tt.retryAfter)
		got := w.Result()
		body, _ := io.ReadAll(got.Body)
		if string(body) != tt.body || got.StatusCode != tt.problem.Status || got.Header.Get("Retry-After") != tt.after {
			t.Errorf("%s: %d, Retry-After %q, %s; want %s, Retry-After %q", tt.name, got.StatusCode, got.Header.Get("Retry-After"), body, tt.body, tt.after)
		}
	}
}

// What a handler said of the answer that it did not get to give is gone; what
// others said of the request stays.
func TestWriteProblem_replacesAnotherAnswer(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		for _, name := range []string{"Etag", "Last-Modified", "Expires", "Content-Encoding", "Content-Range", "Content-Length",
			"Content-Disposition", "Content-Language", "Content-Location", "Accept-Ranges", "Location", "Age", "Repr-Digest", "Content-Digest", "Trailer"} {
			h.Set(name, "7")
		}
		h.Set("Content-Type", "image/png")
		h.Set("Cache-Control", "public, max-age=3600")
		h.Set("Vary", "Cookie")
		h.Set("X-Request-Id", "r1")
		middleware.WriteProblem(w, middleware.Problem{Status: 503}, 0)
	}))
	defer server.Close()
	got, err := http.Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Body.Close()
	var names []string
	for name := range got.Header {
		names = append(names, name)
	}
	want := map[string]string{
		"Content-Type": "application/problem+json", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff",
		"Content-Length": "44", "Vary": "Cookie", "X-Request-Id": "r1",
	}
	for name, value := range want {
		if got.Header.Get(name) != value {
			t.Errorf("%s: %q; want %q", name, got.Header.Get(name), value)
		}
	}
	if len(names) != len(want)+1 { // and Date
		t.Errorf("fields %s; want Date and those above", strings.Join(names, ", "))
	}
}

func TestWriteProblem_withoutAStatus(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	middleware.WriteProblem(w, middleware.Problem{}, 0)
	if w.Code != http.StatusInternalServerError || !strings.Contains(w.Body.String(), `"status":500`) {
		t.Errorf("%d %s; want 500", w.Code, w.Body)
	}
}
