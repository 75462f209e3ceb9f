// Package respw lets a middleware step in once, just before a response's header
// leaves, without the handler or net/http noticing.
//
// # Usage
//
// A wrapper keeps what it knows about one request in a struct of its own, holds
// a [Response] in it, and is the response's [Hook]: all of it is one allocation.
//
//	type visit struct {
//		resp    respw.Response
//		w       http.ResponseWriter // the writer the wrapper was given
//		session *session
//	}
//
//	func (v *visit) BeforeHeader(status int) bool {
//		if err := v.session.save(); err != nil {
//			http.Error(v.w, "try again later", http.StatusServiceUnavailable)
//			return false // the handler's response is discarded
//		}
//		http.SetCookie(v.w, v.session.cookie())
//		return true
//	}
//
//	func (m *manager) ServeHTTP(w http.ResponseWriter, r *http.Request) {
//		v := &visit{w: w, session: m.find(r)}
//		m.next.ServeHTTP(v.resp.Wrap(w, v), r)
//		v.resp.Finish() // not deferred: a panic must pass untouched
//	}
//
// A hook that also wants the body calls [Response.Watch] from BeforeHeader; one that
// may have to stop an answer that has begun sets a [Guard] by [Response.Guard].
//
// # Guarantees
//
//   - BeforeHeader is called at most once, before the first of: WriteHeader with
//     101 or at least 200, Write, WriteString, Flush, FlushError, Hijack, the
//     first byte of ReadFrom, and Finish. 100, 102, 103 and the other
//     informational headers pass and do not count.
//   - The writer that Wrap returns has Flush and FlushError, and Hijack, exactly
//     if an [http.ResponseController] would find them from the writer below, and
//     ReadFrom exactly if that writer has it itself. So a feature is never
//     promised that HTTP/2 or another middleware lacks, and a
//     ResponseController never walks past the hook to a lower Flush or Hijack.
//     Deadlines and full duplex have no bearing on the header; they go through
//     Unwrap.
//   - Nothing is buffered: what the handler writes goes on in the same call, and
//     a watcher sees it afterwards. A body nobody watches keeps the way to
//     sendfile through ReadFrom.
//   - Once the hook has answered itself, nothing of the handler's reaches the
//     client, and the handler sees no error except from Hijack and FlushError.
//   - A panic, of the hook or of the handler, passes; the hook is not called
//     because of it, nor again after its own. What is written after a hook's
//     panic goes to the client, as it is most likely a recovery's status 500.
//
// # What is not passed on
//
// [http.Pusher]: browsers have dropped server push, and 103 takes its place; who
// still needs it finds it by Unwrap. [http.CloseNotifier]: deprecated since Go
// 1.11 for Request.Context. [http.MaxBytesReader] asks the server to close the
// connection after too large a request by a method that only net/http can have;
// behind any wrapper, this one included, it just reports its error.
//
// # Difference from net/http
//
// A ReadFrom that starts the response hands net/http its first piece, at most
// 512 bytes, by Write. Without a Content-Length of the handler's, a body of 512
// to 1023 bytes then is sent with the length that net/http computes, not in
// chunks.
//
// # Order among middlewares
//
// Wrappers nest. The hook nearest the handler is called first, so the outer one
// sees the header as the inner one left it: a cache outside a session finds the
// session's Set-Cookie. If the inner one answers itself, the outer one is called
// for that answer.
//
// # Concurrency
//
// As with net/http's own writers, calls must not overlap. A proxy that flushes
// from a second goroutine under a lock it also holds for Write, as
// [net/http/httputil.ReverseProxy] does, is fine.
package respw
