package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/go-weir/weir/internal/testkit"
)

const (
	// The attack: four processes, as a limiter may be exact within one. Peers
	// count in whole seconds, so the window is one.
	attackLimit      = 100
	attackWindow     = time.Second
	attackProcesses  = 4
	attackGoroutines = 16 // of each process, on each key
	attackLead       = time.Second
	// Each goroutine asks once in so long, or as soon as it is answered if that is
	// later: 6,400 requests a second on two keys. Without a pause one that denies
	// from memory would ask millions of times, and leave the others no time.
	attackPause = 20 * time.Millisecond
)

// attack is what each process does to one contestant: every pattern on a key of
// its own, all at once.
type attack struct {
	Contestant, Addr string
	Patterns         [][]phase
}

// found is what one goroutine of it tells.
type found struct {
	Pattern  int
	Admitted []span
	Asked    int
	Failed   int
}

func init() { testkit.Role("attack", runAttack) }

// BenchmarkExactness is the largest number that a contestant admits in any window
// while it is attacked. Contestants share the machine two at a time: it is about
// counts, and not about speed.
func BenchmarkExactness(b *testing.B) {
	atOnce := 2
	if brief {
		atOnce = 4
	}
	addr, _ := serve(b)
	of := entrants(inExact)
	s := limiterTables.sheet("under attack", fmt.Sprintf("most in a window of %d", attackLimit), "admitted of possible", "asked", "failed")
	s.exactness = true
	for len(of) > 0 {
		batch := of[:min(atOnce, len(of))]
		of = of[len(batch):]
		start := time.Now().Add(attackLead)
		patterns := [][]phase{anchored(start, attackWindow), acrossEdge(start, attackWindow)}
		total := 0
		for _, phases := range patterns {
			total += possible(phases, attackLimit, attackWindow)
		}
		processes := make([]*testkit.Processes, len(batch))
		for i, c := range batch {
			args, err := json.Marshal(attack{c.name, addr, patterns})
			if err != nil {
				b.Fatal(err)
			}
			processes[i] = testkit.Spawn(b, attackProcesses, "attack", string(args))
		}
		for i, c := range batch {
			spans := make([][]span, len(patterns))
			asked, failed, admitted := 0, 0, 0
			for _, f := range testkit.Decode[found](b, processes[i].Wait()) {
				spans[f.Pattern] = append(spans[f.Pattern], f.Admitted...)
				asked, failed, admitted = asked+f.Asked, failed+f.Failed, admitted+len(f.Admitted)
			}
			in := 0
			for _, s := range spans {
				in = max(in, most(s, attackWindow))
			}
			if c.name == weir.name {
				instead(b, float64(in), "weir/window")
			}
			limiterTables.verdicts[c.name] = fmt.Sprintf("%d / %d", in, admitted)
			s.add(c.name, fmt.Sprint(in), fmt.Sprintf("%d of %d", admitted, total), fmt.Sprint(asked), fmt.Sprint(failed))
		}
	}
	s.note("%d processes of %d goroutines ask about a key every %v: about one that was asked about a window ago, and\n"+
		"about one across the edge of a window counted from 1970. More than possible is too many; less is too few:\n"+
		"who is entitled is turned away.", attackProcesses, attackGoroutines, attackPause)
}

func runAttack(ctx context.Context, args []string) error {
	var a attack
	if err := json.Unmarshal([]byte(args[0]), &a); err != nil {
		return err
	}
	c, err := byName(a.Contestant)
	if err != nil {
		return err
	}
	client := c.dial(a.Addr, len(a.Patterns)*attackGoroutines)
	defer client.Close()
	limiter, err := c.open(client, limit{attackLimit, attackWindow})
	if err != nil {
		return err
	}
	keys := keysOf(c, len(a.Patterns)+1)
	if _, err := limiter.allow(ctx, keys[len(a.Patterns)]); err != nil { // the connection, the script
		return err
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	for pattern, phases := range a.Patterns {
		for goroutine := range attackGoroutines {
			wg.Go(func() {
				first := goroutine == 0 && testkit.RoleIndex() == 0
				f, err := follow(ctx, phases, first, keys[pattern], limiter.allow)
				f.Pattern = pattern
				testkit.Emit(f)
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, err)
			})
		}
	}
	wg.Wait()
	return errors.Join(errs...)
}

// follow asks as the phases say. Only the first of all goroutines makes what is
// to be asked once.
func follow(ctx context.Context, phases []phase, first bool, key string, allow func(context.Context, string) (bool, error)) (f found, err error) {
	for _, p := range phases {
		if p.Once && !first {
			continue
		}
		if late := time.Since(time.Unix(0, p.From)); late > attackWindow/20 {
			return f, fmt.Errorf("late by %v: the machine is too busy for this attack to mean anything", late)
		}
		<-time.After(time.Until(time.Unix(0, p.From)))
		for sent := time.Now().UnixNano(); sent < p.To; sent = time.Now().UnixNano() {
			allowed, err := allow(ctx, key)
			f.Asked++
			switch {
			case err != nil:
				f.Failed++
			case allowed:
				f.Admitted = append(f.Admitted, span{sent, time.Now().UnixNano()})
			}
			if p.Once {
				break
			}
			<-time.After(attackPause - time.Duration(time.Now().UnixNano()-sent))
		}
	}
	return f, nil
}
