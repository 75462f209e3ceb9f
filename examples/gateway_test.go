package examples_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-weir/weir/internal/testkit"
)

// origin is a server behind the gateway that counts what reaches it.
type origin struct {
	*httptest.Server
	calls atomic.Int64
}

func newOrigin(t *testing.T, handler http.HandlerFunc) *origin {
	o := &origin{}
	o.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o.calls.Add(1)
		handler(w, r)
	}))
	t.Cleanup(o.Close)
	return o
}

func TestGateway_cachesAndForwards(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		fmt.Fprintf(w, "%s %s xff=%s", r.Method, r.URL, r.Header.Get("X-Forwarded-For"))
	})
	p := start(t, "gateway", "", "-origin", o.URL)
	v := newVisitor(t)
	first := v.get(p.url + "/a%2Fb?q=1")
	if first.body != "GET /a%2Fb?q=1 xff=127.0.0.1" {
		t.Errorf("the origin saw %q", first.body)
	}
	if again := v.get(p.url + "/a%2Fb?q=1"); again.body != first.body || o.calls.Load() != 1 {
		t.Errorf("again: %q after %d calls; want a hit", again.body, o.calls.Load())
	}
	if other := v.get(p.url + "/a/b?q=1"); o.calls.Load() != 2 {
		t.Errorf("/a/b was taken for /a%%2Fb: %q", other.body)
	}
}

// Gateways of two origins on one Redis do not serve each other's answers.
func TestGateway_validatesAndRefreshes(t *testing.T) {
	t.Parallel()
	var conditional atomic.Int64
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", strings.TrimPrefix(r.URL.Path, "/"))
		w.Header().Set("ETag", `"a"`)
		if r.Header.Get("If-None-Match") == `"a"` {
			conditional.Add(1)
			w.WriteHeader(http.StatusNotModified)
			return
		}
		w.Header().Set("Content-Encoding", "gzip") // it passes as it is
		fmt.Fprint(w, "0123456789")
	})
	p := start(t, "gateway", "", "-origin", o.URL, "-wait", "5s")
	v := newVisitor(t)
	v.Transport = &http.Transport{DisableCompression: true}
	v.get(p.url + "/no-cache")
	if a := v.get(p.url + "/no-cache"); a.body != "0123456789" || a.header.Get("Content-Encoding") != "gzip" || conditional.Load() != 1 || !strings.Contains(a.header.Get("Cache-Status"), "fwd-status=304") {
		t.Errorf("validated: %q, %v, %d conditional requests", a.body, a.header, conditional.Load())
	}
	const swr = "/max-age=0,stale-while-revalidate=60"
	v.get(p.url + swr)
	if a := v.get(p.url + swr); a.body != "0123456789" || !strings.Contains(a.header.Get("Cache-Status"), "stale-while-revalidate") {
		t.Errorf("stale: %q, %v", a.body, a.header)
	}
	testkit.Eventually(t, "the refresh", func() bool { return conditional.Load() == 2 })
}

// 102 and 103 reach the client as they come, and are no part of what is stored.
func TestGateway_interim(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusProcessing)
		w.Header().Set("Link", "</a.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Link")
		w.Header().Set("Cache-Control", "max-age=60")
		fmt.Fprint(w, "body")
	})
	p := start(t, "gateway", "", "-origin", o.URL, "-wait", "5s")
	for i, want := range []string{"102 103 ", ""} {
		got := ""
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			got += fmt.Sprint(code, " ")
			if code == 103 && h.Get("Link") == "" {
				t.Error("103 without its Link")
			}
			return nil
		}})
		req, err := http.NewRequestWithContext(ctx, "GET", p.url, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := httpClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if got != want || string(body) != "body" || res.Header.Get("Link") != "" {
			t.Errorf("request %d: interim %q, then %q, %v; want %q", i+1, got, body, res.Header, want)
		}
	}
}

func TestGateway_twoOrigins(t *testing.T) {
	b := testkit.Shared(t, "server")
	for i := range 2 {
		want := fmt.Sprint("origin ", i)
		o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "max-age=60")
			fmt.Fprint(w, want)
		})
		p := start(t, "gateway", "redis://"+b.Addrs()[0], "-origin", o.URL)
		req, err := http.NewRequest("GET", p.url+"/"+b.Addrs()[0], nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = "shop.example"
		for range 2 {
			res, err := httpClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(res.Body)
			res.Body.Close()
			if string(body) != want {
				t.Errorf("%q; want %q", body, want)
			}
		}
	}
}

func TestGateway_profiles(t *testing.T) {
	t.Parallel()
	for profile, want := range map[string]int64{"off": 2, "safe": 2, "rfc": 1} {
		o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Cache-Control", "max-age=60") })
		p := start(t, "gateway", "", "-origin", o.URL, "-cache", profile)
		for range 2 {
			req, err := http.NewRequest("GET", p.url, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Cookie", "theme=dark")
			res, err := httpClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
		}
		if got := o.calls.Load(); got != want {
			t.Errorf("-cache %s: %d calls for two requests with a cookie; want %d", profile, got, want)
		}
	}
}

// Four gateways on one Redis, three times the limit: no window of the limit's
// length holds more than the limit. The oracle cannot over-report: an admission
// counts in a window only if it began and ended in it.
func TestGateway_fourProcessesKeepOneLimit(t *testing.T) {
	if testing.Short() {
		t.Skip("needs redis-server")
	}
	const limit, window = 100, 2 * time.Second
	redisURL := "redis://" + testkit.Server(t).Addrs()[0]
	o := newOrigin(t, func(http.ResponseWriter, *http.Request) {})
	type admission struct{ sent, received time.Time }
	var mu sync.Mutex
	var admitted []admission
	var wg sync.WaitGroup
	var programs []*program
	for range 4 {
		programs = append(programs, start(t, "gateway", redisURL, "-origin", o.URL, "-cache", "off", "-rate", "100/2s", "-key", "header:X-Key"))
	}
	end := time.Now().Add(3 * window)
	for _, p := range programs {
		for range 4 {
			wg.Go(func() {
				for time.Now().Before(end) {
					sent := time.Now()
					req, err := http.NewRequest("GET", p.url, nil)
					if err != nil {
						panic(err)
					}
					req.Header.Set("X-Key", "k")
					res, err := httpClient.Do(req)
					if err != nil {
						t.Error(err)
						return
					}
					_, _ = io.Copy(io.Discard, res.Body)
					res.Body.Close()
					if res.StatusCode == 200 {
						mu.Lock()
						admitted = append(admitted, admission{sent, time.Now()})
						mu.Unlock()
					} else {
						time.Sleep(10 * time.Millisecond)
					}
				}
			})
		}
	}
	wg.Wait()
	if len(admitted) < 2*limit {
		t.Fatalf("only %d were admitted", len(admitted))
	}
	for _, first := range admitted {
		inside := 0
		for _, a := range admitted {
			if !a.sent.Before(first.sent) && !a.received.After(first.sent.Add(window)) {
				inside++
			}
		}
		if inside > limit {
			t.Fatalf("%d admitted in a window of %v; want at most %d", inside, window, limit)
		}
	}
	t.Logf("%d admitted", len(admitted))
}

func TestGateway_trustsOnlyWhomItIsTold(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, strings.Join(r.Header["X-Forwarded-For"], "|"))
	})
	get := func(p *program, forged string) answer {
		req, err := http.NewRequest("GET", p.url, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Forwarded-For", forged)
		res, err := httpClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer{status: res.StatusCode, header: res.Header, body: string(body)}
	}
	for _, tt := range []struct {
		trust   []string
		want    string // X-Forwarded-For at the origin
		allowed int    // of 3 requests with forged addresses, at 1/1m
	}{
		{nil, "127.0.0.1", 1},
		{[]string{"-trust", "10.0.0.0/8, 127.0.0.1/32"}, "203.0.113.0, 127.0.0.1", 3},
	} {
		args := append([]string{"-origin", o.URL, "-cache", "off", "-rate", "1/1m", "-rate", "5/1h"}, tt.trust...)
		p := start(t, "gateway", "", args...)
		allowed := 0
		for i := range 3 {
			a := get(p, fmt.Sprintf("203.0.113.%d", i))
			if a.status == 200 {
				if allowed++; allowed == 1 && a.body != tt.want {
					t.Errorf("trust %v: the origin saw %q; want %q", tt.trust, a.body, tt.want)
				}
			}
		}
		if allowed != tt.allowed {
			t.Errorf("trust %v: %d forged addresses were admitted; want %d", tt.trust, allowed, tt.allowed)
		}
	}
}

func TestGateway_drains(t *testing.T) {
	t.Parallel()
	begun, release := make(chan struct{}), make(chan struct{})
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		close(begun)
		<-release
		fmt.Fprint(w, "done")
	})
	p := start(t, "gateway", "", "-origin", o.URL)
	answered := make(chan answer)
	go func() { answered <- newVisitor(t).get(p.url) }()
	<-begun
	stopped := make(chan error)
	go func() { stopped <- p.stop() }()
	testkit.Eventually(t, "the port to close", func() bool {
		conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	close(release)
	if a := <-answered; a.body != "done" {
		t.Errorf("the request under way: %d %q", a.status, a.body)
	}
	if err := <-stopped; err != nil {
		t.Errorf("SIGTERM: %v", err)
	}
}

func TestGateway_originGone(t *testing.T) {
	t.Parallel()
	p := start(t, "gateway", "", "-origin", "http://"+testkit.RefusedAddr(t))
	a := newVisitor(t).get(p.url)
	if a.status != http.StatusBadGateway || a.header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("%d %s", a.status, a.header.Get("Content-Type"))
	}
	if strings.Contains(a.body, "refused") || strings.Contains(a.body, "127.0.0.1") {
		t.Errorf("the body tells of the inside: %s", a.body)
	}
}

// Mistakes come all at once, each with its remedy, and the exit is not zero.
func TestPrograms_mistakes(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, program, redis string
		args, want           []string
	}{
		{"many at once", "gateway", "zzz",
			[]string{"-nope", "-rate", "0/2s", "-rate", "-1/1s", "-rate", "x", "-rate", "1/0s", "-rate", "1/1s/0", "-silent", "no", "-instances", "0", "-origin", "foo", "-key", "zz", "-trust", "1.2.3.4", "-cache", "y", "stray"},
			[]string{"-nope", `-rate "0/2s": N must be at least 1`, `-rate "-1/1s"`, `-rate "x": write N/WINDOW`, `-rate "1/0s": WINDOW`, `-rate "1/1s/0": BURST must be at least 1`, `-silent "no": write local`, `-instances "0": write a number`, `-origin "foo": no scheme`, `-key "zz": write ip`, `-trust "1.2.3.4"`, `-cache "y": write off`, `"stray"`, "neither redis nor rediss", "-h for help"}},
		{"origin with a password", "gateway", "", []string{"-origin", "http://u:hunter2@h:port"}, []string{"-origin: not a URL"}},
		{"origin with a query", "gateway", "", []string{"-origin", "http://u:hunter2@h?x=1"}, []string{"has a query"}},
		{"value of an unknown flag", "gateway", "", []string{"-nope", "3", "-origin", "http://h", "-cache", "y"}, []string{"-nope", `-cache "y"`}},
		{"no origin", "gateway", "", nil, []string{"-origin is missing: write one such as"}},
		{"one window twice", "gateway", "", []string{"-origin", "http://x", "-rate", "1/1s", "-rate", "2/1s"}, []string{"1 per 1s", "2 per 1s", "keep the lower"}},
		{"redis scheme", "gateway", "http://user:hunter2@h", []string{"-origin", "http://x"}, []string{`scheme "http"`, "redis+cluster://"}},
		{"redis garbage", "quickstart", "redis://:hunter2@[::1", nil, []string{"REDIS_URL", "redis+sentinel://"}},
		{"redis port", "quickstart", "redis://h:99999", nil, []string{"port"}},
		{"redis password with #", "quickstart", "redis://u:12#hunter2@h", nil, []string{"%23"}},
		{"sentinel without a name", "quickstart", "redis+sentinel://h:1", nil, []string{"master_name"}},
		{"unknown flag", "quickstart", "", []string{"-nope"}, []string{"-nope"}},
		{"port in no range", "nethttp", "", []string{"-listen", "127.0.0.1:99999"}, []string{"cannot listen", "99999"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(binary(t, tt.program), tt.args...)
			cmd.Env = append(os.Environ(), "REDIS_URL="+tt.redis)
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() == 0 {
				t.Errorf("exit: %v; want a code other than 0", err)
			}
			for _, want := range tt.want {
				if !strings.Contains(string(out), want) {
					t.Errorf("want %q in:\n%s", want, out)
				}
			}
			if strings.Contains(string(out), "hunter2") {
				t.Errorf("the password is in the output:\n%s", out)
			}
		})
	}
}

func TestGateway_help(t *testing.T) {
	t.Parallel()
	out, err := exec.Command(binary(t, "gateway"), "-h").CombinedOutput()
	if err != nil {
		t.Errorf("-h: %v", err)
	}
	for _, flag := range []string{"-listen ADDR", "-origin URL", "-redis URL", "-rate N/WINDOW", "-key ip|header:NAME", "-cache off|rfc|safe", "-trust CIDR[,CIDR]"} {
		if !strings.Contains(string(out), flag) {
			t.Errorf("-h does not explain %s", flag)
		}
	}
}
