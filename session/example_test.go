package session_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/alexedwards/scs/v2"
	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/middleware"
	"github.com/go-weir/weir/session"
)

// embedded stands for the client that a program already has.
func embedded() (rdb *redis.Client, stop func()) {
	server, err := miniredis.Run()
	if err != nil {
		panic(err)
	}
	rdb = redis.NewClient(&redis.Options{Addr: server.Addr()})
	return rdb, func() {
		rdb.Close()
		server.Close()
	}
}

// A browser keeps the session's cookie from one request to the next.
type browser struct {
	site   http.Handler
	agent  string
	cookie *http.Cookie
}

func (b *browser) get(path string) string {
	r := httptest.NewRequest("GET", path, nil)
	r.Header.Set("User-Agent", b.agent)
	if b.cookie != nil {
		r.AddCookie(b.cookie)
	}
	w := httptest.NewRecorder()
	b.site.ServeHTTP(w, r)
	for _, c := range w.Result().Cookies() {
		b.cookie = c
	}
	return strings.TrimSpace(w.Body.String())
}

func Example() {
	rdb, stop := embedded()
	defer stop()

	sessions, err := session.New(rdb)
	if err != nil {
		panic(err)
	}
	count := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		visits := sessions.GetInt(r.Context(), "visits") + 1
		sessions.Put(r.Context(), "visits", visits)
		fmt.Fprintf(w, "visit %d", visits)
	})
	handler := middleware.Session(sessions)(count)

	first := httptest.NewRecorder()
	handler.ServeHTTP(first, httptest.NewRequest("GET", "/", nil))
	cookie := first.Result().Cookies()[0]

	again := httptest.NewRequest("GET", "/", nil)
	again.AddCookie(cookie)
	second := httptest.NewRecorder()
	handler.ServeHTTP(second, again)

	fmt.Println(first.Body, "then", second.Body)
	_, attributes, _ := strings.Cut(first.Header().Get("Set-Cookie"), "; ")
	fmt.Println(cookie.Name, attributes)
	// Output:
	// visit 1 then visit 2
	// __Host-session Path=/; HttpOnly; Secure; SameSite=Lax
}

// A user logs in on two devices, lists them, and ends all of them from one.
func ExampleManager_Login() {
	rdb, stop := embedded()
	defer stop()
	sessions, err := session.New(rdb)
	if err != nil {
		panic(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/login", func(w http.ResponseWriter, r *http.Request) {
		if err := sessions.Login(r.Context(), "alice"); err != nil { // the password was right
			http.Error(w, "try again", http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("/devices", func(w http.ResponseWriter, r *http.Request) {
		user := sessions.User(r.Context())
		if user == "" {
			fmt.Fprintln(w, "nobody")
			return
		}
		all, err := sessions.Sessions(r.Context(), user)
		if err != nil {
			http.Error(w, "try again", http.StatusServiceUnavailable)
			return
		}
		for _, s := range all {
			if s.Current {
				fmt.Fprintf(w, "%s (this one) of ", s.Device)
			}
		}
		fmt.Fprintln(w, len(all))
	})
	mux.HandleFunc("/logout-everywhere", func(w http.ResponseWriter, r *http.Request) {
		if err := sessions.EndAll(r.Context(), sessions.User(r.Context())); err != nil {
			http.Error(w, "try again", http.StatusServiceUnavailable)
		}
	})
	site := middleware.Session(sessions)(mux)

	laptop, phone := &browser{site: site, agent: "Laptop"}, &browser{site: site, agent: "Phone"}
	laptop.get("/login")
	phone.get("/login")
	fmt.Println(laptop.get("/devices"))
	laptop.get("/logout-everywhere")
	fmt.Println(phone.get("/devices"))
	// Output:
	// Laptop (this one) of 2
	// nobody
}

// A counter that many requests change at a time.
func ExampleManager_Update() {
	rdb, stop := embedded()
	defer stop()
	sessions, err := session.New(rdb)
	if err != nil {
		panic(err)
	}
	visitor := &browser{site: middleware.Session(sessions)(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := sessions.Update(r.Context(), "visits", func(old any) any {
			visits, _ := old.(int)
			return visits + 1
		})
		if err != nil {
			http.Error(w, "try again", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "visit", sessions.GetInt(r.Context(), "visits"))
	}))}
	fmt.Println(visitor.get("/"))
	fmt.Println(visitor.get("/"))
	// Output:
	// visit 1
	// visit 2
}

// A cart of one's own type, without gob.Register.
func ExampleKey() {
	type Cart struct{ Items map[string]int }

	rdb, stop := embedded()
	defer stop()
	sessions, err := session.New(rdb)
	if err != nil {
		panic(err)
	}
	cart := session.NewKey[Cart](sessions, "cart")
	mux := http.NewServeMux()
	mux.HandleFunc("/add", func(w http.ResponseWriter, r *http.Request) {
		err := cart.Update(r.Context(), func(c Cart) (Cart, error) {
			if c.Items == nil {
				c.Items = make(map[string]int)
			}
			c.Items[r.FormValue("item")]++
			return c, nil
		})
		if err != nil {
			http.Error(w, "try again", http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("/cart", func(w http.ResponseWriter, r *http.Request) {
		c, ok, err := cart.Get(r.Context())
		fmt.Fprintln(w, c.Items, ok, err)
	})
	visitor := &browser{site: middleware.Session(sessions)(mux)}
	visitor.get("/add?item=tea")
	visitor.get("/add?item=tea")
	visitor.get("/add?item=milk")
	fmt.Println(visitor.get("/cart"))
	// Output:
	// map[milk:1 tea:2] true <nil>
}

// A message is shown on the next page, and on no other.
func ExampleFlash() {
	rdb, stop := embedded()
	defer stop()
	sessions, err := session.New(rdb)
	if err != nil {
		panic(err)
	}
	notices := session.NewFlash[string](sessions, "notices")
	mux := http.NewServeMux()
	mux.HandleFunc("/order", func(w http.ResponseWriter, r *http.Request) {
		if err := notices.Add(r.Context(), "your order was placed"); err != nil {
			http.Error(w, "try again", http.StatusServiceUnavailable)
			return
		}
		http.Redirect(w, r, "/", http.StatusSeeOther)
	})
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, r *http.Request) {
		messages, err := notices.Take(r.Context())
		fmt.Fprintln(w, messages, err)
	})
	visitor := &browser{site: middleware.Session(sessions)(mux)}
	visitor.get("/order")
	fmt.Println(visitor.get("/"))
	fmt.Println(visitor.get("/"))
	// Output:
	// [your order was placed] <nil>
	// [] <nil>
}

// Cross-site requests are refused before a session is looked at.
func Example_crossSiteRequests() {
	rdb, stop := embedded()
	defer stop()
	sessions, err := session.New(rdb)
	if err != nil {
		panic(err)
	}
	transfer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "transferred for", sessions.User(r.Context()))
	})
	site := http.NewCrossOriginProtection().Handler(middleware.Session(sessions)(transfer))

	r := httptest.NewRequest("POST", "/transfer", nil)
	r.Header.Set("Sec-Fetch-Site", "cross-site") // as browsers say
	w := httptest.NewRecorder()
	site.ServeHTTP(w, r)
	fmt.Println(w.Code)
	// Output:
	// 403
}

// Keys are changed without logging anybody out: the new one is put behind the old one
// on all machines, then before it, and the old one is taken away a lifetime later.
func ExampleWithEncryption() {
	rdb, stop := embedded()
	defer stop()
	oldKey, newKey := []byte("0123456789abcdef0123456789abcdef"), []byte("fedcba9876543210fedcba9876543210") // openssl rand 32
	page := func(sessions *session.Manager) http.Handler {
		return middleware.Session(sessions)(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			sessions.Put(r.Context(), "visits", sessions.GetInt(r.Context(), "visits")+1)
			fmt.Fprintln(w, "visit", sessions.GetInt(r.Context(), "visits"))
		}))
	}
	visitor := new(browser)
	for _, keys := range [][][]byte{{oldKey}, {oldKey, newKey}, {newKey, oldKey}, {newKey}} {
		sessions, err := session.New(rdb, session.WithEncryption(keys...))
		if err != nil {
			panic(err)
		}
		visitor.site = page(sessions)
		fmt.Println(visitor.get("/"))
	}
	_, err := session.New(rdb, session.WithEncryption(oldKey[:16]))
	fmt.Println(err)
	// Output:
	// visit 1
	// visit 2
	// visit 3
	// visit 4
	// session.New: invalid configuration: WithEncryption: key 1 has 16 bytes: AES-256 needs 32: make one with openssl rand 32
}

// The store alone, under scs's own manager and middleware.
func ExampleNewStore() {
	rdb, stop := embedded()
	defer stop()
	store, err := session.NewStore(rdb)
	if err != nil {
		panic(err)
	}
	sessions := scs.New()
	sessions.Store = store

	site := sessions.LoadAndSave(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		visits := sessions.GetInt(r.Context(), "visits") + 1
		sessions.Put(r.Context(), "visits", visits)
		fmt.Fprintf(w, "visit %d", visits)
	}))
	ann := &browser{site: site}
	fmt.Println(ann.get("/"))
	fmt.Println(ann.get("/"))
	// Output:
	// visit 1
	// visit 2
}
