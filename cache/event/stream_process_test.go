package event_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/cache/event"
	"github.com/go-weir/weir/internal/testkit"
)

// The points at which a consumer's process is killed.
const (
	atTake       = 1 + iota // about to ask for its first entry
	atTaken                 // Redis has delivered one, the process has not seen it
	atHandle                // the handler has it, and has done nothing
	atHandled               // the handler has done its work, and not returned
	atAck                   // about to acknowledge
	atAcked                 // Redis has the acknowledgement, the process does not know
	pointsInLife = iota
)

// clerk is what a child does: it consumes, and stops dead at one point.
type clerk struct {
	Spec, Prefix string
	Point        int // 0 for none
	Workers      int
	Claim        time.Duration
}

// clerkWord is what a clerk tells.
type clerkWord struct{ Cause string }

func init() { testkit.Role("clerk", runClerk) }

func runClerk(ctx context.Context, args []string) error {
	var c clerk
	if err := json.Unmarshal([]byte(args[0]), &c); err != nil {
		return err
	}
	client, err := testkit.Connect(c.Spec)
	if err != nil {
		return err
	}
	defer client.Close()
	books, err := testkit.Connect(c.Spec)
	if err != nil {
		return err
	}
	defer books.Close()
	client.AddHook(&stopper{clerk: c})
	bus, err := event.New(client, event.WithPrefix(c.Prefix), event.WithTimeout(ample))
	if err != nil {
		return err
	}
	s, err := event.NewStream[sale](bus, "sales")
	if err != nil {
		return err
	}
	return s.Consume(ctx, "mail", func(ctx context.Context, e event.Entry[sale]) error {
		if c.Point == atHandle && e.Value.N >= 3 {
			testkit.Emit(clerkWord{})
			<-ctx.Done()
			testkit.Emit(clerkWord{Cause: fmt.Sprint(context.Cause(ctx))})
			return errors.New("too late")
		}
		err := enter(ctx, books, c.Prefix, e.Value.N)
		if c.Point == atHandled && e.Value.N >= 3 {
			testkit.Emit(clerkWord{})
			<-ctx.Done()
		}
		return err
	}, event.WithWorkers(c.Workers), event.WithClaimAfter(c.Claim), event.WithNotice(func(event.Notice) {}))
}

// stopper is a hook that stops a clerk's calls dead at its point.
type stopper struct {
	clerk clerk
	takes int
}

func (*stopper) DialHook(next redis.DialHook) redis.DialHook { return next }

func (*stopper) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (h *stopper) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		acks, isTake := turnOf(cmd)
		if isTake {
			h.takes++
		}
		late := h.takes > 4
		if isTake && (h.clerk.Point == atTake && acks == 0 || h.clerk.Point == atAck && late && acks > 0) {
			stop()
		}
		err := next(ctx, cmd)
		if isTake && late && err == nil && (h.clerk.Point == atTaken && delivered(cmd) > 0 || h.clerk.Point == atAcked && acks > 0) {
			stop()
		}
		return err
	}
}

func stop() {
	testkit.Emit(clerkWord{})
	select {}
}

// turnOf reports whether cmd is a run of stream_take.lua, and with how many acks.
func turnOf(cmd redis.Cmder) (acks int, isTake bool) {
	args := cmd.Args()
	if len(args) < 9 || args[2] != 2 {
		return 0, false
	}
	acks, isTake = args[8].(int)
	return acks, isTake
}

// delivered is how many entries a turn has brought.
func delivered(cmd redis.Cmder) int {
	val, ok := cmd.(interface{ Slice() ([]any, error) })
	if !ok {
		return 0
	}
	reply, _ := val.Slice()
	if len(reply) < 5 {
		return 0
	}
	entries, _ := reply[4].([]any)
	return len(entries)
}

// enter enters a sale in the books: the work of the handlers.
func enter(ctx context.Context, client redis.UniversalClient, prefix string, n int) error {
	return client.RPush(ctx, prefix+":books", n).Err()
}

// booked counts how often each sale is in the books.
func booked(tb testing.TB, client redis.UniversalClient, prefix string) map[int]int {
	tb.Helper()
	all, err := client.LRange(context.Background(), prefix+":books", 0, -1).Result()
	if err != nil {
		tb.Fatal(err)
	}
	count := make(map[int]int)
	for _, text := range all {
		n, err := strconv.Atoi(text)
		if err != nil {
			tb.Fatal(err)
		}
		count[n]++
	}
	return count
}

func spawnClerk(tb testing.TB, c clerk) *testkit.Processes {
	tb.Helper()
	args, err := json.Marshal(c)
	if err != nil {
		tb.Fatal(err)
	}
	return testkit.Spawn(tb, 1, "clerk", string(args))
}

// A consumer's process is killed with SIGKILL at each point of its life: every sale is
// in the books, and twice only if the kill fell between the work and its
// acknowledgement.
//
// Red when entries are acknowledged before they are handled (atHandle loses one), or
// join claims nothing from others (atTaken, atHandle).
func TestConsume_killedAnywhere(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short leaves out what takes several processes")
	}
	t.Parallel()
	for _, kind := range []string{"server", "cluster3"} {
		for point := atTake; point <= pointsInLife; point++ {
			t.Run(fmt.Sprint(kind, "/", point), func(t *testing.T) {
				t.Parallel()
				b := testkit.Shared(t, kind)
				client, prefix := b.Client(t), b.Prefix(t)
				s := openStream(t, client, prefix)
				const sales = 12
				sell(t, s, 0, sales)
				child := spawnClerk(t, clerk{Spec: b.Spec(), Prefix: prefix, Point: point, Workers: 1, Claim: time.Minute})
				child.Next()
				child.Kill(0)
				killedAt := len(booked(t, client, prefix))
				consume(t, s, func(ctx context.Context, e event.Entry[sale]) error {
					return enter(ctx, client, prefix, e.Value.N)
				}, event.WithClaimAfter(100*time.Millisecond))
				settled(t, s)
				twice := 0
				books := booked(t, client, prefix)
				for n := range sales {
					switch books[n] {
					case 1:
					case 2:
						twice++
					default:
						t.Errorf("sale %d is %d times in the books", n, books[n])
					}
				}
				if may := point == atHandled || point == atAck; twice > 1 || (twice == 1) != may {
					t.Errorf("%d sales are twice in the books; want one, if the kill fell behind the work: %v", twice, may)
				}
				if (killedAt == 0) != (point == atTake) || killedAt == sales {
					t.Errorf("killed when %d sales were booked; want some, and not all", killedAt)
				}
			})
		}
	}
}

// A process is paused for longer than others wait for a sign. Its entry is handled
// elsewhere; when it comes back, its handler's context ends with ErrClaimed, and its
// failure counts for nothing.
//
// Red when stream_take.lua does not tell of entries that others have.
func TestConsume_paused(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short leaves out what takes several processes")
	}
	t.Parallel()
	b := testkit.Shared(t, "server")
	client, prefix := b.Client(t), b.Prefix(t)
	s := openStream(t, client, prefix)
	sell(t, s, 0, 4)
	child := spawnClerk(t, clerk{Spec: b.Spec(), Prefix: prefix, Point: atHandle, Workers: 1, Claim: 500 * time.Millisecond})
	child.Next()
	child.Pause(0)
	block := make(chan struct{})
	heir := consume(t, s, func(ctx context.Context, e event.Entry[sale]) error {
		<-block
		return enter(ctx, client, prefix, e.Value.N)
	}, event.WithClaimAfter(500*time.Millisecond))
	heir.expect(3)
	child.Resume(0)
	words := testkit.Decode[clerkWord](t, []testkit.Line{child.Next()})
	if words[0].Cause != event.ErrClaimed.Error() {
		t.Errorf("cause %q; want %q", words[0].Cause, event.ErrClaimed)
	}
	close(block)
	settled(t, s)
	if heir.got[0].Delivery != 2 {
		t.Errorf("delivery %d; want 2", heir.got[0].Delivery)
	}
	if dead := letters(t, s); len(dead) != 0 {
		t.Errorf("dead: %+v", dead)
	}
	for n, times := range booked(t, client, prefix) {
		if times != 1 {
			t.Errorf("sale %d is %d times in the books", n, times)
		}
	}
	child.Stop()
}

// Three processes with four workers each are killed again and again, while it is sold
// on: every sale is in the books, and twice only what a kill can have left half done.
//
// The long form, under make soak, kills 200 times instead of 6.
func TestConsume_killedOften(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short leaves out what takes several processes")
	}
	t.Parallel()
	b := testkit.Shared(t, "server")
	client, prefix := b.Client(t), b.Prefix(t)
	s := openStream(t, client, prefix)
	c := clerk{Spec: b.Spec(), Prefix: prefix, Workers: 4, Claim: 300 * time.Millisecond}
	clerks := make([]*testkit.Processes, 3)
	for i := range clerks {
		clerks[i] = spawnClerk(t, c)
	}
	kills := campaign(6, 200)
	sold := 0
	for range kills {
		n := 20 + rand.IntN(100)
		sell(t, s, sold, sold+n)
		sold += n
		i := rand.IntN(len(clerks))
		clerks[i].Kill(0)
		clerks[i] = spawnClerk(t, c)
	}
	testkit.Eventually(t, "all sales in the books", func() bool { return len(booked(t, client, prefix)) == sold })
	settled(t, s)
	extra := 0
	for _, times := range booked(t, client, prefix) {
		extra += times - 1
	}
	if extra > 4*kills {
		t.Errorf("%d sales too many in the books after %d kills; want at most 4 each", extra, kills)
	}
	if dead := letters(t, s); len(dead) != 0 {
		t.Errorf("%d dead letters; want none", len(dead))
	}
	for _, p := range clerks {
		p.Stop()
	}
}
