package event_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/cache/event"
	"github.com/go-weir/weir/internal/testkit"
)

// The script runs, its reply is lost and the connection cut: there is one entry, and
// the caller has its id.
//
// Red when publish is made by rdb.NewScript (ErrUnavailable), when stream_publish.lua
// does not look for ARGV[2] in its second run, or for KEYS[3] (two entries).
func TestStream_publishedOnce(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"server", "cluster", "cluster3"} {
		b := testkit.Shared(t, kind)
		calls := map[string]func(s *event.Stream[sale], client redis.UniversalClient) (string, error){
			"Publish": func(s *event.Stream[sale], _ redis.UniversalClient) (string, error) {
				return s.Publish(context.Background(), sale{1})
			},
			"PublishOnce": func(s *event.Stream[sale], _ redis.UniversalClient) (string, error) {
				id, repeated, err := s.PublishOnce(context.Background(), "id", sale{1})
				if repeated {
					t.Error("repeated, though the caller called once")
				}
				return id, err
			},
			"PublishIn": func(s *event.Stream[sale], client redis.UniversalClient) (string, error) {
				var told *redis.Cmd
				tx := func(tx redis.Pipeliner) (err error) {
					told, err = s.PublishIn(context.Background(), tx, "id", sale{1})
					return err
				}
				_, err := client.TxPipelined(context.Background(), tx)
				if err == nil {
					t.Error("go-redis repeats transactions by now")
				}
				if _, err = client.TxPipelined(context.Background(), tx); err != nil {
					return "", err
				}
				reply, err := told.Slice()
				if err != nil {
					return "", err
				}
				return fmt.Sprint(reply[0]), nil
			},
		}
		for name, call := range calls {
			t.Run(kind+"/"+name, func(t *testing.T) {
				t.Parallel()
				client, proxies := b.ProxiedClient(t)
				s := openStream(t, client, b.Prefix(t))
				first := sell(t, s, 0, 1) // the script is known
				match := "evalsha"
				if name == "PublishIn" {
					match = "exec"
				}
				proxies.Each(func(p *testkit.Proxy) { p.SwallowReply(1, match, testkit.ThenClose) })
				id, err := call(s, client)
				if proxies.Swallowed() != 1 {
					t.Fatalf("%d replies lost; want 1", proxies.Swallowed())
				}
				page, readErr := s.Read(t.Context(), event.Oldest, 10)
				if err != nil || readErr != nil || len(page.Entries) != 2 || page.Entries[1].ID != id || page.Entries[0].ID != first[0] {
					t.Errorf("%s, %v: %+v, %v; want two entries, the second %s", id, err, page.Entries, readErr, id)
				}
			})
		}
	}
}

// The replies to a consumer's calls are lost one after the other: each sale is handled
// once all the same, as the first delivery.
//
// Red when join leaves out the consumer's own pending entries (what was taken is not
// handled), or bumps their count.
func TestConsume_lostReplies(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"server", "cluster"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			b := testkit.Shared(t, kind)
			client, proxies := b.ProxiedClient(t)
			prefix := b.Prefix(t)
			direct := openStream(t, b.Client(t), prefix)
			mail := consume(t, openStream(t, client, prefix), nil, event.WithClaimAfter(time.Hour))
			sell(t, direct, 0, 1)
			mail.expect(0)
			for n := 1; n < 20; n++ {
				proxies.Each(func(p *testkit.Proxy) { p.SwallowReply(1, "evalsha", testkit.ThenClose) })
				sell(t, direct, n, n+1)
				mail.expect(upTo(0, n+1)...)
			}
			proxies.Each((*testkit.Proxy).Heal)
			settled(t, direct)
			for _, e := range mail.got {
				if e.Delivery != 1 {
					t.Errorf("sale %d: delivery %d; want 1", e.Value.N, e.Delivery)
				}
			}
			if proxies.Swallowed() < 10 {
				t.Errorf("%d replies lost; want more", proxies.Swallowed())
			}
		})
	}
}

// What is trimmed before the group has read it is told, to the last entry; what was
// read before is not.
//
// Red when stream_take.lua does not add to gone, or does not keep what was seen.
func TestConsume_trimmedUnread(t *testing.T) {
	eachStream(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		s := openStream(t, client, b.Prefix(t), event.WithMaxLen(10))
		mail := consume(t, s, nil)
		for n := range 300 { // trimmed many times, and always read before
			sell(t, s, n, n+1)
			if n%5 == 0 {
				settled(t, s)
			}
		}
		mail.expect(upTo(0, 300)...)
		settled(t, s)
		if told := mail.told(event.NoticeMissed); len(told) != 0 {
			t.Errorf("told %+v though all was read", told)
		}
		if err := mail.end(); err != nil {
			t.Fatal(err)
		}
		sell(t, s, 300, 1000)
		late := consume(t, s, nil)
		settled(t, s)
		told := late.told(event.NoticeMissed)
		if len(told) != 1 || told[0].Count+int64(len(late.numbers())) != 700 || told[0].Count < 500 {
			t.Errorf("told %+v, and %d were given; want one notice, 700 together", told, len(late.numbers()))
		}
		if got := late.numbers(); !slices.Equal(got, upTo(1000-len(got), 1000)) {
			t.Errorf("given %v; want the last ones", got)
		}
	})
}

// What is trimmed while a consumer has it in hand, and that consumer dies, is told.
//
// Red when stream_join.lua says nothing of trimmed entries, or stream_take.lua
// XCLAIMs an entry that is not there (Redis 7 then forgets that it is pending).
func TestConsume_trimmedInHand(t *testing.T) {
	eachStream(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		s := openStream(t, client, b.Prefix(t), event.WithMaxLen(5))
		ids := sell(t, s, 0, 1)
		block := make(chan struct{})
		defer close(block)
		// It ends without grace, while its handler runs on: as if it had died.
		dead := consume(t, s, func(context.Context, event.Entry[sale]) error { <-block; return nil }, event.WithGrace(0), event.WithClaimAfter(400*time.Millisecond))
		dead.expect(0)
		sell(t, s, 1, 400)
		<-time.After(300 * time.Millisecond) // signs are given meanwhile
		if err := dead.end(); !errors.Is(err, event.ErrUnfinished) {
			t.Errorf("%v; want ErrUnfinished", err)
		}
		heir := consume(t, s, nil, event.WithClaimAfter(100*time.Millisecond))
		testkit.Eventually(t, "notice of the one in hand", func() bool {
			return slices.ContainsFunc(heir.told(event.NoticeMissed), func(n event.Notice) bool { return n.ID == ids[0] && n.Count == 1 })
		})
		settled(t, s)
	})
}

// FLUSHALL, and a server that comes back empty: told, and the group goes on with all
// that is published afterwards.
//
// Red when join does not ask for a group anew, or does not tell of it (known).
func TestConsume_dataLost(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"flush", "restart", "group destroyed"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			b := testkit.Server(t)
			client := b.Client(t)
			s := openStream(t, client, "weir")
			mail := consume(t, s, nil)
			sell(t, s, 0, 3)
			mail.expect(0, 1, 2)
			settled(t, s)
			switch how {
			case "flush":
				if err := client.FlushAll(t.Context()).Err(); err != nil {
					t.Fatal(err)
				}
			case "restart":
				b.Kill()
				b.Restart(t)
			case "group destroyed":
				if err := client.XGroupDestroy(t.Context(), "weir:stream:{sales}", "mail").Err(); err != nil {
					t.Fatal(err)
				}
			}
			testkit.Eventually(t, "Redis to answer", func() bool {
				_, err := s.Publish(t.Context(), sale{3})
				return err == nil
			})
			if how == "group destroyed" {
				mail.expect(0, 1, 2, 0, 1, 2, 3) // rather twice than never
			} else {
				mail.expect(0, 1, 2, 3)
			}
			settled(t, s)
			if told := mail.told(event.NoticeMissed); len(told) != 1 || told[0].Count != -1 {
				t.Errorf("told %+v; want once that something may be gone", told)
			}
		})
	}
}

// A server that comes back with its data: nothing is lost, and nothing told of it.
func TestConsume_restart(t *testing.T) {
	t.Parallel()
	b := testkit.Server(t, "--appendonly", "yes", "--appendfsync", "always")
	s := openStream(t, b.Client(t), "weir")
	var served []int
	mail := consume(t, s, nil)
	sell(t, s, 0, 3)
	mail.expect(0, 1, 2)
	for n := 3; n < 9; n += 3 {
		b.Kill()
		testkit.Eventually(t, "notice of silence", func() bool { return len(mail.told(event.NoticeUnavailable)) > len(served) })
		served = append(served, n)
		b.Restart(t)
		testkit.Eventually(t, "Redis to answer", func() bool {
			_, _, err := s.PublishOnce(t.Context(), fmt.Sprint(n), sale{n})
			return err == nil
		})
		sell(t, s, n+1, n+3)
		mail.expectAll(0, n+3)
	}
	settled(t, s)
	if told := mail.told(event.NoticeMissed); len(told) != 0 {
		t.Errorf("told %+v; want nothing", told)
	}
}

// A Redis that hangs holds nobody: the consumer ends when it is told to, and its
// handlers are not disturbed.
func TestConsume_silence(t *testing.T) {
	t.Parallel()
	b := testkit.Server(t)
	bus, err := event.New(b.Client(t)) // with the usual budget
	if err != nil {
		t.Fatal(err)
	}
	s, err := event.NewStream[sale](bus, "sales")
	if err != nil {
		t.Fatal(err)
	}
	proceed := make(chan struct{})
	var cause error
	mail := consume(t, s, func(ctx context.Context, _ event.Entry[sale]) error {
		<-proceed
		cause = context.Cause(ctx)
		return nil
	}, event.WithClaimAfter(100*time.Millisecond))
	testkit.Eventually(t, "a sale", func() bool {
		_, err := s.Publish(t.Context(), sale{1})
		return err == nil
	})
	testkit.Eventually(t, "the handler", func() bool { return len(mail.numbers()) > 0 })
	b.Pause()
	testkit.Eventually(t, "notice of silence", func() bool { return len(mail.told(event.NoticeUnavailable)) == 1 })
	close(proceed)
	begun := time.Now()
	if err := mail.end(); err != nil || cause != nil {
		t.Errorf("%v, handler's context ended by %v; want neither", err, cause)
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("took %v to end", took)
	}
	b.Resume()
}

// A lost meta heals: numbers go on, nothing is told, nothing is lost.
func TestConsume_metaLost(t *testing.T) {
	eachStream(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		prefix := b.Prefix(t)
		s := openStream(t, client, prefix)
		mail := consume(t, s, nil)
		for n := range 5 {
			sell(t, s, 2*n, 2*n+2)
			if n%2 == 0 {
				settled(t, s)
			}
			if err := client.Del(t.Context(), prefix+":stream:{sales}:meta").Err(); err != nil {
				t.Fatal(err)
			}
		}
		mail.expect(upTo(0, 10)...)
		sell(t, s, 10, 12)
		mail.expect(upTo(0, 12)...)
		settled(t, s)
		if told := mail.told(event.NoticeMissed); len(told) != 0 {
			t.Errorf("told %+v; want nothing", told)
		}
	})
}

// What others XADD is found without a sign from them.
func TestConsume_foreign(t *testing.T) {
	eachStream(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		prefix := b.Prefix(t)
		s := openStream(t, client, prefix)
		mail := consume(t, s, nil)
		sell(t, s, 0, 1)
		mail.expect(0)
		for n := 1; n < 3; n++ {
			err := client.XAdd(t.Context(), &redis.XAddArgs{Stream: prefix + ":stream:{sales}", Values: []string{"v", fmt.Sprintf(`{"N":%d}`, n)}}).Err()
			if err != nil {
				t.Fatal(err)
			}
		}
		mail.expect(0, 1, 2)
		sell(t, s, 3, 4)
		mail.expect(0, 1, 2, 3)
		if told := mail.told(event.NoticeMissed); len(told) != 0 {
			t.Errorf("told %+v; want nothing", told)
		}
	})
}

// The reply that tells of a loss is lost itself: it is told all the same, once.
//
// Red when lua/stream_missed.lua does not write down what was found.
func TestConsume_lostNotice(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"server", "cluster"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			b := testkit.Shared(t, kind)
			client, proxies := b.ProxiedClient(t)
			prefix := b.Prefix(t)
			direct := openStream(t, b.Client(t), prefix, event.WithMaxLen(10))
			proceed := make(chan struct{})
			mail := consume(t, openStream(t, client, prefix, event.WithMaxLen(10)), func(_ context.Context, e event.Entry[sale]) error {
				if e.Value.N == 0 {
					<-proceed
				}
				return nil
			}, event.WithClaimAfter(time.Hour))
			sell(t, direct, 0, 1)
			mail.expect(0)
			sell(t, direct, 1, 1000)
			proxies.Each(func(p *testkit.Proxy) { p.SwallowReply(1, "evalsha", testkit.ThenClose) })
			close(proceed)
			settled(t, direct)
			told := mail.told(event.NoticeMissed)
			if proxies.Swallowed() != 1 || len(told) != 1 || told[0].Count+int64(len(mail.numbers())) != 1000 || told[0].Count < 500 {
				t.Errorf("%d replies lost, told %+v, %d given; want one notice, 1000 together", proxies.Swallowed(), told, len(mail.numbers()))
			}
			if err := mail.end(); err != nil {
				t.Error(err)
			}
			meta, err := b.Client(t).HGetAll(t.Context(), prefix+":stream:{sales}:meta").Result()
			if err != nil || len(meta) != 2 {
				t.Errorf("meta %v, %v; want the stream's number and the group's alone", meta, err)
			}
		})
	}
}

// A Redis that is full takes no event, but gives and acknowledges those it has.
//
// Red when join creates the group on trial (XGROUP CREATE is refused for want of memory,
// and nothing is claimed any more).
func TestConsume_outOfMemory(t *testing.T) {
	t.Parallel()
	b := testkit.Server(t)
	client := b.Client(t)
	s := openStream(t, client, "weir")
	sell(t, s, 0, 10)
	proceed := make(chan struct{})
	mail := consume(t, s, func(context.Context, event.Entry[sale]) error {
		<-proceed
		return nil
	}, event.WithClaimAfter(200*time.Millisecond))
	mail.expect(0)
	if err := client.ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Publish(t.Context(), sale{10}); !errors.Is(err, event.ErrUnavailable) {
		t.Errorf("%v; want ErrUnavailable", err)
	}
	close(proceed)
	mail.expect(upTo(0, 10)...)
	settled(t, s)
	begun := time.Now()
	testkit.Eventually(t, "a second to pass, in which it joins again", func() bool { return time.Since(begun) > time.Second })
	if told := mail.told(event.NoticeUnavailable); len(told) != 0 {
		t.Errorf("told %+v; want nothing", told)
	}
}

// A stream lives as long as somebody publishes or consumes, however short its retention
// is; a key that has lost its lifetime gets one again.
//
// Red when join comes only every half WithClaimAfter: the keys expire, and the consumer
// tells of a loss.
func TestConsume_keepsAlive(t *testing.T) {
	eachStream(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		prefix := b.Prefix(t)
		s := openStream(t, client, prefix, event.WithRetention(time.Second))
		mail := consume(t, s, nil)
		sell(t, s, 0, 1)
		mail.expect(0)
		begun := time.Now()
		testkit.Eventually(t, "three seconds to pass", func() bool { return time.Since(begun) > 3*time.Second })
		if told := mail.told(event.NoticeMissed); len(told) != 0 || groupOf(t, s).Name == "" {
			t.Errorf("told %+v, groups %+v; want a living one, and nothing told", told, groupOf(t, s))
		}
		if err := mail.end(); err != nil {
			t.Fatal(err)
		}
		for _, key := range testkit.Keys(t, client, prefix) {
			if err := client.Persist(t.Context(), key).Err(); err != nil {
				t.Fatal(err)
			}
		}
		consume(t, s, nil)
		testkit.Eventually(t, "lifetimes", func() bool {
			for _, key := range testkit.Keys(t, client, prefix) {
				if ttl, err := client.PTTL(t.Context(), key).Result(); err != nil || ttl <= 0 {
					return false
				}
			}
			return true
		})
	})
}
