package main

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"

	"github.com/go-weir/weir/cache"
)

// User is somebody with an account, as the cache has them: without the password.
type User struct {
	ID    int64
	Email string
	Name  string
}

// Key is what sessions, limits and accounts know the user by.
func (u User) Key() string { return strconv.FormatInt(u.ID, 10) }

const minPassword = 8

var (
	errEmailTaken = errors.New("there is an account with this address already")
	errLogin      = errors.New("address or password are wrong")
)

// visitor is who asks, nil if nobody is logged in. Users are read through the cache:
// cache-aside.
func (s *shop) visitor(r *http.Request) (*User, error) {
	id := s.sessions.User(r.Context())
	if id == "" {
		return nil, nil
	}
	user, err := s.users.Load(r.Context(), id, func(ctx context.Context) (User, error) {
		n, err := strconv.ParseInt(id, 10, 64)
		if err != nil {
			return User{}, cache.ErrNotFound
		}
		return s.source.user(ctx, n)
	})
	if errors.Is(err, cache.ErrNotFound) {
		return nil, s.sessions.Destroy(r.Context())
	}
	if err != nil {
		return nil, err
	}
	return &user, nil
}

// byUser is whom orders count against, and to whom idempotency keys belong.
func (s *shop) byUser(r *http.Request) string { return s.sessions.User(r.Context()) }

func (s *shop) register(w http.ResponseWriter, r *http.Request) {
	user, err := newUser(r.PostFormValue("email"), r.PostFormValue("name"), r.PostFormValue("password"))
	if err == nil {
		user.ID, err = s.source.addUser(r.Context(), user, r.PostFormValue("password"))
	}
	if err != nil {
		s.failForm(w, r, "register", err)
		return
	}
	s.welcome(w, r, user, http.StatusCreated)
}

func (s *shop) login(w http.ResponseWriter, r *http.Request) {
	user, err := s.source.userByPassword(r.Context(), r.PostFormValue("email"), r.PostFormValue("password"))
	if err != nil {
		s.failForm(w, r, "login", err)
		return
	}
	s.welcome(w, r, user, http.StatusOK)
}

// welcome logs a user in, under a new token.
func (s *shop) welcome(w http.ResponseWriter, r *http.Request, user User, status int) {
	if err := s.sessions.Login(r.Context(), user.Key()); err != nil {
		s.fail(w, r, err)
		return
	}
	s.done(w, r, status, "/", "Welcome, "+user.Name+".", user)
}

func (s *shop) logout(w http.ResponseWriter, r *http.Request) {
	if err := s.sessions.Destroy(r.Context()); err != nil {
		s.fail(w, r, err)
		return
	}
	s.done(w, r, http.StatusOK, "/", "", struct{}{})
}

// rename changes the user's name: first in the source, then the cache forgets, so
// that nobody reads the old name after the answer.
func (s *shop) rename(w http.ResponseWriter, r *http.Request, user User) {
	name, err := nameOf(r.PostFormValue("name"))
	if err == nil {
		err = s.source.rename(r.Context(), user.ID, name)
	}
	if err == nil {
		err = s.users.Delete(r.Context(), user.Key())
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	user.Name = name
	s.done(w, r, http.StatusOK, "/account", "Your name is changed.", user)
}

// newUser checks what somebody has said of themselves.
func newUser(email, name, password string) (User, error) {
	email = strings.TrimSpace(email)
	if local, host, ok := strings.Cut(email, "@"); !ok || local == "" || host == "" || len(email) > 254 || strings.ContainsAny(email, " \r\n\t") {
		return User{}, invalid("That is no e-mail address.")
	}
	if n := utf8.RuneCountInString(password); n < minPassword || len(password) > 256 {
		return User{}, invalid(fmt.Sprintf("A password has %d characters at least, and 256 bytes at most.", minPassword))
	}
	name, err := nameOf(name)
	return User{Email: email, Name: name}, err
}

func nameOf(s string) (string, error) {
	s = strings.TrimSpace(s)
	if n := utf8.RuneCountInString(s); n < 1 || n > 60 || !utf8.ValidString(s) {
		return "", invalid("A name has 1 to 60 characters.")
	}
	return s, nil
}

func (s *source) user(ctx context.Context, id int64) (user User, err error) {
	err = s.db.QueryRowContext(ctx, `SELECT id, email, name FROM users WHERE id = ?`, id).Scan(&user.ID, &user.Email, &user.Name)
	return user, found(err)
}

func (s *source) userByPassword(ctx context.Context, email, password string) (user User, err error) {
	var stored string
	err = s.db.QueryRowContext(ctx, `SELECT id, email, name, password FROM users WHERE email = ?`, strings.TrimSpace(email)).
		Scan(&user.ID, &user.Email, &user.Name, &stored)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return User{}, err
	}
	if len(password) > 256 || !matches(stored, password) {
		return User{}, errLogin
	}
	return user, nil
}

func (s *source) addUser(ctx context.Context, user User, password string) (id int64, err error) {
	stored := hash(password)
	err = s.change(ctx, func(tx *sql.Tx) error {
		return tx.QueryRowContext(ctx, `INSERT INTO users (email, name, password) VALUES (?, ?, ?) RETURNING id`,
			user.Email, user.Name, stored).Scan(&id)
	})
	if taken(err) {
		err = errEmailTaken
	}
	return id, err
}

func (s *source) rename(ctx context.Context, id int64, name string) error {
	_, err := s.exec(ctx, `UPDATE users SET name = ? WHERE id = ?`, name, id)
	return err
}

// argon2id's parameters are the first that OWASP's cheat sheet on password storage
// names: 19 MiB, 2 passes, 1 lane.
const (
	argonMemory = 19 * 1024
	argonPasses = 2
)

// hashing bounds the memory that passwords take, whoever tries how many.
var hashing = make(chan struct{}, runtime.GOMAXPROCS(0))

func digest(password string, salt []byte) []byte {
	hashing <- struct{}{}
	defer func() { <-hashing }()
	return argon2.IDKey([]byte(password), salt, argonPasses, argonMemory, 1, 32)
}

// hash is what is stored of a password: salt and digest.
func hash(password string) string {
	salt := make([]byte, 16)
	rand.Read(salt) // never fails
	return base64.RawStdEncoding.EncodeToString(salt) + "$" + base64.RawStdEncoding.EncodeToString(digest(password, salt))
}

// matches takes its time also when stored is empty, so that nobody learns by it who
// has an account.
func matches(stored, password string) bool {
	saltText, digestText, _ := strings.Cut(stored, "$")
	salt, err1 := base64.RawStdEncoding.DecodeString(saltText)
	want, err2 := base64.RawStdEncoding.DecodeString(digestText)
	got := digest(password, salt)
	return err1 == nil && err2 == nil && subtle.ConstantTimeCompare(got, want) == 1
}
