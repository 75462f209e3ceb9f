package examples_test

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-weir/weir/internal/testkit"
)

// redisURLs are the ways to give a program its Redis.
func redisURLs(t *testing.T) map[string]string {
	urls := map[string]string{"embedded": ""}
	if testing.Short() {
		return urls
	}
	urls["server"] = "redis://" + testkit.Shared(t, "server").Addrs()[0]
	urls["cluster"] = "redis+cluster://" + testkit.Shared(t, "cluster").Addrs()[0]
	nodes := testkit.Shared(t, "cluster3").Addrs()
	urls["cluster of three"] = "redis://" + nodes[0] + "?addr=" + strings.Join(nodes[1:], "&addr=")
	urls["sentinel"] = "redis+sentinel://" + testkit.Shared(t, "sentinel").Addrs()[0] + "?master_name=weir"
	return urls
}

func TestQuickstart(t *testing.T) {
	urls := redisURLs(t)
	for name, redisURL := range urls {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := start(t, "quickstart", redisURL)
			v := newVisitor(t)
			for visit := 1; visit <= 3; visit++ {
				a := v.get(p.url + "/")
				if a.status != 200 || a.body != fmt.Sprintf("visit %d\n", visit) {
					t.Errorf("visit %d: %d %q", visit, a.status, a.body)
				}
				if got, want := a.header.Get("X-RateLimit-Remaining"), strconv.Itoa(10-visit); got != want {
					t.Errorf("visit %d: X-RateLimit-Remaining %s; want %s", visit, got, want)
				}
				c := a.header.Get("Set-Cookie")
				if visit > 1 && c != "" {
					t.Errorf("visit %d: Set-Cookie %q; want none, as the token is the same", visit, c)
				}
				if visit == 1 && (!strings.HasPrefix(c, "__Host-session=") ||
					!strings.HasSuffix(c, "; Path=/; HttpOnly; Secure; SameSite=Lax")) {
					t.Errorf("visit %d: Set-Cookie %q", visit, c)
				}
			}
			// The product's URL is this run's own, as the Redis is shared.
			product := fmt.Sprintf("%s/products/%d", p.url, time.Now().UnixNano())
			first, second := v.get(product), v.get(product)
			if got := first.header.Get("Cache-Status"); !strings.Contains(got, "fwd=uri-miss") || !strings.Contains(got, "stored") {
				t.Errorf("first product: Cache-Status %q; want fwd=uri-miss and stored", got)
			}
			if got := second.header.Get("Cache-Status"); !strings.HasPrefix(got, "weir;hit") || second.body != first.body {
				t.Errorf("second product: Cache-Status %q, %q; want a hit of %q", got, second.body, first.body)
			}
			if second.header.Get("Age") == "" {
				t.Error("a hit without Age")
			}

			// Past the limit: 429, and Retry-After tells the truth.
			var refused answer
			for range 10 {
				if refused = v.get(p.url + "/"); refused.status == http.StatusTooManyRequests {
					break
				}
			}
			wait, err := strconv.Atoi(refused.header.Get("Retry-After"))
			if refused.status != http.StatusTooManyRequests || err != nil || wait < 1 || wait > 10 {
				t.Fatalf("past the limit: %d, Retry-After %q", refused.status, refused.header.Get("Retry-After"))
			}
			if got := refused.header.Get("Content-Type"); got != "application/problem+json" {
				t.Errorf("429 is %s", got)
			}
			time.Sleep(time.Duration(wait) * time.Second)
			if a := v.get(p.url + "/"); a.status != 200 {
				t.Errorf("after Retry-After: %d; want 200", a.status)
			}

			// It drains and ends when told to.
			if err := p.stop(); err != nil {
				t.Errorf("SIGTERM: %v", err)
			}
			for _, secret := range []string{"password", "panic"} {
				if strings.Contains(p.log.String(), secret) {
					t.Errorf("the log has %q", secret)
				}
			}
		})
	}
}

// Redis is taken away under load, in two ways, and comes back: no request waits
// long, and all recovers without a restart. The times asserted are far above the
// budget of 50 ms, for loaded machines; without deadlines they would be seconds.
func TestQuickstart_redisTakenAway(t *testing.T) {
	if testing.Short() {
		t.Skip("needs redis-server")
	}
	t.Run("server", func(t *testing.T) {
		b := testkit.Server(t)
		testTakenAway(t, b, "redis://"+b.Addrs()[0])
	})
	t.Run("cluster of three", func(t *testing.T) {
		b := testkit.Cluster3(t)
		testTakenAway(t, b, "redis+cluster://"+b.Addrs()[0])
	})
}

func testTakenAway(t *testing.T, b *testkit.Backend, redisURL string) {
	p := start(t, "quickstart", redisURL)
	product := p.url + "/products/7"
	healthy := func() bool {
		v := newVisitor(t)
		home, cached := v.get(p.url+"/"), v.get(product)
		limited := home.status == http.StatusTooManyRequests
		return (limited || home.status == 200) && cached.status != 503 && !strings.Contains(cached.header.Get("Cache-Status"), "unavailable")
	}
	testkit.Eventually(t, "the first good answers", healthy)

	for name, outage := range map[string]struct{ begin, end func() }{
		"SIGSTOP": {b.Pause, b.Resume},
		"kill -9": {b.Kill, func() { b.Restart(t) }},
	} {
		t.Run(name, func(t *testing.T) {
			var wg sync.WaitGroup
			stop := make(chan struct{})
			slowest := make([]time.Duration, 8)
			statuses := make([]map[int]int, len(slowest))
			for i := range slowest {
				statuses[i] = make(map[int]int)
				wg.Go(func() {
					v := newVisitor(t)
					for path := 0; ; path++ {
						select {
						case <-stop:
							return
						default:
						}
						a := v.get([]string{p.url + "/", product}[path%2])
						slowest[i] = max(slowest[i], a.took)
						statuses[i][a.status]++
					}
				})
			}
			time.Sleep(300 * time.Millisecond) // of load with Redis,
			outage.begin()
			time.Sleep(1500 * time.Millisecond) // without,
			outage.end()
			time.Sleep(500 * time.Millisecond) // and with it again
			close(stop)
			wg.Wait()
			for i := range slowest {
				if slowest[i] > time.Second {
					t.Errorf("visitor %d waited %v", i, slowest[i])
				}
				for status := range statuses[i] {
					if status != 200 && status != 429 && status != 503 {
						t.Errorf("visitor %d got %d", i, status)
					}
				}
			}
			t.Logf("slowest of each visitor: %v; statuses %v", slowest, statuses)
			testkit.Eventually(t, "recovery", healthy)
		})
	}
	testkit.Eventually(t, "the log's events", func() bool {
		log := p.log.String()
		return strings.Contains(log, "redis: connected") && strings.Contains(log, "redis: lost") && strings.Contains(log, "redis: reconnected")
	})
}

func TestNethttp(t *testing.T) {
	p := start(t, "nethttp", "")
	v := newVisitor(t)
	if a := v.get(p.url + "/whoami"); a.status != 200 || a.body != "you are \n" {
		t.Errorf("anonymous: %d %q", a.status, a.body)
	}
	post := func(v *visitor, path string, want int) {
		t.Helper()
		res, err := v.PostForm(p.url+path, map[string][]string{"user": {"alice"}})
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("%s: %d; want %d", path, res.StatusCode, want)
		}
	}
	post(v, "/logout/everywhere", http.StatusUnauthorized)
	post(v, "/login", http.StatusNoContent)
	if a := v.get(p.url + "/whoami"); a.body != "you are alice\n" {
		t.Errorf("after login: %q", a.body)
	}
	var statuses []int
	for range 3 {
		statuses = append(statuses, v.get(p.url+"/report").status)
	}
	if fmt.Sprint(statuses) != "[200 200 429]" {
		t.Errorf("reports: %v; want [200 200 429]", statuses)
	}
	// Two devices, and an end of both.
	phone := newVisitor(t)
	post(phone, "/login", http.StatusNoContent)
	if a := phone.get(p.url + "/devices"); strings.Count(a.body, "\n") != 2 || strings.Count(a.body, "current: true") != 1 {
		t.Errorf("devices: %q; want two, one of them current", a.body)
	}
	post(v, "/logout/everywhere", http.StatusNoContent)
	for name, v := range map[string]*visitor{"laptop": v, "phone": phone} {
		if a := v.get(p.url + "/devices"); a.status != http.StatusUnauthorized {
			t.Errorf("%s, logged out everywhere: %d", name, a.status)
		}
	}
	post(v, "/login", http.StatusNoContent)
	post(v, "/logout", http.StatusNoContent)
	if a := v.get(p.url + "/whoami"); a.body != "you are \n" {
		t.Errorf("after logout: %q", a.body)
	}

	// Another site's form is refused.
	forged, err := http.NewRequest("POST", p.url+"/login", nil)
	if err != nil {
		t.Fatal(err)
	}
	forged.Header.Set("Sec-Fetch-Site", "cross-site")
	res, err := v.Do(forged)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusForbidden {
		t.Errorf("a cross-site login: %d; want 403", res.StatusCode)
	}
	if err := p.stop(); err != nil {
		t.Errorf("SIGTERM: %v", err)
	}
}
