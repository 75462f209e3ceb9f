// Package cache keeps data in Redis for a while.
//
// A [Store] holds entries: bytes with a lifetime and an age. middleware.Cache
// keeps HTTP responses in one. An entry may have variants, for when the same key
// means different bytes to different callers, as a URL does under the Vary
// field.
//
// # Usage
//
//	responses, err := cache.New(rdb, cache.WithTTL(time.Minute))
//	...
//	r.With(middleware.Cache(responses)).Get("/products/{id}", showProduct)
//
// # Guarantees
//
//   - A read is one round trip; a second only when a process meets an entry's
//     variants for the first time.
//   - Age is by Redis's clock, whoever stored and whoever reads.
//   - Every key expires, and a variant is not found past its own lifetime. An
//     entry has at most 64 variants; the next one begins it anew.
//   - What is larger than [WithMaxBytes] is not stored.
//   - One prefix is one namespace: services that answer differently for the same
//     URL, or the same key, need a [WithPrefix] of their own on a shared Redis.
//
// # When Redis is silent
//
// Each call returns ErrUnavailable within the budget (50 ms, [WithTimeout]), and
// at once when the breaker is open. middleware.Cache then asks the handler.
//
// # Keys in Redis
//
//	key                     type    lifetime
//	weir:variants:{sha256}  hash    that of the longest-lived variant
//
// The digest is of the caller's key. Field "by" names what tells the variants
// apart; "v:" and "t:" with a variant's name hold its bytes, and when it was
// stored and ends.
//
// # Order among middlewares
//
// See middleware's page.
package cache
