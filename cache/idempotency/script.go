package idempotency

import (
	_ "embed"

	"github.com/go-weir/weir/internal/rdb"
)

var (
	//go:embed lua/record.lua
	recordLua string
	//go:embed lua/claim.lua
	claimLua string
	//go:embed lua/renew.lua
	renewLua string
	//go:embed lua/finish.lua
	finishLua string
	//go:embed lua/release.lua
	releaseLua string
	//go:embed lua/interrupt.lua
	interruptLua string
	//go:embed lua/look.lua
	lookLua string
	//go:embed lua/forget.lua
	forgetLua string
)

// The scripts. Those that may run twice for one call carry the id of their claim, by
// which the second run changes nothing and answers as the first did. Forget has none: a
// second run could forget what came after the first.
var (
	claimScript     = rdb.NewReplayableScript(recordLua + claimLua)
	renewScript     = rdb.NewReplayableScript(recordLua + renewLua)
	finishScript    = rdb.NewReplayableScript(recordLua + finishLua)
	releaseScript   = rdb.NewReplayableScript(recordLua + releaseLua)
	interruptScript = rdb.NewReplayableScript(recordLua + interruptLua)
	lookScript      = rdb.NewReplayableScript(recordLua + lookLua)
	forgetScript    = rdb.NewScript(recordLua + forgetLua)
)
