package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/testkit"
)

// childVariable makes this test binary the shop itself.
const childVariable = "WEIR_SHOP_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		os.Exit(run(os.Args[1:]))
	}
	testkit.Main(m)
}

const adminPassword = "for tests only"

// testConfig has room for what a test does, unless alter says otherwise.
func testConfig(t *testing.T, alter ...func(*config)) config {
	t.Helper()
	cfg := config{
		db: filepath.Join(t.TempDir(), "shop.db"), admin: adminPassword, visits: 1_000_000, logins: 1000, joins: 1000, orders: 1_000_000,
		lease: 10 * time.Second, instance: "test",
		wait: 2 * time.Second, // the machine may be busy; what silence costs has tests of its own
	}
	for _, f := range alter {
		f(&cfg)
	}
	return cfg
}

// open runs a shop in this process until the test ends.
func open(t *testing.T, rdb redis.UniversalClient, alter ...func(*config)) (*shop, *visitor) {
	t.Helper()
	s, err := newShop(testConfig(t, alter...), rdb)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s.handler())
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.work(ctx)
	}()
	t.Cleanup(func() {
		s.drain()
		server.Close()
		cancel()
		<-done
		if err := s.close(); err != nil {
			t.Error(err)
		}
	})
	return s, newVisitor(t, server.URL)
}

// process is a shop in a process of its own.
type process struct {
	url string
	cmd *exec.Cmd
	log testkit.Buffer
}

// start starts one on a free port, and waits until it listens. It ends with the test.
func start(t *testing.T, cfg config, redisURL string, args ...string) *process {
	t.Helper()
	p := &process{}
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd = exec.Command(binary, append([]string{
		"-listen", "localhost:0", "-redis", redisURL, "-db", cfg.db, "-admin-password", cfg.admin,
		"-visits", "1000000", "-logins", "1000", "-joins", "1000", "-orders", "1000000", "-payment", "5ms", "-lease", cfg.lease.String(), "-wait", cfg.wait.String(),
	}, args...)...)
	p.cmd.Env = append(os.Environ(), childVariable+"=1")
	p.cmd.Stderr = &p.log
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.stop(); err != nil {
			t.Errorf("SIGTERM: %v", err)
		}
		if t.Failed() {
			t.Logf("the log of %s:\n%s", p.url, p.log.String())
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the shop did not start: %v\n%s", err, p.log.String())
	}
	p.url = "http://" + strings.TrimSpace(strings.TrimPrefix(line, "listening on "))
	go func() { _, _ = io.Copy(io.Discard, out) }()
	return p
}

// stop ends the process in peace. It does nothing to one that was killed.
func (p *process) stop() error {
	if p.cmd.ProcessState != nil {
		return nil
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	return p.cmd.Wait()
}

// kill is kill -9.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait() // killed
}

// visitor is a client with a cookie. The jar of net/http keeps no Secure cookie for
// http, as browsers do for localhost.
type visitor struct {
	t      testing.TB
	url    string
	client *http.Client
	cookie string
}

type answer struct {
	status int
	header http.Header
	body   string
	took   time.Duration
	err    error // no answer
}

func newVisitor(t testing.TB, url string) *visitor {
	return &visitor{t: t, url: url, client: &http.Client{
		Transport:     &http.Transport{MaxIdleConnsPerHost: 16},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       20 * time.Second,
	}}
}

// at is the same visitor, asking another instance.
func (v *visitor) at(url string) *visitor {
	other := *v
	other.url = url
	return &other
}

// fields are pairs of names and values of the request's header.
func (v *visitor) do(method, path string, form url.Values, fields ...string) answer {
	request, err := http.NewRequest(method, v.url+path, strings.NewReader(form.Encode()))
	if err != nil {
		v.t.Fatal(err)
	}
	request.Header.Set("Accept", "application/json")
	if method == http.MethodPost {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if v.cookie != "" {
		request.Header.Set("Cookie", v.cookie)
	}
	for i := 0; i < len(fields); i += 2 {
		request.Header.Set(fields[i], fields[i+1])
	}
	begin := time.Now()
	response, err := v.client.Do(request)
	if err != nil {
		return answer{err: err, header: http.Header{}}
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	for _, c := range response.Cookies() {
		if c.Name == "__Host-session" {
			v.cookie = c.Name + "=" + c.Value
			if c.MaxAge < 0 {
				v.cookie = ""
			}
		}
	}
	return answer{status: response.StatusCode, header: response.Header, body: string(body), took: time.Since(begin), err: err}
}

func (v *visitor) get(path string, fields ...string) answer {
	return v.do(http.MethodGet, path, nil, fields...)
}

// post sends a form; pairs are its fields.
func (v *visitor) post(path string, pairs ...string) answer {
	form := make(url.Values)
	for i := 0; i < len(pairs); i += 2 {
		form.Set(pairs[i], pairs[i+1])
	}
	return v.do(http.MethodPost, path, form)
}

// want fails the test if an answer has another status.
func (a answer) want(t testing.TB, status int) answer {
	t.Helper()
	if a.status != status {
		t.Fatalf("status %d; want %d: %s %v", a.status, status, a.body, a.err)
	}
	return a
}

// as decodes an answer.
func as[T any](t testing.TB, a answer) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		t.Fatalf("%v: %q", err, a.body)
	}
	return v
}

const password = "correct horse"

// insist sends a form until it is answered by something else than 503: on a busy
// machine Redis may seem silent.
func (v *visitor) insist(path string, pairs ...string) (a answer) {
	v.t.Helper()
	testkit.Eventually(v.t, "an answer to "+path, func() bool {
		a = v.post(path, pairs...)
		return a.err == nil && a.status != http.StatusServiceUnavailable
	})
	return a
}

// join makes an account with some credit and logs in.
func (v *visitor) join(email string, credit string) {
	v.t.Helper()
	if a := v.insist("/register", "email", email, "name", "Ada", "password", password); a.status == http.StatusConflict {
		v.logIn(email, password) // Redis was silent when the account was made
	} else {
		a.want(v.t, http.StatusCreated)
	}
	if credit != "" {
		v.insist("/credit", "amount", credit, "key", "first").want(v.t, 200)
	}
}

func (v *visitor) logIn(email, password string) {
	v.t.Helper()
	v.insist("/login", "email", email, "password", password).want(v.t, 200)
}

type status struct{ User, Session string }

func (v *visitor) status() status {
	v.t.Helper()
	return as[status](v.t, v.get("/status").want(v.t, 200))
}

// count counts the rows of a table.
func count(t testing.TB, s *source, table string) (n int) {
	t.Helper()
	if err := s.db.QueryRowContext(t.Context(), `SELECT count(*) FROM `+table).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}
