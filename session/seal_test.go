package session_test

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/go-weir/weir/session"
)

func sealKeyOf(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }

func newRing(t testing.TB, keys ...[]byte) *session.Ring {
	t.Helper()
	r, mistakes := session.NewRing(keys)
	if mistakes != nil {
		t.Fatal(mistakes)
	}
	return r
}

func mustSeal(t testing.TB, r *session.Ring, plain, name string) []byte {
	t.Helper()
	sealed, err := r.Seal([]byte(plain), name)
	if err != nil {
		t.Fatalf("Seal: %v; want nil", err)
	}
	return sealed
}

// refused fails the test unless a record does not open, as corrupt.
func refused(t testing.TB, r *session.Ring, sealed []byte, name, why string) {
	t.Helper()
	if plain, err := r.Open(sealed, name); !errors.Is(err, session.ErrCorrupt) || plain != nil || !strings.Contains(err.Error(), why) {
		t.Fatalf("Open(%x, %q): %q, %v; want an ErrCorrupt that says %q", sealed, name, plain, err, why)
	}
}

func TestRing_sealAndOpen(t *testing.T) {
	t.Parallel()
	r := newRing(t, sealKeyOf(1))
	for _, plain := range []string{"", "x", strings.Repeat("session", 1000)} {
		for _, name := range []string{"", "scs:session:abc"} {
			sealed := mustSeal(t, r, plain, name)
			if want := len(plain) + 49; len(sealed) != want {
				t.Errorf("%d bytes sealed; want %d", len(sealed), want)
			}
			got, err := r.Open(sealed, name)
			if err != nil || string(got) != plain {
				t.Errorf("Open: %q, %v; want %q", got, err, plain)
			}
			if plain != "" && bytes.Contains(sealed, []byte(plain)[:min(len(plain), 7)]) && len(plain) > 1 {
				t.Error("the plaintext shows")
			}
			if again := mustSeal(t, r, plain, name); bytes.Equal(again[:33], sealed[:33]) || bytes.Equal(again[9:21], sealed[9:21]) || bytes.Equal(again[21:33], sealed[21:33]) {
				t.Error("two records have one nonce, or half of it")
			}
		}
	}
}

// Red if the associated data lacks the header or the name, or the tag is not checked.
func TestRing_eachBitCounts(t *testing.T) {
	t.Parallel()
	r := newRing(t, sealKeyOf(1), sealKeyOf(2))
	for _, plain := range []string{"", "user=alice"} {
		sealed := mustSeal(t, r, plain, "scs:session:abc")
		for i := range len(sealed) * 8 {
			altered := slices.Clone(sealed)
			altered[i/8] ^= 1 << (i % 8)
			why := "altered"
			switch {
			case i < 8:
				why = "not a record that WithEncryption wrote"
			case i < 9*8:
				why = "a key that WithEncryption was not given"
			}
			refused(t, r, altered, "scs:session:abc", why)
		}
		for i := range sealed {
			refused(t, r, sealed[:i], "scs:session:abc", "")
		}
		refused(t, r, append(slices.Clone(sealed), 0), "scs:session:abc", "altered")
	}
}

func TestRing_movedToAnotherName(t *testing.T) {
	t.Parallel()
	r := newRing(t, sealKeyOf(1))
	alice, bob := mustSeal(t, r, "alice", "s:a"), mustSeal(t, r, "bob", "s:b")
	refused(t, r, alice, "s:b", "moved")
	refused(t, r, bob, "s:a", "moved")
	refused(t, r, alice, "", "moved")
	refused(t, r, alice, "s:a ", "moved")
}

func TestRing_rotation(t *testing.T) {
	t.Parallel()
	before, during, after := newRing(t, sealKeyOf(1)), newRing(t, sealKeyOf(2), sealKeyOf(1)), newRing(t, sealKeyOf(2))
	old := mustSeal(t, before, "old", "n")
	if got, err := during.Open(old, "n"); err != nil || string(got) != "old" {
		t.Errorf("Open: %q, %v; want what the ring's second key sealed", got, err)
	}
	refused(t, after, old, "n", "a key that WithEncryption was not given")
	sealed := mustSeal(t, during, "new", "n")
	if got, err := after.Open(sealed, "n"); err != nil || string(got) != "new" {
		t.Errorf("Open: %q, %v; want it sealed with the ring's first key", got, err)
	}
	refused(t, before, sealed, "n", "a key that WithEncryption was not given")
	// Neither key opens the other's, whatever the header says.
	copy(old[1:9], sealed[1:9])
	refused(t, during, old, "n", "altered")
}

// The name of a key is public: it must tell nothing of the key.
func TestRing_keyID(t *testing.T) {
	t.Parallel()
	sealed := mustSeal(t, newRing(t, sealKeyOf(1)), "", "")
	want, err := hkdf.Expand(sha256.New, sealKeyOf(1), "weir session: key id", 8)
	if err != nil || !bytes.Equal(sealed[1:9], want) {
		t.Errorf("key id %x; want %x, %v", sealed[1:9], want, err)
	}
	if sealed[0] < 0x80 || sealed[0] >= 0xf8 {
		t.Errorf("first byte %#x; want one that begins no gob stream (and no JSON)", sealed[0])
	}
	if _, _, err := (session.GobCodec{}).Decode(sealed); err == nil {
		t.Error("a sealed record is a gob stream")
	}
	if _, _, err := (session.JSONCodec{}).Decode(sealed); err == nil {
		t.Error("a sealed record is JSON")
	}
}

// The vectors of the specification (C2SP, XAES-256-GCM).
func TestRing_specification(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		key        byte
		associated string
		want       string
	}{
		{1, "", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"},
		{3, "c2sp.org/XAES-256-GCM", "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d"},
	} {
		ciphertext, _ := hex.DecodeString(tt.want)
		got, err := session.OpenXAES(sealKeyOf(tt.key), []byte("ABCDEFGHIJKLMNOPQRSTUVWX"), ciphertext, []byte(tt.associated))
		if err != nil || string(got) != "XAES-256-GCM" {
			t.Errorf("key %d: %q, %v; want the plaintext of the specification", tt.key, got, err)
		}
	}
}

func TestNewRing_mistakes(t *testing.T) {
	t.Parallel()
	const short = "AES-256 needs 32: make one with openssl rand 32"
	for _, tt := range []struct {
		keys [][]byte
		want []string
	}{
		{nil, []string{"WithEncryption: no key: AES-256 needs one of 32 bytes: make one with openssl rand 32"}},
		{[][]byte{nil}, []string{"WithEncryption: key 1 has 0 bytes: " + short}},
		{[][]byte{sealKeyOf(1), make([]byte, 16)}, []string{"WithEncryption: key 2 has 16 bytes: " + short}},
		{
			[][]byte{make([]byte, 33), sealKeyOf(1), sealKeyOf(2), sealKeyOf(1), make([]byte, 64)},
			[]string{"WithEncryption: key 1 has 33 bytes: " + short, "WithEncryption: key 4 is key 2 again: give each once", "WithEncryption: key 5 has 64 bytes: " + short},
		},
		{[][]byte{sealKeyOf(1), sealKeyOf(1), sealKeyOf(1)}, []string{"WithEncryption: key 2 is key 1 again: give each once", "WithEncryption: key 3 is key 1 again: give each once"}},
	} {
		r, mistakes := session.NewRing(tt.keys)
		var got []string
		for _, err := range mistakes {
			got = append(got, err.Error())
		}
		if r != nil || !slices.Equal(got, tt.want) {
			t.Errorf("got %v, %q; want none, %q", r, got, tt.want)
		}
	}
}

// The caller may wipe, or reuse, what it gave.
func TestNewRing_keepsNoKey(t *testing.T) {
	t.Parallel()
	key := sealKeyOf(1)
	r := newRing(t, key)
	sealed := mustSeal(t, r, "plain", "n")
	clear(key)
	if got, err := r.Open(sealed, "n"); err != nil || string(got) != "plain" {
		t.Errorf("Open: %q, %v; want plain", got, err)
	}
}

func FuzzOpen(f *testing.F) {
	r := newRing(f, sealKeyOf(1), sealKeyOf(2))
	sealed := mustSeal(f, r, "plain", "n")
	f.Add(sealed, "n")
	f.Add(sealed, "m")
	f.Add(mustSeal(f, newRing(f, sealKeyOf(3)), "plain", "n"), "n")
	f.Add(sealed[:49], "n")
	f.Add([]byte{}, "")
	f.Fuzz(func(t *testing.T, data []byte, name string) {
		plain, err := r.Open(data, name)
		if err == nil && (name != "n" || string(plain) != "plain") { // each worker has seeds of its own
			t.Fatalf("Open(%x, %q): %q; want an error", data, name, plain)
		}
		if err != nil && !errors.Is(err, session.ErrCorrupt) {
			t.Fatalf("Open: %v; want an ErrCorrupt", err)
		}
	})
}

func BenchmarkRing(b *testing.B) {
	r := newRing(b, sealKeyOf(1))
	plain, name := strings.Repeat("x", 283), "scs:session:"+strings.Repeat("a", 43)
	sealed := mustSeal(b, r, plain, name)
	b.Run("seal", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := r.Seal(sealed[:283], name); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("open", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := r.Open(sealed, name); err != nil {
				b.Fatal(err)
			}
		}
	})
}
