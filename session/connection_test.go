package session_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/alexedwards/scs/redisstore"
	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/session"
	"github.com/go-weir/weir/session/redigo"
)

// Whatever sessions do, Redis sees the injected client's connections and no others;
// so it does with scs/redisstore over package redigo, which keeps the sessions of
// another manager here.
func TestManager_noConnectionOfItsOwn(t *testing.T) {
	t.Parallel()
	b := testkit.Server(t)
	rdb := b.Client(t, func(o *redis.UniversalOptions) { o.ClientName = "injected" })
	theirs := redisstore.NewWithPrefix(redigo.Pool(rdb, redigo.WithTimeout(10*time.Second)), "theirs:")
	for _, m := range []*session.Manager{
		newManager(t, rdb),
		newManager(t, rdb, session.WithStore(theirs), session.WithName("theirs")),
	} {
		token := loginAs(t, m, login(t, m, "x"), "alice")
		for range 50 {
			v := visit(m, token)
			m.Put(v, "n", m.GetInt(v, "n")+1)
			commit(t, v)
		}
		if got := m.GetInt(visit(m, token), "n"); got != 50 {
			t.Errorf("got %d; want 50", got)
		}
		if err := m.Iterate(t.Context(), func(context.Context) error { return nil }); err != nil {
			t.Error(err)
		}
		if err := m.EndAll(t.Context(), "alice"); err != nil || userOf(m, token) != "" {
			t.Errorf("ended: got %q, %v", userOf(m, token), err)
		}
	}
	list, err := rdb.ClientList(t.Context()).Result()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(list) {
		if !strings.Contains(line, " name=injected ") {
			t.Errorf("a connection of another: %s", line)
		}
	}
}
