package main

import (
	"net/http"

	"github.com/go-chi/chi/v5"

	"github.com/go-weir/weir/cache"
)

// showAccount is the user's page, with all devices on which they are logged in.
func (s *shop) showAccount(w http.ResponseWriter, r *http.Request, user User) {
	devices, err := s.sessions.Sessions(r.Context(), user.Key())
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.show(w, r, http.StatusOK, "account", page{Title: "Your account", User: &user, Devices: devices}, devices)
}

func (s *shop) endDevice(w http.ResponseWriter, r *http.Request, user User) {
	ok, err := s.sessions.End(r.Context(), user.Key(), chi.URLParam(r, "device"))
	if err == nil && !ok {
		err = cache.ErrNotFound
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.done(w, r, http.StatusOK, "/account", "That device is logged out.", struct{}{})
}

func (s *shop) endOthers(w http.ResponseWriter, r *http.Request, _ User) {
	if err := s.sessions.EndOthers(r.Context()); err != nil {
		s.fail(w, r, err)
		return
	}
	s.done(w, r, http.StatusOK, "/account", "All other devices are logged out.", struct{}{})
}

// endAll logs out everywhere, here as well.
func (s *shop) endAll(w http.ResponseWriter, r *http.Request, user User) {
	if err := s.sessions.EndAll(r.Context(), user.Key()); err != nil {
		s.fail(w, r, err)
		return
	}
	s.done(w, r, http.StatusOK, "/", "", struct{}{})
}
