package middleware_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/alexedwards/scs/v2"
	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/middleware"
	"github.com/go-weir/weir/session"
)

// nowhere is a ResponseWriter that costs nothing.
type nowhere struct{ h http.Header }

func (n nowhere) Header() http.Header         { return n.h }
func (n nowhere) Write(p []byte) (int, error) { return len(p), nil }
func (n nowhere) WriteHeader(int)             {}

// BenchmarkSession compares with scs's own LoadAndSave on Weir's store. scs
// has an idle timeout here as well, for otherwise it keeps none.
func BenchmarkSession(b *testing.B) {
	client := testkit.Shared(b, "server").Client(b, func(o *redis.UniversalOptions) { o.ContextTimeoutEnabled = true })
	m := newSessions(b, client)
	store, err := session.NewStore(client)
	if err != nil {
		b.Fatal(err)
	}
	plain := scs.New()
	plain.Store, plain.HashTokenInStore, plain.Cookie.Name, plain.IdleTimeout = store, true, m.Cookie.Name, 30*time.Minute
	n := 0

	deeds := []struct {
		name string
		do   func(sm *scs.SessionManager, r *http.Request)
	}{
		{"untouched", func(*scs.SessionManager, *http.Request) {}},
		{"read", func(sm *scs.SessionManager, r *http.Request) { sm.GetString(r.Context(), "user") }},
		{"modified", func(sm *scs.SessionManager, r *http.Request) { n++; sm.Put(r.Context(), "n", n) }},
		{"same value", func(sm *scs.SessionManager, r *http.Request) { sm.Put(r.Context(), "user", "value of user") }},
	}
	for _, deed := range deeds {
		for _, side := range []struct {
			name string
			wrap middleware.Middleware
			sm   *scs.SessionManager
		}{
			{"weir", middleware.Session(m), m.SessionManager},
			{"scs", plain.LoadAndSave, plain},
		} {
			handler := side.wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				deed.do(side.sm, r)
				w.WriteHeader(http.StatusNoContent)
			}))
			for _, cookie := range []bool{true, false} {
				if !cookie && deed.name != "untouched" {
					continue
				}
				name := deed.name + "/" + side.name
				r := httptest.NewRequest(http.MethodGet, "/", nil)
				if cookie {
					r.Header.Set("Cookie", m.Cookie.Name+"="+benchmarkLogin(b, m.SessionManager))
				} else {
					name += "/no cookie"
				}
				b.Run(name, func(b *testing.B) {
					b.ReportAllocs()
					for b.Loop() {
						handler.ServeHTTP(nowhere{make(http.Header)}, r)
					}
				})
			}
		}
	}
}

func benchmarkLogin(b *testing.B, sm *scs.SessionManager) string {
	ctx, err := sm.Load(b.Context(), "")
	if err != nil {
		b.Fatal(err)
	}
	for _, key := range []string{"user", "name", "mail", "role", "theme"} {
		sm.Put(ctx, key, "value of "+key)
	}
	token, _, err := sm.Commit(ctx)
	if err != nil {
		b.Fatal(err)
	}
	return token
}
