package bench

import (
	"fmt"
	"testing"
)

// BenchmarkSessionRace is what becomes of a session when two of its requests run
// at a time: it is cheap to be fast and wrong. It is about outcomes, and not about
// speed; every race is set up to happen, and the worst of a few counts.
func BenchmarkSessionRace(b *testing.B) {
	addr, _ := serve(b)
	s := sessionTables.sheet("races", fmt.Sprintf("of %d parallel changes kept", raceWrites), "refused",
		"read during a logout: alive", "changed during a logout: alive")
	s.exactness = true
	for _, c := range keepers {
		if c.floor {
			continue
		}
		k := keep(b, c, addr, pool)
		kept, refused := raceWrites, 0
		var alive [2]bool
		for range 5 {
			n, no, err := parallelChanges(k)
			if err != nil {
				b.Fatalf("%s: %v", c.name, err)
			}
			kept, refused = min(kept, n), max(refused, no)
			for i, change := range []bool{false, true} {
				survived, err := outlivesLogout(k, change)
				if err != nil {
					b.Fatalf("%s: %v", c.name, err)
				}
				alive[i] = alive[i] || survived
			}
		}
		dead := "dead"
		if alive[0] || alive[1] {
			dead = "ALIVE"
		}
		sessionTables.verdicts[c.name] = fmt.Sprintf("%d of %d, %s", kept, raceWrites, dead)
		s.add(c.name, fmt.Sprint(kept), fmt.Sprint(refused), yes(alive[0]), yes(alive[1]))
		if c.name == weirKeeper.name {
			instead(b, float64(kept), "weir/kept")
		}
	}
	s.note("Changes: %d requests of one session look at it, then change a key each, then end; later requests tell what is\n"+
		"there. Refused: changes that were not answered with success.", raceWrites)
	s.note("Logout: a request looks at its session and goes on, having changed it or not, when another has ended it. Alive:\n" +
		"the cookie from before, or one that the late request was given, still finds the user.")
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
