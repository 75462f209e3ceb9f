package main

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/http"
	"strings"
)

// Roles are sets of Redis, a user's each: see desk.
const (
	roleAdmin  = "admin"
	adminEmail = "admin@shop.example"
)

// admin lets those pass who have the role.
func (s *shop) admin(handler userHandler) http.HandlerFunc {
	return s.withUser(func(w http.ResponseWriter, r *http.Request, user User) {
		ok, err := s.desk.hasRole(r.Context(), user, roleAdmin)
		if err == nil && !ok {
			err = errForbidden
		}
		if err != nil {
			s.fail(w, r, err)
			return
		}
		handler(w, r, user)
	})
}

func (s *shop) showAdmin(w http.ResponseWriter, r *http.Request, user User) {
	products, err := s.source.products(r.Context())
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.show(w, r, http.StatusOK, "admin", page{Title: "Administration", User: &user, Products: products}, products)
}

// appoint makes sure that there is an administrator in the database, and returns them.
// If the password was made up, the log tells it once.
func (s *source) appoint(ctx context.Context, password string) (User, error) {
	made := password == ""
	if made {
		password = strings.ToLower(rand.Text())
	}
	user := User{Email: adminEmail, Name: "Administrator"}
	_, err := s.addUser(ctx, user, password)
	if err == nil && made {
		slog.Info("shop: new database; log in as administrator", "email", adminEmail, "password", password)
	}
	if err != nil && !errors.Is(err, errEmailTaken) {
		return User{}, err
	}
	err = s.db.QueryRowContext(ctx, `SELECT id FROM users WHERE email = ?`, adminEmail).Scan(&user.ID)
	return user, err
}
