package examples_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-weir/weir/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// build compiles the programs once for all tests.
var build = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "weir-examples-")
	if err != nil {
		return "", err
	}
	testkit.AtExit(func() { _ = os.RemoveAll(dir) })
	out, err := exec.Command("go", "build", "-o", dir, "./quickstart", "./nethttp", "./gateway").CombinedOutput()
	if err != nil {
		return dir, fmt.Errorf("%w\n%s", err, out)
	}
	return dir, nil
})

// binary is the path of a compiled program.
func binary(t *testing.T, name string) string {
	t.Helper()
	dir, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, name)
}

// program is a running example.
type program struct {
	url string
	cmd *exec.Cmd
	log *testkit.Buffer
}

// start runs an example on a free port and waits until it listens. It ends with
// the test.
func start(t *testing.T, name, redisURL string, args ...string) *program {
	t.Helper()
	p := &program{log: &testkit.Buffer{}}
	p.cmd = exec.Command(binary(t, name), append([]string{"-listen", "127.0.0.1:0"}, args...)...)
	p.cmd.Env = append(os.Environ(), "REDIS_URL="+redisURL)
	p.cmd.Stderr = p.log
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // nothing happens if it has ended
		_ = p.cmd.Wait()
		if t.Failed() {
			t.Logf("%s said:\n%s", name, p.log)
		}
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	addr, ok := strings.CutPrefix(strings.TrimSpace(line), "listening on ")
	if !ok {
		t.Fatalf("the first line on stdout is %q (%v); want \"listening on ADDR\"\n%s", line, err, p.log)
	}
	p.url = "http://" + addr
	return p
}

// visitor is a browser: it keeps cookies, Secure ones too, as browsers do for
// localhost.
type visitor struct {
	t *testing.T
	http.Client
}

func newVisitor(t *testing.T) *visitor {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &visitor{t, http.Client{Jar: trusting{jar}, Timeout: 20 * time.Second}}
}

// trusting takes every URL for an https one.
type trusting struct{ *cookiejar.Jar }

func (j trusting) SetCookies(u *url.URL, cookies []*http.Cookie) {
	j.Jar.SetCookies(secure(u), cookies)
}
func (j trusting) Cookies(u *url.URL) []*http.Cookie { return j.Jar.Cookies(secure(u)) }

func secure(u *url.URL) *url.URL {
	s := *u
	s.Scheme = "https"
	return &s
}

type answer struct {
	status int
	header http.Header
	body   string
	took   time.Duration
}

func (v *visitor) get(target string) answer {
	v.t.Helper()
	begun := time.Now()
	res, err := v.Get(target)
	if err != nil {
		v.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		v.t.Fatal(err)
	}
	return answer{res.StatusCode, res.Header, string(body), time.Since(begun)}
}

// stop ends a program as an init system does, and returns how it ended.
func (p *program) stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	return p.cmd.Wait()
}

// httpClient has connections of its own: each httptest.Server that closes takes
// those of http.DefaultTransport away, whoever uses them.
var httpClient = &http.Client{Transport: &http.Transport{}}
