package middleware

import (
	"fmt"
	"net/netip"
	"slices"
)

// addressList is a set of addresses given by prefixes. A lookup costs one look
// into a map for each length of prefix there is, however many prefixes there are.
type addressList struct {
	prefixes map[netip.Prefix]struct{}
	lengths4 []int // of the IPv4 prefixes, each once
	lengths6 []int
}

func newAddressList(prefixes []netip.Prefix) *addressList {
	l := &addressList{prefixes: make(map[netip.Prefix]struct{}, len(prefixes))}
	for _, p := range prefixes {
		p = foldPrefix(p)
		l.prefixes[p] = struct{}{}
		lengths := &l.lengths6
		if p.Addr().Is4() {
			lengths = &l.lengths4
		}
		if !slices.Contains(*lengths, p.Bits()) {
			*lengths = append(*lengths, p.Bits())
		}
	}
	return l
}

// contains reports whether addr, as addressOf returns it, is on the list.
func (l *addressList) contains(addr netip.Addr) bool {
	lengths := l.lengths6
	if addr.Is4() {
		lengths = l.lengths4
	}
	for _, bits := range lengths {
		if p, err := addr.Prefix(bits); err == nil {
			if _, ok := l.prefixes[p]; ok {
				return true
			}
		}
	}
	return false
}

// foldPrefix takes a prefix of IPv4 in IPv6 for one of IPv4, as addresses are.
func foldPrefix(p netip.Prefix) netip.Prefix {
	if folded := foldIPv4(p.Addr()); folded.Is4() && p.Addr().Is6() && p.Bits() >= 96 {
		return netip.PrefixFrom(folded, p.Bits()-96)
	}
	return p
}

// prefixMistake says what is wrong with a prefix of a list, "" if nothing.
func prefixMistake(p netip.Prefix) string {
	switch folded := foldPrefix(p); {
	case !p.IsValid():
		return "is no prefix: write one such as netip.MustParsePrefix(\"192.0.2.0/24\")"
	case folded.Addr().Is4In6():
		return "is IPv4 in IPv6 and more, which no address is matched with: write the IPv4 prefix"
	case p != p.Masked():
		return fmt.Sprintf("has bits behind its length: write %v for the network, or %v for the address", p.Masked(), netip.PrefixFrom(p.Addr(), p.Addr().BitLen()))
	}
	return ""
}
