package respw_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"

	"github.com/go-weir/weir/internal/respw"
)

// A keeper keeps a copy of a response of status 200, if it is short, while the
// response streams to the client.
type keeper struct {
	resp respw.Response
	w    http.ResponseWriter
	copy []byte
}

func (k *keeper) BeforeHeader(status int) bool {
	k.w.Header().Set("Cache-Status", "example; fwd=miss")
	if status == http.StatusOK {
		k.resp.Watch(k)
	}
	return true
}

func (k *keeper) Body(p []byte) bool {
	if len(k.copy)+len(p) > 1<<10 {
		k.copy = nil
		return false
	}
	k.copy = append(k.copy, p...)
	return true
}

func Example() {
	page := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "Hello, ")
		io.WriteString(w, "client.")
	})
	keep := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		k := &keeper{w: w}
		page.ServeHTTP(k.resp.Wrap(w, k), r)
		k.resp.Finish()
		if k.resp.Err() == nil && k.resp.Written() == int64(len(k.copy)) {
			fmt.Printf("kept %d %q\n", k.resp.Status(), k.copy)
		}
	})

	rec := httptest.NewRecorder()
	keep.ServeHTTP(rec, httptest.NewRequest("GET", "/", nil))
	fmt.Println(rec.Header().Get("Cache-Status"))
	fmt.Println(rec.Body)
	// Output:
	// kept 200 "Hello, client."
	// example; fwd=miss
	// Hello, client.
}
