// Package examples holds programs that use Weir; see their folders. Its tests
// build them and use them as a stranger would: over HTTP, on an embedded Redis, a
// server and a cluster, and while Redis is taken away.
//
// The shop, which uses all of Weir, is a module of its own, with tests of its own, so
// that its database and its browser are no dependency of Weir's.
package examples
