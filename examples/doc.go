// Package examples holds programs that use Weir; see their folders. Its tests
// build them and use them as a stranger would: over HTTP, on an embedded Redis, a
// server and a cluster, and while Redis is taken away.
package examples
