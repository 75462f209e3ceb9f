package cache_test

import (
	"errors"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/cache"
	"github.com/go-weir/weir/internal/testkit"
)

// What is an entry for the scripts is one for Go, and the other way round.
func FuzzParseEntry(f *testing.F) {
	for _, seed := range []string{
		"w1 1 2 epoch 3 4 5 - \ndata", "w1 1 2 e 3 4 5 nz a,b%2C\n", "", "\n", "w1", "w2 1 2 e 3 4 5 - \n",
		"w1 1 2 e 99999999999999999999 4 5 - \n", "w1 1 2 e -3 4 5 - \n", "w1 1 2  3 4 5 - \n", "w1 1 2 e 3 4 5 - a b\n", "w1 1 2 e 3 4 5 -\t \n",
	} {
		f.Add(seed)
	}
	mini := testkit.Mini(f)
	rdb := mini.Client(f)
	f.Fuzz(func(t *testing.T, text string) {
		data, err := cache.ParseEntry(text)
		seen, rerr := rdb.Eval(t.Context(), cache.DataLua+"return head(ARGV[1]) and 1 or 0", []string{"p:{x}:m"}, text).Int()
		if rerr != nil && !errors.Is(rerr, redis.Nil) {
			t.Fatalf("%q: the script trips: %v", text, rerr)
		}
		if seen == 1 && err != nil {
			t.Errorf("%q: an entry for the scripts, and for Go %v", text, err)
		}
		if err == nil && len(data) > len(text) {
			t.Errorf("%q: %d bytes of data", text, len(data))
		}
	})
}

// A reply of a foreign script is an error, never a panic.
func FuzzParseAnswer(f *testing.F) {
	f.Add(int64(1), int64(2), int64(3), "e", "w1 1 2 e 3 4 5 - \n", int64(0), 6, 0)
	f.Add(int64(-1), int64(2), int64(3), "", "", int64(-2), 5, 3)
	f.Fuzz(func(t *testing.T, verdict, now, n int64, epoch, entry string, left int64, length, wrong int) {
		reply := []any{verdict, now, n, epoch, entry, left}
		if entry == "" {
			reply[4] = nil
		}
		good := verdict >= 0 && verdict <= 6
		if wrong > 0 {
			at := wrong % 7
			if at < 6 && at != 4 {
				reply[at] = []any{1.5}
				good = false
			}
		}
		if length >= 0 && length < 6 {
			reply, good = reply[:length], false
		}
		if err := cache.ParseAnswer(reply); !good && !errors.Is(err, cache.ErrCorrupt) {
			t.Errorf("%v: got %v; want ErrCorrupt", reply, err)
		} else if err != nil && !errors.Is(err, cache.ErrCorrupt) {
			t.Errorf("%v: got %v; want nil or ErrCorrupt", reply, err)
		}
	})
}

// Whatever is published on the channel of news: what is served was stored.
func FuzzHear(f *testing.F) {
	b := testkit.Mini(f)
	for _, seed := range []string{
		"", "83r", "04s e 1 k v:k", "04s e 18446744073709551615 k v:k", "04s e 99999999999999999999 k v:k", "04s e -1 a ", "04s  1 t t", "zzz e 1 k v:k",
		"04s e 1 k", "04s e 1 x v:k", "04s e 1 k \x00\xff", "04s e 0 k v:k", "04s e 2 t a%2Cb",
	} {
		f.Add(seed)
	}
	store, err := cache.New(b.Client(f), cache.WithPrefix(b.Prefix(f)), cache.WithTTL(time.Hour), cache.WithNear(1<<20), cache.WithTimeout(patience))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(store.Close)
	view, err := cache.For[[]byte](store, "v")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, message string) {
		noError(t, view.Set(t.Context(), "k", []byte(message)))
		store.Hear(message)
		v, ok, err := view.Get(t.Context(), "k")
		if err != nil || !ok || string(v) != message {
			t.Errorf("got %q, %v, %v; want %q", v, ok, err, message)
		}
	})
}
