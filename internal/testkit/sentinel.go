package testkit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// masterName is what the sentinel calls the master it watches.
const masterName = "weir"

// startSentinel makes a master, a replica and a sentinel, in this order: a
// sentinel asks a master for its replicas when it first sees it and then every
// ten seconds, so the replica has to be there by then.
func startSentinel(binary, dir string, args []string) (_ *Backend, err error) {
	b := &Backend{name: kindSentinel, master: masterName}
	defer func() {
		if err != nil {
			b.close()
		}
	}()
	master, err := newNode(binary, dir, func(_ string, port int) ([]string, error) {
		return serverArgs(port, args), nil
	})
	if err != nil {
		return nil, fmt.Errorf("master: %w", err)
	}
	b.nodes = append(b.nodes, master)
	replica, err := newNode(binary, dir, func(_ string, port int) ([]string, error) {
		return serverArgs(port, []string{"--replicaof", "127.0.0.1 " + strconv.Itoa(master.port)}, args), nil
	})
	if err != nil {
		return nil, fmt.Errorf("replica: %w", err)
	}
	b.nodes = append(b.nodes, replica)
	if err := awaitLink(replica.addr); err != nil {
		return nil, fmt.Errorf("replica: %w", err)
	}
	sentinel, err := newNode(binary, dir, func(dir string, port int) ([]string, error) {
		return sentinelArgs(dir, port, master.port)
	})
	if err != nil {
		return nil, fmt.Errorf("sentinel: %w", err)
	}
	b.nodes = append(b.nodes, sentinel)
	b.addrs = []string{sentinel.addr}
	b.healthy = func(ctx context.Context) error { return sentinelHealth(ctx, sentinel.addr) }
	return b, b.settle(context.Background())
}

// sentinelArgs writes the configuration that a sentinel wants as a file, because
// it keeps its state there, and returns the arguments to run it.
func sentinelArgs(dir string, port, masterPort int) ([]string, error) {
	config := fmt.Sprintf(`port %d
bind 127.0.0.1
sentinel monitor %[2]s 127.0.0.1 %[3]d 1
sentinel down-after-milliseconds %[2]s 500
sentinel failover-timeout %[2]s 3000
sentinel parallel-syncs %[2]s 1
`, port, masterName, masterPort)
	file := filepath.Join(dir, "sentinel.conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, err
	}
	return []string{file, "--sentinel"}, nil
}

// awaitLink waits until the replica at addr has its master's data.
func awaitLink(addr string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	client := admin(addr)
	defer client.Close()
	return poll(ctx, func() error {
		info, err := client.Info(ctx, "replication").Result()
		if err != nil {
			return err
		}
		if !strings.Contains(info, "master_link_status:up") {
			return errors.New("the link to its master is not up")
		}
		return nil
	})
}

// sentinelHealth reports what the sentinel at addr misses to watch a master and
// its replica, both well.
func sentinelHealth(ctx context.Context, addr string) error {
	client := redis.NewSentinelClient(adminOptions(addr))
	defer client.Close()
	master, err := client.Master(ctx, masterName).Result()
	if err != nil {
		return err
	}
	if master["flags"] != "master" {
		return fmt.Errorf("the master is %q", master["flags"])
	}
	replicas, err := client.Replicas(ctx, masterName).Result()
	if err != nil {
		return err
	}
	for _, replica := range replicas {
		if replica["flags"] == "slave" && replica["master-link-status"] == "ok" {
			return nil
		}
	}
	return fmt.Errorf("no replica is well among %d", len(replicas))
}
