-- Times are UTC; in the columns of type INTEGER they are milliseconds since 1970, because there are very many of them.

ALTER TABLE box ADD COLUMN report TEXT NOT NULL DEFAULT ''; -- JSON: what it last said of its queue

-- Numberings of events.
CREATE TABLE chain (
    id     INTEGER PRIMARY KEY,
    box    INTEGER NOT NULL,                 -- whoever was let in delivers: events are kept whatever happens to the box
    epoch  TEXT    NOT NULL,
    stream INTEGER NOT NULL,
    UNIQUE (box, epoch, stream)
) STRICT;

-- Histories of chains: number 0, and one for each time that two parted.
CREATE TABLE branch (
    chain  INTEGER NOT NULL,
    number INTEGER NOT NULL,
    parent INTEGER NOT NULL,
    since  INTEGER NOT NULL,                 -- first number on it
    seq    INTEGER NOT NULL,                 -- last number on it
    head   BLOB    NOT NULL,                 -- hash after seq, x'' when there is none
    safe   INTEGER NOT NULL,
    dated  INTEGER NOT NULL,                 -- 0: never
    PRIMARY KEY (chain, number)
) STRICT, WITHOUT ROWID;

-- Events, and stretches of events that never come. A row belongs to a chain and a branch that are there; no foreign key
-- says so, because it would be looked up for every event.
CREATE TABLE entry (
    chain    INTEGER NOT NULL,
    branch   INTEGER NOT NULL,
    seq      INTEGER NOT NULL,
    missing  INTEGER NOT NULL,               -- 0: an event; else how many never come
    reason   INTEGER NOT NULL,               -- why they do not
    hash     BLOB    NOT NULL,               -- x'': it came without one
    encoded  BLOB    NOT NULL,               -- as it came: an envelope, or without hash an event of the first release in JSON
    received INTEGER NOT NULL,               -- by the hub's clock
    kind     TEXT    NOT NULL,
    schema   INTEGER NOT NULL,
    session  TEXT    NOT NULL,
    mode     TEXT    NOT NULL,
    pages    INTEGER NOT NULL,
    boot     INTEGER NOT NULL,
    mono     INTEGER NOT NULL,               -- milliseconds
    wall     INTEGER NOT NULL,               -- by the box's clock, 0 when that says nothing
    quality  INTEGER NOT NULL,
    happened INTEGER NOT NULL,
    certain  INTEGER NOT NULL,
    judged   TEXT    NOT NULL,               -- '' when it is understood
    PRIMARY KEY (chain, branch, seq)
) STRICT, WITHOUT ROWID;

-- What is counted, by time and by session; what waits for a newer hub, a key or a person; what may be dated later.
CREATE INDEX entry_counted ON entry (happened, kind) WHERE judged = '' AND kind IN ('session.started', 'print.done');
CREATE INDEX entry_session ON entry (session, mode) WHERE judged = '' AND kind = 'session.started';
CREATE INDEX entry_judged ON entry (judged, chain) WHERE judged <> '';
CREATE INDEX entry_undated ON entry (chain, boot) WHERE certain = 0 AND boot > 0;

-- What boxes have learned of their clocks.
CREATE TABLE dating (
    box   INTEGER NOT NULL,
    epoch TEXT    NOT NULL,
    boot  INTEGER NOT NULL,
    mono  INTEGER NOT NULL,                  -- milliseconds
    new   INTEGER NOT NULL,
    PRIMARY KEY (box, epoch, boot, mono)
) STRICT, WITHOUT ROWID;

CREATE TABLE alarm (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    box     INTEGER NOT NULL,
    kind    TEXT    NOT NULL,
    key     TEXT    NOT NULL,
    text    TEXT    NOT NULL,
    count   INTEGER NOT NULL,
    since   INTEGER NOT NULL,
    latest  INTEGER NOT NULL,
    done    INTEGER NOT NULL DEFAULT 0,
    UNIQUE (box, kind, key)
) STRICT;

-- The events of the first release: one numbering for everything, no hashes.
INSERT INTO chain (box, epoch, stream) SELECT DISTINCT box, epoch, 0 FROM event ORDER BY box, epoch;

INSERT INTO branch (chain, number, parent, since, seq, head, safe, dated)
SELECT c.id, 0, 0, 1, MAX(e.seq), x'', 0,
       MAX(CASE WHEN json_valid(e.body) THEN CASE WHEN e.body ->> '$.clock_ok' THEN unixepoch(e.happened) * 1000 ELSE 0 END ELSE 0 END)
FROM event AS e JOIN chain AS c ON c.box = e.box AND c.epoch = e.epoch AND c.stream = 0
GROUP BY c.id;

INSERT INTO entry (chain, branch, seq, missing, reason, hash, encoded, received, kind, schema, session, mode, pages,
                   boot, mono, wall, quality, happened, certain, judged)
SELECT c.id, 0, e.seq, 0, 0, x'', CAST(e.body AS BLOB), unixepoch(e.received) * 1000, e.kind, 1, e.session, e.mode, e.pages,
       0, 0,
       CASE WHEN json_valid(e.body) THEN max(COALESCE(unixepoch(e.body ->> '$.at'), 0), 0) * 1000 ELSE 0 END,
       CASE WHEN json_valid(e.body) THEN CASE WHEN e.body ->> '$.clock_ok' THEN 2 ELSE 0 END ELSE 0 END,
       unixepoch(e.happened) * 1000,
       CASE WHEN json_valid(e.body) THEN CASE WHEN e.body ->> '$.clock_ok' THEN 1 ELSE 0 END ELSE 0 END,
       CASE e.kind WHEN '' THEN 'unreadable' ELSE '' END
FROM event AS e JOIN chain AS c ON c.box = e.box AND c.epoch = e.epoch AND c.stream = 0
ORDER BY c.id, e.seq;

DROP TABLE event;

-- A request is kept whatever happens to the box it was left at.
CREATE TABLE request_of_any_box (
    code         TEXT    NOT NULL,
    box          INTEGER NOT NULL,
    received     TEXT    NOT NULL,
    body         TEXT    NOT NULL,           -- JSON
    collected    TEXT    NOT NULL DEFAULT '',
    collected_by INTEGER NOT NULL DEFAULT 0, -- box
    PRIMARY KEY (code, box)
) STRICT, WITHOUT ROWID;
INSERT INTO request_of_any_box (code, box, received, body, collected, collected_by)
SELECT code, box, received, body, collected, collected_by FROM request;
DROP TABLE request;
ALTER TABLE request_of_any_box RENAME TO request;
CREATE INDEX request_received ON request (received);
