package lock_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/cache/lock"
	"github.com/go-weir/weir/internal/testkit"
)

// checkMistakes fails the test unless err is of kind ErrConfig and tells all of want.
func checkMistakes(t *testing.T, err error, want ...string) {
	t.Helper()
	if !errors.Is(err, lock.ErrConfig) {
		t.Fatalf("got %v; want ErrConfig", err)
	}
	if got := strings.Count(err.Error(), "\n") + 1; got != len(want) {
		t.Errorf("got %d mistakes; want %d:\n%v", got, len(want), err)
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("the error does not tell %q:\n%v", w, err)
		}
	}
}

func TestNew_mistakes(t *testing.T) {
	t.Parallel()
	_, err := lock.New(nil, nil, lock.WithPrefix("{a}"), lock.WithTimeout(0), lock.WithLabel("\xff"),
		lock.WithMaxWait(0), lock.WithAutoExtend(time.Millisecond), lock.WithReplicaSync(0, time.Hour))
	checkMistakes(t, err, "option 1 is nil", "WithPrefix", "WithTimeout(0s)", "WithLabel", "WithMaxWait(0s)",
		"WithAutoExtend(1ms)", "from 1 to 100 replicas", "the timeout must be", "client is nil")
	ring := redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": "127.0.0.1:1"}})
	defer ring.Close()
	_, err = lock.New(ring, lock.WithReplicaSync(1, time.Second))
	checkMistakes(t, err, "WithReplicaSync: a Ring")
	if _, err := lock.New(testkit.Mini(t).Client(t), lock.WithReplicaSync(1, time.Second), lock.WithAutoExtend(time.Hour),
		lock.WithMaxWait(time.Second), lock.WithOutageWait(), lock.WithLabel("x"), lock.WithPrefix("a:b"), lock.WithTimeout(time.Second)); err != nil {
		t.Errorf("what is in bounds: %v", err)
	}
}
