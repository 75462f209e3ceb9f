package main

import (
	"bytes"
	"crypto/rand"
	"embed"
	"html/template"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/go-weir/weir/cache"
	"github.com/go-weir/weir/session"
)

//go:embed page
var files embed.FS

// page is what a template is given. Each uses what it needs.
type page struct {
	Title    string
	User     *User // nil on pages that are the same for everybody
	Messages []string
	Mistake  string
	Email    string

	Products  []Product
	Product   Product
	Orders    []Order
	Order     Order
	Confirmed bool
	Key       string // for the Idempotency-Key of the page's form

	Balance int64
	Roles   []string
	Best    []sold
	Devices []session.Info
	Session string

	Live   bool
	Heard  []Heard
	Counts Counts
	Partly bool // Redis was silent, so parts are missing

	Status int
	Retry  string
}

// sold is one line of the leaderboard.
type sold struct {
	Product Product
	Pieces  int64
}

var templates = func() map[string]*template.Template {
	layout := template.Must(template.New("").Funcs(template.FuncMap{
		"money":  money,
		"amount": func(cents int64) string { return strings.TrimPrefix(money(cents), "€") },
		"when":   func(t time.Time) string { return t.UTC().Format("2 Jan 2006, 15:04 UTC") },
		"short":  short,
		"verb":   func(topic string) string { return topic[len("order."):] },
	}).ParseFS(files, "page/layout.html"))
	all := make(map[string]*template.Template)
	for _, name := range []string{"home", "products", "product", "login", "register", "orders", "order", "account", "admin", "problem"} {
		all[name] = template.Must(template.Must(layout.Clone()).ParseFS(files, "page/"+name+".html"))
	}
	return all
}()

// show answers with a page, or with value if a program asks. What middleware.Cache is
// not told to keep nobody else keeps either: most pages are somebody's.
func (s *shop) show(w http.ResponseWriter, r *http.Request, status int, name string, p page, value any) {
	w.Header().Add("Vary", "Accept")
	kept := w.Header().Get("Cache-Control") != ""
	if !kept {
		w.Header().Set("Cache-Control", "no-store")
	}
	if wantsJSON(r) {
		writeJSON(w, status, value)
		return
	}
	if !kept {
		var err error
		if p.Messages, err = s.flash.Take(r.Context()); err != nil {
			slog.WarnContext(r.Context(), "shop: messages stay for the next page", "err", err)
		}
	}
	writePage(w, status, name, p)
}

func writePage(w http.ResponseWriter, status int, name string, p page) {
	var body bytes.Buffer
	if err := templates[name].ExecuteTemplate(&body, "layout.html", p); err != nil {
		slog.Error("shop: page", "name", name, "err", err)
		http.Error(w, "Something went wrong.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(body.Len()))
	w.WriteHeader(status)
	_, _ = body.WriteTo(w)
}

// static serves the style sheet, the script and the icon. A browser asks again after
// a minute: the names do not change with their content.
func (s *shop) static(w http.ResponseWriter, r *http.Request) {
	name := chi.URLParam(r, "name")
	if !slices.Contains([]string{"shop.css", "shop.js", "icon.svg"}, name) {
		s.fail(w, r, cache.ErrNotFound)
		return
	}
	w.Header().Set("Cache-Control", "public, max-age=60")
	http.ServeFileFS(w, r, files, "page/"+name)
}

// userHandler is a handler for who is logged in.
type userHandler func(http.ResponseWriter, *http.Request, User)

func (s *shop) withUser(handler userHandler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		user, err := s.visitor(r)
		if err == nil && user == nil {
			err = errNobody
		}
		if err != nil {
			s.fail(w, r, err)
			return
		}
		handler(w, r, *user)
	}
}

// onlyUsers goes outside of what counts, or keeps, by user.
func (s *shop) onlyUsers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.byUser(r) == "" {
			s.fail(w, r, errNobody)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// showHome is the start page. Without Redis it shows what there is.
func (s *shop) showHome(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	products, err := s.catalog(ctx)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	p := page{Title: "Shop", Products: products, Live: true, Heard: s.live.latest(), Counts: s.live.now(), Key: rand.Text()}
	if p.User, err = s.visitor(r); err != nil {
		s.fail(w, r, err)
		return
	}
	desk, err := s.desk.read(ctx, p.User)
	if err == nil && p.User != nil {
		p.Session = s.sessions.ID(ctx)
		p.Roles = desk.roles
		if p.Orders, err = s.load(ctx, desk.recent); err == nil {
			p.Balance, err = s.balance(ctx, *p.User)
		}
	}
	p.Partly = err != nil
	for _, z := range desk.board {
		member, _ := z.Member.(string)
		i := slices.IndexFunc(products, func(p Product) bool { return strconv.FormatInt(p.ID, 10) == member })
		if i >= 0 {
			p.Best = append(p.Best, sold{Product: products[i], Pieces: int64(z.Score)})
		}
	}
	s.show(w, r, http.StatusOK, "home", p, struct {
		Balance int64
		Roles   []string
		Orders  []Order
		Best    []sold
		Heard   []Heard
	}{p.Balance, p.Roles, p.Orders, p.Best, p.Heard})
}

// showForm shows a form that anybody may fill in.
func (s *shop) showForm(name, title string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.show(w, r, http.StatusOK, name, page{Title: title}, struct{}{})
	}
}

// failForm shows the form again, with what was wrong with it.
func (s *shop) failForm(w http.ResponseWriter, r *http.Request, name string, err error) {
	refusal, known := refusalOf(err)
	if !known || wantsJSON(r) || refusal.status == http.StatusServiceUnavailable {
		s.fail(w, r, err)
		return
	}
	s.show(w, r, refusal.status, name, page{Title: "Please try again", Mistake: refusal.detail, Email: r.PostFormValue("email")}, nil)
}

// status tells a page's script who is logged in; the limits it reads from the fields
// that RateLimit sets.
func (s *shop) status(w http.ResponseWriter, r *http.Request) {
	user, err := s.visitor(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	var answer struct {
		User    string
		Session string
	}
	if user != nil {
		answer.User, answer.Session = user.Name, s.sessions.ID(r.Context())
	}
	w.Header().Set("Cache-Control", "no-store")
	writeJSON(w, http.StatusOK, answer)
}
