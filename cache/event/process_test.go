package event_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/go-weir/weir/cache/event"
	"github.com/go-weir/weir/internal/testkit"
)

func init() { testkit.Role("event-listener", listenerProcess) }

// report is what a process says: nothing at first, and in the end what it was given.
type report struct {
	Heard, Holes, Gaps int
	Faults             []string
}

// listenerProcess audits numbered events until one of number 0 comes again.
func listenerProcess(ctx context.Context, args []string) error {
	client, err := testkit.Connect(args[0])
	if err != nil {
		return err
	}
	defer client.Close()
	bus, err := event.New(client, event.WithPrefix(args[1]))
	if err != nil {
		return err
	}
	defer bus.Close()
	numbers, err := event.NewTopic[order](bus, "numbers")
	if err != nil {
		return err
	}
	s, err := numbers.Subscribe(event.WithBuffer(100_000, event.DropOldest))
	if err != nil {
		return err
	}
	defer s.Close()
	<-s.Ready()
	testkit.Emit(report{})
	var a audit
	for e, err := range s.All(ctx) {
		if err == nil && e.Value.N == 0 {
			testkit.Emit(report{a.heard, a.holes, a.gaps, a.faults})
			return nil
		}
		a.see(e, err)
	}
	return errors.New("ended early")
}

// Three processes hear the same. One is stopped for a while and takes up where it was,
// or is told that it cannot; one is killed, which is nobody else's business.
func TestTopic_processes(t *testing.T) {
	t.Parallel()
	b := testkit.Server(t)
	client := b.Client(t)
	children := testkit.Spawn(t, 3, "event-listener", b.Spec(), "a")
	for range 3 {
		children.Next()
	}
	numbers := topic(t, openBus(t, client, "a"), "numbers")
	n := 0
	talk := func(d time.Duration) {
		for end := time.Now().Add(d); time.Now().Before(end); {
			n++
			tell(t, numbers, n)
		}
	}
	talk(100 * time.Millisecond)
	children.Kill(2)
	children.Pause(0)
	talk(3 * time.Second) // longer than a link may be silent
	children.Resume(0)
	talk(100 * time.Millisecond)

	ended := make(chan []testkit.Line)
	go func() {
		var lines []testkit.Line
		for range 2 {
			lines = append(lines, children.Next())
		}
		ended <- lines
	}()
	for {
		select {
		case lines := <-ended:
			for i, r := range testkit.Decode[report](t, lines) {
				t.Logf("process %d: %+v, of %d", lines[i].Child, r, n)
				if len(r.Faults) > 0 || r.Heard == 0 {
					t.Errorf("process %d: got %+v; want each hole to have its gap", lines[i].Child, r)
				}
				if lines[i].Child == 1 && r.Heard != n && r.Gaps == 0 {
					t.Errorf("the process left alone: got %+v; want all %d", r, n)
				}
			}
			children.Wait()
			return
		case <-time.After(10 * time.Millisecond):
			tell(t, numbers, 0) // again, as one may have been missed
		}
	}
}
