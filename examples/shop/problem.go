package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/go-weir/weir/middleware"
)

// pages makes pages of problems for people: whatever has refused their request, a
// wrapper or a handler, has said it as application/problem+json.
func pages(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.Header.Get("Accept"), "text/html") {
			next.ServeHTTP(w, r)
			return
		}
		pw := &problemWriter{ResponseWriter: w}
		next.ServeHTTP(pw, r)
		pw.finish()
	})
}

// problemWriter holds a problem back, and passes on everything else.
type problemWriter struct {
	http.ResponseWriter
	status  int // of a problem
	wrote   bool
	problem bytes.Buffer
}

func (w *problemWriter) WriteHeader(status int) {
	if !w.wrote && status >= 400 && w.Header().Get("Content-Type") == "application/problem+json" {
		w.wrote, w.status = true, status
		return
	}
	w.wrote = w.wrote || status >= 200
	w.ResponseWriter.WriteHeader(status)
}

func (w *problemWriter) Write(b []byte) (int, error) {
	if w.status != 0 {
		return w.problem.Write(b)
	}
	w.wrote = true
	return w.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController: what it does is no problem's.
func (w *problemWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *problemWriter) finish() {
	if w.status == 0 {
		return
	}
	var problem middleware.Problem
	_ = json.Unmarshal(w.problem.Bytes(), &problem) // at worst the page says less
	p := page{Title: http.StatusText(w.status), Status: w.status, Mistake: problem.Detail, Retry: w.Header().Get("Retry-After")}
	w.Header().Add("Vary", "Accept")
	w.Header().Del("Content-Length")
	writePage(w.ResponseWriter, w.status, "problem", p)
}
