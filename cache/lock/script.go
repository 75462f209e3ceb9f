package lock

import (
	_ "embed"

	"github.com/go-weir/weir/internal/rdb"
)

var (
	//go:embed lua/lock.lua
	lockLua string
	//go:embed lua/acquire.lua
	acquireLua string
	//go:embed lua/extend.lua
	extendLua string
	//go:embed lua/adopt.lua
	adoptLua string
	//go:embed lua/release.lua
	releaseLua string
	//go:embed lua/holder.lua
	holderLua string
)

// scripts are all that is run on a lock. Each may run twice for one call: it carries
// the id of its acquire, by which the second run changes nothing and answers as the
// first did. Release alone is told that it is the second; see its head.
type scripts struct {
	acquire, extend, adopt, release, holder *rdb.Script
}

var standard = newScripts(lockLua, acquireLua, extendLua, adoptLua, releaseLua, holderLua)

func newScripts(lock, acquire, extend, adopt, release, holder string) *scripts {
	return &scripts{
		acquire: rdb.NewReplayableScript(lock + acquire),
		extend:  rdb.NewReplayableScript(lock + extend),
		adopt:   rdb.NewReplayableScript(lock + adopt),
		release: rdb.NewReplayableScript(lock + release),
		holder:  rdb.NewReplayableScript(lock + holder),
	}
}
