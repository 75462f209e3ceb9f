package middleware

import (
	"maps"
	"net/http"
	"strconv"

	"github.com/go-weir/weir/internal/rfc9111"
	"github.com/go-weir/weir/session"
)

// meet deals with an answer of the handler's in view of what is stored. It reports
// whether it has answered itself, or will have the handler asked again.
func (f *forwarded) meet(status int) bool {
	switch {
	case f.intent == intentValidate && status == http.StatusNotModified:
		return f.notModified()
	case f.intent == intentComplete && status == http.StatusPartialContent && f.complete():
		return true
	case f.intent == intentComplete && !completes(status):
		// It is about a range that the client did not ask for.
		return f.retry()
	case f.query.Method == http.MethodHead && status == http.StatusOK:
		f.freshenByHead()
		return false
	}
	return f.serveOnError(status)
}

// completes reports whether a status can be the answer to a client that asked for
// no range.
func completes(status int) bool {
	switch status {
	case http.StatusPartialContent, http.StatusNotModified, http.StatusPreconditionFailed, http.StatusRequestedRangeNotSatisfiable:
		return false
	}
	return true
}

// retry has the handler asked again, as the client asks.
func (f *forwarded) retry() bool {
	f.again = true
	f.response.Withdraw()
	return true
}

// notModified serves what is stored, freshened by a 304 (section 4.3.4).
func (f *forwarded) notModified() bool {
	update := canonical(f.w.Header())
	own := f.found.own()
	if !rfc9111.Updates(update, headerOf(own)) {
		return f.retry()
	}
	fields, rules := f.freshen(own, update)
	f.found = &storedResponse{rules: rules, body: f.found.body}
	if !f.serveFound(fields, update, rfc9111.Status{Fwd: f.fwd, FwdStatus: http.StatusNotModified, Stored: f.kept}) {
		return f.retry()
	}
	return true
}

// freshen updates what is stored with the header of an answer that confirms it, and
// returns the fields and the rules that it has now. What may not be stored of it any
// more is removed.
func (f *forwarded) freshen(own map[string]storedField, update http.Header) (map[string]storedField, rfc9111.Stored) {
	changed := ownFields(update, f.outside)
	h := f.cache.policy.Freshen(headerOf(own), headerOf(changed), f.answered)
	fields := make(map[string]storedField, len(h))
	for name, values := range h {
		added := own[name].added
		if c, ok := changed[name]; ok {
			added = c.added
		}
		fields[name] = storedField{values, added}
	}
	judged := maps.Clone(h)
	if cookies := update["Set-Cookie"]; len(cookies) > 0 {
		judged["Set-Cookie"] = cookies
	}
	was := f.found.rules
	if was.Status == http.StatusPartialContent {
		judged["Content-Range"] = []string{rfc9111.ContentRange(f.found.span(), was.Size)}
	}
	query := f.query
	query.Method = http.MethodGet
	rules, verdict := f.cache.storable(query, rfc9111.Response{
		Status: was.Status, Header: judged, RequestTime: f.started, ResponseTime: f.answered,
	})
	switch {
	case session.Touched(f.request.Context()):
		rules = was
	case verdict.OK():
		vary := f.cache.policy.Vary(h)
		f.put(rules, vary, fields, nil)
		return fields, rules
	case verdict.AboutRequest():
		// What this client may have says nothing of what others may.
		rules = was
	default:
		f.drop(f.key)
		rules = rfc9111.Stored{Status: was.Status, First: was.First, Size: was.Size}
	}
	rules.ResponseTime, rules.InitialAge = f.answered, rfc9111.InitialAge(h, f.started, f.answered)
	return fields, rules
}

// serveFound answers with what is stored, under the given fields, unless that cannot be
// read. A cookie that the answer sets is this client's, whether it may be stored or not.
func (f *forwarded) serveFound(fields map[string]storedField, update http.Header, said rfc9111.Status) bool {
	age := rfc9111.CurrentAge(f.found.rules.InitialAge, f.found.rules.ResponseTime, f.answered)
	said.TTL, said.HasTTL = f.found.rules.Lifetime-age, true
	selection, spans := f.selection(headerOf(fields))
	o, err := f.open(selection, spans)
	if err != nil {
		return false
	}
	f.reset()
	h := f.w.Header()
	setFields(h, fields)
	if cookies := update["Set-Cookie"]; len(cookies) > 0 {
		h["Set-Cookie"] = cookies
	}
	rfc9111.SetAge(h, age)
	f.cache.say(h, &f.asked, CacheRevalidated, said, age)
	f.write(o)
	return true
}

// open opens what was chosen of what is stored. A refresh has no client to send it to.
func (f *forwarded) open(selection rfc9111.Selection, spans []rfc9111.Span) (opened, error) {
	if f.alone {
		return opened{selection: selection, spans: spans}, nil
	}
	o, err := f.found.open(f.request.Context(), f.query.Method, selection, spans)
	if err != nil {
		f.cache.log.report(f.request.Context(), "a stored body cannot be read", err)
	}
	return o, err
}

// write sends what was opened.
func (f *forwarded) write(o opened) {
	h := f.w.Header()
	f.broken = writeStored(f.request.Context(), f.w, f.query.Method, f.found, o)
	f.trailer = trailersOf(h)
}

// selection says what of the stored response answers the client: what was found fit
// to be validated has at least a part of it.
func (f *forwarded) selection(h http.Header) (rfc9111.Selection, []rfc9111.Span) {
	return rfc9111.Select(f.query, f.found.rules, h, f.found.body.Len(), nil)
}

// reset makes the header what it was before the handler was asked.
func (f *forwarded) reset() {
	h := f.w.Header()
	clear(h)
	for name, values := range f.outside {
		h[name] = values[:len(values):len(values)]
	}
}

// setFields adds stored fields to a header.
func setFields(h http.Header, fields map[string]storedField) {
	for name, field := range fields {
		values := field.values
		if before := h[name]; field.added && len(before) > 0 {
			values = append(before[:len(before):len(before)], values...)
		}
		h[name] = values
	}
}

// serveOnError serves what is stored in the place of an error of the handler's, if
// that is allowed.
func (f *forwarded) serveOnError(status int) bool {
	if f.alone || f.why == rfc9111.RequestRange {
		return false
	}
	now := f.now.Add(f.answered.Sub(f.started))
	d := f.cache.policy.OnError(f.query, f.found.rules, status, now)
	if !d.OK() {
		return false
	}
	selection, spans := f.selection(f.found.header())
	if selection == rfc9111.SelectNone {
		return false
	}
	o, err := f.open(selection, spans)
	if err != nil {
		return false
	}
	f.reset()
	h := f.w.Header()
	f.found.setHeader(h)
	rfc9111.SetAge(h, d.Age)
	said := rfc9111.Status{Fwd: f.fwd, FwdStatus: status, TTL: d.TTL, HasTTL: true, Detail: d.Verdict.String()}
	f.cache.say(h, &f.asked, CacheStale, said, d.Age)
	f.write(o)
	return true
}

// freshenByHead updates what is stored of a GET with the 200 to a HEAD request, or
// removes it if that is about something else (section 4.3.5).
func (f *forwarded) freshenByHead() {
	update := canonical(f.w.Header())
	own := f.found.own()
	if f.found.rules.Status != http.StatusOK && f.found.rules.Status != http.StatusPartialContent {
		return
	}
	if size := f.found.size(); size >= 0 && rfc9111.UpdatedByHead(update, headerOf(own), size) {
		f.freshen(own, update)
		return
	}
	f.drop(f.key)
}

// span is what is stored of the whole.
func (s *storedResponse) span() rfc9111.Span {
	return rfc9111.Span{First: s.rules.First, End: s.rules.First + s.body.Len()}
}

// complete answers with the whole, of which a part is stored and the handler is about
// to write the rest (section 3.4). It reports whether the two fit together.
func (f *forwarded) complete() bool {
	update := canonical(f.w.Header())
	own := f.found.own()
	part, ok := rfc9111.ParseContentRange(update)
	if !ok || part.Span != f.missing || part.Size != f.found.rules.Size || !rfc9111.Combines(headerOf(own), update) {
		return false
	}
	changed := ownFields(update, f.outside)
	h := f.cache.policy.Freshen(headerOf(own), headerOf(changed), f.answered)
	h["Content-Length"] = []string{strconv.FormatInt(f.found.rules.Size, 10)}
	delete(h, "Content-Range")
	rules, verdict := f.cache.storable(f.query, rfc9111.Response{
		Status: http.StatusPartialContent, Header: update, RequestTime: f.started, ResponseTime: f.answered,
	})
	before, err := f.found.body.Open(f.request.Context(), 0, f.found.body.Len())
	if err != nil {
		return false
	}
	if verdict.OK() { // join makes it a 200 when all of it has come
		f.header, f.rules, f.vary = update, rules, f.cache.policy.Vary(update)
		f.collect()
	}
	f.reset()
	out := f.w.Header()
	for name, values := range h {
		out[name] = values
	}
	rfc9111.SetAge(out, rfc9111.InitialAge(h, f.started, f.answered))
	said := rfc9111.Status{Fwd: rfc9111.FwdPartial, FwdStatus: http.StatusPartialContent, Stored: verdict.OK()}
	f.cache.say(out, &f.asked, CacheMiss, said, 0)
	f.w.WriteHeader(http.StatusOK)
	if f.missing.First > 0 {
		f.joined = true
		f.broken = before.Copy(f.request.Context(), both{f})
	} else {
		f.tail = &before
	}
	f.response.Watch(f)
	return true
}

// pass sends a piece of the part that completes what is stored, and keeps it.
func (f *forwarded) pass(p []byte) bool {
	if f.broken != nil {
		return false // what it follows has not been sent
	}
	if room := f.missing.Len() - f.passed; int64(len(p)) > room {
		p = p[:room]
	}
	n, err := f.w.Write(p)
	f.passed += int64(n)
	if err != nil {
		f.lose()
		return false
	}
	f.take(p)
	return true
}

// join puts the octets of a 206 together with those of the same representation that
// are stored, and makes it a 200 when nothing is missing (section 3.4). It reports
// whether the result can be stored.
func (f *forwarded) join(fields map[string]storedField) bool {
	part, ok := rfc9111.ParseContentRange(f.header)
	if !ok || f.received > part.Len() || f.received == 0 {
		return false
	}
	// One that is cut short is what its beginning is (section 3.3).
	part.End = part.First + f.received
	switch {
	case f.joined: // complete has begun at the first octet
		part.Span = rfc9111.Span{First: 0, End: f.out.Len()}
		f.inherit(fields)
	case f.found != nil && f.found.rules.Status == http.StatusPartialContent && rfc9111.Combines(f.header, f.found.header()):
		f.joinFound(&part, fields)
	}
	f.rules.First, f.rules.Size = part.First, part.Size
	if part.First == 0 && part.End == part.Size {
		f.rules.Status, f.rules.First, f.rules.Size = http.StatusOK, 0, 0
	}
	fields["Content-Length"] = storedField{values: []string{strconv.FormatInt(f.out.Len(), 10)}}
	return true
}

// joinFound puts two parts together that are both in memory. Longer ones are not: a client
// that reads a long body range by range would have all of it written with each.
func (f *forwarded) joinFound(part *rfc9111.Part, fields map[string]storedField) {
	old, ok1 := f.found.body.Text()
	new, ok2 := f.out.Bytes()
	if !ok1 || !ok2 || f.found.rules.Size != part.Size {
		return
	}
	all, body, ok := rfc9111.Join(f.found.span(), []byte(old), part.Span, new)
	if !ok {
		return
	}
	alone := f.out
	f.collect()
	if _, err := f.out.Write(body); err != nil {
		f.out.Discard()
		f.out = alone
		return
	}
	alone.Discard()
	part.Span = all
	f.inherit(fields)
}

// inherit adds the stored fields that the new answer does not have (section 3.4).
func (f *forwarded) inherit(fields map[string]storedField) {
	for name, field := range f.found.own() {
		if _, ok := fields[name]; !ok {
			fields[name] = field
		}
	}
}
