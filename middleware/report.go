package middleware

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"
)

// reportEvery is the least time between two log lines of one wrapper: an outage
// of Redis fails every request, and must not fill the disk as well.
const reportEvery = time.Second

// reporter logs what a wrapper met and no client is told, to slog's default
// logger.
type reporter struct {
	name    string
	last    atomic.Int64 // Unix ns of the latest line
	omitted atomic.Int64 // lines left out since
}

// report logs err as a warning, unless the wrapper has just logged another; the
// next line then says how many were left out.
func (p *reporter) report(ctx context.Context, what string, err error) {
	now, last := time.Now().UnixNano(), p.last.Load()
	// A clock that was set back must not silence the log until it is there again.
	early := now >= last && now-last < int64(reportEvery)
	if early || !p.last.CompareAndSwap(last, now) {
		p.omitted.Add(1)
		return
	}
	slog.Default().WarnContext(ctx, "weir: "+p.name+": "+what, "err", err, "omitted", p.omitted.Swap(0))
}
