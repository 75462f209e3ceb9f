package respw_test

import (
	"crypto/tls"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"strconv"
	"strings"
	"testing"

	"github.com/go-weir/weir/internal/respw"
	"github.com/go-weir/weir/internal/testkit"
)

// A probe is a hook that takes notes.
type probe struct {
	resp respw.Response
	w    http.ResponseWriter

	refuse bool // answer 503 in the handler's place
	watch  bool
	limit  int // bytes after which the watcher has seen enough; 0 is no limit

	asked []int // the statuses BeforeHeader was called with
	body  []byte
}

func (p *probe) BeforeHeader(status int) bool {
	p.asked = append(p.asked, status)
	p.w.Header().Set("Hook", strconv.Itoa(status))
	if p.refuse {
		p.w.Header().Del("Trailer")
		http.Error(p.w, "refused", http.StatusServiceUnavailable)
		return false
	}
	if p.watch {
		p.resp.Watch(p)
	}
	return true
}

func (p *probe) Body(b []byte) bool {
	if len(b) == 0 {
		panic("watched nothing")
	}
	p.body = append(p.body, b...)
	return p.limit == 0 || len(p.body) < p.limit
}

// probed wraps h with a probe like kind for each request, and sends the probe
// when h is done.
func probed(kind probe, h http.HandlerFunc) (http.Handler, <-chan *probe) {
	done := make(chan *probe, 64)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p := &probe{w: w, refuse: kind.refuse, watch: kind.watch, limit: kind.limit}
		defer func() { done <- p }()
		h(p.resp.Wrap(w, p), r)
		p.resp.Finish()
	}), done
}

const (
	http1 = "HTTP/1.1"
	http2 = "HTTP/2.0"
)

// onEach runs f as a subtest for each protocol.
func onEach(t *testing.T, f func(t *testing.T, proto string)) {
	for _, proto := range []string{http1, http2} {
		t.Run(proto, func(t *testing.T) {
			t.Parallel()
			f(t, proto)
		})
	}
}

// serve starts a server on a TCP port. The buffer holds what it logs.
func serve(t testing.TB, proto string, h http.Handler) (*httptest.Server, *testkit.Buffer) {
	t.Helper()
	logged := new(testkit.Buffer)
	srv := httptest.NewUnstartedServer(h)
	srv.Config.ErrorLog = log.New(logged, "", 0)
	srv.Config.Protocols = new(http.Protocols)
	if proto == http2 {
		srv.Config.Protocols.SetHTTP2(true)
		srv.EnableHTTP2 = true
		srv.TLS = &tls.Config{NextProtos: []string{"h2"}}
		srv.StartTLS()
	} else {
		srv.Config.Protocols.SetHTTP1(true)
		srv.Start()
	}
	t.Cleanup(srv.Close)
	srv.Client().CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return srv, logged
}

// An answer is what a client sees of a response.
type answer struct {
	Status        int
	Header        http.Header
	Body          string
	BodyErr       bool
	Trailer       http.Header
	Length        int64
	Chunked       bool
	Informational []string // status and fields of 1xx headers
}

// ask sends a request and reads the whole answer.
func ask(t testing.TB, srv *httptest.Server, method, path, body string, header ...string) (answer, error) {
	t.Helper()
	var got answer
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			got.Informational = append(got.Informational, strconv.Itoa(code)+" "+h.Get("Link"))
			return nil
		},
	})
	var sent io.Reader
	if body != "" {
		sent = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, srv.URL+path, sent)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := srv.Client().Do(req)
	if err != nil {
		return got, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	res.Header.Del("Date")
	got.Status, got.Header, got.Trailer = res.StatusCode, res.Header, res.Trailer
	got.Body, got.BodyErr = string(b), err != nil
	got.Length, got.Chunked = res.ContentLength, len(res.TransferEncoding) > 0
	return got, nil
}
