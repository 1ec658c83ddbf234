-- Everything a box stores. No column may hold a name, a fiscal code, a document or free text.

-- epoch:    random, made with the file: a new file never re-uses the event numbers of an old one
-- next_seq: the number of the next event; kept apart from the rows because they are deleted once the hub has them
CREATE TABLE meta (
  name  TEXT PRIMARY KEY,
  value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- One visit at one kiosk. stage is a kiosk.Stage; times are RFC 3339, UTC.
CREATE TABLE session (
  id       TEXT PRIMARY KEY,
  kiosk    INTEGER NOT NULL,
  mode     TEXT NOT NULL,
  language TEXT NOT NULL,
  service  TEXT NOT NULL,
  stage    TEXT NOT NULL,
  started  TEXT NOT NULL,
  updated  TEXT NOT NULL,
  ended    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The queue for the hub. detail is JSON (event.Detail); sealed is HPKE ciphertext.
CREATE TABLE event (
  seq      INTEGER PRIMARY KEY,
  at       TEXT NOT NULL,
  clock_ok INTEGER NOT NULL,
  kind     TEXT NOT NULL,
  session  TEXT NOT NULL,
  kiosk    INTEGER NOT NULL,
  detail   TEXT NOT NULL,
  sealed   BLOB
) STRICT;

-- Jobs on their way to paper, written before each step (printing.Row): what a restart must know so that no paper
-- comes out twice.
CREATE TABLE print (
  id      TEXT PRIMARY KEY,
  body    TEXT NOT NULL, -- JSON
  closed  INTEGER NOT NULL,
  updated TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX print_open ON print (closed) WHERE closed = 0;
