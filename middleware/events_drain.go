package middleware

import "context"

// Streams is how many are open now, such as for a metric.
func (h *EventsHandler) Streams() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.open)
}

// Shutdown ends all streams: each client is told after which time to come back, a
// random one ([WithRetry]). It returns when they have ended. When ctx ends first, those
// clients that do not take what they are sent are cut off, and ctx.Err() is returned.
// From its call on, whoever would open a stream is told to come back.
//
// Call it when http.Server.Shutdown begins, which waits for the streams:
//
//	server.RegisterOnShutdown(func() { _ = updates.Shutdown(ctx) })
//
// It may be called again, and from several goroutines.
func (h *EventsHandler) Shutdown(ctx context.Context) error {
	for _, c := range h.drain() {
		c.cancel(errDrained)
	}
	select {
	case <-h.idle:
		return nil
	case <-ctx.Done():
	}
	rest := h.drain()
	for _, c := range rest {
		c.cut()
	}
	if len(rest) == 0 {
		return nil // the last one was just in time
	}
	return ctx.Err()
}

// Close is [EventsHandler.Shutdown] without patience, and returns nil: who takes at
// once what it is sent is told to come back, the rest is cut off.
func (h *EventsHandler) Close() error {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = h.Shutdown(ctx) // it says that it did not wait
	return nil
}

// drain lets nobody in any more, and returns who is.
func (h *EventsHandler) drain() []*eventClient {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.draining {
		h.draining = true
		if len(h.open) == 0 {
			close(h.idle)
		}
	}
	clients := make([]*eventClient, 0, len(h.open))
	for c := range h.open {
		clients = append(clients, c)
	}
	return clients
}

// enter gives a client a place; it reports false if there is none.
func (h *EventsHandler) enter(c *eventClient) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.draining || h.cfg.most > 0 && len(h.open) >= h.cfg.most {
		return false
	}
	h.open[c] = struct{}{}
	return true
}

// leave ends what serves a client, and gives its place to another.
func (h *EventsHandler) leave(c *eventClient) {
	c.end()
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.open, c)
	if h.draining && len(h.open) == 0 {
		close(h.idle)
	}
}
