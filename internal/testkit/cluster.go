package testkit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// slotCount is the number of hash slots of a cluster.
const slotCount = 16384

// startCluster makes a cluster of masters. The kit gives the orders that
// redis-cli --cluster create would give, as redis-cli is a package of its own.
func startCluster(kind string, masters int) func(binary, dir string, args []string) (*Backend, error) {
	return func(binary, dir string, args []string) (*Backend, error) {
		b := &Backend{name: kind}
		for range masters {
			n, err := newNode(binary, dir, func(_ string, port int) ([]string, error) {
				return serverArgs(port, []string{
					"--cluster-enabled", "yes",
					"--cluster-config-file", "nodes.conf",
					// A node that no other has met yet does not know its own
					// address and would tell clients an empty one.
					"--cluster-announce-ip", "127.0.0.1",
				}, args), nil
			})
			if err != nil {
				b.close()
				return nil, err
			}
			b.nodes = append(b.nodes, n)
			b.addrs = append(b.addrs, n.addr)
		}
		b.healthy = func(ctx context.Context) error { return clusterHealth(ctx, b.nodes) }
		err := formCluster(b.nodes)
		if err == nil {
			err = b.settle(context.Background())
		}
		if err != nil {
			b.close()
			return nil, err
		}
		return b, nil
	}
}

// formCluster hands out the slots and makes the nodes known to each other.
func formCluster(nodes []*Node) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for i, n := range nodes {
		client := admin(n.addr)
		defer client.Close()
		// Distinct epochs from the start: equal ones are a collision that the
		// nodes would have to resolve first. It must come before they meet.
		if err := client.Do(ctx, "CLUSTER", "SET-CONFIG-EPOCH", i+1).Err(); err != nil {
			return fmt.Errorf("set config epoch of %s: %w", n.addr, err)
		}
		from, to := slotCount*i/len(nodes), slotCount*(i+1)/len(nodes)-1
		if err := addSlots(ctx, client, from, to); err != nil {
			return fmt.Errorf("give slots %d to %d to %s: %w", from, to, n.addr, err)
		}
	}
	first := admin(nodes[0].addr)
	defer first.Close()
	for _, n := range nodes[1:] {
		// The others hear of each other from the first.
		if err := first.ClusterMeet(ctx, "127.0.0.1", strconv.Itoa(n.port)).Err(); err != nil {
			return fmt.Errorf("meet %s: %w", n.addr, err)
		}
	}
	return nil
}

// addSlots gives the slots from..to to the node behind client.
func addSlots(ctx context.Context, client *redis.Client, from, to int) error {
	err := client.Do(ctx, "CLUSTER", "ADDSLOTSRANGE", from, to).Err()
	var refused redis.Error
	if errors.As(err, &refused) && strings.Contains(strings.ToLower(err.Error()), "unknown subcommand") {
		// ADDSLOTSRANGE is new in Redis 7.0; this sends them one by one.
		return client.ClusterAddSlotsRange(ctx, from, to).Err()
	}
	return err
}

// clusterHealth reports what a node still misses: each must by itself know all
// nodes as masters with all slots, and serve.
func clusterHealth(ctx context.Context, nodes []*Node) error {
	want := []string{
		"cluster_state:ok",
		fmt.Sprintf("cluster_slots_assigned:%d", slotCount),
		fmt.Sprintf("cluster_slots_ok:%d", slotCount),
		fmt.Sprintf("cluster_known_nodes:%d", len(nodes)),
		fmt.Sprintf("cluster_size:%d", len(nodes)),
	}
	for _, n := range nodes {
		client := admin(n.addr)
		info, err := client.ClusterInfo(ctx).Result()
		client.Close()
		if err != nil {
			return err
		}
		lines := strings.Split(info, "\r\n")
		for _, line := range want {
			if !slices.Contains(lines, line) {
				return fmt.Errorf("%s: no %s in %q", n.addr, line, lines)
			}
		}
	}
	return nil
}
