// Package demo holds what the example programs have in common and a service of
// one's own has already: a Redis client made from REDIS_URL, and a server that
// drains when it is told to stop.
package demo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

// Forms lists the forms of URL that Redis takes, for a program's help.
const Forms = `redis://[user:password@]host:port/db            one server
rediss://...                                     the same over TLS
redis+cluster://host:port[?addr=host2:port2]     a Cluster, by one or more of its nodes
redis+sentinel://host:port?master_name=NAME[&addr=host2:port2]
                                                 a master watched by Sentinel`

// Redis returns a client for the server named by rawURL, in one of Forms, or for
// an embedded one (miniredis) when rawURL is empty, and says which in the log.
// It does not wait for the server: the log tells when it is reached, lost, and
// reached again. Call stop when the client is not needed any more.
//
// The error is about rawURL and does not repeat it, as it may hold a password.
func Redis(rawURL string, log *slog.Logger) (client redis.UniversalClient, stop func(), err error) {
	if rawURL == "" {
		embedded, err := miniredis.Run()
		if err != nil {
			return nil, nil, fmt.Errorf("embedded redis: %w", err)
		}
		log.Info("redis: embedded; its data ends with this program; set REDIS_URL for a real one", "addr", embedded.Addr())
		client := redis.NewClient(&redis.Options{Addr: embedded.Addr()})
		return client, func() { _ = client.Close(); embedded.Close() }, nil
	}
	client, where, err := parse(rawURL)
	if err != nil {
		return nil, nil, fmt.Errorf("the Redis URL (REDIS_URL or -redis) cannot be used: %w; write one of\n%s", err, Forms)
	}
	log.Info("redis: connecting", "to", where)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		watch(ctx, client, log)
	}()
	return client, func() { cancel(); <-done; _ = client.Close() }, nil
}

// parse makes the client, and a description of the server without secrets.
func parse(rawURL string) (redis.UniversalClient, string, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		// The reason url.Parse gives quotes a part, and that may be a password's.
		return nil, "", errors.New("it is not a URL; in a password write # as %23, / as %2F, ? as %3F and @ as %40")
	}
	if u.Fragment != "" {
		return nil, "", errors.New("it has a #; in a password write that as %23")
	}
	scheme, kind, _ := strings.Cut(u.Scheme, "+")
	if scheme != "redis" && scheme != "rediss" {
		return nil, "", fmt.Errorf("scheme %q is neither redis nor rediss", u.Scheme)
	}
	if u.Hostname() == "" {
		return nil, "", errors.New("it names no host")
	}
	if port := u.Port(); port != "" {
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return nil, "", errors.New("its port is not a number up to 65535")
		}
	}
	// go-redis's own forms mark a Cluster by addr and Sentinel by master_name.
	if kind == "" && u.Query().Has("master_name") {
		kind = "sentinel"
	} else if kind == "" && u.Query().Has("addr") {
		kind = "cluster"
	}
	u.Scheme = scheme
	switch kind {
	case "":
		o, err := redis.ParseURL(u.String())
		if err != nil {
			return nil, "", err
		}
		return redis.NewClient(o), "server " + u.Host, nil
	case "cluster":
		o, err := redis.ParseClusterURL(u.String())
		if err != nil {
			return nil, "", err
		}
		return redis.NewClusterClient(o), "cluster of " + strings.Join(o.Addrs, ", "), nil
	case "sentinel":
		o, err := redis.ParseFailoverURL(u.String())
		if err != nil {
			return nil, "", err
		}
		if o.MasterName == "" {
			return nil, "", errors.New("a sentinel URL needs ?master_name=NAME")
		}
		return redis.NewFailoverClient(o), "master " + o.MasterName + " by sentinel " + strings.Join(o.SentinelAddrs, ", "), nil
	}
	return nil, "", fmt.Errorf("scheme %q: after the + comes cluster or sentinel", scheme+"+"+kind)
}

const (
	pingEvery   = time.Second            // while the server answers
	pingTimeout = time.Second            // longer than that is lost
	minRetry    = 100 * time.Millisecond // the first retry, doubled for each further one
	maxRetry    = 2 * time.Second        // up to this
)

// watch logs when the server is reached, lost, and reached again. The client
// connects by itself; this only makes it visible, and in the log alone.
func watch(ctx context.Context, client redis.UniversalClient, log *slog.Logger) {
	var reached, ever bool
	var last time.Time // when it last answered
	retry := minRetry
	for attempt := 1; ; attempt++ {
		err := ping(ctx, client)
		if ctx.Err() != nil {
			return
		}
		wait := pingEvery
		switch {
		case err == nil && !ever:
			log.Info("redis: connected", "attempts", attempt)
		case err == nil && !reached:
			log.Info("redis: reconnected", "away", time.Since(last).Round(time.Millisecond), "attempts", attempt)
		case err != nil && reached:
			log.Warn("redis: lost", "err", err)
			attempt = 0
		case err != nil && attempt == 1:
			log.Warn("redis: not reached yet; trying on", "err", err)
		}
		if reached = err == nil; reached {
			ever, retry, last = true, minRetry, time.Now()
		} else {
			wait, retry = retry, min(2*retry, maxRetry)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// ping asks the server for a sign of life. go-redis by default does not end a
// call with its context, so the call may be left to end by itself.
func ping(ctx context.Context, client redis.UniversalClient) error {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	result := make(chan error, 1)
	go func() { result <- client.Ping(ctx).Err() }()
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		return fmt.Errorf("no answer to PING within %v", pingTimeout)
	}
}
