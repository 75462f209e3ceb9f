package event

import (
	_ "embed"

	"github.com/go-weir/weir/internal/rdb"
)

var (
	//go:embed lua/stream_kind.lua
	kindLua string
	//go:embed lua/stream_missed.lua
	missedLua string
	//go:embed lua/stream_add.lua
	addLua string
	//go:embed lua/stream_publish.lua
	publishLua string
	//go:embed lua/stream_requeue.lua
	requeueLua string
	//go:embed lua/stream_take.lua
	takeLua string
	//go:embed lua/stream_join.lua
	joinLua string
	//go:embed lua/stream_retry.lua
	retryLua string
	//go:embed lua/stream_bury.lua
	buryLua string
	//go:embed lua/stream_leave.lua
	leaveLua string
	//go:embed lua/stream_groups.lua
	groupsLua string
	//go:embed lua/stream_read.lua
	readLua string
)

var (
	// Its second run looks for the entry of the first.
	publish     = rdb.NewReplayableScript(publishText)
	publishText = kindLua + addLua + publishLua
	// A second run would find the letters gone and say that there were none.
	requeue = rdb.NewScript(kindLua + addLua + requeueLua)
	// What a run delivered whose reply was lost is pending: the next join finds it. A
	// second run would deliver more.
	take = rdb.NewScript(kindLua + missedLua + takeLua)
	join = rdb.NewScript(kindLua + missedLua + joinLua)
	// These write the same again.
	retry = rdb.NewReplayableScript(kindLua + retryLua)
	bury  = rdb.NewReplayableScript(kindLua + buryLua)
	leave = rdb.NewReplayableScript(missedLua + leaveLua)

	groupsOf = rdb.NewReplayableScript(kindLua + groupsLua)
	read     = rdb.NewReplayableScript(kindLua + readLua)
)
