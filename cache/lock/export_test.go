package lock

// Gates is how many locks somebody waits for in l.
func Gates(l *Locker) int {
	l.gates.mu.Lock()
	defer l.gates.mu.Unlock()
	return len(l.gates.m)
}
