-- The queue in envelopes: numbered by epoch and stream, chained, each row with its own hash.

-- The oldest program that can use this file knows migration 0002. A later migration that an older program need not know
-- of leaves this alone; see sqldb.Open.
PRAGMA application_id = 2;

-- Each numbering of this box. name is an envelope.Epoch; the last one is the present one.
-- sum:    CRC-32C of the other columns: SQLite has no checksums, and a wrong number here would do more harm than a lost row
CREATE TABLE epoch (
  number INTEGER PRIMARY KEY, -- 1, 2, 3 …
  name   TEXT NOT NULL,
  begun  TEXT NOT NULL,       -- RFC 3339, UTC
  reason TEXT NOT NULL,       -- see event.EpochBegun
  sum    INTEGER NOT NULL
) STRICT;

-- How far each chain is. While an epoch is the present one its last number is that of the last row or the one here,
-- whichever is larger: it is written here only when rows go, so that storing an event touches no other page.
CREATE TABLE chain (
  epoch     INTEGER NOT NULL, -- epoch.number
  stream    INTEGER NOT NULL, -- envelope.Stream
  cursor    INTEGER NOT NULL, -- last number that the hub has acknowledged
  base      INTEGER NOT NULL, -- last number forgotten
  base_hash BLOB NOT NULL,    -- of the chain after it
  high      INTEGER NOT NULL, -- last number known to be given out
  head      BLOB NOT NULL,    -- hash of the chain after it
  acked     TEXT NOT NULL,    -- when the hub last acknowledged something, '' for never
  sum       INTEGER NOT NULL,
  PRIMARY KEY (epoch, stream)
) STRICT, WITHOUT ROWID;

-- By when the hub had how much of a chain: what it has had for long enough may be forgotten without a backup. A row is
-- for what it got in the day that began then.
CREATE TABLE ack (
  epoch  INTEGER NOT NULL,
  stream INTEGER NOT NULL,
  day    TEXT NOT NULL,    -- RFC 3339, '' while the time was not certain; at too
  seq    INTEGER NOT NULL, -- last number it had
  at     TEXT NOT NULL,    -- since then at the latest
  PRIMARY KEY (epoch, stream, day)
) STRICT, WITHOUT ROWID;

-- The events, a table for each stream. id is epoch.number * 2^40 + number of the event: rows are only ever appended.
-- They are rowid tables because SQLite fills the pages of those whole when it appends.
CREATE TABLE queue_all     (id INTEGER PRIMARY KEY, envelope BLOB NOT NULL, hash BLOB NOT NULL) STRICT;
CREATE TABLE queue_legal   (id INTEGER PRIMARY KEY, envelope BLOB NOT NULL, hash BLOB NOT NULL) STRICT;
CREATE TABLE queue_session (id INTEGER PRIMARY KEY, envelope BLOB NOT NULL, hash BLOB NOT NULL) STRICT;
CREATE TABLE queue_stats   (id INTEGER PRIMARY KEY, envelope BLOB NOT NULL, hash BLOB NOT NULL) STRICT;
CREATE TABLE queue_diag    (id INTEGER PRIMARY KEY, envelope BLOB NOT NULL, hash BLOB NOT NULL) STRICT;

-- Numbers whose events are not there any more although the hub has not acknowledged them.
CREATE TABLE missing (
  epoch  INTEGER NOT NULL,
  stream INTEGER NOT NULL,
  first  INTEGER NOT NULL,
  last   INTEGER NOT NULL,
  reason INTEGER NOT NULL, -- envelope.Reason
  hash   BLOB NOT NULL,    -- of the chain after last
  sum    INTEGER NOT NULL,
  PRIMARY KEY (epoch, stream, first)
) STRICT, WITHOUT ROWID;

-- Events that can never be delivered, as they are. What is personal in them is sealed.
CREATE TABLE dead (
  id       INTEGER PRIMARY KEY,
  epoch    TEXT NOT NULL,    -- epoch.name
  stream   INTEGER NOT NULL,
  seq      INTEGER NOT NULL,
  reason   TEXT NOT NULL,
  at       TEXT NOT NULL,
  envelope BLOB NOT NULL
) STRICT;

-- Which hub keys events are sealed to, and the last one that is.
CREATE TABLE sealed (
  epoch  INTEGER NOT NULL,
  stream INTEGER NOT NULL,
  key    BLOB NOT NULL, -- seal.KeyID
  last   INTEGER NOT NULL,
  PRIMARY KEY (epoch, stream, key)
) STRICT, WITHOUT ROWID;

-- boot: starts; gaps: times events were found missing; dropped: events let go for want of room;
-- refused: events not taken for want of room and not reported yet; witnessed: 1 since there was a witness file;
-- box: number of the box that the queue is delivered under, 0 before it is
CREATE TABLE counter (
  name  TEXT PRIMARY KEY,
  value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO counter (name, value) VALUES ('boot', 0), ('gaps', 0), ('dropped', 0), ('refused', 0), ('witnessed', 0), ('box', 0);
