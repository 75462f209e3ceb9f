package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/go-weir/weir/cache"
)

// source is the database behind the caches: what is true is there. Its writers in this
// process take turns, as SQLite lets one write at a time and has the others poll: of
// many that poll, one may have no luck for seconds.
type source struct {
	db      *sql.DB
	writing chan struct{}
}

// Times are µs since 1970, amounts are cents.
const schema = `
CREATE TABLE IF NOT EXISTS users (
	id       INTEGER PRIMARY KEY,
	email    TEXT NOT NULL UNIQUE COLLATE NOCASE,
	name     TEXT NOT NULL,
	password TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS products (
	id    INTEGER PRIMARY KEY,
	name  TEXT NOT NULL,
	about TEXT NOT NULL,
	price INTEGER NOT NULL CHECK (price > 0)
) STRICT;
CREATE TABLE IF NOT EXISTS orders (
	id       TEXT PRIMARY KEY,
	user     INTEGER NOT NULL REFERENCES users,
	product  INTEGER NOT NULL REFERENCES products,
	item     TEXT NOT NULL,
	quantity INTEGER NOT NULL,
	total    INTEGER NOT NULL,
	created  INTEGER NOT NULL,
	attempt  INTEGER NOT NULL DEFAULT 1,  -- of paying: see charge
	paid     INTEGER NOT NULL DEFAULT 0,  -- when, or 0
	token    INTEGER NOT NULL DEFAULT 0   -- of the lock under which it was paid
) STRICT;
CREATE TABLE IF NOT EXISTS payments (
	"order" TEXT PRIMARY KEY REFERENCES orders,
	user    INTEGER NOT NULL REFERENCES users,
	amount  INTEGER NOT NULL,
	receipt TEXT NOT NULL,
	paid    INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS outbox (   -- events to be published
	id   TEXT PRIMARY KEY,
	kind TEXT NOT NULL,
	body TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS confirmations (
	"order" TEXT PRIMARY KEY REFERENCES orders,
	sent    INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS incidents (   -- what must never happen, and a constraint has kept from happening
	what TEXT NOT NULL,
	at   INTEGER NOT NULL
) STRICT;
INSERT OR IGNORE INTO products (id, name, about, price) VALUES
	(1, 'Green tea', 'A hundred grams of Sencha, first harvest.', 1290),
	(2, 'Teapot', 'Cast iron, for three cups. It keeps warm for an hour.', 5900),
	(3, 'Bowl', 'Stoneware, thrown and glazed by hand; no two are alike.', 2400),
	(4, 'Kettle', 'Stops at 70, 80 or 100 degrees.', 7450),
	(5, 'Honey', 'Linden blossom, from two streets away.', 890),
	(6, 'Tray', 'Ash wood, oiled. It carries a pot and four bowls.', 3600);
`

// openSource opens the database, and makes it if it is new. Several processes may
// have one file open: readers do not wait for a writer (WAL), and writers wait for
// those of other processes for up to 5 s.
func openSource(ctx context.Context, path string) (*source, error) {
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+
		"?_txlock=immediate&_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=foreign_keys(1)")
	if err != nil {
		return nil, err
	}
	s := &source{db: db, writing: make(chan struct{}, 1)}
	err = s.change(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, schema)
		return err
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("database %s: %w; choose another file with -db", path, err), db.Close())
	}
	return s, nil
}

// change runs f in a transaction that is the only one that writes.
func (s *source) change(ctx context.Context, f func(*sql.Tx) error) error {
	select {
	case s.writing <- struct{}{}:
		defer func() { <-s.writing }()
	case <-ctx.Done():
		return ctx.Err()
	}
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := f(tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

// exec is change for a single statement; it returns how many rows were affected.
func (s *source) exec(ctx context.Context, statement string, args ...any) (rows int64, err error) {
	err = s.change(ctx, func(tx *sql.Tx) error {
		result, err := tx.ExecContext(ctx, statement, args...)
		if err != nil {
			return err
		}
		rows, err = result.RowsAffected()
		return err
	})
	return rows, err
}

// incident notes what must never happen. It survives the process.
func (s *source) incident(ctx context.Context, format string, a ...any) error {
	what := fmt.Sprintf(format, a...)
	_, err := s.exec(context.WithoutCancel(ctx), `INSERT INTO incidents (what, at) VALUES (?, ?)`, what, time.Now().UnixMicro())
	return errors.Join(fmt.Errorf("incident: %s", what), err)
}

// found turns the absence of a row into what caches know as such.
func found(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return cache.ErrNotFound
	}
	return err
}

// busy reports whether err says that other processes have written for too long.
func busy(err error) bool {
	var e *sqlite.Error
	return errors.As(err, &e) && e.Code()&0xff == sqlite3.SQLITE_BUSY
}

// taken reports whether err is about something that is there already.
func taken(err error) bool {
	var e *sqlite.Error
	return errors.As(err, &e) && (e.Code() == sqlite3.SQLITE_CONSTRAINT_UNIQUE || e.Code() == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY)
}
