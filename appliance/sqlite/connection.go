package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
)

// prepared returns the statement, which is prepared once.
func (s *Store) prepared(ctx context.Context, query string) (*sql.Stmt, error) {
	if s.broken {
		if err := s.reconnect(ctx); err != nil {
			return nil, err
		}
	}
	if st := s.statements[query]; st != nil {
		return st, nil
	}
	st, err := s.conn.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	s.statements[query] = st
	return st, nil
}

// closeStatements closes what was prepared, unless the connection has gone with it: closing that again would crash.
func (s *Store) closeStatements() (err error) {
	if s.conn != nil && s.conn.Raw(func(any) error { return nil }) == nil {
		for _, st := range s.statements {
			err = errors.Join(err, st.Close())
		}
	}
	clear(s.statements)
	return err
}

// reconnect replaces the connection that writes, which is in a state that nobody knows: what was not committed goes with it.
func (s *Store) reconnect(ctx context.Context) error {
	_ = s.closeStatements()
	_ = s.conn.Raw(func(any) error { return driver.ErrBadConn }) // so that nobody gets it again
	_ = s.conn.Close()
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("connect to the database again: %w", err)
	}
	s.conn = conn
	if err := s.limitTo(ctx, int(s.limit.Load())); err != nil {
		return err
	}
	s.broken = false
	return nil
}
