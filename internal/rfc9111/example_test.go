package rfc9111_test

import (
	"fmt"
	"net/http"
	"time"

	"github.com/go-weir/weir/internal/rfc9111"
)

// A response is stored, and answers a request half a minute later.
func Example() {
	var policy rfc9111.Policy // the safe default
	get := rfc9111.NewRequest("GET", http.Header{})
	made := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

	header := http.Header{"Cache-Control": {"max-age=60"}}
	stored, verdict := policy.Storable(get, rfc9111.Response{
		Status: 200, Header: header, RequestTime: made, ResponseTime: made,
	})
	fmt.Println(verdict)
	kept := policy.StoredHeader(200, header, 5, made)

	d := policy.Reuse(get, stored, made.Add(30*time.Second))
	fmt.Println(d.Verdict)
	rfc9111.SetAge(kept, d.Age)
	rfc9111.Status{Cache: "weir", Hit: true, TTL: d.TTL, HasTTL: true}.AddTo(kept)
	fmt.Println("Age:", kept.Get("Age"))
	fmt.Println("Cache-Status:", kept.Get("Cache-Status"))

	d = policy.Reuse(get, stored, made.Add(time.Minute))
	fmt.Println(d.Verdict, d.Verdict.Forward())
	// Output:
	// store
	// fresh
	// Age: 30
	// Cache-Status: weir;hit;ttl=30
	// stale stale
}
