package respw_test

import (
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
)

// steps is what a handler can do, each chosen by one byte of a program and
// steered by the next.
var steps = []struct {
	name string
	do   func(w http.ResponseWriter, arg byte) (int64, error)
}{
	{"WriteHeader", func(w http.ResponseWriter, arg byte) (int64, error) {
		codes := []int{100, 102, 103, 200, 201, 204, 206, 302, 304, 404, 500, 999}
		w.WriteHeader(codes[int(arg)%len(codes)])
		return 0, nil
	}},
	{"invalid WriteHeader", func(w http.ResponseWriter, arg byte) (n int64, err error) {
		defer func() {
			if v := recover(); v != nil {
				err = fmt.Errorf("panic: %v", v)
			}
		}()
		w.WriteHeader(int(arg) % 100)
		return 0, nil
	}},
	{"Write", func(w http.ResponseWriter, arg byte) (int64, error) {
		n, err := w.Write([]byte(text(arg)))
		return int64(n), err
	}},
	{"WriteString", func(w http.ResponseWriter, arg byte) (int64, error) {
		n, err := io.WriteString(w, text(arg))
		return int64(n), err
	}},
	{"Copy", func(w http.ResponseWriter, arg byte) (int64, error) { return io.Copy(w, plainReader(text(arg))) }},
	{"Copy in pieces", func(w http.ResponseWriter, arg byte) (int64, error) {
		return io.Copy(w, struct{ io.Reader }{io.MultiReader(plainReader("<p>"), plainReader(""), plainReader(text(arg)))})
	}},
	{"Copy that fails", func(w http.ResponseWriter, arg byte) (int64, error) {
		return io.Copy(w, io.MultiReader(plainReader(text(arg)), failing{}))
	}},
	{"Flush", func(w http.ResponseWriter, arg byte) (int64, error) { w.(http.Flusher).Flush(); return 0, nil }},
	{"ResponseController.Flush", func(w http.ResponseWriter, arg byte) (int64, error) {
		return 0, http.NewResponseController(w).Flush()
	}},
	{"set field", func(w http.ResponseWriter, arg byte) (int64, error) {
		fields := []string{"X-A", "X-B", "Content-Type", "Link", "Trailer", "Sum", http.TrailerPrefix + "Sum2", "Etag"}
		values := []string{"Sum", "a", "text/css", ""}
		w.Header().Set(fields[int(arg)%len(fields)], values[int(arg/8)%len(values)])
		return 0, nil
	}},
	{"add field", func(w http.ResponseWriter, arg byte) (int64, error) {
		w.Header().Add("X-A", fmt.Sprint(arg))
		return 0, nil
	}},
	{"delete field", func(w http.ResponseWriter, arg byte) (int64, error) {
		w.Header().Del([]string{"X-A", "Trailer", "Content-Type"}[int(arg)%3])
		return 0, nil
	}},
	{"set Content-Length", func(w http.ResponseWriter, arg byte) (int64, error) {
		w.Header().Set("Content-Length", fmt.Sprint(len(text(arg))))
		return 0, nil
	}},
}

// text returns one of 256 bodies, of up to 35 KB, some of which sniff as HTML.
func text(arg byte) string {
	lengths := []int{0, 1, 5, 100, 511, 512, 513, 1024, 2047, 2048, 2049, 4096, 5000, 32 << 10, 35000, 3}
	n := lengths[arg%16]
	if arg >= 128 {
		return (html + bigBody)[:n]
	}
	return bigBody[:n]
}

// bench is a server of one protocol whose handler runs the program in its query
// bare, behind one hook or behind three.
type bench struct {
	srv   *httptest.Server
	proto string
	logs  chan string // what the handler was told by each step
}

func newBench(t testing.TB, proto string) *bench {
	b := &bench{proto: proto, logs: make(chan string, 16)}
	b.srv, _ = serve(t, proto, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		program, _ := hex.DecodeString(r.URL.RawQuery)
		var log strings.Builder
		depth := map[string]int{"/bare": 0, "/wrapped": 1, "/nested": 3}[r.URL.Path]
		within(depth, false, func(w http.ResponseWriter) {
			for i := 0; i+1 < len(program); i += 2 {
				step := steps[int(program[i])%len(steps)]
				n, err := step.do(w, program[i+1])
				fmt.Fprintf(&log, "%s(%d): %d, %v\n", step.name, program[i+1], n, err)
			}
		})(w)
		b.logs <- log.String()
	}))
	return b
}

// features reports whether the program copies, and whether it sets a
// Content-Length.
func features(program []byte) (copies, length bool) {
	for i := 0; i+1 < len(program); i += 2 {
		name := steps[int(program[i])%len(steps)].name
		copies = copies || strings.HasPrefix(name, "Copy")
		length = length || name == "set Content-Length"
	}
	return copies, length
}

// compare runs the program bare and wrapped: the client must get the same
// response and the handler the same results.
func (b *bench) compare(t *testing.T, method string, program []byte) {
	t.Helper()
	// A copy by ReadFrom may be framed differently (see the package
	// documentation, "Difference from net/http"). How much of a body that is
	// longer than its Content-Length gets through depends on that.
	copies, length := features(program)
	reframed := copies && b.proto == http1
	if reframed && length {
		return
	}
	query := "?" + hex.EncodeToString(program)
	want, wantErr := ask(t, b.srv, method, "/bare"+query, "")
	wantLog := <-b.logs
	for _, path := range []string{"/wrapped", "/nested"} {
		got, err := ask(t, b.srv, method, path+query, "")
		log := <-b.logs
		if reframed {
			for _, a := range []*answer{&got, &want} {
				a.Length, a.Chunked = 0, false
				a.Header.Del("Content-Length")
			}
		}
		if b.proto == http2 && (method == http.MethodHead || want.BodyErr) {
			// The client has closed the stream. When the handler comes to
			// know that is a matter of time.
			log = wantLog
		}
		if !reflect.DeepEqual(got, want) || (err == nil) != (wantErr == nil) || log != wantLog {
			t.Errorf("%s %s %s: got\n%s %v\n%swant\n%s %v\n%s", b.srv.URL, method, path, short(got), err, log, short(want), wantErr, wantLog)
		}
	}
}

func short(a answer) string {
	a.Body = fmt.Sprintf("%.40q… (%d)", a.Body, len(a.Body))
	return fmt.Sprintf("%+v", a)
}

func TestResponse_sameAsBare(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, proto string) {
		b := newBench(t, proto)
		runs := 600
		if testing.Short() {
			runs = 150
		}
		random := rand.New(rand.NewPCG(1, 2))
		for i := range runs {
			program := make([]byte, 2*(1+random.IntN(7)))
			for i := range program {
				program[i] = byte(random.UintN(256))
			}
			b.compare(t, []string{"GET", "GET", "HEAD"}[i%3], program)
			if t.Failed() {
				t.Fatalf("run %d, program %x", i, program)
			}
		}
	})
}

func FuzzResponse_sameAsBare(f *testing.F) {
	for i := range steps {
		f.Add([]byte{byte(i), 1, 2, 3, byte(i), 130})
	}
	benches := []*bench{newBench(f, http1), newBench(f, http2)}
	f.Fuzz(func(t *testing.T, program []byte) {
		if len(program) > 32 {
			return
		}
		for _, b := range benches {
			b.compare(t, "GET", program)
			b.compare(t, "HEAD", program)
		}
	})
}
