package cache

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-weir/weir/internal/rdb"
)

const (
	// pulseEvery is how often the near tier compares its numbers with Redis's: a
	// comparison may fail three times in a row before the tier is bypassed.
	pulseEvery = nearBound / 4

	// pulseSilence is what shows that two comparisons in a row have failed.
	pulseSilence = 5 * pulseEvery / 2

	// pulseIdle is after how long without a read the comparing ends.
	pulseIdle = 30 * time.Second
)

// pulse compares, while the near tier is in use, the numbers of what it has heard with
// those of what was written. It begins with the first read.
type pulse struct {
	used    atomic.Int64 // when it was last, roughly, on the clock of monotonic; 0 while it does not run
	kick    chan struct{}
	mu      sync.Mutex
	closed  bool
	stop    context.CancelFunc
	stopped chan struct{}
}

// beat tells that the tier is in use.
func (p *pulse) beat(n *near, at int64) {
	used := p.used.Load()
	switch {
	case used == 0:
		p.start(n, at)
	case at-used > int64(pulseIdle)/4:
		p.used.CompareAndSwap(used, at)
	}
}

func (p *pulse) start(n *near, at int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.stop != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	p.stop, p.stopped, p.kick = cancel, make(chan struct{}), make(chan struct{}, 1)
	p.used.Store(max(at, 1))
	go p.run(ctx, n, p.kick, p.stopped)
}

// now has the numbers compared at once.
func (p *pulse) now() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case p.kick <- struct{}{}:
	default:
	}
}

func (p *pulse) run(ctx context.Context, n *near, kick <-chan struct{}, stopped chan<- struct{}) {
	defer close(stopped)
	sub := n.store.conn.Subscribe(n.store.news(), n.listener())
	defer func() {
		sub.Close()
		n.clear()
	}()
	select {
	case <-sub.Ready():
	case <-ctx.Done():
		return
	}
	ticker := time.NewTicker(pulseEvery)
	defer ticker.Stop()
	for {
		n.compare(ctx, sub)
		select {
		case <-ticker.C:
		case <-kick:
		case <-ctx.Done():
			return
		}
		if p.idle() {
			return
		}
	}
}

// idle ends the pulse if the tier was not used for a while.
func (p *pulse) idle() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if monotonic()-p.used.Load() < int64(pulseIdle) {
		return false
	}
	p.stop()
	p.stop = nil
	p.used.Store(0)
	return true
}

// close ends the pulse for good.
func (n *near) close() {
	p := &n.pulse
	p.mu.Lock()
	p.closed = true
	stop, stopped := p.stop, p.stopped
	p.mu.Unlock()
	if stop != nil {
		stop()
	}
	if stopped != nil {
		<-stopped
	}
	n.clear()
}

// compare asks Redis for the number of each shard's last write.
func (n *near) compare(ctx context.Context, sub *rdb.Subscription) {
	cmds := make([]*rdb.Cmd, shards)
	var before [shards]uint64
	for i := range n.shards {
		cmds[i] = pulseScript.On([]string{n.store.shards[i].meta}, newToken())
		n.shards[i].mu.Lock()
		before[i] = n.shards[i].heard
		n.shards[i].mu.Unlock()
	}
	sent := monotonic()
	_ = n.store.conn.Exec(ctx, cmds...) // each has its own error
	if !sub.Live() {
		return
	}
	for i, cmd := range cmds {
		reply := cmd.Slice()
		if len(reply) != 2 {
			continue
		}
		number, ok1 := reply[0].(int64)
		epoch, ok2 := reply[1].(string)
		if ok1 && ok2 {
			n.prove(&n.shards[i], state{epoch, uint64(number)}, before[i], sent)
		}
	}
}

// owed is a comparison that shows writes which have not been heard of yet: they may be
// under way.
type owed struct {
	number uint64
	sent   int64
}

// prove takes in what Redis says: when it was asked, at sent, before was the last write
// heard of.
func (n *near) prove(sh *nearShard, is state, before uint64, sent int64) {
	defer n.announce()
	sh.mu.Lock()
	defer sh.mu.Unlock()
	defer func() { sh.asked = max(sh.asked, sent) }()
	switch {
	case is.epoch != sh.epoch:
		sh.begin(is.epoch, is.n)
	case is.n < before:
		// It has forgotten some: a failover to a replica that lagged.
		sh.own = state{}
		sh.begin(is.epoch, is.n)
		n.tellCleared()
	case sent-sh.asked > int64(pulseSilence):
		// It was silent. Nobody knows whether who answers now is who answered then: a
		// replica that lagged may have given numbers a second time.
		sh.begin(is.epoch, is.n)
		n.tellCleared()
	case sh.owed.number > sh.heard:
		// It was owed at the last comparison, and has not come: it is lost.
		sh.begin(is.epoch, max(is.n, sh.heard))
		n.tellCleared()
	case is.n > sh.heard:
		sh.owed = owed{is.n, sent}
		return
	}
	sh.owed = owed{}
	sh.proven.Store(max(sh.proven.Load(), sent+int64(nearBound)))
}

// settle takes note that what was owed has been heard. It is called with the lock held.
func (sh *nearShard) settle() {
	if sh.owed.number > 0 && sh.heard >= sh.owed.number {
		sh.proven.Store(max(sh.proven.Load(), sh.owed.sent+int64(nearBound)))
		sh.owed = owed{}
	}
}
