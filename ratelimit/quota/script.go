package quota

import (
	_ "embed"

	"github.com/go-weir/weir/internal/rdb"
)

var (
	//go:embed lua/account.lua
	accountLua string
	//go:embed lua/balance.lua
	balanceLua string
	//go:embed lua/topup.lua
	topUpLua string
	//go:embed lua/deduct.lua
	deductLua string
	//go:embed lua/reserve.lua
	reserveLua string
	//go:embed lua/commit.lua
	commitLua string
	//go:embed lua/cancel.lua
	cancelLua string
)

// All may run twice for one call: each carries an id by which its second run
// changes nothing and answers as the first did, or only reads.
var (
	balance = rdb.NewReplayableScript(accountLua + balanceLua)
	topUp   = rdb.NewReplayableScript(accountLua + topUpLua)
	deduct  = rdb.NewReplayableScript(accountLua + deductLua)
	reserve = rdb.NewReplayableScript(accountLua + reserveLua)
	commit  = rdb.NewReplayableScript(accountLua + commitLua)
	cancel  = rdb.NewReplayableScript(accountLua + cancelLua)
)

// digestLength is how much of a SHA-256 names an account or a request in Redis:
// 128 bits, in base64url. Nobody meets another's money by accident below 2^64
// accounts.
const digestLength = 22

// redisKey names an account's sorted set. Accounts are often user names: only
// their digest reaches Redis.
func (l *Ledger) redisKey(account string) string {
	return rdb.Key(l.prefix, "quota", rdb.Digest(l.name, account)[:digestLength])
}

// requestName is how an id stands in Redis.
func requestName(id string) string { return rdb.Digest(id)[:digestLength] }
