package main

import (
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"slices"
	"time"

	"github.com/go-weir/weir/middleware"
)

// newProxy forwards to the origin. Connections are kept and used again; bodies
// pass as they come, compressed or not.
func newProxy(cfg *config) *httputil.ReverseProxy {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil // the origin is named, whatever the environment says
	transport.DisableCompression = true
	transport.MaxIdleConnsPerHost = 256
	return &httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(pr *httputil.ProxyRequest) {
			pr.SetURL(cfg.origin)
			if cfg.trusts(pr.In.RemoteAddr) {
				// What a trusted proxy said of the way so far goes on; what any
				// other client said was dropped by ReverseProxy.
				pr.Out.Header["X-Forwarded-For"] = slices.Clone(pr.In.Header["X-Forwarded-For"])
			}
			pr.SetXForwarded()
		},
		ModifyResponse: func(r *http.Response) error {
			if len(cfg.rates) > 0 {
				// The origin's own limits are not this gateway's, and a field with
				// two values says nothing.
				for _, name := range []string{"X-Ratelimit-Limit", "X-Ratelimit-Remaining", "X-Ratelimit-Reset"} {
					delete(r.Header, name)
				}
			}
			return nil
		},
		FlushInterval: -1, // streams pass as they come
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if r.Context().Err() == nil {
				slog.Warn("gateway: the origin did not answer", "err", err)
			}
			status := http.StatusBadGateway
			var netErr net.Error
			if errors.As(err, &netErr) && netErr.Timeout() {
				status = http.StatusGatewayTimeout
			}
			middleware.WriteProblem(w, middleware.Problem{Status: status, Detail: "The origin did not answer."}, time.Second)
		},
	}
}

// trusts reports whether a peer is one of the proxies named by -trust.
func (c *config) trusts(remoteAddr string) bool {
	addr, err := netip.ParseAddrPort(remoteAddr)
	if err != nil {
		return false
	}
	ip := addr.Addr().Unmap().WithZone("")
	return slices.ContainsFunc(c.trust, func(prefix string) bool { return netip.MustParsePrefix(prefix).Contains(ip) })
}
