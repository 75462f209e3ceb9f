package bench

import (
	"context"
	"net/http"

	"github.com/gorilla/sessions"
	"github.com/rbcervilla/redisstore/v9"
	"github.com/redis/go-redis/v9"
)

// gorillaKeeper is gorilla/sessions, which has no middleware: the session is
// loaded by the first look, and saved by the handler. The store keeps the token
// as it is. An idle timeout counts from the last change.
var gorillaKeeper = keeping{
	name: "gorilla + rbcervilla/redisstore",
	open: func(client *redis.Client) (keeper, error) {
		const name = "__Host-session"
		store, err := redisstore.NewRedisStore(context.Background(), client)
		if err != nil {
			return keeper{}, err
		}
		store.Options(sessions.Options{
			Path: "/", MaxAge: int(idleTimeout.Seconds()), Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode,
		})
		// end deletes; the session's values stay in memory.
		end := func(w http.ResponseWriter, r *http.Request) error {
			s, err := store.Get(r, name)
			if err != nil {
				return err
			}
			s.Options.MaxAge = -1
			return s.Save(r, w)
		}
		return keeper{
			get: func(r *http.Request, key string) (string, error) {
				s, err := store.Get(r, name)
				if err != nil {
					return "", err
				}
				value, _ := s.Values[key].(string)
				return value, nil
			},
			put: func(r *http.Request, key, value string) error {
				s, err := store.Get(r, name)
				if err == nil {
					s.Values[key] = value
				}
				return err
			},
			// renew deletes the old session and leaves a new one to save.
			renew: func(w http.ResponseWriter, r *http.Request) error {
				if err := end(w, r); err != nil {
					return err
				}
				s, err := store.Get(r, name)
				if err != nil {
					return err
				}
				s.ID, s.Options.MaxAge = "", int(idleTimeout.Seconds())
				return nil
			},
			end:  end,
			save: func(w http.ResponseWriter, r *http.Request) error { return sessions.Save(r, w) },
		}, nil
	},
}
