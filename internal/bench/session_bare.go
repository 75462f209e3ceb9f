package bench

import (
	"crypto/rand"
	"net/http"
	"strings"

	"github.com/redis/go-redis/v9"
)

// bareKeeper makes the one trip that a deed takes at least, with as many bytes as
// there are, and decodes nothing: what no session in Redis can be faster than.
var bareKeeper = keeping{
	name:  "one bare GET or SET",
	floor: true,
	open: func(client *redis.Client) (keeper, error) {
		const name = "bare"
		session := strings.Repeat("a key: value of a key;", len(keptKeys))
		keyOf := func(r *http.Request) string {
			c, err := r.Cookie(name)
			if err != nil {
				return ""
			}
			return "bare:" + c.Value
		}
		return keeper{
			get: func(r *http.Request, key string) (string, error) {
				return keptValue(key), client.Get(r.Context(), keyOf(r)).Err()
			},
			put:   func(*http.Request, string, string) error { return nil },
			renew: func(http.ResponseWriter, *http.Request) error { return nil },
			end: func(_ http.ResponseWriter, r *http.Request) error {
				return client.Del(r.Context(), keyOf(r)).Err()
			},
			save: func(w http.ResponseWriter, r *http.Request) error {
				key := keyOf(r)
				if key == "" {
					token := rand.Text()
					http.SetCookie(w, &http.Cookie{Name: name, Value: token})
					key = "bare:" + token
				}
				return client.Set(r.Context(), key, session, idleTimeout).Err()
			},
		}, nil
	},
}
