package middleware_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/cache/idempotency"
	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/middleware"
)

// till is one process of a service that takes payments, each once for a key. Its ledger
// is a list in Redis for each key, which the tests reach by themselves.
type till struct {
	Spec, Prefix string
	Lease        time.Duration
	Crash        idempotency.Crash
	Wait         time.Duration
}

func init() { testkit.Role("till", runTill) }

func runTill(ctx context.Context, args []string) error {
	var c till
	if err := json.Unmarshal([]byte(args[0]), &c); err != nil {
		return err
	}
	client, err := testkit.Connect(c.Spec)
	if err != nil {
		return err
	}
	defer client.Close()
	h, err := c.handler(client)
	if err != nil {
		return err
	}
	return serveChild(ctx, h)
}

// The points at which a request stops its process, for the parent to kill it: that which
// X-Stop names.
const (
	beforeClaim   = "before the claim"
	afterClaim    = "after the claim"
	inHandler     = "in the handler"
	beforeFinish  = "after the handler, before the finish"
	beforeAnswer  = "after the finish, before the answer"
	afterAnswer   = "after the answer"
	untilReleased = "until released"
)

// reach stops here if this is the point.
func reach(point, stop string) {
	if point == stop {
		testkit.Emit(point)
		select {}
	}
}

// handler pays, and stops where it is told to.
func (c *till) handler(client redis.UniversalClient) (http.Handler, error) {
	store, err := idempotency.New(client, idempotency.WithPrefix(c.Prefix), idempotency.WithTimeout(10*time.Second),
		idempotency.WithLease(c.Lease), idempotency.WithCrash(c.Crash))
	if err != nil {
		return nil, err
	}
	var stop atomic.Value // where the latest request is to stop
	stop.Store("")
	user := func(r *http.Request) (string, error) {
		reach(beforeClaim, r.Header.Get("X-Stop"))
		return "alice", nil
	}
	pay := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reach(afterClaim, r.Header.Get("X-Stop"))
		ledger := c.Prefix + ":ledger:{" + r.Header.Get("Idempotency-Key") + "}"
		n, err := client.RPush(context.WithoutCancel(r.Context()), ledger, os.Getpid()).Result()
		if err != nil {
			http.Error(w, err.Error(), 500)
			return
		}
		client.Expire(context.WithoutCancel(r.Context()), ledger, time.Hour)
		reach(inHandler, r.Header.Get("X-Stop"))
		if r.Header.Get("X-Stop") == untilReleased {
			testkit.Emit(untilReleased)
			client.BLPop(context.WithoutCancel(r.Context()), time.Minute, c.Prefix+":released")
		}
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintf(w, "entry %d", n)
	})
	options := []middleware.IdempotencyOption{middleware.WithKeepOn(func(int) bool {
		reach(beforeFinish, stop.Load().(string))
		return true
	})}
	if c.Wait > 0 {
		options = append(options, middleware.WithWait(c.Wait))
	}
	h := middleware.Idempotency(store, user, options...)(pay)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		point := r.Header.Get("X-Stop")
		stop.Store(point)
		h.ServeHTTP(stopWriter{w, point}, r)
		if point == afterAnswer {
			_ = http.NewResponseController(w).Flush()
		}
		reach(afterAnswer, point)
	}), nil
}

// stopWriter stops before an answer leaves.
type stopWriter struct {
	http.ResponseWriter
	point string
}

func (w stopWriter) WriteHeader(status int) {
	reach(beforeAnswer, w.point)
	w.ResponseWriter.WriteHeader(status)
}

func (w stopWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// open starts n processes, and returns where they are.
func (c *till) open(t *testing.T, n int) (children *testkit.Processes, addrs []string) {
	t.Helper()
	return openChildren(t, n, "till", c)
}

// paid is an answer of a till.
type paid struct {
	status            int
	body, retry, kind string
	again             bool
}

// pay sends a payment.
func pay(client *http.Client, addr, key, stop string) (paid, error) {
	r, err := http.NewRequest("POST", addr+"/pay", strings.NewReader("20"))
	if err != nil {
		return paid{}, err
	}
	r.Header.Set("Idempotency-Key", key)
	if stop != "" {
		r.Header.Set("X-Stop", stop)
	}
	response, err := client.Do(r)
	if err != nil {
		return paid{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	h := response.Header
	return paid{response.StatusCode, string(body), h.Get("Retry-After"), h.Get("Content-Type"), h.Get("Idempotent-Replayed") == "true"}, err
}

// payOften sends the same payment n times at once, to all addresses in turn. It returns
// how many were given the first answer again.
func payOften(t *testing.T, client *http.Client, addrs []string, key string, n int, wait bool) (again int) {
	t.Helper()
	answers := make([]paid, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			var err error
			if answers[i], err = pay(client, addrs[i%len(addrs)], key, ""); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	first := 0
	for _, a := range answers {
		switch {
		case a.status == 201 && a.body == "entry 1" && !a.again:
			first++
		case a.status == 201 && a.body == "entry 1":
			again++
		case a.status == 409 && a.retry != "" && a.kind == "application/problem+json" && !wait:
		default:
			t.Errorf("%s: %+v", key, a)
		}
	}
	if first != 1 {
		t.Errorf("%s: %d first answers; want 1", key, first)
	}
	return again
}

// Bursts of 50 duplicates over three processes: each key has one entry in the ledger,
// and all others get its answer, or are told to come again. The long form has 10,000.
//
// Red if claim.lua does not look at r.id.
func TestIdempotency_bursts(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short leaves out what takes several processes")
	}
	t.Parallel()
	bursts := 100
	if os.Getenv("WEIR_SOAK") == "1" {
		bursts = 10_000
	}
	b := testkit.Shared(t, "server")
	redisClient := b.Client(t)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 50}}
	defer client.CloseIdleConnections()
	for _, wait := range []time.Duration{0, time.Minute} {
		c := till{Spec: b.Spec(), Prefix: b.Prefix(t) + fmt.Sprint(wait), Lease: 30 * time.Second, Wait: wait}
		children, addrs := c.open(t, 3)
		again := 0
		for n := range bursts / 2 {
			key := fmt.Sprint("burst-", n)
			again += payOften(t, client, addrs, key, 50, wait > 0)
			if entries := redisClient.LLen(t.Context(), c.Prefix+":ledger:{"+key+"}").Val(); entries != 1 {
				t.Errorf("%s has %d entries; want 1", key, entries)
			}
			if t.Failed() {
				break
			}
		}
		t.Logf("waiting for %v: %d bursts of 50, %d replayed, %d told to come again", wait, bursts/2, again, bursts/2*49-again)
		children.Stop()
	}
}

// kill -9 at each of six points, and then the same payment at another process: under
// Block the ledger has never two entries; under Retry it has two exactly where it says.
//
// Red if pass or conclude sends before it has told the claim, or if claim.lua claims
// anew whatever ARGV[5] is.
func TestIdempotency_killed(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short leaves out what takes several processes")
	}
	t.Parallel()
	b := testkit.Shared(t, "server")
	redisClient := b.Client(t)
	rounds := 1
	if os.Getenv("WEIR_SOAK") == "1" {
		rounds = 50
	}
	for _, tt := range []struct {
		point        string
		block, retry int // the second answer
		entries      [2]int64
		again        bool // it is that of the first
	}{
		{beforeClaim, 201, 201, [2]int64{1, 1}, false},
		{afterClaim, 409, 201, [2]int64{0, 1}, false},
		{inHandler, 409, 201, [2]int64{1, 2}, false},
		{beforeFinish, 409, 201, [2]int64{1, 2}, false},
		{beforeAnswer, 201, 201, [2]int64{1, 1}, true},
		{afterAnswer, 201, 201, [2]int64{1, 1}, true},
	} {
		t.Run(tt.point, func(t *testing.T) {
			t.Parallel()
			for round := range rounds {
				for policy, want := range []int{tt.block, tt.retry} {
					c := till{Spec: b.Spec(), Prefix: b.Prefix(t) + fmt.Sprintf("-%d-%d", round, policy), Lease: 300 * time.Millisecond, Crash: idempotency.Crash(policy)}
					children, addrs := c.open(t, 2)
					client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
					first := make(chan paid, 1)
					go func() {
						a, _ := pay(client, addrs[0], "k", tt.point)
						first <- a
					}()
					children.Next()
					children.Kill(0)
					if a := <-first; (a.status == 201) != (tt.point == afterAnswer) {
						t.Errorf("the first answer: %+v", a)
					}
					var second paid
					testkit.Eventually(t, "a second answer that is not busy", func() bool {
						var err error
						if second, err = pay(client, addrs[1], "k", ""); err != nil {
							t.Error(err)
						}
						return second.status != 409 || second.retry == ""
					})
					entries := redisClient.LLen(t.Context(), c.Prefix+":ledger:{k}").Val()
					if second.status != want || entries != tt.entries[policy] || second.again != tt.again {
						t.Errorf("policy %d: %+v, %d entries; want %d, %d entries, again %t", policy, second, entries, want, tt.entries[policy], tt.again)
					}
					children.Stop()
				}
			}
		})
	}
}

// A process that stood still for longer than its lease, while another did the work: its
// answer goes to its client, and is not kept.
//
// Red if finish.lua keeps the outcome whatever it finds.
func TestIdempotency_paused(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short leaves out what takes several processes")
	}
	t.Parallel()
	b := testkit.Shared(t, "server")
	redisClient := b.Client(t)
	c := till{Spec: b.Spec(), Prefix: b.Prefix(t), Lease: 300 * time.Millisecond, Crash: idempotency.Retry}
	children, addrs := c.open(t, 1)
	here, err := c.handler(redisClient)
	if err != nil {
		t.Fatal(err)
	}
	first := make(chan paid, 1)
	go func() {
		a, err := pay(http.DefaultClient, addrs[0], "k", untilReleased)
		if err != nil {
			t.Error(err)
		}
		first <- a
	}()
	children.Next()
	children.Pause(0)
	status := 0
	testkit.Eventually(t, "the lease to end", func() bool {
		response := answerTo(here, payRequest("k", "20"))
		status = response.StatusCode
		return status != 409
	})
	if status != 201 {
		t.Errorf("the second: %d; want 201", status)
	}
	children.Resume(0)
	redisClient.RPush(t.Context(), c.Prefix+":released", "now")
	if a := <-first; a.status != 201 || a.body != "entry 1" || a.again {
		t.Errorf("the first: %+v; want its own answer", a)
	}
	if a, err := pay(http.DefaultClient, addrs[0], "k", ""); err != nil || a.body != "entry 2" || !a.again {
		t.Errorf("the third: %+v, %v; want the second's answer again", a, err)
	}
	children.Stop()
}
