-- Times are UTC in RFC 3339 with seconds; '' means never.
CREATE TABLE box (
    number      INTEGER PRIMARY KEY AUTOINCREMENT,
    branch      TEXT    NOT NULL,
    kiosks      INTEGER NOT NULL,
    login_epoch INTEGER NOT NULL,
    key_id      TEXT    NOT NULL DEFAULT '', -- SHA-256 of the TLS key, '' before enrolment
    token_key   BLOB    NOT NULL DEFAULT x'',
    created     TEXT    NOT NULL,
    enrolled    TEXT    NOT NULL DEFAULT '',
    revoked     TEXT    NOT NULL DEFAULT '',
    contact     TEXT    NOT NULL DEFAULT '',
    pending     INTEGER NOT NULL DEFAULT -1  -- events in its queue at its last contact, -1 when not known
) STRICT;

-- One-time enrolment tokens; of each only its SHA-256.
CREATE TABLE token (
    hash    BLOB    PRIMARY KEY,
    box     INTEGER NOT NULL REFERENCES box (number),
    expires TEXT    NOT NULL,
    used_by TEXT    NOT NULL DEFAULT ''      -- key_id
) STRICT, WITHOUT ROWID;

CREATE TABLE event (
    box      INTEGER NOT NULL REFERENCES box (number),
    epoch    TEXT    NOT NULL,
    seq      INTEGER NOT NULL,
    received TEXT    NOT NULL,               -- by the hub's clock
    happened TEXT    NOT NULL,               -- by the box's clock if that was right, else received
    kind     TEXT    NOT NULL,               -- '' when the event could not be understood
    session  TEXT    NOT NULL,
    mode     TEXT    NOT NULL,
    pages    INTEGER NOT NULL,
    body     TEXT    NOT NULL,               -- JSON as it came
    PRIMARY KEY (box, epoch, seq)
) STRICT, WITHOUT ROWID;

-- What is counted, by time and by session.
CREATE INDEX event_counted ON event (happened, kind) WHERE kind IN ('session.started', 'print.done');
CREATE INDEX event_session ON event (session, mode) WHERE kind = 'session.started';
-- The latest event of each box.
CREATE INDEX event_latest ON event (box, happened);

-- What citizens left while their branch had no line. It names nobody.
CREATE TABLE request (
    code         TEXT    NOT NULL,
    box          INTEGER NOT NULL REFERENCES box (number),
    received     TEXT    NOT NULL,
    body         TEXT    NOT NULL,           -- JSON
    collected    TEXT    NOT NULL DEFAULT '',
    collected_by INTEGER NOT NULL DEFAULT 0, -- box
    PRIMARY KEY (code, box)
) STRICT, WITHOUT ROWID;
