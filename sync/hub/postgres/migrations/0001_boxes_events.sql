-- Times by the hub's clock are timestamptz, NULL means never. Times by a box's clock are milliseconds since 1970: a box
-- may believe any year, and a year that PostgreSQL does not know must not hold up its line.
CREATE TABLE box (
    number      bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    branch      text        NOT NULL,
    kiosks      integer     NOT NULL,
    login_epoch integer     NOT NULL,
    key_id      text        NOT NULL DEFAULT '', -- SHA-256 of the TLS key, '' before enrolment
    token_key   bytea       NOT NULL DEFAULT '',
    created     timestamptz,
    enrolled    timestamptz,
    revoked     timestamptz,
    contact     timestamptz,
    pending     integer     NOT NULL DEFAULT -1, -- events in its queue at its last contact, -1 when not known
    drift       bigint      NOT NULL DEFAULT 0,  -- milliseconds: its clock minus the hub's then
    report      bytea                            -- wire.Report in JSON
) WITH (fillfactor = 70);

-- One-time enrolment tokens; of each only its SHA-256.
CREATE TABLE token (
    hash    bytea       PRIMARY KEY,
    box     bigint      NOT NULL REFERENCES box (number),
    expires timestamptz NOT NULL,
    used_by text        NOT NULL DEFAULT ''      -- key_id
);

-- One numbering of a box. Whoever takes in events of it holds its row, so that the branches of its chains change one
-- transaction at a time: that is what keeps (numbering, stream, branch, seq) unique across the months of event.
-- A box that is not in the table box has none; there is no foreign key, because what was delivered is kept.
CREATE TABLE numbering (
    id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    box    bigint NOT NULL,
    epoch  text   NOT NULL,
    UNIQUE (box, epoch)
);

CREATE TABLE branch (
    numbering bigint   NOT NULL,                 -- no foreign key: its row is held by who writes this one
    stream    smallint NOT NULL,
    number    integer  NOT NULL,
    parent    integer  NOT NULL,
    first     bigint   NOT NULL,
    seq       bigint   NOT NULL,
    head      bytea,                             -- NULL when the row at seq has no hash
    safe      bigint   NOT NULL,
    dated     bigint,                            -- latest time of a row on it that was certain when it came
    PRIMARY KEY (numbering, stream, number)
) WITH (fillfactor = 50);

-- What boxes have delivered, by the month it was received in. Partitions are made ahead; event_other takes what no
-- partition is there for.
CREATE TABLE event (
    numbering bigint      NOT NULL,
    seq       bigint      NOT NULL,              -- of a stretch that never comes: the first number
    count     bigint      NOT NULL,              -- of numbers that the row stands for
    received  timestamptz NOT NULL,
    happened  bigint      NOT NULL,
    wall      bigint      NOT NULL,
    mono      bigint      NOT NULL,              -- milliseconds
    box       bigint      NOT NULL,
    boot      bigint      NOT NULL,
    branch    integer     NOT NULL,
    pages     integer     NOT NULL,
    stream    smallint    NOT NULL,
    reason    smallint    NOT NULL,              -- why it is missing, 0 for an event
    schema    smallint    NOT NULL,
    quality   smallint    NOT NULL,
    certain   boolean     NOT NULL,
    hash      bytea,                             -- NULL for what came as event.V1 in JSON
    encoded   bytea,                             -- as it came; NULL for a stretch
    kind      text        NOT NULL,              -- '' when nothing can be read
    session   text        NOT NULL,
    mode      text        NOT NULL,
    judged    text        NOT NULL
) PARTITION BY RANGE (received);
CREATE UNIQUE INDEX event_key ON event (numbering, stream, branch, seq, received);
-- What is counted, by time and by session.
CREATE INDEX event_counted ON event (happened) WHERE kind IN ('session.started', 'print.done');
CREATE INDEX event_session ON event (session) WHERE kind = 'session.started';
-- What waits for a clock.
CREATE INDEX event_undated ON event (box, boot) WHERE NOT certain AND encoded IS NOT NULL;
-- What waits for a newer hub, or for a person.
CREATE INDEX event_judged ON event (judged, box) WHERE judged <> '';
CREATE TABLE event_other PARTITION OF event DEFAULT;

-- What is known of the clocks of boxes.
CREATE TABLE dating (
    numbering bigint NOT NULL,
    boot      bigint NOT NULL,
    mono      bigint NOT NULL,
    new       bigint NOT NULL,
    PRIMARY KEY (numbering, boot, mono)
);

CREATE TABLE alarm (
    id      bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    box     bigint      NOT NULL,
    kind    text        NOT NULL,
    key     text        NOT NULL,
    text    text        NOT NULL,
    n       bigint      NOT NULL,                -- how often
    first   timestamptz NOT NULL,
    at      timestamptz NOT NULL,                -- the latest time
    done    timestamptz,                         -- NULL: open
    UNIQUE (box, kind, key)
);
CREATE INDEX alarm_open ON alarm (at) WHERE done IS NULL;

-- What citizens left while their branch had no line. It names nobody.
CREATE TABLE request (
    code         text        NOT NULL,
    box          bigint      NOT NULL,
    received     timestamptz NOT NULL,
    body         bytea       NOT NULL,           -- JSON
    collected    timestamptz,
    collected_by bigint      NOT NULL DEFAULT 0, -- box
    PRIMARY KEY (code, box)
);
CREATE INDEX request_received ON request (received);

-- What the hubs beside this database must all know for some minutes; see package moment. Nobody needs it after a crash.
CREATE UNLOGGED TABLE moment (
    space        text        NOT NULL,
    key          bytea       NOT NULL,           -- SHA-256 of the key: whoever reads the table cannot use it as a cookie
    part         text        NOT NULL,           -- what entries are counted by
    value        bytea       NOT NULL,           -- closed with a key of the hub's, as is secret
    until        timestamptz NOT NULL,
    secret       bytea,
    secret_until timestamptz,
    made         bigint      GENERATED ALWAYS AS IDENTITY,
    PRIMARY KEY (space, key)
);
CREATE INDEX moment_part ON moment (space, part, made);
CREATE INDEX moment_until ON moment (until);
CREATE INDEX moment_secret ON moment (secret_until) WHERE secret IS NOT NULL;
